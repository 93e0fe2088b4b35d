"""Times every conversion and a plain copy of the same number of bytes, in one run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, Literal

import numpy as np

from gpu.convert import Converter, Dispatch, QuantParams
from gpu.device import Gpu
from gpu.kernel import Step
from gpu.placement import CONTIGUOUS, Placement
from gpu.sweep import SCALARS, read_shader, write_shader
from gpu.tensor import GpuTensor, create_buffer
from gpu.timing import BufferCopy, Dispatches, Timer, Work
from planner.errors import OptionError
from planner.ir.representation import REPRS, PackedDimInfo, TensorRepr
from schema import VkMemoryLayout

ConversionKind = Literal[
    "repack, same order", "repack, transposing", "quantize", "dequantize", "staging"
]

FLOATS: Final = tuple(r for r in REPRS if not r.is_packed_int8)
INT8S: Final = tuple(
    r
    for r in REPRS
    # The runtime turns this layout into 4C or 4C1W before it creates any tensor.
    if r.is_packed_int8 and r.memory_layout != VkMemoryLayout.PACKED_INT8_CONV2D
)
HARDWARE_SHAPES: Final = ((1, 32, 28, 28), (1, 96, 112, 112), (64, 96, 112, 112))
SOFTWARE_SHAPES: Final = ((1, 32, 28, 28), (1, 96, 112, 112))
"""The last shape for hardware is larger than any GPU's cache; a CPU needs no such shape."""

_PATTERN_BYTES: Final = 2**22
_PARAMETERS: Final = QuantParams(0.05, 3)
AWAKE_SECONDS: Final = 0.3
"""Seconds of work without a pause that bring an idle GPU to its full clock, where it stays while
it has work."""

_STILL_AWAKE_SECONDS: Final = 0.03
_LOAD: Final = Placement((2**24,), CONTIGUOUS, 4)
_LOAD_TOGETHER: Final = 256
_SHORT_NS: Final = 200_000
_MOST_TOGETHER: Final = 32


@dataclass(frozen=True, slots=True)
class Conversion:
    """A step between two representations; sizes are bytes per element."""

    step: Step
    source: TensorRepr
    target: TensorRepr
    source_bytes: int
    target_bytes: int

    @property
    def kind(self) -> ConversionKind:
        """The kind of conversion, as the table names it."""
        if self.step != "repack":
            return self.step
        if self.source_bytes == 1 and CONTIGUOUS in (self.source, self.target):
            return "staging"
        same = PackedDimInfo.of(self.source).packed_dim == PackedDimInfo.of(self.target).packed_dim
        return "repack, same order" if same else "repack, transposing"

    def placements(self, shape: tuple[int, ...]) -> tuple[Placement, Placement]:
        """Source and target placement of a tensor of this shape."""
        return (
            Placement(shape, self.source, self.source_bytes),
            Placement(shape, self.target, self.target_bytes),
        )


@dataclass(frozen=True, slots=True)
class Timing:
    """Median times in ns of a conversion and of a copy of the same number of bytes.

    ``moved`` are the bytes read and written, padding included. ``copy_ns`` is the time of the
    driver's copy or of a shader's, whichever is faster.
    """

    conversion: Conversion
    shape: tuple[int, ...]
    moved: int
    ns: float
    copy_ns: float

    @property
    def gigabytes_per_second(self) -> float:
        """Bytes moved per nanosecond."""
        return self.moved / self.ns

    @property
    def ratio(self) -> float:
        """The conversion's speed as a fraction of the copy's."""
        return self.copy_ns / self.ns


def conversions(float_bytes: int = 4) -> Iterator[Conversion]:
    """Every conversion that a plan can contain, for floats of ``float_bytes`` bytes."""
    for source, target in product(FLOATS, FLOATS):
        if source != target:
            yield Conversion("repack", source, target, float_bytes, float_bytes)
    for source, target in product((*INT8S, CONTIGUOUS), (*INT8S, CONTIGUOUS)):
        if source != target:
            yield Conversion("repack", source, target, 1, 1)
    for source, target in product(FLOATS, INT8S):
        yield Conversion("quantize", source, target, float_bytes, 1)
    for source, target in product(INT8S, FLOATS):
        yield Conversion("dequantize", source, target, 1, float_bytes)


def parse_shape(text: str) -> tuple[int, ...]:
    """A shape of four positive extents, from ``N,C,H,W``; raises ``OptionError``."""
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if len(shape) != 4 or min(shape) < 1:
        raise OptionError(f"shape {text!r} is not four positive numbers: write N,C,H,W")
    return shape


class Bench:
    """Times conversions on one GPU.

    All buffers, also those of the copies, share the same two allocations: a buffer's place in
    memory changes its speed, and this way it changes all speeds alike.
    """

    def __init__(self, gpu: Gpu, most_bytes: int) -> None:
        """Allocates memory; ``most_bytes`` is the size of the largest tensor or copy."""
        self.gpu = gpu
        self.timer = Timer(gpu)
        self.converter = Converter(gpu)
        size = most_bytes if gpu.info.is_software else max(most_bytes, _LOAD.bytes)
        self._arenas = gpu.guarded(lambda: [create_buffer(gpu, size) for _ in range(2)])
        self._images: dict[tuple[Placement, int], GpuTensor] = {}
        gpu.guarded(lambda: self._fill(size))

    def time(
        self,
        conversion: Conversion,
        shape: tuple[int, ...],
        repeats: int,
        awake_seconds: float = AWAKE_SECONDS,
    ) -> Timing:
        """Times one conversion and the copies to compare it with, in turns.

        Raises ``GpuError`` where the device has no timestamps, or fails.
        """
        source, target = conversion.placements(shape)
        moved = source.bytes + target.bytes
        copied = Placement((-(-moved // 32) * 4,), CONTIGUOUS, 4)
        copies = self._tensor(copied, 0), self._tensor(copied, 1)
        work = self.dispatch(conversion.step, source, target)
        copy = self.converter.prepare(*copies)
        works: list[Work] = [
            Dispatches(work),
            Dispatches(copy),
            BufferCopy(*copies, copied.bytes),
        ]
        ns, *copy_ns = self.measure(works, repeats, awake_seconds)
        return Timing(conversion, shape, moved, ns, min(copy_ns))

    def dispatch(self, step: Step, source: Placement, target: Placement) -> Dispatch:
        """The dispatch of a conversion, on tensors in the bench's memory."""
        tensors = self._tensor(source, 0), self._tensor(target, 1)
        return self.converter.prepare(*tensors, step, _PARAMETERS)

    def read(self, placement: Placement) -> Dispatch:
        """The dispatch that reads a whole tensor."""
        tensors = self._tensor(placement, 0), self._tensor(SCALARS, 1)
        return self.converter.prepare_shader(read_shader(placement), *tensors)

    def write(self, placement: Placement) -> Dispatch:
        """The dispatch that writes a whole tensor."""
        tensors = self._tensor(SCALARS, 0), self._tensor(placement, 1)
        return self.converter.prepare_shader(write_shader(placement), *tensors)

    def measure(
        self, works: Sequence[Work], repeats: int, awake_seconds: float = AWAKE_SECONDS
    ) -> list[float]:
        """Median ns of each work, on a device at its full clock.

        Short works are repeated between two timestamps. Before the timing, the device copies for
        ``awake_seconds``, because an idle device runs at a fraction of its clock.
        """
        first = self.timer.times(works, 2)[:, -1]
        together = int(min(_MOST_TOGETHER, max(1.0, _SHORT_NS / max(1.0, first.min()))))
        load = [] if self.gpu.info.is_software else self._load(awake_seconds)
        times = self.timer.times(works, repeats, together, load)
        return [float(x) for x in np.median(times, axis=1)]

    def one_by_one(
        self,
        conversions: Sequence[Conversion],
        shape: tuple[int, ...],
        repeats: int,
        awake_seconds: float = AWAKE_SECONDS,
    ) -> list[float]:
        """Least ns of each conversion, alone between two timestamps, one after the other.

        Raises as ``time`` does.
        """
        works = [Dispatches(self.dispatch(c.step, *c.placements(shape))) for c in conversions]
        load = [] if self.gpu.info.is_software else self._load(awake_seconds)
        times = self.timer.times(works, repeats, 1, load)
        return [float(x) for x in times.min(axis=1)]

    def _load(self, seconds: float) -> list[Dispatch]:
        """Wakes the device; returns copies that keep it busy for the same time again."""
        copy = self.converter.prepare(self._tensor(_LOAD, 0), self._tensor(_LOAD, 1))
        end = time.monotonic() + seconds
        ns = math.inf
        while time.monotonic() < end:
            ns = float(self.timer.times([Dispatches(copy)], 1, _LOAD_TOGETHER)[0, 0])
        return [copy] * math.ceil(seconds * 1e9 / max(1.0, ns))

    def close(self) -> None:
        """Frees all memory."""
        for image in self._images.values():
            image.free()
        self._images.clear()
        for arena in self._arenas:
            arena.destroy()

    def _tensor(self, placement: Placement, side: int) -> GpuTensor:
        if not placement.is_texture:
            return GpuTensor(self.gpu, placement, self._arenas[side])
        image = self._images.get((placement, side))
        if image is None:
            image = self._images[placement, side] = GpuTensor(self.gpu, placement)
            flat = Placement(placement.shape, CONTIGUOUS, placement.element_bytes)
            self.converter.run(self.converter.prepare(self._tensor(flat, 0), image))
        return image

    def _fill(self, size: int) -> None:
        """Writes a pattern into the first arena and doubles it until the arena is full."""
        rng = np.random.default_rng(0)
        pattern = rng.integers(0, 64, min(size, _PATTERN_BYTES), dtype=np.uint8)
        done = pattern.size
        first, second = self._arenas
        self.gpu.queue.write_buffer(first, 0, pattern)
        while done < size:
            part = min(done, size - done)
            encoder = self.gpu.device.create_command_encoder()
            encoder.copy_buffer_to_buffer(first, 0, second, 0, part)
            encoder.copy_buffer_to_buffer(second, 0, first, done, part)
            self.gpu.queue.submit([encoder.finish()])
            done += part


def run(
    gpu: Gpu,
    shapes: Sequence[tuple[int, ...]],
    wanted: Sequence[Conversion],
    repeats: int,
    progress: Callable[[Timing], None] = lambda timing: None,
) -> list[Timing]:
    """Times each conversion for each shape. Raises ``GpuError`` where one does not fit."""
    timings = []
    for shape in shapes:
        bench = Bench(gpu, arena_bytes(c.placements(shape) for c in wanted))
        try:
            bench.time(wanted[0], shape, 1)
            for conversion in wanted:
                timings.append(bench.time(conversion, shape, repeats, _STILL_AWAKE_SECONDS))
                progress(timings[-1])
        finally:
            bench.close()
    return timings


def arena_bytes(pairs: Iterable[tuple[Placement, Placement]]) -> int:
    """Bytes of an arena that holds any one of these tensors, or its copy."""
    most = max(max(a.bytes, b.bytes, (a.bytes + b.bytes) // 2) for a, b in pairs)
    return -(-most // 16) * 16 + 16
