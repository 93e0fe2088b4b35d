"""What a program takes and returns, by ExecuTorch's runtime, and what PyTorch makes of it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from executorch.runtime import Runtime
from numpy.typing import NDArray
from torch.utils._pytree import tree_leaves, tree_unflatten

from planner.errors import InputError
from planner.executorch.libraries import load_libraries
from planner.files.exported import operators_in

TypeAndSizes = tuple[int, tuple[int, ...]]
"""A tensor's type as ExecuTorch counts them, and its sizes, outermost first."""


def tensors_of(program: bytes) -> tuple[list[TypeAndSizes], list[TypeAndSizes]]:
    """The inputs and outputs of a lowered program's first method.

    Sizes that vary are the largest ones. Raises whatever ExecuTorch's runtime raises, which also
    refuses inputs that are no tensors.
    """
    loaded = Runtime.get().load_program(program)
    meta = loaded.metadata(sorted(loaded.method_names)[0])
    inputs = [meta.input_tensor_meta(i) for i in range(meta.num_inputs())]
    outputs = [meta.output_tensor_meta(i) for i in range(meta.num_outputs())]
    described = [[(int(t.dtype()), tuple(t.sizes())) for t in side] for side in (inputs, outputs)]
    return described[0], described[1]


def eager_outputs(
    data: bytes, name: str, inputs: Sequence[NDArray[Any]], imports: Iterable[str] = ()
) -> list[NDArray[Any]]:
    """The outputs of a ``.pt2`` for its inputs, flat and in order; raises ``InputError``."""
    load_libraries(name, operators_in(io.BytesIO(data)), imports)
    try:
        program = torch.export.load(io.BytesIO(data))
        tensors = [torch.from_numpy(array.copy()) for array in inputs]
        assert program.call_spec.in_spec is not None
        args, kwargs = tree_unflatten(tensors, program.call_spec.in_spec)
        with torch.no_grad():
            found = program.module()(*args, **kwargs)
    except Exception as error:
        raise InputError(f"PyTorch cannot run {name}: {error}") from error
    return [leaf.detach().numpy() for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]
