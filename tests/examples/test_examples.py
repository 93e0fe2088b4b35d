"""Every example is run, as a user would run it, and does what it says."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from planner import load_profile
from planner.files.listing import describe
from tests.api.graphs import graph
from tests.api.serving import serving
from tests.paths import ROOT
from tests.recorded import recorded

EXAMPLES = ROOT / "examples"
TESTED = ("custom_profile", "delegate_permutes", "image_formats", "one_line", "replan_pte", "sweep")


def _run(name: str, *args: object) -> list[str]:
    """The lines that an example prints."""
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, args)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


@pytest.fixture
def pte(tmp_path: Path) -> Path:
    """A program with more repacks than it needs."""
    path = tmp_path / "old.pte"
    path.write_bytes(recorded("mv2_xs_int8", "random0.pte"))
    return path


def test_all_are_tested_short_and_say_how_to_run_them() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(TESTED)
    for name in TESTED:
        text = (EXAMPLES / f"{name}.py").read_text()
        documented = ast.get_docstring(ast.parse(text)) or ""
        assert f"python examples/{name}.py" in documented
        code = [line for line in text.split('"""')[2].splitlines() if line.strip()]
        assert 10 <= len(code) <= 30, (name, len(code))


@pytest.mark.lowering
def test_one_line_lowers_with_planned_layouts(tmp_path: Path) -> None:
    _run("one_line", tmp_path / "model.pte")
    described = describe((tmp_path / "model.pte").read_bytes(), "model.pte")
    assert described["delegates"]


def test_replan_saves_repacks(pte: Path, tmp_path: Path) -> None:
    repacks, repacked, proof = _run("replan_pte", pte, tmp_path / "new.pte")
    assert repacks == "repacks: 217 before, 0 now"
    assert repacked.endswith("before, 0 now")
    assert proof == "proof: OPTIMAL"
    assert (tmp_path / "new.pte").read_bytes() != pte.read_bytes()


def test_image_formats_transposes_once_for_two_layers() -> None:
    assert _run("image_formats") == [
        *("image: NCHW", "conv1: NCHW", "conv2: NHWC", "pool: NHWC", "130 us, optimal"),
    ]


def test_permutes_of_a_delegate_are_as_few_as_can_be() -> None:
    assert _run("delegate_permutes") == ["8 permutes wrapped, 6 cancelled, 3 at least"]


def test_a_custom_profile_is_written_and_planned_with(pte: Path, tmp_path: Path) -> None:
    (line,) = _run("custom_profile", pte, tmp_path / "mine.json")
    assert line.endswith("ns by my phone, OPTIMAL")
    profile = load_profile(str(tmp_path / "mine.json"))
    assert (profile.name, profile.transition.launch) == ("my phone", 25_000)


def test_a_sweep_is_submitted_followed_and_read(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.vkgraph").write_bytes(graph(8))
    with serving(tmp_path / "data", f"sqlite:///{tmp_path / 'db.sqlite'}", workers=1) as server:
        lines = _run("sweep", tmp_path / "models", f"http://127.0.0.1:{server.port}")
    *progress, last = lines[:-4]
    assert last == "4 of 4 done" and all(line.endswith(" of 4 done") for line in progress)
    assert sorted(line.rpartition(", ")[0] for line in lines[-4:]) == [
        f"a.vkgraph, {profile}, {objective}"
        for profile in ("bytes", "default")
        for objective in ("latency", "repack")
    ]
