"""``--costs`` and ``--device``: plans by what a device measured, and what is refused."""

from __future__ import annotations

import asyncio
import json
import lzma
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from api.cli import main
from api.http.app import Settings, create_app
from api.http.models import PlanQuery
from planner.costs.by_profile import ProfileSource
from planner.costs.profile_file import load_profile
from planner.measured.costs import load_costs
from planner.measured.device import load_device
from planner.measured.importing import import_run
from schema import CostOrigin, plan, vkgraph
from tests.paths import PROFILES


def unpacked(name: str) -> bytes:
    return lzma.decompress((PROFILES / f"mv2_xs_int8_greedy.{name}.xz").read_bytes())


def run(*args: object) -> Result:
    """Runs the command in this process; a bug's exception is not hidden."""
    result = CliRunner().invoke(main, [str(a) for a in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "mv2.vkgraph"
    path.write_bytes(unpacked("vkgraph"))
    return path


@pytest.fixture
def costs(tmp_path: Path) -> Path:
    path = tmp_path / "costs.sqlite"
    import_run(unpacked("etdump"), "run", unpacked("vkgraph"), "graph", "phone", "1.0", path)
    return path


def second_device(path: Path) -> None:
    import_run(unpacked("etdump"), "run", unpacked("vkgraph"), "graph", "tablet", "1.0", path)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refusal(graph: Path, *args: object) -> str:
    """What planning says as it refuses: one line, exit code 2, and no file is touched."""
    before = files(graph.parent)
    outputs = ["-o", graph.with_suffix(".out"), "--report", graph.with_suffix(".json")]
    result = run("plan", graph, *outputs, *args)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert not result.stdout
    assert files(graph.parent) == before
    return result.stderr


def test_plan_by_measured_times(graph: Path, costs: Path) -> None:
    report, out, planned = (graph.with_name(name) for name in ("r.json", "out", "x.plan"))
    result = run(
        *("plan", graph, "--costs", costs, "--objective", "latency"),
        *("--report", report, "-o", out, "--plan", planned),
    )
    assert result.exit_code == 0
    document = json.loads(report.read_text())
    for figures in (document["total"], *document["delegates"]):
        origins = figures["cost_origins"]
        assert sum(origins.values()) == pytest.approx(1, abs=3e-4)
        assert origins["measured"] > 0.5
        assert {"measured", "interpolated", "estimated", "modelled"} == origins.keys()
    assert document["profile"]["name"] == "phone, measured; else default"
    assert document["profile"]["hash"] == load_costs(costs).digest
    program = plan.decode(planned.read_bytes())
    assert program.delegates[0].graph == out.read_bytes() and vkgraph.decode(out.read_bytes())
    assert plan.decode(plan.encode(program)) == program
    assert {c.origin for c in program.delegates[0].operator_costs} >= {CostOrigin.MEASURED}
    # The device may be named, where there is but one, too.
    named = graph.with_name("named.json")
    assert (
        run("plan", graph, "--costs", costs, "--device", "phone", "--report", named).exit_code == 0
    )


def test_one_of_two_devices(graph: Path, costs: Path) -> None:
    second_device(costs)
    assert "has 2 devices (phone, tablet): name one (--device NAME)" in refusal(
        graph, "--costs", costs
    )
    message = refusal(graph, "--costs", costs, "--device", "radio")
    assert "has no device 'radio': there is phone, tablet" in message
    result = run("plan", graph, "--costs", costs, "--device", "tablet")
    assert result.exit_code == 0 and "tablet" in result.stdout


def test_a_device_of_no_database(graph: Path) -> None:
    message = refusal(graph, "--device", "phone")
    assert "unknown device 'phone'" in message and "(lavapipe, nvidia-h100)" in message
    assert "counts bytes" in refusal(graph, "--device", "lavapipe", "--profile", "bytes")
    assert "unknown objective" in refusal(graph, "--device", "lavapipe", "--objective", "speed")
    for wrong in (b"", b"{}"):
        path = graph.with_name("phone.json")
        path.write_bytes(wrong)
        assert "phone.json is damaged" in refusal(graph, "--device", path)


def report_of(graph: Path, *args: object) -> dict[str, Any]:
    path = graph.with_name("report.json")
    assert run("plan", graph, "--report", path, *args).exit_code == 0
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_device_that_ships(graph: Path) -> None:
    report = report_of(graph, "--device", "lavapipe")
    assert report["profile"]["name"] == "lavapipe, measured; else default"
    assert report["objective"] == "latency"
    assert report["total"]["cost_origins"]["measured"] > 0.9
    by_repacks = report_of(graph, "--device", "lavapipe", "--objective", "repack")
    assert by_repacks["objective"] == "repack"


def test_the_objective_is_time_where_a_device_was_measured(graph: Path, costs: Path) -> None:
    assert report_of(graph)["objective"] == "repack"
    assert report_of(graph, "--costs", costs)["objective"] == "latency"
    assert report_of(graph, "--costs", costs, "--objective", "repack")["objective"] == "repack"


def test_a_device_is_handed_on(graph: Path, costs: Path) -> None:
    """A file that 'profile export' writes gives the plan that the database gives."""
    avoid, device = graph.with_name("avoid.json"), graph.with_name("phone.json")
    row = {"operators": ["aten.hardtanh.default"], "representations": ["texture:WIDTH_PACKED"]}
    avoid.write_text(json.dumps([{**row, "effect": "wrong values", "source": "a tuning"}]))
    export = ("profile", "export", costs, "--device", "phone", "-o", device)
    known = ("--avoid", avoid, "--texture-limits", "4096,4096,2048", "--gpu", "Adreno")
    # Rows of several tunings, some of which are the same.
    result = run(*export, *known, "--avoid", avoid, "--buffer-limit", 2**27)
    assert result.exit_code == 0
    assert f"{device}: phone, 1 runs, 1 rows to avoid" in result.stdout
    found = load_device(str(device))
    assert (found.name, found.driver, found.gpu) == ("phone", "1.0", "Adreno")
    assert (found.texture_limits, found.buffer_limit) == ((4096, 4096, 2048), 2**27)
    paths = [graph.with_name(name) for name in ("a.vkgraph", "b.vkgraph")]
    assert run("plan", graph, "--device", device, "-o", paths[0]).exit_code == 0
    by_hand = ("--costs", costs, *known, "--buffer-limit", 2**27)
    assert run("plan", graph, *by_hand, "-o", paths[1]).exit_code == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    shown = json.loads(run("profile", "show", device, "--json").stdout)
    assert shown == json.loads(run("profile", "show", costs, "--json").stdout)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--device", "tablet"), "has no device 'tablet': there is phone"),
        (("--avoid", "none.json"), "cannot read the faults to avoid"),
        (("--avoid", "wrong.json"), "wrong.json, row 0: effect should be one of"),
        (("--texture-limits", "0"), "three positive numbers of texels"),
        (("--buffer-limit", "0"), "not a positive number of elements"),
        (("-o", "no/phone.json"), "its directory does not exist"),
        (("-o", "phone.txt"), "a device's file ends in .json or .json.xz"),
    ],
)
def test_an_export_is_refused_whole(
    costs: Path, args: tuple[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(costs.parent)
    Path("wrong.json").write_text('[{"operators": ["a"], "representations": ["any"]}]')
    before = files(costs.parent)
    result = run("profile", "export", costs, "--device", "phone", "-o", "phone.json", *args)
    assert result.exit_code == 2
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert files(costs.parent) == before


def test_a_database_that_is_not_there(graph: Path) -> None:
    path = graph.with_name("none.sqlite")
    assert "there is no cost database" in refusal(graph, "--costs", path)
    assert not path.exists()


@pytest.mark.parametrize("args", [[], ["--device", "phone"]])
def test_an_empty_file_stays_empty(graph: Path, args: list[str]) -> None:
    path = graph.with_name("empty.sqlite")
    path.touch()
    message = refusal(graph, "--costs", path, *args)
    assert "import runs first (layout-planner profile import)" in message
    assert not path.stat().st_size


def test_a_database_without_devices(graph: Path, costs: Path) -> None:
    connection = sqlite3.connect(costs)
    connection.executescript("DELETE FROM sample; DELETE FROM run; DELETE FROM device;")
    connection.close()
    assert "has no measured times" in refusal(graph, "--costs", costs)


def test_files_that_are_no_database(graph: Path, costs: Path) -> None:
    assert "is not a cost database" in refusal(graph, "--costs", graph)
    connection = sqlite3.connect(costs)
    connection.executescript("DROP TABLE sample; DROP TABLE run; DROP TABLE device;")
    connection.close()
    assert "is damaged" in refusal(graph, "--costs", costs)
    assert "is a directory" in refusal(graph, "--costs", graph.parent)


def test_a_profile_in_bytes(graph: Path, costs: Path) -> None:
    message = refusal(graph, "--costs", costs, "--profile", "bytes")
    assert "counts bytes, but measured times are ns" in message


@pytest.mark.parametrize("objective", ["repack", "latency"])
def test_show_and_diff_of_such_a_plan(graph: Path, costs: Path, objective: str) -> None:
    paths = [graph.with_name(name) for name in ("by_costs.plan", "by_profile.plan")]
    args = ("plan", graph, "--objective", objective, "--plan")
    assert run(*args, paths[0], "--costs", costs).exit_code == 0
    assert run(*args, paths[1]).exit_code == 0
    for path in paths:
        assert run("show", path).exit_code == 0
        assert run("show", path, "--json").exit_code == 0
    assert "phone, measured; else default" in run("show", paths[0]).stdout
    for pair in (paths, [graph, paths[0]], [paths[0], paths[0]]):
        result = run("diff", *pair)
        assert result.exit_code in (0, 1) and result.stdout and not result.stderr


@pytest.mark.parametrize("field", ["costs", "device", "times", "profile"])
def test_the_service_opens_no_file_of_its_machine(
    conv: bytes,
    tmp_path: Path,
    costs: Path,
    field: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    before = files(tmp_path)
    data_dir = tmp_path_factory.mktemp("data")

    async def post() -> httpx.Response:
        app = create_app(Settings(data_dir=data_dir, job_workers=0))
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://x") as client,
        ):
            return await client.post("/plan", params={field: str(costs)}, content=conv)

    answer = asyncio.run(post())
    # A device is one of the service's own, by its name.
    assert answer.status_code == (404 if field == "device" else 422)
    assert field in answer.json()["detail"]
    assert files(tmp_path) == before


def test_a_query_has_no_field_for_measured_times() -> None:
    assert not {"costs", "times"} & PlanQuery.model_fields.keys()
    default = load_profile("default")
    assert PlanQuery.model_validate({}).options(default).costs == ProfileSource(default)
