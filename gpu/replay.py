"""Runs a program's changes of representation on the GPU: checks every bit, and measures times.

Steps run in the order of the graph, on random data. A step reads the output of the step before it
on the same tensor; a tensor that another operator makes has data of its own. Equal steps run once:
the memory that they leave is compared with the reference, padding included. Then each is measured
once, alone. Totals count a step as many times as the program has it.
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
"""All that a step's time depends on: the conversion and the tensor's shape."""

Progress = Callable[[str, int, int], None]
"""A callback that takes what is being done, how much of it is done, and how much there is."""

_GARBAGE: Final = 0xA5
_SPECIAL_PART: Final = 0.02
_BITS: Final = {1: np.uint8, 2: np.uint16, 4: np.uint32}
_MOST_SPREAD: Final = 8
"""The largest ratio of bytes moved between steps that are measured in turns."""

_SMALL_BYTES: Final = 2**16
_BATCH_BYTES: Final = 2**28
_BATCH_STEPS: Final = 128


@dataclass(frozen=True, slots=True)
class Replayed:
    """A program that was replayed without a wrong bit; ``ns`` has the median time of each step."""

    program: ReplayProgram
    adapter: AdapterInfo
    repeats: int
    seed: int
    ns: Mapping[Key, float]

    def measured(self, step: ReplayStep) -> float:
        """The measured time of a step, in ns."""
        return self.ns[key_of(step)]


def replay(
    gpu: Gpu,
    program: ReplayProgram,
    repeats: int = 15,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> Replayed:
    """Replays a program's steps and its baseline's.

    ``repeats`` is the number of measurements of each step, ``seed`` that of the random data. Raises
    ``VerificationError`` naming the tensor, the step and the first wrong element, and ``GpuError``
    where the device fails or a tensor exceeds its limits.
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
    """All that a step's time depends on."""
    return step.conversion, step.shape


class _Checker:
    """Runs steps and compares the memory that they leave with the reference."""

    def __init__(self, gpu: Gpu, seed: int) -> None:
        self.gpu, self.seed = gpu, seed
        self.converter = Converter(gpu)
        self._checked = set[Any]()

    def check(self, index: int, delegate: ReplayDelegate) -> None:
        """Checks all steps of a delegate; keeps a tensor's values until its last step."""
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
        """The step's expected values; checks the GPU's, unless an equal step was checked."""
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
                f"{self.gpu.info.name}: try another driver or adapter"
            )


def _expected(step: ReplayStep, values: Array) -> Array:
    if step.parameters is None:
        return values
    if step.step == "quantize":
        return quantize(values, step.parameters)
    return dequantize(values, step.parameters, ELEMENTS[step.output_dtype])


def _difference(memory: NDArray[np.uint8], wanted: Array, placement: Placement) -> str:
    """Describes the first wrong element, else the first byte of padding that is not 0."""
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
    return f"padding should be 0, but byte {byte} is {memory[byte]}"


def random_values(rng: np.random.Generator, shape: tuple[int, ...], dtype: VkDataType) -> Array:
    """Random values of a tensor.

    Floats are spread as activations are, with some NaN, infinities, -0 and subnormals; integers
    have their whole range.
    """
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
    """Median ns of each step; steps of about the same size take turns."""
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
        raise GpuError(f"{gpu.info.name} cannot be measured: its timestamps do not advance")
    return measured


def _batches(keys: Sequence[Key]) -> Iterator[list[Key]]:
    """Steps of about the same size together, within a limit of memory.

    Large allocations slow some devices down. Short steps are repeated in a measurement, which would
    take long if long steps took turns with them.
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
