"""The table of tunings that ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from api.bench.tunings import tunings
from planner.errors import InputError
from planner.tuning.journal import STATE
from planner.tuning.result import BASELINE, LEAST_COST, REPORT


def _gain(median: float, low: float, high: float | None) -> dict[str, float | None]:
    return {"median": median, "low": low, "high": high}


def _folder(place: Path, model: str, device: str, **changed: Any) -> Path:
    place.mkdir()
    state = {"program": {"name": f"{model}.pte"}, "device": device}
    (place / STATE).write_text(json.dumps(state))
    report = {
        "winner": "learned 1",
        "device_seconds": 12.3,
        "finalists": [
            {
                "name": "learned 1",
                "gain": _gain(1.25, 1.2, None),
                "wall_gain": _gain(1.1, 1.05, 1.2),
                "predicted_gain": 1.24,
            }
        ],
        "plans": [
            {"name": BASELINE, "ns": 3e6, "transitions": 9},
            {"name": LEAST_COST, "ns": 2.5e6, "transitions": 4},
            {"name": "learned 1", "ns": 2.4e6, "transitions": 5},
        ],
        "rounds": [{}],
        "avoided": [],
        **changed,
    }
    (place / REPORT).write_text(json.dumps(report))
    return place


def test_each_device_has_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fault = {
        "operators": ["aten.add.Tensor"],
        "representations": ["BUFFER/WIDTH"],
        "operands": ["out 0"],
        "effect": "wrong values",
        "seen": "off by 2",
    }
    folders = [
        _folder(tmp_path / "a", "net", "phone"),
        _folder(tmp_path / "b", "net", "tablet"),
        _folder(tmp_path / "c", "other", "phone", winner=BASELINE, avoided=[fault]),
        _folder(tmp_path / "d", "last", "phone", winner=BASELINE, finalists=[]),
    ]
    tunings(folders, tmp_path / "table.md")
    text = (tmp_path / "table.md").read_text()
    assert capsys.readouterr().out == text
    phone, tablet = text.removeprefix("## phone").split("## tablet")
    assert [line.split(" | ")[0] for line in phone.splitlines() if line.startswith("| ")] == [
        *("| model", "| ---", "| net", "| other", "| last")
    ]
    assert (
        "| net | 3.000 | 9 | 5 | 1.250 (1.200 to ∞) | 1.100 (1.050 to 1.200) | 1.240 | 1.200 "
        "| 3 | 1 | 12 |"
    ) in tablet
    assert "| other | 3.000 | 9 | ExecuTorch's plan stays | 1.250 (1.200 to ∞)" in phone
    assert "| last | 3.000 | 9 | ExecuTorch's plan stays |  |  |  |" in phone
    assert (
        "- other: aten.add.Tensor (out 0, BUFFER/WIDTH) is avoided: wrong values, off by 2"
    ) in phone


@pytest.mark.parametrize("damage", ["nothing", "unfinished", "no JSON"])
def test_a_folder_without_a_tuning_that_ended_is_named(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "empty"
    if damage == "nothing":
        folder.mkdir()
    else:
        _folder(folder, "net", "phone")
        if damage == "unfinished":
            (folder / REPORT).unlink()
        else:
            (folder / REPORT).write_text("{")
    with pytest.raises(InputError, match="empty has no report of a tuning that ended"):
        tunings([folder], None)
