"""A program is lowered once, and planned from there with many options."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import nets
import pytest
from programs import exported, lower

from planner.errors import InputError
from planner.exported import lower_exported
from planner.options import make_options
from planner.replan import replan

_DIGEST = """
import hashlib, sys
from planner.exported import lower_exported
print(hashlib.sha256(lower_exported(sys.stdin.buffer.read(), "net.pt2")).hexdigest())
"""


@pytest.mark.parametrize("name", nets.NETS)
def test_from_it_planning_reaches_what_planning_the_export_reaches(name: str) -> None:
    lowered = replan(lower_exported(exported(name), f"{name}.pt2"), name, make_options("bytes"))
    theirs, ours = lower(name).planned.report["total"], lowered.report["total"]
    for key in (
        *("repack_cost", "transitions", "status", "bound", "operators"),
        *("baseline_repack_cost", "baseline_transitions"),
    ):
        assert ours[key] == theirs[key], key


def test_the_same_program_is_lowered_to_the_same_bytes_by_every_process() -> None:
    command = [sys.executable, "-c", _DIGEST]
    there = subprocess.run(command, input=exported("mixed"), stdout=subprocess.PIPE, check=True)
    here = hashlib.sha256(lower_exported(exported("mixed"), "net.pt2")).hexdigest()
    assert there.stdout.decode().strip() == here


def test_what_cannot_be_lowered_is_told() -> None:
    with pytest.raises(InputError, match=r"^x.pt2 is not a zip archive"):
        lower_exported(b"PK", "x.pt2")
