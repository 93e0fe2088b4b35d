"""How the CPU time and memory of re-planning grow with the size of the graph."""

from __future__ import annotations

import multiprocessing
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Final, TypeVar

from rich.console import Console

from api.terminal.markdown import Printed, head, row
from planner.extras import quiet
from planner.files.lowered import delegates_of, graph_of
from planner.files.whole import write_whole
from planner.options import make_options
from planner.pipelines.lowered import replan
from planner.stopwatch import stage, stages
from schema import VkGraph, VkTensor, vkgraph
from schema.vkgraph import Value, ValueList

T = TypeVar("T")

SIZES: Final = (100, 1_000, 10_000, 100_000)

_STAGES: Final = (
    *("decode", "read", "build", "solve", "write"),
    *("memory", "encode", "check", "report"),
)
"""Where the time goes: ``report`` has what none of the others has."""

_COLUMNS: Final = (
    *("operators", "MB", *_STAGES, "all, CPU s"),
    *("µs an operator", "peak memory, MB", "bytes an operator"),
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Re-planning a graph of so many operators: CPU seconds by stage, and memory.

    ``peak_bytes`` are the process's, ``start_bytes`` those that it had before it read the graph.
    """

    operators: int
    flatbuffer_bytes: int
    seconds: Mapping[str, float]
    start_bytes: int
    peak_bytes: int

    @property
    def whole(self) -> float:
        """The seconds of all stages."""
        return sum(self.seconds.values())

    def row(self) -> str:
        """A row of the Markdown table."""
        return row(
            [
                f"{self.operators:,}",
                f"{self.flatbuffer_bytes / 1e6:.2f}",
                *(f"{self.seconds.get(name, 0.0):.3f}" for name in _STAGES),
                f"{self.whole:.3f}",
                f"{self.whole / self.operators * 1e6:.0f}",
                f"{self.peak_bytes / 1e6:.0f}",
                f"{(self.peak_bytes - self.start_bytes) / self.operators:,.0f}",
            ]
        )


def scaling(sizes: Sequence[int], output: Path | None) -> None:
    """Prints a Markdown table of what re-planning takes against the size of the graph.

    Graphs are made for it in a temporary folder, and removed again.
    """
    unit = _alone(_encoded_block)
    printed = Printed()
    printed.add(*head(_COLUMNS, 0))
    for size in sizes:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "graph"
            _alone(make, unit, size, file)
            found = _alone(measure, file)
        printed.add(found.row())
    printed.write(output)


def whole_process(files: Sequence[Path], repeats: int = 5) -> None:
    """Prints the CPU time of ``layout-planner plan FILE -o ...``, beyond an interpreter's start.

    The least of several runs, of which each starts a process of its own. The stages are those of
    planning alone, in the fastest of as many processes: imports and the printing are the rest.
    """
    console = Console(width=240, highlight=False)
    head_ = head(["file", "bytes", *(f"{name}, ms" for name in _STAGES), "CPU, s"])
    console.print("\n".join(head_), markup=False)
    start = min(_cpu_seconds(["-c", "pass"]) for _ in range(repeats))
    for file in files:
        with TemporaryDirectory() as folder:
            command = ["-m", "api.cli", "plan", str(file), "-o", str(Path(folder) / "out")]
            whole = min(_cpu_seconds(command) for _ in range(repeats))
        found = min((_alone(measure, file) for _ in range(repeats)), key=lambda m: m.whole)
        spent = (f"{found.seconds.get(name, 0.0) * 1e3:.1f}" for name in _STAGES)
        cells = [file.name, f"{file.stat().st_size:,}", *spent, f"{whole - start:.3f}"]
        console.print(row(cells), markup=False)


def _alone(work: Callable[..., T], *arguments: object) -> T:
    """What ``work`` gives in a process of its own, whose peak memory is that of this work."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def _cpu_seconds(arguments: Sequence[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def make(encoded: bytes, operators: int, file: Path) -> None:
    """Writes a graph of about so many operators, made of copies of an encoded one."""
    unit = vkgraph.decode(encoded)
    graph = repeated(unit, max(1, round(operators / len(unit.chain))))
    write_whole(file, vkgraph.encode(graph))


def measure(file: Path) -> Measurement:
    """Plans a lowered program, from its bytes to those of the planned one."""
    start_bytes = _memory("VmRSS")
    data = file.read_bytes()
    before = process_time()
    with stages() as found, stage("report"):
        planned = replan(data, file.name, make_options("bytes"))
    spent = process_time() - before
    seconds = dict(found.seconds)
    seconds["report"] += spent - sum(seconds.values())
    total = planned.report.total
    return Measurement(
        operators=total.operators + total.baseline_transitions,
        flatbuffer_bytes=len(data),
        seconds=seconds,
        start_bytes=start_bytes,
        peak_bytes=_memory("VmHWM"),
    )


def _memory(what: str) -> int:
    # getrusage() would count what the parent had before this process became another program.
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) * 1024


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
        chain += [call._replace(args=tuple(map(place, call.args))) for call in unit.chain]
        previous = base + result
    return replace(unit, chain=tuple(chain), values=tuple(values), output_ids=(previous,))


def _encoded_block() -> bytes:
    return vkgraph.encode(block())


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
