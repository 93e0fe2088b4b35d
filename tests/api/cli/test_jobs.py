"""The commands for jobs, against a server with a worker."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from rich.table import Table

from api.cli import main
from api.client.client import Client
from api.client.difference import compare_jobs
from api.client.errors import AwayError
from api.client.manifest import read_submission
from api.terminal.jobs import comparison_table, gains_table, results_table
from planner.costs.profile_file import load_profile
from planner.errors import InputError, OptionError
from tests.api.graphs import graph
from tests.api.jobs.plant import wait
from tests.api.serving import Server, serving
from tests.recorded import recorded


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder / "data", f"sqlite:///{folder / 'db.sqlite'}", workers=1) as server:
        yield server


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with two programs, one in a folder of its own, and another file."""
    (tmp_path / "models/more").mkdir(parents=True)
    (tmp_path / "models/a.vkgraph").write_bytes(graph(8))
    (tmp_path / "models/more/b.pte").write_bytes(graph(12))
    (tmp_path / "models/notes.txt").write_text("no program")
    return tmp_path / "models"


def _run(server: Server, *args: object) -> Result:
    env = {"LAYOUT_PLANNER_SERVER": str(server.client.base_url), "COLUMNS": "200"}
    return CliRunner().invoke(main, ["jobs", *map(str, args)], env=env)


def _submit(server: Server, *args: object) -> str:
    ended = _run(server, "submit", *args)
    assert ended.exit_code == 0, ended.output
    return ended.stdout.splitlines()[0]


def test_submit_watch_and_results_of_a_folder(server: Server, models: Path, tmp_path: Path) -> None:
    options = "--profile", "bytes", "--without-layouts", "HEIGHT_PACKED", "--target", "webgpu"
    job_id = _submit(server, models, *options)
    watched = _run(server, "watch", job_id)
    assert watched.exit_code == 0
    assert "models: 2 done, 0 failed, 0 cancelled" in watched.output
    shown = _run(server, "results", job_id).output
    assert "a.vkgraph" in shown
    assert "more/b.pte" in shown
    assert "optimal" in shown and "not proven" not in shown
    items = json.loads(_run(server, "results", job_id, "--json").output)
    assert [item["input"] for item in items] == ["a.vkgraph", "more/b.pte"]
    assert items[0]["options"]["without_layouts"] == ["TENSOR_HEIGHT_PACKED"]
    assert [item["options"]["target"] for item in items] == ["webgpu"] * 2
    assert _run(server, "results", job_id, "-o", tmp_path / "x.csv").exit_code == 0
    assert (tmp_path / "x.csv").read_text().startswith("number,input,")
    assert job_id in _run(server, "list").output


def test_a_manifest_is_a_matrix_and_failures_are_reported(
    server: Server, models: Path, tmp_path: Path
) -> None:
    (models / "bad.pte").write_text("text")
    manifest = tmp_path / "night.toml"
    manifest.write_text(
        'inputs = ["models/*.vkgraph", "models/bad.pte"]\n'
        'profiles = ["bytes", "default"]\nobjectives = ["repack", "latency"]\n'
    )
    job_id = _submit(server, manifest)
    watched = _run(server, "watch", job_id)
    assert watched.exit_code == 1
    assert "night: 4 done, 4 failed, 0 cancelled" in watched.output
    assert _run(server, "retry", job_id).output == "4 tasks queued again\n"
    assert _run(server, "watch", job_id).exit_code == 1
    assert _run(server, "cancel", job_id).output == "0 tasks cancelled\n"
    assert _run(server, "delete", job_id).exit_code == 0
    assert job_id not in _run(server, "list").output
    gone = _run(server, "delete", job_id)
    assert gone.exit_code == 2 and f"there is no job '{job_id}'" in gone.output


def test_a_fleet_has_a_program_and_a_gain_for_each_device(server: Server, tmp_path: Path) -> None:
    (tmp_path / "models/more").mkdir(parents=True)
    (tmp_path / "models/more/mv2.pte").write_bytes(recorded("mv2_xs_int8", "random0.pte"))
    fleet = ("--device", "lavapipe", "--device", "nvidia-h100")
    job_id = _submit(server, tmp_path / "models", *fleet)
    assert _run(server, "watch", job_id).exit_code == 0
    items = json.loads(_run(server, "results", job_id, "--json").output)
    assert [item["options"]["device"] for item in items] == ["lavapipe", "nvidia-h100"]
    assert {item["options"]["objective"] for item in items} == {"latency"}
    shown = _run(server, "results", job_id).output
    assert "gain by device, predicted" in shown
    (gains,) = [line for line in shown.splitlines() if "mv2.pte" in line][2:]
    for item, cell in zip(items, gains.split("│")[2:], strict=False):
        gain = item["result"]["objective_ratio"]
        assert gain > 1 and cell.strip() == f"{gain:.2f}×"
    written = _run(server, "programs", job_id, "-o", tmp_path / "fleet")
    assert written.output == f"2 programs are in {tmp_path / 'fleet'}\n"
    names = ["more_mv2-lavapipe.pte", "more_mv2-nvidia-h100.pte"]
    assert sorted(path.name for path in (tmp_path / "fleet").iterdir()) == names
    first, second = ((tmp_path / "fleet" / name).read_bytes() for name in names)
    assert first != second
    again = _run(server, "programs", job_id, "-o", tmp_path / "fleet")
    assert again.exit_code == 2 and "it is not empty; name a new folder" in again.output


def test_a_job_without_programs_writes_no_folder(server: Server, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/bad.pte").write_text("text")
    job_id = _submit(server, tmp_path / "models", "--profile", "bytes")
    _run(server, "watch", job_id)
    ended = _run(server, "programs", job_id, "-o", tmp_path / "none")
    assert ended.exit_code == 2 and "has no programs: nothing of it is planned" in ended.output
    assert not (tmp_path / "none").exists()


@pytest.mark.server
def test_a_server_that_is_started_anew_is_waited_for(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'db.sqlite'}"
    with ExitStack() as stack:
        first = stack.enter_context(serving(tmp_path / "data", url, workers=0))
        job_id = first.submit({"a": graph(8)})
        followed = Client(f"http://127.0.0.1:{first.port}").follow(job_id)
        assert next(followed)["counts"]["queued"] == 1
        first.process.terminate()
        first.process.wait(20)
        stack.enter_context(serving(tmp_path / "data", url, 1, first.port))
        *_, last = followed
        assert last["counts"]["done"] == 1


@pytest.mark.server
def test_a_server_that_does_not_come_back_is_an_error(tmp_path: Path) -> None:
    with serving(tmp_path / "data", f"sqlite:///{tmp_path / 'db.sqlite'}", workers=0) as server:
        job_id = server.submit({"a": graph(8)})
        followed = Client(f"http://127.0.0.1:{server.port}", patience=1).follow(job_id)
        next(followed)
    with pytest.raises(AwayError, match=f"goes on without it: .* jobs watch {job_id}'"):
        list(followed)


def test_diff_is_a_gate(server: Server, models: Path) -> None:
    before = _submit(server, models, "--watch")
    after = _submit(server, models, "--watch")
    same = _run(server, "diff", before, after, "--fail-on-regression", 0)
    assert same.exit_code == 0
    assert "+0.00 %" in same.output
    (models / "more/b.pte").write_text("text")
    broken = _submit(server, models)
    _run(server, "watch", broken)
    gone = _run(server, "diff", before, broken, "--fail-on-regression", 0)
    assert gone.exit_code == 1
    assert "no plan" in gone.output
    assert _run(server, "diff", before, broken).exit_code == 0


def test_a_gate_does_not_pass_where_there_is_nothing_to_compare(
    server: Server, models: Path, tmp_path: Path
) -> None:
    profile = json.loads(load_profile("bytes").to_json())
    (tmp_path / "bytes.json").write_text(json.dumps(profile | {"description": "changed"}))
    before = _submit(server, models, "--profile", "bytes")
    after = _submit(server, models, "--profile", tmp_path / "bytes.json")
    shown = _run(server, "diff", before, after)
    assert shown.exit_code == 0
    assert shown.output.count("only in the first job") == 2
    gate = _run(server, "diff", before, after, "--fail-on-regression", 0)
    assert gate.exit_code == 2
    assert "the two jobs have nothing in common" in gate.output


def _item(name: str, cost: float | None, repack_cost: float = 0, **options: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "profile": "bytes",
        "profile_hash": "0" * 64,
        "objective": "latency",
        "texture_limits": None,
        "buffer_limit": None,
        "without_layouts": [],
    }
    costs = {"objective_cost": cost, "repack_cost": repack_cost, "unit": "ns", "is_proven": True}
    return {
        "input": name,
        "options": {**base, **options},
        "result": None if cost is None else costs,
        "error": None,
    }


def test_a_regression_is_more_than_so_many_percent() -> None:
    before = [_item("a", 100), _item("b", 0), _item("c", None), _item("d", 1), _item("e", 5)]
    after = [_item("a", 105), _item("b", 1), _item("c", 9), _item("d", None), _item("f", 5)]
    comparison = compare_jobs(before, after)
    assert [change.percent for change in comparison.changes] == [
        *(pytest.approx(5), float("inf"), None, None),
    ]
    assert [change.cell.input for change in comparison.regressions(4.9)] == ["a", "b", "d"]
    assert [change.cell.input for change in comparison.regressions(5.1)] == ["b", "d"]
    assert [cell.input for cell in comparison.removed] == ["e"]
    assert [cell.input for cell in comparison.added] == ["f"]


def test_a_plan_is_judged_by_the_objective_that_it_minimises() -> None:
    faster = compare_jobs([_item("a", 100, repack_cost=1)], [_item("a", 60, repack_cost=3)])
    assert faster.regressions(0) == []
    slower = compare_jobs([_item("a", 60, repack_cost=1)], [_item("a", 100, repack_cost=1)])
    (regression,) = slower.regressions(10)
    assert regression.percent == pytest.approx(200 / 3)
    assert regression.before is not None and regression.before.repack == 1


def _text(table: Table) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(table)
    file = console.file
    assert isinstance(file, io.StringIO)
    return " ".join(file.getvalue().split())


def test_what_is_not_proven_is_marked() -> None:
    result = {
        **{"unit": "ns", "objective_ratio": 6.44, "bound": 1e6, "repack_cost": 0},
        **{"baseline_objective_cost": 2e6, "baseline_repack_cost": 0},
    }
    proven, other = _item("a", 2e6), _item("b", 2e6)
    for item in (proven, other):
        item["state"] = "done"
        item["result"] |= result | {"is_proven": item is proven}
    legend = "◐ not proven: another plan may cost less"
    for items, marks in (([proven], 0), ([proven, other], 1)):
        shown = _text(results_table(items))
        assert shown.count("◐ 6.44×") == marks == shown.count(legend)
        assert shown.count("feasible, at least 1.000 ms") == marks
        gains = _text(gains_table(items))
        assert gains.count("◐ 6.44×") == marks == gains.count(legend)
    better = _item("b", 1e6)
    compared = _text(comparison_table(compare_jobs([proven, other], [proven, better]), 0))
    assert "│ ◐ 2.000 ms │ 1.000 ms │" in compared
    assert compared.count("◐ 2.000 ms") == 1 == compared.count(legend)


@pytest.mark.parametrize(
    "other",
    [
        {"profile_hash": "1" * 64},
        {"objective": "repack"},
        {"texture_limits": [1, 2, 3]},
        {"buffer_limit": 7},
        {"without_layouts": ["TENSOR_WIDTH_PACKED"]},
    ],
)
def test_items_with_other_options_are_others(other: dict[str, Any]) -> None:
    comparison = compare_jobs([_item("a", 1)], [_item("a", 2, **other)])
    assert comparison.changes == []
    assert (len(comparison.removed), len(comparison.added)) == (1, 1)


def test_a_profile_is_the_same_under_another_name() -> None:
    comparison = compare_jobs([_item("a", 1)], [_item("a", 2, profile="renamed")])
    assert [change.percent for change in comparison.changes] == [100]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("inputs = [", "neither a folder nor a manifest"),
        ("colour = 1", "unknown key 'colour'"),
        ("name = 'x'", "inputs is not a list of paths"),
        ("inputs = ['none/*.pte']", "there is no file none"),
        ("inputs = ['m.toml']\nprofiles = []", "profiles is not a list"),
        ("inputs = ['m.toml']\nobjectives = ['repack']", "has objectives already"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_named(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises((InputError, OptionError), match=error):
        read_submission(tmp_path / "m.toml", {"objectives": ["latency"]})


def test_a_profile_of_a_manifest_may_be_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(load_profile("bytes").to_json())
    (tmp_path / "m.toml").write_text("inputs = ['m.toml']\nprofiles = ['mine.json', 'bytes']")
    document, name = read_submission(tmp_path / "m.toml", {}).options["profiles"]
    assert (document["name"], name) == ("bytes", "bytes")


def test_a_server_that_is_away_is_not_a_wrong_option() -> None:
    env = {"LAYOUT_PLANNER_SERVER": "http://127.0.0.1:1"}
    ended = CliRunner().invoke(main, ["jobs", "list"], env=env)
    assert ended.exit_code == 69
    assert len(ended.output.splitlines()) == 1
    assert "cannot reach the server http://127.0.0.1:1" in ended.output


@pytest.mark.server
def test_the_worker_command_does_the_tasks_of_a_server_without_workers(
    tmp_path: Path, database_url: str
) -> None:
    with serving(tmp_path / "data", database_url, workers=0) as server:
        job_id = server.submit({"a": graph(8)})
        worker = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "worker", "--processes", "2"],
            env={
                **os.environ,
                "LAYOUT_PLANNER_DATA_DIR": str(tmp_path / "data"),
                "LAYOUT_PLANNER_DATABASE_URL": database_url,
            },
            stdout=subprocess.PIPE,
        )
        wait(lambda: bool(server.get(f"/jobs/{job_id}")["is_finished"]))
        wait(lambda: len(server.get("/workers")) == 2)
        worker.send_signal(signal.SIGINT)
        assert worker.wait(20) == 0
        assert server.get("/workers") == []


@pytest.mark.server
def test_bench_jobs_tells_tasks_a_second_and_the_overhead(tmp_path: Path) -> None:
    (tmp_path / "net.vkgraph").write_bytes(graph(8))
    command = ["bench", "jobs", str(tmp_path / "net.vkgraph"), "--tasks", "3"]
    ended = CliRunner().invoke(main, [*command, "-o", str(tmp_path / "jobs.md")])
    assert ended.exit_code == 0, ended.output
    lines = (tmp_path / "jobs.md").read_text().splitlines()
    assert lines[0] == "net.vkgraph, 3 tasks a job; the queue and the store in SQLite."
    assert [line[:8] for line in lines if line[:3] in ("| 1", "| 2")] == ["| 1 | 3 ", "| 2 | 3 "]
    assert "ms a task." in lines[-1]
