"""Commands of what a device measured, on real runs: import, show, explore, and their benches."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.bench.profiles import DEVICES, RECORDED
from api.cli import main
from planner.errors import InputError
from planner.tuning.corpus import Recording, read_corpora, read_corpus

MODEL = "mv2_xs_int8"


@pytest.fixture(scope="module")
def recordings() -> dict[str, Recording]:
    return {r.plan: r for r in read_corpus(RECORDED)[MODEL]}


@pytest.fixture
def files(recordings: dict[str, Recording], tmp_path: Path) -> Path:
    """A folder with the greedy run and a random one."""
    for plan in ("greedy", "random0"):
        (tmp_path / f"{plan}.etdump").write_bytes(recordings[plan].etdump)
        (tmp_path / f"{plan}.pte").write_bytes(recordings[plan].program)
    return tmp_path


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def refused(result: Result, text: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.output.strip().count("\n") == 0, result.output
    assert text in result.output


def imported(files: Path, plans: Sequence[str] = ("greedy",)) -> Path:
    costs = files / "costs.sqlite"
    for plan in plans:
        paths = files / f"{plan}.etdump", "--graph", files / f"{plan}.pte", "-o", costs
        result = run("profile", "import", *paths, "--device", "phone", "--driver", "7")
        assert result.exit_code == 0, result.output
    return costs


def test_a_database_is_shown(files: Path) -> None:
    costs = imported(files, ("greedy", "random0"))
    result = run("profile", "show", costs, "--json")
    (device,) = json.loads(result.output)["devices"]
    assert (device["name"], device["driver"]) == ("phone", "7")
    assert [r["source"] for r in device["runs"]] == ["greedy.etdump", "random0.etdump"]
    assert all(r["joined"] == 1 and r["total_ns"] > 1e8 for r in device["runs"])
    speeds = [r["speed"] for r in device["runs"]]
    assert min(speeds) < 0 < max(speeds)
    operators = {o["operator"]: o for o in device["operators"]}
    assert sum(o["share"] for o in operators.values()) == pytest.approx(1, abs=1e-4)
    shares = [o["share"] for o in device["operators"]]
    assert shares == sorted(shares, reverse=True)
    clones = operators["aten.clone.default"]
    assert clones["calls"] == clones["interpolated"]["calls"] + clones["estimated"]["calls"]
    assert 0 < clones["interpolated"]["median_error"] < clones["interpolated"]["worst_tenth"]
    table = run("profile", "show", costs, "--device", "phone").output
    assert "greedy.etdump" in table and "aten.constant_pad_nd.default" in table
    refused(run("profile", "show", costs, "--device", "other"), "no device 'other'")
    refused(run("profile", "show", files / "none"), "there is no cost database")
    refused(run("profile", "show", files / "greedy.pte"), "is not a cost database")


def test_a_device_that_ships_is_shown() -> None:
    (device,) = json.loads(run("profile", "show", "lavapipe", "--json").output)["devices"]
    assert (device["name"], len(device["runs"])) == ("lavapipe", 19)
    assert device["driver"].startswith("Mesa 22.3.6")
    assert "cvt_xs_fp32_greedy.etdump" in run("profile", "show", "lavapipe").output
    refused(run("profile", "show", "lavapipe", "--device", "x"), "lavapipe is one device")
    refused(run("profile", "show", "none.json"), "unknown device 'none.json'")


def test_variants_are_made_measured_and_taken_back(
    files: Path, recordings: dict[str, Recording]
) -> None:
    folder = files / "variants"
    result = run("explore", files / "greedy.pte", "-o", folder, "--count", 2)
    assert result.exit_code == 0, result.output
    assert "variant-2.pte" in result.output
    assert sorted(p.name for p in folder.iterdir()) == [
        "manifest.json",
        "variant-1.pte",
        "variant-2.pte",
    ]
    take = ["profile", "import", folder, "--device", "phone", "-o", files / "costs.sqlite"]
    refused_text = run(*take)
    assert refused_text.exit_code == 2 and "was measured" in refused_text.output
    assert not (files / "costs.sqlite").exists()
    # With nothing measured the first variant is the program itself, and that was measured.
    assert (folder / "variant-1.pte").read_bytes() == recordings["greedy"].program
    (folder / "variant-1.etdump").write_bytes(recordings["greedy"].etdump)
    for state in ("added", "was there already"):
        result = run(*take)
        assert result.exit_code == 0, result.output
        assert "variant-2.pte: not measured" in result.output
        assert state in result.output
    # A run of another program: nothing is added, not even the one that is right.
    shutil.rmtree(files / "again", ignore_errors=True)
    (folder / "variant-2.etdump").write_bytes(recordings["random0"].etdump)
    other = [*take[:-1], files / "other.sqlite"]
    result = run(*other)
    assert result.exit_code == 2 and "does not belong to this program" in result.output
    assert not (files / "other.sqlite").exists()
    # The next round knows what was measured.
    costs = files / "costs.sqlite"
    result = run("explore", files / "greedy.pte", "-o", files / "b", "--costs", costs)
    assert result.exit_code == 0, result.output
    manifest = json.loads((files / "b" / "manifest.json").read_text())
    assert manifest["costs"]["name"] == "phone, measured; else default"
    assert all(variant["saving_ns"] > 0 for variant in manifest["variants"])


def test_explore_refuses(files: Path) -> None:
    greedy = files / "greedy.pte"
    folder = files / "new"
    refused(run("explore", greedy, "-o", files), "it is not empty")
    refused(run("explore", greedy, "-o", files / "no" / "folder"), "does not exist")
    refused(run("explore", files / "greedy.etdump", "-o", folder), "hand in a file")
    refused(run("explore", greedy, "-o", folder, "--profile", "bytes"), "bytes")
    refused(run("explore", greedy, "-o", folder, "--device", "x"), "unknown device 'x'")
    assert not folder.exists()
    graph = ["profile", "import", files, "--device", "x"]
    refused(run(*graph), "manifest.json")
    refused(run(*graph, "--graph", greedy), "programs of their own")
    refused(run("profile", "import", files / "greedy.etdump", "--device", "x"), "'--graph'")


def test_bench_profiles(recordings: dict[str, Recording], tmp_path: Path) -> None:
    plans = ("greedy", "random0", "random1", "measured0")
    folder = tmp_path / "runs"
    folder.mkdir()
    for plan in plans:
        recording = recordings[plan]
        (folder / f"{recording.name}.etdump").write_bytes(recording.etdump)
        (folder / f"{recording.name}.pte").write_bytes(recording.program)
    result = run("bench", "profiles", folder, "-o", tmp_path / "out.md")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "out.md").read_text()
    assert "100.0% of the GPU time" in text
    assert "### Learned from greedy, random0, random1" in text
    assert text.count("OPTIMAL") == 2
    assert "| measured0 |" in text and "| greedy (learned from) |" in text
    (folder / f"{MODEL}_measured0.etdump").unlink()
    refused(run("bench", "profiles", folder), "needs runs of greedy and random plans, and of")


def test_bench_explore(recordings: dict[str, Recording], tmp_path: Path) -> None:
    for plan in ("greedy", "random0"):
        recording = recordings[plan]
        (tmp_path / f"{recording.name}.etdump").write_bytes(recording.etdump)
        (tmp_path / f"{recording.name}.pte").write_bytes(recording.program)
    size = ["--count", 1, "--rounds", 1, "--devices", 1]
    result = run("bench", "explore", tmp_path, *size)
    assert result.exit_code == 0, result.output
    assert "| chosen | 1." in result.output and "| random | 1." in result.output


def test_every_recorded_run_is_there() -> None:
    found = {
        device: {model: len(runs) for model, runs in models.items()}
        for device, models in read_corpora(DEVICES).items()
    }
    assert found == {
        "h100": {"convnext_xs": 7, "cvt_xs": 10, "mobilevit": 7, "mv2_xs_int8": 10},
        "lavapipe": {"cvt_xs_fp32": 10, MODEL: 9},
    }


@pytest.mark.lowering
@pytest.mark.parametrize(
    ("device", "model"),
    [
        *(("h100", model) for model in ("convnext_xs", "cvt_xs", "mobilevit", "mv2_xs_int8")),
        *(("lavapipe", model) for model in ("cvt_xs_fp32", MODEL)),
    ],
)
def test_every_recorded_run_joins_completely(device: str, model: str) -> None:
    for recording in read_corpus(DEVICES / device)[model]:
        joined = recording.join()
        assert joined.share >= 0.99
        assert all(step.sample.count >= 3 for step in joined.steps)


def test_a_folder_with_recordings_is_a_device(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    with pytest.raises(InputError, match="more has no recorded runs"):
        read_corpora(tmp_path)
    shutil.copy(RECORDED / f"{MODEL}.tar.xz", tmp_path)
    assert {d: list(models) for d, models in read_corpora(tmp_path).items()} == {
        tmp_path.name: [MODEL]
    }
    with pytest.raises(InputError, match="cannot be read"):
        read_corpora(tmp_path / "none")


def test_corpora_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recorded runs"):
        read_corpus(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_corpus(tmp_path / "none")
    (tmp_path / "a_greedy.etdump").write_bytes(b"")
    with pytest.raises(InputError, match=r"not the program that ran: a_greedy\.pte"):
        read_corpus(tmp_path)
    archive = (RECORDED / f"{MODEL}.tar.xz").read_bytes()
    for data in (b"", b"nothing", archive[:1000]):
        (tmp_path / "a.tar.xz").write_bytes(data)
        with pytest.raises(InputError, match="damaged archive"):
            read_corpus(tmp_path)
