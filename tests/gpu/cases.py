"""Conversions run from bytes to bytes, and the values that they are tried on."""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpu.convert import LEAST_SCALE, MOST_SCALE, Converter, QuantParams
from gpu.device import Gpu
from gpu.kernel import Step
from gpu.placement import Placement
from gpu.reference import dequantize, pack, quantize
from gpu.tensor import GpuTensor
from planner.ir.representation import FLOAT_LAYOUTS, REPRS, TensorRepr

Bytes = NDArray[np.uint8]

FLOATS: Final = tuple(r for r in REPRS if r.memory_layout in FLOAT_LAYOUTS)
INT8S: Final = tuple(r for r in REPRS if r not in FLOATS)
BITS: Final = {1: np.uint8, 2: np.uint16, 4: np.uint32}
FLOAT_TYPES: Final = {2: np.float16, 4: np.float32}
# Bit patterns: zeros, ones, largest, subnormals, infinities, and NaNs quiet and signalling.
_HALVES = "0000 8000 3c00 7bff fbff 0001 83ff 0400 7c00 fc00 7e00 7c01 fe12 ffff"
_SINGLES = (
    "00000000 80000000 3f800000 7f7fffff ff7fffff 00000001 807fffff 00800000 7f800000 ff800000 "
    "7fc00000 7f800001 ffc12345 ffffffff"
)
SPECIAL: Final = {
    size: [int(text, 16) for text in bits.split()]
    for size, bits in ((1, "00 80 7f ff 01 81"), (2, _HALVES), (4, _SINGLES))
}


def types_of(step: Step, element_bytes: int) -> tuple[int, int]:
    """Bytes of the elements of source and target; ``element_bytes`` are those of the floats."""
    if step == "repack":
        return element_bytes, element_bytes
    return (element_bytes, 1) if step == "quantize" else (1, element_bytes)


def places(step: Step, element_bytes: int) -> tuple[tuple[TensorRepr, ...], tuple[TensorRepr, ...]]:
    """Representations that the source and the target of a conversion can have."""
    if step == "repack":
        # Elements of one byte are int8 in any layout, or bool in those of floats.
        each = REPRS if element_bytes == 1 else FLOATS
        return each, each
    return (FLOATS, INT8S) if step == "quantize" else (INT8S, FLOATS)


class Machine:
    """Runs conversions on a GPU, on memory whose padding is not zero."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.converter = Converter(gpu)

    def convert(
        self,
        values: NDArray[Any],
        source: Placement,
        target: Placement,
        step: Step = "repack",
        parameters: QuantParams | None = None,
    ) -> Bytes:
        """What a conversion of ``values`` leaves in the target's memory, which held garbage."""
        before, after = GpuTensor(self.gpu, source), GpuTensor(self.gpu, target)
        try:
            before.write(with_garbage(values, source))
            after.write(garbage(target.bytes))
            self.converter.run(self.converter.prepare(before, after, step, parameters))
            return after.read()
        finally:
            before.free()
            after.free()

    def check(
        self,
        values: NDArray[Any],
        source: Placement,
        target: Placement,
        step: Step = "repack",
        parameters: QuantParams | None = None,
    ) -> None:
        """Checks every byte that a conversion leaves, padding included."""
        got = self.convert(values, source, target, step, parameters)
        want = pack(converted(values, target, step, parameters), target)
        wrong = np.flatnonzero(got != want)
        assert not wrong.size, (
            f"{step} {list(source.shape)} from {source.representation} to {target.representation}, "
            f"{parameters}: {wrong.size} of {want.size} bytes differ, first byte {wrong[0]}: "
            f"{got[wrong[0]]}, not {want[wrong[0]]}"
        )


def converted(
    values: NDArray[Any], target: Placement, step: Step, parameters: QuantParams | None
) -> NDArray[Any]:
    """The values that a conversion should give."""
    if parameters is None:
        return values
    if step == "quantize":
        return quantize(values, parameters)
    return dequantize(values, parameters, FLOAT_TYPES[target.element_bytes])


def garbage(count: int) -> Bytes:
    """Bytes none of which is 0."""
    return np.random.default_rng(count).integers(1, 256, count, np.uint8)


def with_garbage(values: NDArray[Any], placement: Placement) -> Bytes:
    """The memory of a tensor, with garbage in its padding."""
    ones = (1 << 8 * placement.element_bytes) - 1
    is_element = pack(np.full(placement.shape, ones, BITS[placement.element_bytes]), placement)
    return np.where(is_element, pack(values, placement), garbage(placement.bytes))


def random_bits(rng: np.random.Generator, shape: tuple[int, ...], size: int) -> NDArray[Any]:
    """Elements with any bits, special ones (NaN, infinities, subnormals, zeros) among them."""
    values = rng.integers(0, 1 << 8 * size, shape, BITS[size])
    special = rng.choice(np.array(SPECIAL[size], BITS[size]), shape)
    return np.where(rng.random(shape) < 0.2, special, values)


def random_floats(
    rng: np.random.Generator, shape: tuple[int, ...], size: int, parameters: QuantParams
) -> NDArray[Any]:
    """Floats to quantize: in range, ties, just beyond ties, far out, and any bits."""
    scale = np.float32(parameters.scale)
    bits = random_bits(rng, shape, size).view(FLOAT_TYPES[size])
    with np.errstate(all="ignore"):
        steps = rng.uniform(-300, 300, shape).astype(np.float32)
        ties = (np.rint(steps) + np.float32(0.5)) * scale
        beside = np.nextafter(ties, rng.choice(np.array([-np.inf, np.inf], np.float32), shape))
        kinds = [bits, (steps * scale), np.rint(steps) * scale, ties, beside]
        kinds = [kind.astype(FLOAT_TYPES[size]) for kind in kinds]
    chosen: NDArray[Any] = np.choose(rng.integers(0, len(kinds), shape), kinds)
    return chosen


def random_values(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    step: Step,
    size: int,
    parameters: QuantParams | None,
) -> NDArray[Any]:
    """The source of a conversion."""
    if step == "quantize" and parameters is not None:
        return random_floats(rng, shape, size, parameters)
    values = random_bits(rng, shape, size)
    return values.view(np.int8) if step == "dequantize" else values


def _float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


scales = st.one_of(
    st.floats(-125, 125).map(lambda power: _float32(2.0**power)),
    st.integers(-125, 125).map(lambda power: 2.0**power),
    st.floats(-30, 30).map(lambda power: 10.0**power),  # not all of these are float32
    st.floats(-7, 2).map(lambda power: _float32(10.0**power)),
    st.sampled_from([LEAST_SCALE, MOST_SCALE, 1.0, 0.1, 1 / 3, 1 / 255]),
)
parameters = st.builds(
    QuantParams, scales, st.integers(-128, 127) | st.sampled_from([-128, 0, 127])
)


def shapes(most_dims: int, most_elements: int = 6000) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes outermost first; extents around multiples of 4 and a few long ones."""
    extent = st.one_of(st.integers(1, 9), st.integers(1, 40), st.sampled_from([4, 8, 12, 16]))

    def cut(extents: list[int]) -> tuple[int, ...]:
        shape: list[int] = []
        left = most_elements
        for e in reversed(extents):
            shape.insert(0, min(e, max(left, 1)))
            left //= shape[0]
        return tuple(shape)

    return st.lists(extent, min_size=1, max_size=most_dims).map(cut)
