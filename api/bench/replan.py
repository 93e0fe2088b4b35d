"""How the time and memory of re-planning grow with the size of the graph."""

from __future__ import annotations

import multiprocessing
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console

from api.terminal.markdown import head, row
from planner.extras import quiet
from planner.files.lowered import delegates_of, graph_of
from planner.files.whole import write_whole
from planner.options import make_options
from planner.pipelines.lowered import replan
from planner.stopwatch import stopwatch
from schema import VkGraph, VkTensor, vkgraph
from schema.vkgraph import Value, ValueList

SIZES: Final = (100, 1_000, 10_000, 100_000)


_COLUMNS: Final = (
    *("operators", "MB", "planning, s", "checking, s", "all, s"),
    *("µs an operator", "peak memory, MB"),
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Re-planning a graph of so many operators: its seconds, and the process's peak memory.

    ``planning`` reads the graph, solves, and writes it; ``checking`` is that of the plan. With the
    report of it they make ``whole``.
    """

    operators: int
    flatbuffer_bytes: int
    planning: float
    checking: float
    whole: float
    peak_bytes: int

    def row(self) -> str:
        """A row of the Markdown table."""
        return row(
            [
                f"{self.operators:,}",
                f"{self.flatbuffer_bytes / 1e6:.2f}",
                *(f"{s:.3f}" for s in (self.planning, self.checking, self.whole)),
                f"{self.whole / self.operators * 1e6:.0f}",
                f"{self.peak_bytes / 1e6:.0f}",
            ]
        )


def scaling(sizes: Sequence[int], output: Path | None) -> None:
    """Prints a Markdown table of what re-planning takes against the size of the graph."""
    unit = vkgraph.encode(block())
    lines = list(head(_COLUMNS, 0))
    console = Console(width=200, highlight=False)
    for line in lines:
        console.print(line, markup=False)
    for size in sizes:
        # A process for each size: peak memory is that of this size alone.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            lines.append(pool.apply(measure, (unit, size)).row())
        console.print(lines[-1], markup=False)
    if output is not None:
        write_whole(output, ("\n".join(lines) + "\n").encode())


def whole_process(files: Sequence[Path], repeats: int = 5) -> None:
    """Prints the CPU time of ``layout-planner plan FILE -o ...``, beyond an interpreter's start.

    The least of several runs, of which each starts a process of its own.
    """
    console = Console(width=200, highlight=False)
    console.print("\n".join(head(["file", "bytes", "CPU, s"])), markup=False)
    start = min(_cpu_seconds(["-c", "pass"]) for _ in range(repeats))
    for file in files:
        with TemporaryDirectory() as folder:
            command = ["-m", "api.cli", "plan", str(file), "-o", str(Path(folder) / "out")]
            whole = min(_cpu_seconds(command) for _ in range(repeats))
        cells = [file.name, f"{file.stat().st_size:,}", f"{whole - start:.3f}"]
        console.print(row(cells), markup=False)


def _cpu_seconds(arguments: Sequence[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measure(encoded: bytes, operators: int) -> Measurement:
    """Plans a graph of about so many operators, made of copies of an encoded one."""
    unit = vkgraph.decode(encoded)
    data = vkgraph.encode(repeated(unit, max(1, round(operators / len(unit.chain)))))
    del unit
    chain = len(vkgraph.decode(data).chain)
    with stopwatch() as whole:
        total = replan(data, "graph", make_options("bytes")).report.total
    return Measurement(
        operators=chain,
        flatbuffer_bytes=len(data),
        planning=total.plan_seconds,
        checking=total.verify_seconds,
        whole=whole.seconds,
        peak_bytes=_peak_bytes(),
    )


def _peak_bytes() -> int:
    # getrusage() would count what the parent had before this process became another program.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def repeated(unit: VkGraph, times: int) -> VkGraph:
    """Copies of a graph one after another, each reading what the one before it made."""
    (source,), (result,) = unit.input_ids, unit.output_ids
    width = len(unit.values)
    values: list[Value] = []
    chain = []
    previous = source
    objects = 1 + max((v.mem_obj_id for v in unit.values if isinstance(v, VkTensor)), default=0)
    for copy in range(times):
        base = copy * width

        def place(i: int, base: int = base, previous: int = previous) -> int:
            return previous if i == source else base + i

        def moved(value: Value, copy: int = copy, place: Callable[[int], int] = place) -> Value:
            if isinstance(value, ValueList):
                return ValueList(tuple(map(place, value.items)))
            if isinstance(value, VkTensor) and value.mem_obj_id >= 0:
                return replace(value, mem_obj_id=value.mem_obj_id + copy * objects)
            return value

        values += [moved(value) for value in unit.values]
        chain += [replace(call, args=tuple(map(place, call.args))) for call in unit.chain]
        previous = base + result
    return replace(unit, chain=tuple(chain), values=tuple(values), output_ids=(previous,))


def block() -> VkGraph:
    """A residual block of convolutions and one of attention, lowered by ExecuTorch's own pass."""
    with quiet():
        import torch
        from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from torch.nn import functional

        class Block(torch.nn.Module):
            def __init__(self, width: int) -> None:
                super().__init__()
                self.spatial = torch.nn.Conv2d(width, width, 7, padding=3, groups=width)
                self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(width) for _ in range(2))
                self.grow = torch.nn.Linear(width, 4 * width)
                self.shrink = torch.nn.Linear(4 * width, width)
                self.qkv = torch.nn.Linear(width, 3 * width)
                self.out = torch.nn.Linear(width, width)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                y = self.norms[0](self.spatial(x).permute(0, 2, 3, 1))
                x = x + self.shrink(functional.gelu(self.grow(y))).permute(0, 3, 1, 2)
                tokens = x.flatten(2).transpose(1, 2)
                q, k, v = self.qkv(self.norms[1](tokens)).split(x.shape[1], dim=-1)
                scores = torch.softmax(torch.bmm(q, k.transpose(1, 2)), dim=-1)
                tokens = tokens + self.out(torch.bmm(scores, v))
                result: torch.Tensor = tokens.transpose(1, 2).reshape(x.shape)
                return result

        torch.manual_seed(0)
        exported = torch.export.export(Block(32).eval(), (torch.randn(1, 32, 14, 14),))
        edge = to_edge_transform_and_lower(exported, partitioner=[VulkanPartitioner()])
        (blob,) = delegates_of(edge.to_executorch().buffer, "block").values()
    return vkgraph.decode(graph_of(blob))
