"""Tuning with a server: its device is taught run by run, and teaches the next tuning."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from api.cli import main
from tests.api.serving import Server, serving
from tests.paths import ROOT

pytestmark = pytest.mark.lowering

RUNNER = (
    f"{sys.executable} {ROOT / 'tests' / 'executor_runner.py'} --model_path={{pte}} "
    "--inputs={inputs} --output_file={outputs} --etdump_path={etdump} --num_executions={runs} "
    "--output_bytes=768,16"
)
QUICK = ("--rounds", 1, "--blocks", 7, "--inferences", 4)
PHONE = ("--device", "team phone")
ROW = {
    "operators": ["aten.relu.default"],
    "representations": ["texture:HEIGHT_PACKED"],
    "effect": "wrong values",
    "source": "another tuning",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder / "data", f"sqlite:///{folder / 'db.sqlite'}", workers=0) as server:
        yield server


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(ROOT / "tests/programs/by_executorch_1.4.1.pte", tmp_path / "m.pte"))


def tune(model: Path, url: object, *args: object) -> Result:
    words = ("tune", model, "--server", url, *QUICK, *args)
    env = {"COLUMNS": "250"}
    return CliRunner().invoke(main, list(map(str, words)), env=env)


def documents(model: Path) -> tuple[Any, list[Any]]:
    folder = model.with_suffix(".tuning")
    rounds = json.loads((folder / "report.json").read_text())["rounds"]
    runs = (folder / "runs.jsonl").read_text().splitlines()
    return rounds, [json.loads(line) for line in runs]


def test_a_team_teaches_one_database(server: Server, model: Path, tmp_path: Path) -> None:
    url = str(server.client.base_url)
    result = tune(model, url, "--run", RUNNER, *PHONE)
    assert result.exit_code == 0, result.output
    rounds, runs = documents(model)
    right = [run for run in runs if run["purpose"] == "learn" and run["verdict"] == "right"]
    device = server.get("/devices/team phone")
    assert device["runs"] == len(right) > 1
    (tuning,) = server.get("/devices/team phone/tunings")
    assert tuning["program"] == "m.pte" and tuning["ended"]
    detail = server.get(f"/devices/team phone/tunings/{tuning['id']}")
    progress = detail["progress"]
    assert [plan["verdict"] for plan in progress["plans"]].count("right") == len(right)
    assert progress["plans"][0]["name"] == "ExecuTorch's plan"
    assert progress["rounds"] == rounds
    assert f"{url}/device/team%20phone/tuning/{tuning['id']} shows how it goes" in result.output

    # Another machine's tuning of the same program begins with what is known.
    server.client.post("/devices/team phone/avoid", json=[ROW])
    elsewhere = tmp_path / "elsewhere" / "m.pte"
    elsewhere.parent.mkdir()
    shutil.copy(model, elsewhere)
    result = tune(elsewhere, url, "--run", RUNNER, *PHONE)
    assert result.exit_code == 0, result.output
    (again,), _ = documents(elsewhere)
    assert again["new_calls"] < rounds[0]["new_calls"]
    known = json.loads((elsewhere.with_suffix(".tuning") / "known.json").read_text())
    assert len(known["runs"]) == len(right) and known["avoid"] == [ROW]

    # What the server knows plans without any runner.
    planned = server.client.post(
        "/plan", params={"device": "team phone", "name": "m.pte"}, content=model.read_bytes()
    )
    assert planned.status_code == 200, planned.text
    report = server.get(planned.headers["location"])
    assert report["total"]["cost_origins"]["measured"] > 0.9


def test_a_tuning_goes_on_without_its_server(tmp_path: Path, model: Path) -> None:
    url = f"sqlite:///{tmp_path / 'db.sqlite'}"
    stopped = tmp_path / "stopped"
    with serving(tmp_path / "data", url, workers=0) as server:
        port = server.port
        # The first run of a plan ends the server.
        kill = f"test -e {stopped} || kill -9 {server.process.pid}; touch {stopped}"
        command = f"sh -c '{kill}; {RUNNER}'"
        result = tune(model, server.client.base_url, "--run", command, *PHONE)
    assert result.exit_code == 0, result.output
    assert result.output.count("the tuning goes on without the server: cannot reach") == 1
    assert model.with_suffix(".tuned.pte").exists()
    # The same command later tells what was not told, and runs nothing again.
    with serving(tmp_path / "data", url, workers=0, port=port) as server:
        result = tune(model, server.client.base_url, "--run", "false", *PHONE)
        assert result.exit_code == 0, result.output
        _, runs = documents(model)
        right = [run for run in runs if run["purpose"] == "learn" and run["verdict"] == "right"]
        assert server.get("/devices/team phone")["runs"] == len(right)
        # It goes on as the tuning that it was.
        (tuning,) = server.get("/devices/team phone/tunings")
        assert tuning["ended"]


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("--server", "http://127.0.0.1:9"), 69, "cannot reach the server http://127.0.0.1:9"),
        (("--server", "nowhere"), 2, "'nowhere' is not a server's address"),
        (("--known", "pixel"), 2, "unknown device 'pixel': use one that ships"),
    ],
)
def test_what_is_wrong_is_named_before_anything_runs(
    model: Path, args: tuple[str, ...], code: int, text: str
) -> None:
    result = CliRunner().invoke(main, ["tune", str(model), "--run", "false", *args])
    assert result.exit_code == code, result.output
    assert text in result.output
    assert not (model.with_suffix(".tuning") / "runs.jsonl").exists()


def test_a_shipped_device_is_not_taught(server: Server, model: Path) -> None:
    result = tune(model, server.client.base_url, "--run", "false", "--device", "lavapipe")
    assert result.exit_code == 2
    assert "the device 'lavapipe' ships with the planner: add one of yours" in result.output
    known = ("--known", "lavapipe")
    result = tune(model, server.client.base_url, "--run", "false", *known, *PHONE)
    assert result.exit_code == 2
    assert "--known is for tuning without a server" in result.output
