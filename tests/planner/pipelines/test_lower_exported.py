"""A program is lowered once, and planned from there with many options."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys

import executorch.exir
import pytest
import torch
from executorch.exir.pass_manager import PassManager
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from planner.compare.layouts import compare
from planner.errors import InputError
from planner.files.listing import read_listing
from planner.files.lowered import delegates_of, graphs_of
from planner.options import make_options
from planner.pipelines.exported import cause_of, lower_exported, plan_exported
from planner.pipelines.lowered import replan
from schema import DelegatePlan, Repack, Transition
from tests.planner.programs import NETS, exported, lower

_DIGEST = """
import hashlib, sys
from planner.pipelines.exported import lower_exported
print(hashlib.sha256(lower_exported(sys.stdin.buffer.read(), "net.pt2").pte).hexdigest())
"""


@pytest.mark.parametrize("name", NETS)
def test_from_it_planning_reaches_what_planning_while_lowering_reaches(name: str) -> None:
    lowered = lower_exported(exported(name), f"{name}.pt2")
    planned = replan(lowered.pte, name, make_options("bytes"), exported=lowered.exported)
    theirs, ours = lower(name).planned.report.total, planned.report.total
    for key in (
        *("repack_cost", "transitions", "status", "bound", "operators"),
        *("baseline_repack_cost", "baseline_transitions"),
    ):
        assert getattr(ours, key) == getattr(theirs, key), key
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


class _Twice(torch.nn.Module):
    """Two delegates that are alike, and share what is in the file; between them nothing of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(4, 4, 1)
        self.linear = torch.nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            x = torch.sort(self.conv(self.linear(x)))[0]
        return x


def test_delegates_that_share_a_blob_count_as_often_as_they_run() -> None:
    file = io.BytesIO()
    torch.manual_seed(0)
    torch.export.save(torch.export.export(_Twice().eval(), (torch.randn(1, 4, 6, 6),)), file)
    lowered = lower_exported(file.getvalue(), "twice.pt2")
    assert (len(delegates_of(lowered.pte, "x")), len(tuple(graphs_of(lowered.pte, "x")))) == (1, 2)
    direct = plan_exported(file.getvalue(), "twice.pt2", make_options("bytes"))
    again = replan(lowered.pte, "twice.pte", make_options("bytes"))
    for key in ("operators", "repack_cost", "transitions", "baseline_repack_cost"):
        one, other = (getattr(p.report.total, key) for p in (again, direct))
        assert one == other > 0, key
    assert [delegate.index for delegate in again.report.delegates] == [0, 1]
    assert [delegate.name for delegate in again.program.delegates] == ["delegate 0", "delegate 1"]
    assert len(read_listing(again.data, "x").delegates) == 2
    assert len(delegates_of(again.data, "x")) == 1
    profile = make_options("bytes").profile
    assert compare(again.data, "a.pte", direct.pte(), "b.pte", profile)["is_equal"]


def test_the_same_program_is_lowered_to_the_same_bytes_by_every_process() -> None:
    command = [sys.executable, "-c", _DIGEST]
    there = subprocess.run(command, input=exported("mixed"), stdout=subprocess.PIPE, check=True)
    here = hashlib.sha256(lower_exported(exported("mixed"), "net.pt2").pte).hexdigest()
    assert there.stdout.decode().strip() == here


def test_what_cannot_be_lowered_is_told() -> None:
    with pytest.raises(InputError, match=r"^x.pt2 is not a zip archive"):
        lower_exported(b"PK", "x.pt2")


class _Transposed(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.t(x)


class _TransposedTensors(PassBase):
    """Runs a module on what it cannot take, as passes run what they fuse."""

    def call(self, graph_module: torch.fx.GraphModule) -> PassResult | None:
        torch.fx.Interpreter(graph_module).run(torch.randn(2, 3, 4))
        return None


def test_the_cause_of_a_failed_pass_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def lower(*args: object, **kw: object) -> None:
        try:
            PassManager([_TransposedTensors()])(torch.fx.symbolic_trace(_Transposed()))
        except Exception as error:
            raise RuntimeError("the pass manager failed") from error

    monkeypatch.setattr(executorch.exir, "to_edge_transform_and_lower", lower)
    with pytest.raises(
        InputError,
        match=r"^ExecuTorch cannot lower x.pt2: RuntimeError: t\(\) expects a tensor with <= 2 "
        r"dimensions, but self is 3D \(at t\)$",
    ):
        lower_exported(exported("mixed"), "x.pt2")


def test_a_cause_without_a_text_is_the_line_that_raised_it() -> None:
    def fail() -> None:
        raise AssertionError

    with pytest.raises(AssertionError) as caught:
        fail()
    assert re.fullmatch(
        r"AssertionError: raise AssertionError \(test_lower_exported\.py:\d+\)",
        cause_of(caught.value),
    )
    assert cause_of(AssertionError()) == "AssertionError"
