"""Times work on the GPU with timestamp queries."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpu.convert import Dispatch
from gpu.device import Gpu
from gpu.errors import GpuError
from gpu.tensor import GpuTensor

_MOST_QUERIES = 4096


class Work(Protocol):
    """Work that can be recorded between two timestamps."""

    def record(self, encoder: Any, queries: Any, first: int, count: int) -> None:
        """Records the work ``count`` times, between timestamps ``first`` and ``first + 1``."""


class Dispatches:
    """Dispatches in one compute pass; each sees the writes of the ones before it."""

    def __init__(self, *dispatches: Dispatch) -> None:
        self.dispatches = dispatches

    def record(self, encoder: Any, queries: Any, first: int, count: int) -> None:
        """Records all dispatches in order, ``count`` times over."""
        compute_pass = encoder.begin_compute_pass(
            timestamp_writes={
                "query_set": queries,
                "beginning_of_pass_write_index": first,
                "end_of_pass_write_index": first + 1,
            }
        )
        for _ in range(count):
            for dispatch in self.dispatches:
                dispatch.encode(compute_pass)
        compute_pass.end()


class BufferCopy:
    """The driver's copy from one buffer to another, to compare a repack's speed with."""

    def __init__(self, source: GpuTensor, target: GpuTensor, size: int) -> None:
        self.source, self.target, self.size = source, target, size

    def record(self, encoder: Any, queries: Any, first: int, count: int) -> None:
        """Records ``count`` copies."""
        from wgpu.backends.wgpu_native.extras import write_timestamp

        write_timestamp(encoder, queries, first)
        for _ in range(count):
            encoder.copy_buffer_to_buffer(self.source.memory, 0, self.target.memory, 0, self.size)
        write_timestamp(encoder, queries, first + 1)


class Timer:
    """Times work on one GPU. Raises ``GpuError`` where the adapter has no timestamps."""

    def __init__(self, gpu: Gpu) -> None:
        if not gpu.has_timestamps:
            raise GpuError(f"{gpu.info.name} has no timestamp queries: it cannot be measured")
        import wgpu

        self.gpu = gpu
        self._nanoseconds = _timestamp_period(gpu)
        self._queries = gpu.device.create_query_set(
            type=wgpu.QueryType.timestamp, count=_MOST_QUERIES
        )
        usage = wgpu.BufferUsage.QUERY_RESOLVE | wgpu.BufferUsage.COPY_SRC
        self._resolved = gpu.device.create_buffer(size=8 * _MOST_QUERIES, usage=usage)

    def times(
        self,
        works: Sequence[Work],
        repeats: int,
        count: int = 1,
        load: Sequence[Dispatch] = (),
    ) -> NDArray[np.float64]:
        """Times in ns, of shape (works, repeats), of one execution of each work.

        Works take turns, so that drift affects all alike. ``count`` executions lie between two
        timestamps, and the result is their mean. ``load`` runs right before, so that the device is
        not idle when the timing starts.
        """
        rounds = max(1, _MOST_QUERIES // (2 * len(works)))
        parts = []
        for first in range(0, repeats, rounds):
            part = partial(self._times, works, min(rounds, repeats - first), count, load)
            parts.append(self.gpu.guarded(part))
        return np.concatenate(parts, axis=1)

    def _times(
        self, works: Sequence[Work], repeats: int, count: int, load: Sequence[Dispatch]
    ) -> NDArray[np.float64]:
        device, queue = self.gpu.device, self.gpu.queue
        total = 2 * len(works) * repeats
        buffers = []
        if load:
            encoder = device.create_command_encoder()
            compute_pass = encoder.begin_compute_pass()
            for dispatch in load:
                dispatch.encode(compute_pass)
            compute_pass.end()
            buffers.append(encoder.finish())
        first = 0
        for _ in range(repeats):
            encoder = device.create_command_encoder()
            for work in works:
                work.record(encoder, self._queries, first, count)
                first += 2
            buffers.append(encoder.finish())
        queue.submit(buffers)
        encoder = device.create_command_encoder()
        encoder.resolve_query_set(self._queries, 0, total, self._resolved, 0)
        queue.submit([encoder.finish()])
        ticks = np.frombuffer(queue.read_buffer(self._resolved, 0, 8 * total), np.uint64)
        began, ended = np.moveaxis(ticks.reshape(repeats, len(works), 2), 2, 0).astype(np.float64)
        return (ended - began).T * (self._nanoseconds / count)


def _timestamp_period(gpu: Gpu) -> float:
    """Nanoseconds per tick, which only wgpu's native library gives."""
    from wgpu.backends.wgpu_native._ffi import lib

    return float(lib.wgpuQueueGetTimestampPeriod(gpu.queue._internal))
