"""``layout-planner explain`` and ``opportunities``: their tables, their JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli import main
from api.cli.answers import pareto
from planner.optimise.peak import Peaks
from planner.optimise.plan import SEARCH_SECONDS
from tests.api import graphs


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture
def forced(tmp_path: Path) -> Path:
    path = tmp_path / "forced.bin"
    path.write_bytes(graphs.forced())
    return path


def test_a_repack_is_explained(forced: Path) -> None:
    done = run("explain", forced, "--profile", "bytes")
    assert done.exit_code == 0, done.output
    assert "forced.bin: why repacks remain, by repack cost" in done.output
    assert "aten.t_copy.default #0 output 0" in done.output
    assert "aten.mm.default #" in done.output
    assert "+0.000 MB" in done.output


def test_an_explanation_as_json(forced: Path) -> None:
    done = run("explain", forced, "--profile", "bytes", "--json")
    assert done.exit_code == 0, done.output
    (delegate,) = json.loads(done.output)["delegates"]
    (repack,) = delegate["repacks"]
    assert repack["cost"] == delegate["objective_cost"]
    assert repack["from"] == "texture:CHANNELS_PACKED"
    assert repack["to"] in ("texture:WIDTH_PACKED", "buffer:WIDTH_PACKED")
    assert [b["operator"] for b in repack["made"]] == ["aten.t_copy.default"]
    assert [b["operator"] for b in repack["read"]] == ["aten.mm.default"]
    assert repack["without"]["extra"] == 0


def test_a_plan_without_repacks_has_none_to_explain(tmp_path: Path) -> None:
    path = tmp_path / "relu.bin"
    path.write_bytes(graphs.graph())
    done = run("explain", path)
    assert done.exit_code == 0, done.output
    assert "no repack remains" in done.output


def test_trade_offs(forced: Path, tmp_path: Path) -> None:
    pictures = [tmp_path / name for name in ("one.svg", "two.svg")]
    for picture in pictures:
        done = run("pareto", forced, "--profile", "bytes", "--picture", picture)
        assert done.exit_code == 0, done.output
    assert "forced.bin: repack cost against transitions" in done.output
    assert "forced.bin: repack cost against bytes of copies" in done.output
    assert "forced.bin: repack cost against bytes alive at once" in done.output
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    assert b"bytes of copies" in pictures[0].read_bytes()


def test_trade_offs_as_json(forced: Path) -> None:
    done = run("pareto", forced, "--profile", "bytes", "--against", "transitions", "--json")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.output)["tradeoffs"]
    assert found["criterion"] == "transitions" and found["is_complete"]
    assert [point["transitions"] for point in found["points"]] == [1]


def test_less_memory_costs_more(tmp_path: Path) -> None:
    path = tmp_path / "pooled.bin"
    path.write_bytes(graphs.pooled())
    done = run("pareto", path, "--profile", "bytes", "--against", "memory", "--json")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.output)["tradeoffs"]
    assert found["criterion"] == "memory" and found["is_complete"]
    points = [(p["objective_cost"], p["peak_memory_bytes"]) for p in found["points"]]
    assert points == [(0, 2048), (1280, 1280)]
    assert run("plan", path, "--profile", "bytes", "--max-peak-memory", 1279).exit_code == 2


def test_what_is_not_proven_in_time_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pooled.bin"
    path.write_bytes(graphs.pooled())
    asked = "pareto", path, "--profile", "bytes", "--against", "memory"
    done = run(*asked, "--seconds", 0)
    assert (
        done.exit_code == 0 and "not proven" not in done.output and "may be more" not in done.output
    )
    # Elimination cannot keep a limit of memory without a table.
    monkeypatch.setattr(Peaks, "within", lambda *asked: None)
    done = run(*asked, "--seconds", 0)
    assert done.exit_code == 0 and "there may be more" in done.output
    done = run(*asked, "--seconds", 0, "--json")
    (found,) = json.loads(done.output)["tradeoffs"]
    assert not found["is_complete"] and found["points"][0]["is_proven"]


def test_a_search_takes_as_long_as_that_of_a_plan() -> None:
    (seconds,) = (option.default for option in pareto.params if option.name == "seconds")
    assert seconds == SEARCH_SECONDS


def test_a_picture_that_cannot_be_drawn(forced: Path, tmp_path: Path) -> None:
    done = run("pareto", forced, "--picture", tmp_path / "one.gif")
    assert done.exit_code == 2 and ".svg or .png" in done.output


def test_how_far_prices_may_change(forced: Path) -> None:
    done = run("sensitivity", forced, "--profile", "bytes")
    assert done.exit_code == 0, done.output
    assert "forced.bin: how far prices may change" in done.output
    assert "texture:CHANNELS_PACKED -> texture:WIDTH_PACKED" in done.output


def test_how_far_prices_may_change_as_json(forced: Path) -> None:
    done = run("sensitivity", forced, "--profile", "bytes", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["unit"] == "bytes" and not found["unknown"]
    (launch,) = [price for price in found["prices"] if price["kind"] == "launch"]
    assert launch["paid"] == 1 and launch["rise"] is None


def test_what_would_help_one_program(forced: Path) -> None:
    done = run("opportunities", forced, "--profile", "bytes")
    assert done.exit_code == 0, done.output
    assert "forced.bin: what kernels could take" in done.output
    assert "aten.t_copy.default" in done.output
    assert "100.0%" in done.output


def test_what_would_help_several_is_ranked(forced: Path, tmp_path: Path) -> None:
    other = tmp_path / "relu.bin"
    other.write_bytes(graphs.graph())
    done = run("opportunities", forced, other, "--profile", "bytes")
    assert done.exit_code == 0, done.output
    assert "over 2 programs" in done.output
    assert "50.0%" in done.output
    document = json.loads(
        run("opportunities", forced, other, "--profile", "bytes", "--json").output
    )
    first, second = document["programs"]
    assert first["objective_cost"] > 0
    rows = first["opportunities"]
    assert all(row["is_exact"] and row["saved"] > 0 for row in rows)
    assert {row["operator"] for row in rows if row["saved"] == first["objective_cost"]} == {
        "aten.t_copy.default",
        "aten.mm.default",
    }
    assert second["opportunities"] == []
    assert document["ranking"]["opportunities"][0]["share"] == 0.5
    assert {m["source"] for o in document["ranking"]["opportunities"] for m in o["models"]} == {
        "forced.bin"
    }


def test_predicted_times_are_said_to_be(forced: Path) -> None:
    done = run("opportunities", forced, "--objective", "latency")
    assert done.exit_code == 0, done.output
    assert "are predicted" in done.output
