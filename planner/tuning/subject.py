"""What is tuned: a program with ExecuTorch's layouts, its inputs, and what eager computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path

from planner.errors import InputError
from planner.files.kinds import FileKind, kind_of
from planner.options import PlanOptions
from planner.result.program import Progress
from planner.tuning.tensors import (
    Array,
    Signature,
    check_inputs,
    read_inputs,
    seeded_inputs,
    signature_of,
)
from schema.frozen import frozen


@frozen
class Subject:
    """The program to tune: its name, its bytes with ExecuTorch's layouts, and its inputs.

    ``eager`` are the outputs that PyTorch computes, where the program is known as a ``.pt2``.
    """

    name: str
    program: bytes = field(repr=False)
    signature: Signature
    inputs: tuple[Path, ...]
    eager: tuple[Array, ...] | None = field(default=None, repr=False)


def subject_of(
    data: bytes,
    name: str,
    options: PlanOptions,
    inputs: Sequence[Path],
    seed: int,
    folder: Path,
    progress: Progress = lambda stage, delegate: None,
) -> Subject:
    """The subject of tuning a ``.pt2`` or a ``.pte``.

    Without ``inputs``, files of raw elements, they are drawn by the ``seed`` and written into the
    ``folder``. Raises ``InputError`` for a program that cannot be lowered or whose inputs are not
    tensors, and for other kinds of files; ``OptionError`` for inputs that are not the program's.
    """
    program, kind = data, kind_of(data)
    if kind not in (FileKind.EXPORTED, FileKind.LOWERED):
        raise InputError(f"{name} is neither a .pt2 nor a .pte, and only these run on a device")
    is_exported = kind is FileKind.EXPORTED
    if is_exported:
        from planner.pipelines.exported import lower_exported

        program = lower_exported(data, name, options.lowering, progress).pte
    signature = signature_of(program, name)
    if not inputs:
        folder.mkdir(parents=True, exist_ok=True)
        drawn = seeded_inputs(signature.inputs, seed)
        inputs = [folder / f"input-{number}.bin" for number in range(len(drawn))]
        for path, array in zip(inputs, drawn, strict=True):
            path.write_bytes(array.tobytes())
    check_inputs(signature.inputs, inputs)
    eager = None
    if is_exported:
        from planner.executorch.running import eager_outputs

        progress("computing what eager does", None)
        arrays = read_inputs(inputs, signature.inputs)
        eager = tuple(eager_outputs(data, name, arrays, options.lowering))
    return Subject(name, program, signature, tuple(inputs), eager)
