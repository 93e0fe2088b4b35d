"""How long a model takes to be lowered: by ExecuTorch alone, and by us, who plan it as well."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from api.bench import zoo
from api.terminal.markdown import Printed, head, row
from planner.errors import PlannerError

_HEADINGS: Final = (
    *("model", "ExecuTorch, s", "ours, s", "ratio"),
    *("ExecuTorch again, s", "ours again, s", "ratio"),
)
_BY_EXECUTORCH: Final = """
import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
from planner.executorch.libraries import load_libraries
from planner.files.exported import operators_in

def read(path):
    with open(path, "rb") as file:
        load_libraries(path, operators_in(file))
    return torch.export.load(path)

def lower(program):
    edge = to_edge_transform_and_lower(
        program,
        partitioner=[VulkanPartitioner()],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    edge.to_executorch()
"""
_BY_US: Final = """
import pathlib
import torch
from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
from executorch.exir import to_edge_transform_and_lower
from planner.options import make_options
from planner.pipelines.exported import plan_exported

def read(path):
    return pathlib.Path(path).read_bytes()

def lower(data):
    plan_exported(data, "model.pt2", make_options("bytes")).pte()
"""
_TIMED: Final = """
import json, sys, time
from planner.extras import quiet
found = []
with quiet():
    for _ in range(2):
        program = read(sys.argv[1])
        start = time.perf_counter()
        lower(program)
        found.append(time.perf_counter() - start)
print(json.dumps(found))
"""


def lowering(names: Sequence[str], size: zoo.Size, output: Path | None) -> None:
    """Lowers models of the zoo, each twice in a new process, and prints a Markdown table.

    Ours loads the ``.pt2`` within its time, plans it and checks the plan; ExecuTorch's has it
    loaded already. What both import is imported before. Raises ``OptionError`` for a model that is
    not there.
    """
    chosen = zoo.chosen(names)
    printed = Printed()
    printed.add(*head(_HEADINGS, len(_HEADINGS)))
    with TemporaryDirectory() as folder:
        for name in chosen:
            path = Path(folder) / "model.pt2"
            path.write_bytes(zoo.save(name, size))
            try:
                theirs: Sequence[float | None] = _seconds(_BY_EXECUTORCH, path)
            except PlannerError:
                theirs = (None, None)
            cells = [name]
            for they, we in zip(theirs, _seconds(_BY_US, path), strict=True):
                cells.append("fails" if they is None else f"{they:.1f}")
                cells.append(f"{we:.1f}")
                cells.append("" if they is None else f"{we / they:.2f}")
            printed.add(row(cells))
    printed.write(output)


def _seconds(program: str, path: Path) -> list[float]:
    """Seconds of the first and the second time in a new process; raises ``PlannerError``."""
    command = [sys.executable, "-c", program + _TIMED, str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise PlannerError(f"lowering failed: {ended.stderr.strip().splitlines()[-1]}")
    found: list[float] = json.loads(ended.stdout.splitlines()[-1])
    return found
