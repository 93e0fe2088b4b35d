"""Runs a program's changes of representation on the GPU: checks every bit, and measures.

Steps run in the order of the graph, on random data. A step reads what the step before it on the
same tensor made; a tensor that another operator makes has data of its own. Each step that differs
from those before it is run, and what it leaves in memory is compared with the reference, padding
included; then each is measured once, alone. Totals count each as often as the program makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpu.bench import Bench, Conversion, arena_bytes
from gpu.convert import Converter
from gpu.device import AdapterInfo, Gpu
from gpu.errors import GpuError
from gpu.placement import Placement
from gpu.reference import dequantize, pack, quantize, unpack
from gpu.steps import ELEMENTS, ReplayDelegate, ReplayProgram, ReplayStep
from gpu.tensor import GpuTensor, check_limits
from gpu.timing import Dispatches, Work
from planner.errors import VerificationError
from schema import VkDataType

Array = NDArray[Any]
Key = tuple[Conversion, tuple[int, ...]]
"""What the time of a step depends on: the conversion and the tensor's shape."""

Progress = Callable[[str, int, int], None]
"""Is told what is being done, and how many of how many are done."""

_GARBAGE: Final = 0xA5
_SPECIAL_PART: Final = 0.02
_BITS: Final = {1: np.uint8, 2: np.uint16, 4: np.uint32}
_MOST_SPREAD: Final = 8
"""Times that are measured in turns are of steps that move at most so many times as many bytes."""

_SMALL_BYTES: Final = 2**16
_BATCH_BYTES: Final = 2**28
_BATCH_STEPS: Final = 128


@dataclass(frozen=True, slots=True)
class Replayed:
    """A program that was replayed without a wrong bit. ``ns`` are medians."""

    program: ReplayProgram
    adapter: AdapterInfo
    repeats: int
    seed: int
    ns: Mapping[Key, float]

    def measured(self, step: ReplayStep) -> float:
        """Nanoseconds of a step."""
        return self.ns[key_of(step)]


def replay(
    gpu: Gpu,
    program: ReplayProgram,
    repeats: int = 15,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> Replayed:
    """Replays a program's steps and its baseline's.

    Raises ``VerificationError``, which names the tensor, the step and the first element that is
    wrong, and ``GpuError`` where the device fails or a tensor is beyond its limits.
    """
    steps = [s for d in program.delegates for s in (*d.steps, *(d.baseline or ()))]
    keys = list(dict.fromkeys(map(key_of, steps)))
    for conversion, shape in keys:
        for placement in conversion.placements(shape):
            check_limits(gpu, placement)
    checker = _Checker(gpu, seed)
    count = len(program.delegates)
    for index, delegate in enumerate(program.delegates):
        progress(f"checking {delegate.name}", index, count)
        checker.check(index, delegate)
    return Replayed(program, gpu.info, repeats, seed, _measure(gpu, keys, repeats, progress))


def key_of(step: ReplayStep) -> Key:
    """What the time of a step depends on."""
    return step.conversion, step.shape


class _Checker:
    """Runs steps and compares what they leave in memory with the reference."""

    def __init__(self, gpu: Gpu, seed: int) -> None:
        self.gpu, self.seed = gpu, seed
        self.converter = Converter(gpu)
        self._checked = set[Any]()

    def check(self, index: int, delegate: ReplayDelegate) -> None:
        """Checks all steps of a delegate; its tensors' values are kept as long as one is left."""
        values: dict[int | None, Array] = {}
        last = {s.source: i for i, s in enumerate(delegate.steps)}
        for i, step in enumerate(delegate.steps):
            source = values.get(step.source)
            if source is None:
                source = values[step.source] = self._random(step, index, step.source or 0)
            made = self._run(step, source, f"{delegate.name}, operator {step.position}")
            if step.output in last:
                values[step.output] = made
            if last[step.source] == i:
                del values[step.source]
        for i, step in enumerate(delegate.baseline or ()):
            source = self._random(step, index, 2**32 + i)
            self._run(step, source, f"{delegate.name}, repack {i} of the baseline")

    def _random(self, step: ReplayStep, *place: int) -> Array:
        rng = np.random.default_rng([self.seed, *place])
        return random_values(rng, step.shape, step.dtype)

    def _run(self, step: ReplayStep, values: Array, place: str) -> Array:
        """The step's values, which the GPU's are shown to be unless an equal step's were."""
        wanted = _expected(step, values)
        kind = key_of(step), step.dtype, step.parameters
        if kind not in self._checked:
            self._compare(step, values, wanted, place)
            self._checked.add(kind)
        return wanted

    def _compare(self, step: ReplayStep, values: Array, wanted: Array, place: str) -> None:
        source, target = step.conversion.placements(step.shape)
        with ExitStack() as stack:
            tensors = []
            for placement in (source, target):
                tensors.append(GpuTensor(self.gpu, placement))
                stack.callback(tensors[-1].free)
            before, after = tensors
            before.write(pack(values, source))
            after.write(np.full(target.bytes, _GARBAGE, np.uint8))
            self.converter.run(self.converter.prepare(before, after, step.step, step.parameters))
            memory = after.read()
        if not np.array_equal(memory, pack(wanted, target)):
            name = f", tensor {step.tensor}" if step.tensor else ""
            raise VerificationError(
                f"{place}{name}: {step}: {_difference(memory, wanted, target)} on "
                f"{self.gpu.info.name}: try another driver or --adapter"
            )


def _expected(step: ReplayStep, values: Array) -> Array:
    if step.parameters is None:
        return values
    if step.step == "quantize":
        return quantize(values, step.parameters)
    return dequantize(values, step.parameters, ELEMENTS[step.output_dtype])


def _difference(memory: NDArray[np.uint8], wanted: Array, placement: Placement) -> str:
    """The first element that is wrong, else the first byte of padding that is not 0."""
    found = unpack(memory, placement, wanted.dtype)
    bits = _BITS[wanted.dtype.itemsize]
    wrong = np.argwhere(found.view(bits) != wanted.view(bits))
    if len(wrong):
        at = tuple(map(int, wrong[0]))
        digits = 2 * wanted.dtype.itemsize
        have, want = (int(a.view(bits)[at]) for a in (found, wanted))
        return (
            f"{len(wrong)} of {wanted.size} elements are wrong, first {list(at)}: {found[at]} "
            f"(0x{have:0{digits}x}), not {wanted[at]} (0x{want:0{digits}x})"
        )
    byte = int(np.flatnonzero(memory != pack(wanted, placement))[0])
    return f"padding should be 0, and byte {byte} is {memory[byte]}"


def random_values(rng: np.random.Generator, shape: tuple[int, ...], dtype: VkDataType) -> Array:
    """Data for a tensor: floats as activations have them, with NaN, infinities, -0 and subnormals
    among them; integers of their whole range; truth values."""
    element = np.dtype(ELEMENTS[dtype])
    if dtype == VkDataType.BOOL:
        return rng.integers(0, 2, shape, np.uint8)
    if element.kind != "f":
        limits = np.iinfo(element)
        return np.asarray(rng.integers(limits.min, limits.max, shape, element.type, endpoint=True))
    limit = np.finfo(element)
    values = np.asarray(rng.normal(0, 2, shape)).astype(element)
    special = [np.nan, np.inf, -np.inf, -0.0, 0.0, limit.max, limit.smallest_subnormal]
    chosen = rng.choice(np.array(special, element), shape)
    return np.where(rng.random(shape) < _SPECIAL_PART, chosen, values)


def _measure(gpu: Gpu, keys: Sequence[Key], repeats: int, progress: Progress) -> dict[Key, float]:
    """Median nanoseconds of each; those of about one size take turns."""
    measured: dict[Key, float] = {}
    for batch in _batches(keys):
        progress("measuring", len(measured), len(keys))
        placements = [conversion.placements(shape) for conversion, shape in batch]
        bench = Bench(gpu, arena_bytes(placements))
        try:
            works: list[Work] = [
                Dispatches(bench.dispatch(conversion.step, *pair))
                for (conversion, _), pair in zip(batch, placements, strict=True)
            ]
            measured.update(zip(batch, bench.measure(works, repeats), strict=True))
        finally:
            bench.close()
    if any(ns <= 0 for ns in measured.values()):
        raise GpuError(f"{gpu.info.name} tells no time: its timestamps do not advance")
    return measured


def _batches(keys: Sequence[Key]) -> Iterator[list[Key]]:
    """Steps of about one size together, as long as little memory holds them.

    Much memory that is alive slows some devices down; and short steps are repeated to be measured,
    which would take long if long ones had to take turns with them.
    """
    batch: list[Key] = []
    least = held = 0
    for size, _, key in sorted((_moved(key), i, key) for i, key in enumerate(keys)):
        is_far = size > _MOST_SPREAD * max(least, _SMALL_BYTES)
        if batch and (is_far or held + size > _BATCH_BYTES or len(batch) == _BATCH_STEPS):
            yield batch
            batch, held = [], 0
        if not batch:
            least = size
        batch.append(key)
        held += size
    if batch:
        yield batch


def _moved(key: Key) -> int:
    """Bytes that a step reads and writes."""
    conversion, shape = key
    return sum(placement.bytes for placement in conversion.placements(shape))
