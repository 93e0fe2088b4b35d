"""A program's inputs and outputs, as files of raw elements: made, read, and compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError, OptionError
from planner.extras import quiet, require
from planner.files.lowered import program_of
from schema.frozen import frozen

TOLERANCE: Final = {"float16": 2e-2, "float32": 2e-3, "float64": 2e-3}
"""The largest error, relative to the largest value expected; other types must be equal."""

_DTYPES: Final = {
    **{0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64"},
    **{5: "float16", 6: "float32", 7: "float64", 11: "bool"},
}
"""Source: ExecuTorch's ``scalar_type.fbs``."""
_SCALE_OF_ZEROS: Final = 1e-6

Array = NDArray[Any]


@frozen
class TensorType:
    """A tensor that a program takes or returns; ``shape`` outermost first, upper bounds in it."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def text(self) -> str:
        """The type, for messages."""
        return f"{self.dtype} {'x'.join(map(str, self.shape)) or 'scalar'}"


@frozen
class Signature:
    """What a program's method takes and returns."""

    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]


def signature_of(data: bytes, name: str) -> Signature:
    """The signature of a lowered program's first method, as ExecuTorch's runtime reads it.

    Raises ``InputError`` for a program with inputs that are no tensors, or that it cannot read, and
    ``MissingExtraError`` without ExecuTorch.
    """
    require(f"The inputs of {name}", "executorch", "torch")
    with quiet():
        from planner.executorch.running import tensors_of

        try:
            inputs, outputs = tensors_of(program_of(data, name))
        except Exception as error:
            raise InputError(
                f"ExecuTorch cannot read the inputs and outputs of {name}: {error}"
            ) from error
    unknown = {number for number, _ in (*inputs, *outputs)}.difference(_DTYPES)
    if unknown:
        raise InputError(f"{name} has inputs or outputs of a type {min(unknown)} that is not known")
    sides = (
        tuple(TensorType(_DTYPES[number], sizes) for number, sizes in side)
        for side in (inputs, outputs)
    )
    return Signature(*sides)


def seeded_inputs(types: Sequence[TensorType], seed: int) -> list[Array]:
    """Inputs drawn at random: normal numbers, and whole ones that index as little as can be."""
    random = np.random.default_rng(seed)
    arrays: list[Array] = []
    for wanted in types:
        if wanted.dtype.startswith("float"):
            drawn: Array = random.standard_normal(wanted.shape)
        else:
            drawn = random.integers(0, 2, wanted.shape)
        arrays.append(drawn.astype(wanted.dtype))
    return arrays


def read_inputs(files: Sequence[Path], types: Sequence[TensorType]) -> list[Array]:
    """The inputs in files that are of the right sizes."""
    pairs = zip(files, types, strict=True)
    return [np.fromfile(path, wanted.dtype).reshape(wanted.shape) for path, wanted in pairs]


def check_inputs(types: Sequence[TensorType], files: Sequence[Path]) -> None:
    """Raises ``OptionError`` unless there is a file of the right size for each input."""
    if len(files) != len(types):
        raise OptionError(f"the program has {len(types)} inputs, not {len(files)}")
    for number, (wanted, path) in enumerate(zip(types, files, strict=True)):
        try:
            size = path.stat().st_size
        except OSError as error:
            raise OptionError(f"cannot read {path}: {error.strerror}") from error
        needed = int(np.prod(wanted.shape)) * np.dtype(wanted.dtype).itemsize
        if size != needed:
            raise OptionError(
                f"input {number} is {wanted.text}, {needed} bytes, but {path} has {size}"
            )


def read_outputs(prefix: Path, types: Sequence[TensorType]) -> list[Array]:
    """The outputs that a runner wrote; raises ``InputError`` for a missing or a short file."""
    arrays = []
    for number, wanted in enumerate(types):
        path = prefix.with_name(f"{prefix.name}-{number}.bin")
        try:
            array = np.frombuffer(path.read_bytes(), wanted.dtype)
        except (OSError, ValueError) as error:
            raise InputError(f"the runner wrote no output {number} ({wanted.text})") from error
        arrays.append(array)
    return arrays


@frozen
class Difference:
    """How far outputs are from those expected.

    ``error`` is the largest, relative to the largest value expected; ``is_within`` says whether all
    are within the tolerance of their type.
    """

    error: float
    is_within: bool


def are_zeros(outputs: Sequence[Array]) -> bool:
    """Whether outputs are 0 everywhere: that others are the same then says nothing."""
    return not any(np.any(array) for array in outputs)


def compare(expected: Sequence[Array], found: Sequence[Array]) -> Difference:
    """Compares outputs by the tolerance of their types.

    Where something else than a finite number was expected, just that must be found.
    """
    largest, is_within = 0.0, len(expected) == len(found)
    for wanted, seen in zip(expected, found, strict=False):
        if wanted.size != seen.size:
            return Difference(float("inf"), False)
        if not np.issubdtype(wanted.dtype, np.floating):
            is_equal = bool(np.array_equal(wanted.ravel(), seen.ravel()))
            largest, is_within = max(largest, 1.0 - is_equal), is_within and is_equal
            continue
        a, b = (x.ravel().astype(np.float64) for x in (wanted, seen))
        finite = np.isfinite(a)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return Difference(float("inf"), False)
        apart = np.abs(a[finite] - b[finite])
        scale = float(np.abs(a[finite]).max(initial=0.0)) or _SCALE_OF_ZEROS
        error = float(apart.max(initial=0.0)) / scale
        error = float("inf") if np.isnan(error) else error
        largest = max(largest, error)
        is_within &= error <= TOLERANCE[wanted.dtype.name]
    return Difference(largest, is_within)
