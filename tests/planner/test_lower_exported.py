"""A program is lowered once, and planned from there with many options."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys

import nets
import pytest
from programs import exported, lower

from planner.errors import InputError
from planner.exported import lower_exported
from planner.options import make_options
from planner.replan import replan
from schema import DelegatePlan, Repack, Transition

_DIGEST = """
import hashlib, sys
from planner.exported import lower_exported
print(hashlib.sha256(lower_exported(sys.stdin.buffer.read(), "net.pt2").pte).hexdigest())
"""


@pytest.mark.parametrize("name", nets.NETS)
def test_from_it_planning_reaches_what_planning_the_export_reaches(name: str) -> None:
    lowered = lower_exported(exported(name), f"{name}.pt2")
    planned = replan(lowered.pte, name, make_options("bytes"), names=lowered.names)
    theirs, ours = lower(name).planned.report["total"], planned.report["total"]
    for key in (
        *("repack_cost", "transitions", "status", "bound", "operators"),
        *("baseline_repack_cost", "baseline_transitions"),
    ):
        assert ours[key] == theirs[key], key
    direct = lower(name).planned.program.delegates
    for mine, other in zip(planned.program.delegates, direct, strict=True):
        assert _by_name(mine) == _by_name(other)


def _by_name(plan: DelegatePlan) -> tuple[object, ...]:
    """What a plan says of tensors that the exported program has, without their ids."""
    # Outputs of an operator that makes several have no name but, at most, their id.
    names = {t.value_id: re.sub(r"^v\d+$", "", t.name) for t in plan.tensors}
    copies = {transition.output for transition in plan.transitions}
    representations = {
        names[t.value_id]: (t.storage_type, t.memory_layout)
        for t in plan.tensors
        if t.value_id not in copies and names[t.value_id]
    }
    before = {
        names[t.value_id]: (t.storage_type, t.memory_layout)
        for t in plan.baseline_tensors
        if names.get(t.value_id)
    }
    repacks: list[Transition | Repack] = [
        *sorted(plan.transitions, key=lambda t: t.operator_index),
        *plan.baseline_repacks,
    ]
    transitions = [
        (
            names[t.source],
            *(t.from_storage, t.from_layout, t.to_storage, t.to_layout, t.cost),
            [(user.operator_name, user.argument) for user in t.users],
        )
        for t in repacks
    ]
    return representations, before, transitions


def test_the_same_program_is_lowered_to_the_same_bytes_by_every_process() -> None:
    command = [sys.executable, "-c", _DIGEST]
    there = subprocess.run(command, input=exported("mixed"), stdout=subprocess.PIPE, check=True)
    here = hashlib.sha256(lower_exported(exported("mixed"), "net.pt2").pte).hexdigest()
    assert there.stdout.decode().strip() == here


def test_what_cannot_be_lowered_is_told() -> None:
    with pytest.raises(InputError, match=r"^x.pt2 is not a zip archive"):
        lower_exported(b"PK", "x.pt2")
