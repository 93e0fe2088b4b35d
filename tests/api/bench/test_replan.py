"""The benchmark of re-planning."""

from __future__ import annotations

from pathlib import Path

from api.bench.replan import make, measure
from schema import vkgraph
from tests.api.graphs import graph


def test_makes_a_graph_of_about_as_many_operators(tmp_path: Path) -> None:
    make(graph(8, 4), 40, tmp_path / "graph")
    made = vkgraph.decode((tmp_path / "graph").read_bytes())
    assert len(made.chain) == 40


def test_measures_every_stage_from_the_file_to_the_planned_bytes(tmp_path: Path) -> None:
    file = tmp_path / "graph"
    make(graph(8, 4), 40, file)
    found = measure(file)
    assert found.operators == 40
    assert found.flatbuffer_bytes == file.stat().st_size
    stages = {"decode", "read", "build", "solve", "write", "memory", "encode", "check", "report"}
    assert found.seconds.keys() <= stages
    assert {"decode", "read", "build", "solve", "check", "report"} <= found.seconds.keys()
    assert all(seconds > 0 for seconds in found.seconds.values())
    assert 0 < found.start_bytes <= found.peak_bytes
    assert [cell.strip() for cell in found.row().split("|")][1] == "40"
