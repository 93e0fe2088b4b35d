"""The commands that write for viewers: whole files, or one line that says why not."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli import main
from tests.paths import PROFILES


def unpacked(folder: Path, name: str) -> str:
    path = folder / name
    path.write_bytes(lzma.decompress((PROFILES / f"{name}.xz").read_bytes()))
    return str(path)


@pytest.fixture
def graph(tmp_path: Path) -> str:
    return unpacked(tmp_path, "mv2_xs_int8_greedy.vkgraph")


@pytest.fixture
def etdump(tmp_path: Path) -> str:
    return unpacked(tmp_path, "mv2_xs_int8_greedy.etdump")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def refused(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    return result.output


def test_trace_writes_what_was_measured_and_predicted(
    graph: str, etdump: str, tmp_path: Path
) -> None:
    out = tmp_path / "trace.json"
    result = run("trace", graph, "--etdump", etdump, "-o", out)
    assert result.exit_code == 0, result.output
    assert "measured: 206.494 ms in 259 steps" in result.output
    assert "predicted by default: 0.782 ms\n" in result.output
    document = json.loads(out.read_bytes())
    assert sum(event["ph"] == "X" for event in document["traceEvents"]) == 259 + 258


def test_overlay_writes_files_that_go_together(graph: str, tmp_path: Path) -> None:
    out = tmp_path / "overlay"
    for _ in range(2):
        result = run("overlay", graph, "-o", out)
        assert result.exit_code == 0, result.output
    sets = ["representation", "cost", "origin"]
    assert {path.name for path in out.iterdir()} == {f"{name}.json" for name in ("graph", *sets)}
    paths = ",".join(str(out / f"{name}.json") for name in sets)
    assert f"model-explorer {out}/graph.json --node_data_paths={paths}\n" in result.output
    (found,) = json.loads((out / "graph.json").read_bytes())["graphs"]
    ids = {node["id"] for node in found["nodes"]}
    assert ids == set(json.loads((out / "representation.json").read_bytes())["results"])


def test_a_planned_program_speaks_for_itself(graph: str, tmp_path: Path) -> None:
    plan, out = tmp_path / "m.plan", tmp_path / "trace.json"
    for profile, objective in (("default", "latency"), ("default", "repack"), ("bytes", "repack")):
        options = ["--profile", profile, "--objective", objective]
        assert run("plan", graph, *options, "--plan", plan).exit_code == 0
        if objective == "latency":
            result = run("trace", plan, "-o", out)
            assert "predicted by the plan, by default: " in result.output
        else:
            wrong = "has no times" if profile == "default" else "counts bytes"
            assert f"m.plan {wrong}" in refused("trace", plan, "-o", tmp_path / "x.json")
            assert "--profile default" in refused("trace", plan, "-o", tmp_path / "x.json")
        result = run("trace", plan, "--profile", "default", "-o", out)
        assert result.exit_code == 0, result.output
        assert "predicted by default: " in result.output
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("command", ["trace", "overlay"])
def test_what_cannot_be_done_writes_nothing(command: str, graph: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    other = tmp_path / "other"
    other.write_bytes(b"PK\x03\x04 no program")
    for arguments, why in (
        ([other], "has no layouts that can be read"),
        ([tmp_path / "none"], "cannot read"),
        ([graph, "--profile", "bytes"], "counts bytes, not time"),
        ([graph, "--profile", "nowhere"], "nowhere"),
        ([graph, "--device", "phone"], "ships with the planner"),
        ([graph, "--costs", tmp_path / "none"], "there is no cost database"),
        ([graph, "--etdump", graph], "is not an ETDump"),
        ([graph, "--etdump", tmp_path / "none"], "cannot read"),
    ):
        assert why in refused(command, *arguments, "-o", out)
    nowhere = tmp_path / "no" / "where"
    assert "its directory does not exist" in refused(command, graph, "-o", nowhere)
    assert not out.exists()
