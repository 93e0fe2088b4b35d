"""Reads ETDumps of ExecuTorch's Vulkan runtime: the time of each dispatch in each execution.

The runtime writes an ETDump with an event for each dispatch. Its name is a JSON object with the
kernel, the work-group sizes and the operator that the dispatch belongs to (``runtime/graph/ops``
in ExecuTorch's Vulkan backend); ``executorch.devtools.Inspector`` reads the file.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from planner.errors import InputError
from planner.extras import quiet, require
from schema.frozen import frozen

_IDENTIFIER: Final = b"ED00"
_EXECUTE: Final = "Execute"
_METHOD: Final = "Method::execute"
_DELEGATE_BEGINS: Final = "ETVK_COPY_INPUTS"
_STAGING: Final = ("nchw_to_", "_to_nchw")
_MOST_NS: Final = 1e15


@frozen
class DispatchedTensor:
    """An argument or output of an operator, as the runtime represented it.

    ``storage`` is the runtime's name for it; ``packed_dim`` counts from the innermost dimension.
    """

    argument: int
    storage: str
    packed_dim: int


@frozen
class Dispatch:
    """A dispatch of a compute shader, and its time in each execution, in ns.

    ``node_id``, ``operator`` and ``tensors`` are those of its ``OperatorCall``; None for staging,
    which copies the graph's inputs and outputs, and for a dispatch that names no operator.
    """

    kernel: str
    node_id: int | None
    operator: str | None
    ns: tuple[float, ...]
    tensors: tuple[DispatchedTensor, ...] = ()

    @property
    def is_staging(self) -> bool:
        """Whether the dispatch copies an input or output of the graph."""
        return any(part in self.kernel for part in _STAGING)


@frozen
class DelegateRun:
    """The dispatches of one Vulkan delegate, in order."""

    dispatches: tuple[Dispatch, ...]


@frozen
class Executions:
    """A program's executions: its Vulkan delegates, and ns of each as a whole, CPU and waits too.

    ``wall_ns`` is empty where the runtime did not time the method.
    """

    delegates: tuple[DelegateRun, ...]
    wall_ns: tuple[float, ...]


def read_etdump(data: bytes, name: str) -> tuple[DelegateRun, ...]:
    """The Vulkan delegates' runs in an ETDump, in the order in which they were executed.

    Raises as ``read_executions`` does.
    """
    return read_executions(data, name).delegates


def read_executions(data: bytes, name: str) -> Executions:
    """The executions in an ETDump.

    Raises ``InputError`` for bytes that are not an ETDump, are damaged, or have no dispatches, and
    ``MissingExtraError`` without ExecuTorch and torch, which read the file.
    """
    events = _events(data, name)
    runs = tuple(_delegates(events, name))
    if not any(run.dispatches for run in runs):
        raise InputError(
            f"{name} has no dispatches of the Vulkan delegate: run the model with a runtime that "
            "is built with ET_EVENT_TRACER_ENABLED and the Vulkan backend"
        )
    whole = next((event for event in events if event.name == _METHOD), None)
    wall = () if whole is None else tuple(float(t) for t in whole.perf_data.raw)
    return Executions(runs, wall)


def _events(data: bytes, name: str) -> list[Any]:
    """The events of the executions, as Inspector gives them."""
    if data[8:12] != _IDENTIFIER:
        raise InputError(f"{name} is not an ETDump: hand in the file that ETDumpGen wrote")
    require(f"{name}, an ETDump,", "executorch", "torch")
    # Inspector takes only a path.
    handle, path = tempfile.mkstemp(suffix=".etdump")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        with quiet(), _silent_programs():
            from executorch.devtools import Inspector
            from executorch.devtools.inspector import TimeScale

            inspector = Inspector(
                etdump_path=path,
                source_time_scale=TimeScale.NS,
                target_time_scale=TimeScale.NS,
            )
            blocks = inspector.event_blocks
    except Exception as error:
        # Inspector raises whatever its parts raise: flatc's, struct and index errors, assertions.
        raise InputError(
            f"{name} is damaged: ExecuTorch's Inspector fails on it ({type(error).__name__})"
        ) from error
    finally:
        Path(path).unlink()
    return [event for block in blocks if block.name == _EXECUTE for event in block.events]


@contextmanager
def _silent_programs() -> Iterator[None]:
    """Hides the output of Inspector's subprocesses (flatc prints its whole usage)."""
    kept = os.dup(1), os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)


def _delegates(events: list[Any], name: str) -> Iterator[DelegateRun]:
    """Splits events at the start of each delegate's execution."""
    dispatches: list[Dispatch] | None = None
    for event in events:
        if event.name == _DELEGATE_BEGINS:
            if dispatches is not None:
                yield DelegateRun(tuple(dispatches))
            dispatches = []
        elif event.name.startswith("{"):
            if dispatches is None:
                raise InputError(f"{name} has dispatches before any delegate is executed")
            dispatches.append(_dispatch(event, name))
    if dispatches is not None:
        yield DelegateRun(tuple(dispatches))


def _dispatch(event: Any, name: str) -> Dispatch:
    try:
        described = json.loads(event.name)
        kernel = described["kernel_name"]
        operator = described.get("operator")
        node_id = None if operator is None else operator["delegate_node_id"]
        called = None if operator is None else operator["name"]
        ns = tuple(float(t) for t in event.perf_data.raw)
        tensors = () if operator is None else tuple(_tensors(operator.get("args", ())))
        dispatch = Dispatch(kernel, node_id, called, ns, tensors)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{name} has a dispatch that cannot be read ({event.name[:80]}): "
            f"{type(error).__name__}: {error}"
        ) from error
    if not all(0 <= t < _MOST_NS for t in ns):
        raise InputError(f"{name} is damaged: a dispatch ({kernel}) has impossible times: {ns[:4]}")
    # A copy that follows an operator also carries the operator's name.
    if dispatch.is_staging:
        return replace(dispatch, node_id=None, operator=None, tensors=())
    return dispatch


def _tensors(args: Sequence[Any]) -> Iterator[DispatchedTensor]:
    for index, arg in enumerate(args):
        if arg["type"] == "TENSOR" and "storage" in arg:
            yield DispatchedTensor(index, arg["storage"], arg["packed_dim"])
