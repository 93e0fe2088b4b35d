"""Plans a program saved by ``torch.export.save``: loads it, lowers it, plans its delegates."""

from __future__ import annotations

import io
import re
from pathlib import Path
from time import perf_counter
from traceback import extract_tb
from typing import Any, Final

from planner.errors import InputError, NoRepresentationError, PlannerError, Remedy
from planner.extras import quiet, require
from planner.files.exported import check_is_exported
from planner.files.lowered import delegates_of
from planner.options import LoweringOptions, PlanOptions
from planner.pipelines.lowered import Planned, replan
from planner.result.program import Exported, Progress, Source
from schema.frozen import frozen

_RAISE_LIMITS: Final = (Remedy.RAISE_TEXTURE_LIMITS, Remedy.RAISE_BUFFER_LIMIT)
_NODE: Final = re.compile(r"While executing %(\w+)")


@frozen
class LoweredExport:
    """A lowered program (``.pte``), and what is known of the one that was exported."""

    pte: bytes
    exported: Exported


def plan_exported(
    data: bytes,
    name: str,
    options: PlanOptions,
    progress: Progress = lambda stage, delegate: None,
    repeats: int = 1,
) -> Planned:
    """Plans every Vulkan delegate of a ``.pt2`` file, given as bytes.

    Lowers it with ExecuTorch's own layouts first, and plans what comes out: whoever has lowered it
    already gets the same from there. Raises as ``lower_exported`` and ``replan`` do. ``repeats``
    is for benchmarks: see these.
    """
    lowered = lower_exported(data, name, options.lowering, progress, repeats)
    return replan(lowered.pte, name, options, progress, exported=lowered.exported, repeats=repeats)


def lower_exported(
    data: bytes,
    name: str,
    options: LoweringOptions | None = None,
    progress: Progress = lambda stage, delegate: None,
    repeats: int = 1,
) -> LoweredExport:
    """A ``.pt2`` file, given as bytes, with the layouts of ExecuTorch's own pass.

    What exceeds the limits of the device stays on the CPU, as ExecuTorch leaves it there, and is
    listed in what is known of the program. With ``repeats``, ExecuTorch's pass runs that many
    times, and the least time is kept.

    Raises ``InputError`` for bytes that are no such file or hold nothing for Vulkan to run,
    ``NoRepresentationError`` where the limits leave nothing to the GPU.
    """
    options = options or LoweringOptions()
    check_is_exported(io.BytesIO(data), name)
    with quiet():
        progress("loading", None)
        program = _load(data, name, options)
        # Imported once the cheap checks have passed: it takes seconds.
        from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

        from planner.executorch.repairs import mending

        progress("lowering", None)
        start = perf_counter()
        with mending(repeats, options.runtime) as mended:
            try:
                edge = to_edge_transform_and_lower(
                    program,
                    partitioner=[VulkanPartitioner(options.for_partitioner())],
                    compile_config=EdgeCompileConfig(_check_ir_validity=False),
                )
                lowered: bytes = edge.to_executorch().buffer
            except Exception as error:
                cause = cause_of(error)
                for node, operator in mended.unplaced.items():
                    if re.search(rf"\b{re.escape(node)}\b", cause):
                        what = f"{name}: {operator} exceeds the limits, and cannot run on the CPU"
                        raise NoRepresentationError(what, *_RAISE_LIMITS) from error
                raise InputError(f"ExecuTorch cannot lower {name}: {cause}") from error
        seconds = perf_counter() - start
    on_cpu = tuple(mended.unplaced.values())
    try:
        delegates_of(lowered, name)
    except InputError:
        if on_cpu:
            raise NoRepresentationError(
                f"{name} has nothing for the Vulkan delegate: {on_cpu[0]} exceeds the limits",
                *_RAISE_LIMITS,
            ) from None
        raise InputError(
            f"{name} has no operator that the Vulkan delegate supports: there is nothing to plan"
        ) from None
    return LoweredExport(
        lowered,
        Exported(Source.of(name, data), mended.names, seconds, mended.baseline_seconds, on_cpu),
    )


def _load(data: bytes, name: str, options: LoweringOptions) -> Any:
    require(f"{name}, an exported program,", "torch", "torchao", "executorch")
    import torch

    from planner.executorch.loading import load_exported

    try:
        return load_exported(data, name, options)
    except PlannerError:
        raise
    except Exception as error:
        raise InputError(
            f"torch {torch.__version__} cannot load {name}: {cause_of(error)} "
            "(export again with this release of torch, with tensors as inputs and outputs)"
        ) from error


def cause_of(error: BaseException) -> str:
    """What went wrong at first, in a line; with the node at which it did, where torch says so.

    A pass that fails is reported as one that failed, whatever the reason: what it raised is behind
    it. Torch's interpreter adds the node that it was at to the text of an exception.
    """
    chain = [error]
    while (behind := chain[-1].__cause__) is not None and behind not in chain:
        chain.append(behind)
    node = next((m[1] for e in reversed(chain) if (m := _NODE.search(str(e)))), None)
    first = chain[-1]
    lines = str(first).strip().splitlines()
    if lines:
        cause = f"{type(first).__name__}: {lines[0][:300]}"
    elif frames := extract_tb(first.__traceback__):
        # An assertion without a text: what it asserts is in the source.
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
        cause = f"{type(first).__name__}: {frames[-1].line} ({place})"
    else:
        cause = type(first).__name__
    return cause if node is None else f"{cause} (at {node})"
