"""Plans a program saved by ``torch.export.save``: loads it, lowers it, plans its delegates."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from planner.errors import InputError, VerificationError
from planner.extras import require
from planner.files.exported import check_is_exported
from planner.options import PlanOptions
from planner.quiet import quiet
from planner.result.program import DelegateResult, Source, TensorNames, assemble, report
from schema import PlannedProgram, plan

Progress = Callable[[str, DelegateResult | None], None]
"""Called with the name of a stage as it begins, and with each delegate as it is finished."""


@dataclass(frozen=True, slots=True)
class PlannedExport:
    """A planned and lowered program."""

    program: PlannedProgram
    report: dict[str, Any]
    delegates: tuple[DelegateResult, ...]
    _edge: Any

    def flatbuffer(self) -> bytes:
        """The planned program as a flatbuffer (``plan.fbs``)."""
        return plan.encode(self.program)

    def pte(self) -> bytes:
        """The planned program for ExecuTorch's runtime.

        Raises ``VerificationError`` if a delegate in it is not the one that was checked.
        """
        with quiet():
            data: bytes = self._edge.to_executorch().buffer
        for delegate in self.program.delegates:
            if delegate.graph not in data:
                raise VerificationError(f"the .pte does not hold the checked {delegate.name}")
        return data


@dataclass(frozen=True, slots=True)
class LoweredExport:
    """A lowered program (``.pte``), and what the exported program called its tensors."""

    pte: bytes
    names: TensorNames


def plan_exported(
    data: bytes,
    name: str,
    options: PlanOptions,
    progress: Progress = lambda stage, delegate: None,
    repeats: int = 1,
) -> PlannedExport:
    """Plans every Vulkan delegate of a ``.pt2`` file, given as bytes.

    Raises ``InputError`` for bytes that are no such file or hold nothing for Vulkan to run,
    ``NoRepresentationError`` where the options leave an operator without representation.
    ``repeats`` is for benchmarks: see ``planner.executorch.session.planning``.
    """
    check_is_exported(io.BytesIO(data), name)
    with quiet():
        progress("loading", None)
        exported = _load(data, name)
        # Imported once the cheap checks have passed: it takes seconds.
        from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

        from planner.executorch.session import planning

        progress("lowering", None)
        start = perf_counter()
        with planning(
            options, on_delegate=lambda d: progress("planning", d), repeats=repeats
        ) as session:
            try:
                edge = to_edge_transform_and_lower(
                    exported,
                    partitioner=[VulkanPartitioner()],
                    compile_config=EdgeCompileConfig(_check_ir_validity=False),
                )
            except Exception as error:
                session.check_placed()
                if session.error is not None:
                    raise
                raise InputError(f"ExecuTorch cannot lower {name}: {_first_line(error)}") from error
        seconds = perf_counter() - start
    session.check_placed()
    delegates = session.delegates
    if not delegates:
        raise InputError(
            f"{name} has no operator that the Vulkan delegate supports: there is nothing to plan"
        )
    program = assemble(Source.of(name, data), delegates, options, session.texture_limits)
    ours = sum(d.plan_seconds + d.baseline_seconds + d.verify_seconds for d in delegates)
    return PlannedExport(
        program,
        report(program, delegates, kind="pt2", lowering_seconds=seconds - ours),
        tuple(delegates),
        edge,
    )


def lower_exported(data: bytes, name: str) -> LoweredExport:
    """A ``.pt2`` file, given as bytes, with the layouts of ExecuTorch's own pass.

    ``replan`` reaches from there what ``plan_exported`` reaches, for any options. Raises
    ``InputError`` as that does.
    """
    check_is_exported(io.BytesIO(data), name)
    with quiet():
        exported = _load(data, name)
        from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

        from planner.executorch.repairs import mending
        from planner.files.lowered import delegates_of

        try:
            with mending() as names:
                edge = to_edge_transform_and_lower(
                    exported,
                    partitioner=[VulkanPartitioner()],
                    compile_config=EdgeCompileConfig(_check_ir_validity=False),
                )
            lowered: bytes = edge.to_executorch().buffer
        except Exception as error:
            raise InputError(f"ExecuTorch cannot lower {name}: {_first_line(error)}") from error
    try:
        delegates_of(lowered, name)
    except InputError:
        raise InputError(
            f"{name} has no operator that the Vulkan delegate supports: there is nothing to plan"
        ) from None
    return LoweredExport(lowered, names)


def _load(data: bytes, name: str) -> Any:
    require(f"{name}, an exported program,", "torch", "torchao", "executorch")
    import torch
    import torchao.quantization.pt2e  # noqa: F401  (registers the quantized operators)

    try:
        return torch.export.load(io.BytesIO(data))
    except Exception as error:
        raise InputError(
            f"torch {torch.__version__} cannot load {name}: {_first_line(error)} "
            "(export again with this release of torch, with tensors as inputs and outputs)"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
