"""What is measured and pictured of the dashboard, by a real Chromium."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from api.cli import main
from tests.paths import ROOT

pytestmark = pytest.mark.xdist_group("chromium")

PICTURES = ("overview", "plan", "graph", "job", "device", "phone")


def _numbers(line: str) -> list[float]:
    return [float(cell.replace(",", "")) for cell in line.strip("| ").split(" | ")[1:]]


@pytest.mark.browser
def test_pages_of_little_and_of_much_are_timed(tmp_path: Path) -> None:
    out = tmp_path / "dashboard.md"
    options = ("--plans", "40", "--operators", "150", "--repeats", "1", "-o", str(out))
    ended = CliRunner().invoke(main, ["bench", "dashboard", *options])
    assert ended.exit_code == 0, ended.output
    rows = [line for line in out.read_text().splitlines() if line.startswith("| ")]
    assert rows[2].startswith("| overview of 25 plans | ")
    assert rows[3].startswith("| overview of 40 plans | ")
    for server, paint, ratio in map(_numbers, rows[2:4]):
        assert 0 < server < paint
        assert ratio > 0
    small, large = (re.search(r"graph of ([0-9,]+) operators", row) for row in rows[6:8])
    assert small is not None and large is not None
    assert 100 <= int(small[1]) < 150 <= int(large[1])
    for server, paint, drawn, ratio, first, turn in map(_numbers, rows[6:8]):
        assert 0 < server < paint <= drawn
        assert min(ratio, first, turn) > 0


@pytest.mark.browser
@pytest.mark.lowering
def test_pictures_are_taken_of_what_the_service_made_of_models(tmp_path: Path) -> None:
    ended = CliRunner().invoke(
        main, ["bench", "screenshots", str(tmp_path / "new"), "mobilenet_v2", "--small"]
    )
    assert ended.exit_code == 0, ended.output
    taken = {path.stem: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    assert set(taken) == set(PICTURES)
    assert all(data.startswith(b"\x89PNG") for data in taken.values())
    unknown = CliRunner().invoke(main, ["bench", "screenshots", str(tmp_path), "gpt"])
    assert unknown.exit_code == 2 and "unknown model 'gpt'" in unknown.output


def test_the_documentation_shows_every_picture() -> None:
    pages = (ROOT / "README.md", ROOT / "docs" / "dashboard.md")
    shown = {
        name for page in pages for name in re.findall(r"images/([a-z]+)\.png", page.read_text())
    }
    # The small model of the test above has nothing to trade.
    assert shown == {*PICTURES, "tradeoffs"}
    for name in shown:
        assert (ROOT / "docs" / "images" / f"{name}.png").is_file()
