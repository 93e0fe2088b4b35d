"""Models of the zoo planned for WebGPU's runtime, and back for Vulkan's."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Final

from api.bench import zoo
from api.terminal.figures import cost
from api.terminal.markdown import Printed, head, row
from planner.files.lowered import vulkan_blobs
from planner.ir.physical import ELEMENT_BYTES
from planner.options import make_options
from planner.pipelines.checking import check_program
from planner.pipelines.exported import lower_exported, plan_exported
from planner.pipelines.lowered import Planned, replan
from schema import split_delegate, vkgraph

_HEADINGS: Final = (
    *("model", "operators", "copies by ExecuTorch", "their bytes", "for Vulkan", "for WebGPU"),
    *("proof", "back for Vulkan", "WebGPU cannot do", "once lowered for it"),
    "read by ExecuTorch",
)


def webgpu(names: Sequence[str], size: zoo.Size, output: Path | None) -> None:
    """Plans models of the zoo for both backends and prints a Markdown table.

    Copies are transitions, their bytes those that WebGPU's runtime would copy. What it cannot do is
    counted by calls of operators, in the program that was lowered for Vulkan, and in the one that
    was lowered for WebGPU. ExecuTorch's own reader reads the delegates of both. Raises
    ``OptionError`` for a model that is not there.
    """
    chosen = zoo.chosen(names)
    printed = Printed()
    printed.add(*head(_HEADINGS, len(_HEADINGS)))
    for name in chosen:
        printed.add(row(_cells(name, zoo.save(name, size))))
    printed.write(output)


def _cells(name: str, exported: bytes) -> tuple[str, ...]:
    lowered = lower_exported(exported, name).pte
    straight = replan(lowered, name, make_options("bytes"))
    planned = replan(lowered, name, make_options("bytes", target="webgpu"))
    back = replan(planned.data, name, make_options("bytes", target="vulkan"))
    anew = plan_exported(exported, name, make_options("bytes", target="webgpu"))
    written = planned.data, anew.data
    total = planned.report.total
    is_same = [
        getattr(back.report.total, figure) == getattr(straight.report.total, figure)
        for figure in ("repack_cost", "transitions", "status")
    ]
    return (
        name,
        str(total.operators),
        str(total.baseline_transitions),
        cost(_copied_bytes(planned), "bytes"),
        str(straight.report.total.transitions),
        str(total.transitions),
        total.status,
        "the same optimum" if all(is_same) else "ANOTHER",
        *(str(_cannot(data, name)) for data in written),
        _read([blob for data in written for _, blob in vulkan_blobs(data, name)]),
    )


def _copied_bytes(planned: Planned) -> int:
    """Bytes of all copies by transitions of the program as it came, without padding."""
    return sum(
        prod(repack.sizes) * ELEMENT_BYTES[repack.datatype]
        for delegate in planned.program.delegates
        for repack in delegate.baseline_repacks
    )


def _read(blobs: Sequence[bytes]) -> str:
    """How many delegates' graphs are the same by ExecuTorch's own reader as by ours."""
    from planner.executorch.readback import decode_as_executorch

    same = 0
    for blob in blobs:
        theirs = decode_as_executorch(blob)
        ours = vkgraph.decode(bytes(split_delegate(blob).flatbuffer))
        same += len(theirs.values) == len(ours.values) and [
            (call.name, call.args) for call in ours.chain
        ] == [(call.name, (*call.args,)) for call in theirs.chain]
    return f"{same} of {len(blobs)}"


def _cannot(data: bytes, name: str) -> int:
    """Calls that WebGPU's runtime does not know, or cannot do."""
    findings = check_program(data, name, target="webgpu").findings
    return len({(finding.delegate, finding.place) for finding in findings})
