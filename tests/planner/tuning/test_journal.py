"""A tuning's folder: what is kept of runs, and what is left of one that was broken off."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.errors import OptionError
from planner.tuning.journal import Journal, RunRecord, digest

SETTINGS = {"program": "x", "seed": 0}


def record(purpose: str, program: str) -> RunRecord:
    return RunRecord(purpose, program, "right", 1.0, ns=2.0, said="größer")


def test_runs_are_there_again(tmp_path: Path) -> None:
    first = Journal(tmp_path / "a" / "b", SETTINGS)
    for purpose in ("learn", "final 0"):
        first.add(record(purpose, "aa"))
    again = Journal(tmp_path / "a" / "b", SETTINGS)
    assert list(again) == list(first) and len(list(again)) == 2
    assert again.of("learn", "aa") == record("learn", "aa")
    assert again.of("learn", "bb") is None
    again.add(record("learn", "bb"))
    assert len(list(Journal(tmp_path / "a" / "b", SETTINGS))) == 3


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_line_that_was_cut_off_is_no_run(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path / "t", SETTINGS)
    for program in ("aa", "bb"):
        journal.add(record("learn", program))
    runs = tmp_path / "t" / "runs.jsonl"
    runs.write_bytes(runs.read_bytes()[:-cut])
    resumed = Journal(tmp_path / "t", SETTINGS)
    assert [r.program for r in resumed] == ["aa"]
    resumed.add(record("learn", "cc"))
    assert [r.program for r in Journal(tmp_path / "t", SETTINGS)] == ["aa", "cc"]


def test_a_program_is_written_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "t", SETTINGS)
    path = journal.program(b"program")
    assert path.read_bytes() == b"program" and path.stem == digest(b"program")[:16]
    assert journal.program(b"program") == path
    assert not list(path.parent.glob("*.part"))


def test_damage_is_named(tmp_path: Path) -> None:
    Journal(tmp_path / "t", SETTINGS)
    (tmp_path / "t" / "tuning.json").write_text("{")
    with pytest.raises(OptionError, match="is damaged: choose another folder"):
        Journal(tmp_path / "t", SETTINGS)
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="cannot write to"):
        Journal(tmp_path / "file", SETTINGS)
