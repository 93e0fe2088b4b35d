"""Two runs of one program: what each step took, in which representations, and was predicted."""

from __future__ import annotations

import json
import lzma
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.compare.comparison import ComparedStep, Comparison, ProfiledRun, Total, document
from planner.compare.runs import compare_runs, read_run
from planner.costs.by_profile import ProfileSource
from planner.costs.profile_file import load_profile
from planner.errors import InputError, OptionError
from planner.files.listing import read_listing
from planner.ir.representation import TensorRepr
from planner.measured.costs import DeviceTimes, MeasuredSource
from planner.measured.etdump import DelegateRun, Dispatch
from planner.measured.join import join
from schema import CostOrigin
from tests.paths import PROFILES
from tests.planner.compare.test_layouts import chain, chains
from tests.planner.files.test_listing import bare, planned
from tests.planner.verify.sketches import BUF_W, TEX_C, TEX_H, TEX_W, Case, Sketch, prepacked

DEFAULT = load_profile("default")
ADD = "aten.add.Tensor"


def numbered(case: Case) -> Case:
    """The case with a node of its own for each operator, transitions included."""
    calls = (call._replace(node_id=n) for n, call in enumerate(case.after.chain))
    return case.chained(*calls)


def run(
    *cases: Case,
    ns: Sequence[float] = (),
    staging: float | None = None,
    stray: float = 0.0,
    name: str = "run",
) -> ProfiledRun:
    """A run whose operators take ``ns``, in order of the chain; beyond those, 1000."""
    made = [numbered(case) for case in cases]
    data = bare(made[0]) if len(made) == 1 else planned(*made)
    listing = read_listing(data, f"{name}.pte")
    runs = []
    times = iter(ns)
    for delegate in listing.delegates:
        dispatches = [
            Dispatch("kernel", call.node_id, call.name, (next(times, 1000.0),))
            for call in delegate.graph.chain
            if call.name != "et_vk.prepack.default"
        ]
        if staging is not None:
            dispatches += [Dispatch(k, None, None, (staging,)) for k in ("nchw_to_x", "x_to_nchw")]
        if stray:
            dispatches.append(Dispatch("stray", None, None, (stray,)))
        runs.append(DelegateRun(tuple(dispatches)))
    graphs = [delegate.graph for delegate in listing.delegates]
    return ProfiledRun(f"{name}.etdump", listing, join(runs, graphs, name))


def compare(a: ProfiledRun, b: ProfiledRun, times: DeviceTimes | None = None) -> Comparison:
    costs = ProfileSource(DEFAULT) if times is None else MeasuredSource(times, DEFAULT)
    return compare_runs(a, b, costs)


def positions(step: ComparedStep) -> tuple[int | None, int | None]:
    a, b = (None if t is None else t.position for t in (step.a, step.b))
    return a, b


def measured(step: ComparedStep) -> tuple[float | None, float | None]:
    a, b = (None if t is None else t.measured for t in (step.a, step.b))
    return a, b


def of_kind(comparison: Comparison, kind: str) -> list[ComparedStep]:
    return [step for step in comparison.steps if step.kind == kind]


def test_operators_are_matched_past_transitions() -> None:
    a = run(chain((TEX_C, TEX_W, TEX_W)), ns=(7, 100, 200))  # repack, sum, sum
    b = run(chain((TEX_C, TEX_C, TEX_W)), ns=(150, 9, 190))  # sum, repack, sum
    found = compare(a, b)
    first, second = sorted(of_kind(found, "operator"), key=lambda s: positions(s)[0] or 0)
    assert (positions(first), measured(first), first.change) == ((1, 0), (100, 150), 50)
    assert (positions(second), measured(second), second.change) == ((2, 2), (200, 190), -10)
    assert [step.operator for step in (first, second)] == [ADD, ADD]
    assert not first.is_alike and second.is_alike
    assert first.a is not None and dict(first.a.operands)["o0"] == TEX_W
    assert first.b is not None and dict(first.b.operands)["o0"] == TEX_C
    # Of another tensor: each side has its own.
    repacks = of_kind(found, "transition")
    assert sorted(map(measured, repacks), key=str) == [(7, None), (None, 9)]
    assert {step.change for step in repacks} == {-7, 9}
    assert {step.readers for step in repacks} == {(ADD, ADD)}


def two_copies(first: TensorRepr, second: TensorRepr) -> Case:
    """An input that two operators read, each in a copy of its own."""
    s = Sketch()
    x = s.input((1, 8, 6, 10), TEX_C)
    made = [
        s.call("aten.relu.default", s.repack(x, r), s.tensor((1, 8, 6, 10), r))
        for r in (first, second)
    ]
    return s.finish(*made)


def test_transitions_are_matched_by_what_they_make_then_by_tensor() -> None:
    a, b = run(two_copies(TEX_W, BUF_W)), run(two_copies(BUF_W, TEX_W))
    pairs = {positions(s): s.is_alike for s in of_kind(compare(a, b), "transition")}
    assert pairs == {(0, 2): True, (2, 0): True}
    b = run(two_copies(TEX_H, TEX_W))
    pairs = {positions(s): s.is_alike for s in of_kind(compare(a, b), "transition")}
    assert pairs == {(0, 2): True, (2, 0): False}
    (step,) = of_kind(compare(run(chain((TEX_C, TEX_W))), run(chain((TEX_C, BUF_W)))), "transition")
    assert step.a is not None and step.a.operands == (("0", TEX_C), ("o0", TEX_W))
    assert step.b is not None and step.b.operands == (("0", TEX_C), ("o0", BUF_W))
    assert step.readers == (ADD, ADD)


def test_staging_is_one_row_for_each_delegate() -> None:
    case = chain((TEX_C, TEX_C))
    a, b = run(case, case, staging=30), run(case, case, staging=40)
    steps = of_kind(compare(a, b), "staging")
    assert [(s.delegate, measured(s)) for s in steps] == [(0, (60, 80)), (1, (60, 80))]
    assert {s.a.predicted for s in steps if s.a} == {60}
    (step,) = of_kind(compare(run(case, staging=30), run(case)), "staging")
    assert (measured(step), step.is_alike) == ((60, None), False)
    (step,) = of_kind(
        compare(run(chain((TEX_C, TEX_C)), staging=1), run(chain((TEX_W, TEX_W)), staging=1)),
        "staging",
    )
    assert not step.is_alike


def test_what_run_a_teaches_predicts_both() -> None:
    a = run(chain((TEX_C, TEX_W, TEX_W)), ns=(7, 100, 200))
    b = run(chain((TEX_C, TEX_W, TEX_C)), ns=(8, 300, 10, 400))
    found = compare(a, b)
    assert found.costs == "run A (run.etdump); else profile default"
    (step,) = [s for s in of_kind(found, "transition") if s.is_alike]
    assert step.a is not None and step.b is not None
    assert (step.a.predicted, step.a.origin) == (7, CostOrigin.MEASURED)
    assert (step.b.predicted, step.b.origin) == (7, CostOrigin.MEASURED)
    (step,) = [s for s in of_kind(found, "operator") if not s.is_alike]
    assert step.b is not None
    assert step.b.origin == CostOrigin.ESTIMATED
    assert found.origins("a") == {"measured": 1, "interpolated": 0, "estimated": 0, "modelled": 0}
    assert found.origins("b")["estimated"] > 0


def test_other_times_and_the_profile_predict() -> None:
    a, b = run(chain((TEX_C, TEX_C)), ns=(100,)), run(chain((TEX_C, TEX_C)), ns=(50,))
    taught = DeviceTimes.of("phone", [run(chain((TEX_C, TEX_C)), ns=(70,)).join.samples])
    found = compare(a, b, taught)
    assert found.costs == "phone; else profile default"
    (step,) = found.steps
    assert step.a is not None and step.b is not None
    assert (step.a.predicted, step.b.predicted) == (70, 70)
    nothing = DeviceTimes.of("new", [])
    (step,) = compare(a, b, nothing).steps
    assert step.a is not None and step.a.origin == CostOrigin.MODELLED
    assert step.a.predicted > 0
    with pytest.raises(OptionError, match="counts bytes"):
        compare_runs(a, b, ProfileSource(load_profile("bytes")))


def test_the_speed_of_runs_is_told_by_what_they_share() -> None:
    case = chain((TEX_C, TEX_W, TEX_C))
    a, b = run(case, ns=(10, 100, 20, 200)), run(case, ns=(13, 130, 26, 260))
    found = compare(a, b)
    assert found.speed is not None
    assert found.speed.b_over_a == pytest.approx(1.3)
    assert found.speed.share == pytest.approx(1)
    assert found.b_at_speed_of_a == pytest.approx(330)
    assert found.ratio_at_one_speed == pytest.approx(1)
    assert found.everything.ratio == round(1 / 1.3, 4)
    other = compare(run(chain((TEX_C, TEX_C))), run(chain((BUF_W, BUF_W))))
    assert (other.speed, other.b_at_speed_of_a, other.ratio_at_one_speed) == (None, None, None)
    assert document(other)["speed"] is None


def test_constants_that_are_packed_at_load_are_no_steps() -> None:
    a = run(prepacked())
    names = {step.operator for step in compare(a, a).steps}
    assert names
    assert "et_vk.prepack.default" not in names


def test_names_come_from_whichever_file_has_them() -> None:
    case = chain((TEX_C, TEX_W, TEX_W))
    known, unknown = run(case, case), run(case, case)
    assert all(s.name for s in compare(known, unknown).steps)
    bare_run = run(case)
    assert {s.name for s in compare(bare_run, bare_run).steps} == {None}


def test_different_programs() -> None:
    case = chain((TEX_C, TEX_W, TEX_W))
    calls = list(case.after.chain)
    calls[-1] = calls[-1]._replace(name="aten.mul.Tensor")
    with pytest.raises(InputError, match=r"operator 2 of a\.pte is 'aten.add.Tensor' but operator"):
        compare(run(case, name="a"), run(case.chained(*calls), name="b"))
    with pytest.raises(InputError, match=r"Vulkan delegates is 1 in a\.pte but 2 in b\.pte"):
        compare(run(case, name="a"), run(case, case, name="b"))


def test_a_transition_that_took_no_time_is_a_step() -> None:
    more = chain((TEX_W, TEX_C, TEX_W, TEX_H), False)
    fewer = chain((TEX_W, TEX_W, TEX_W, TEX_H), False)
    a = run(more, ns=[0.0, 0.0, 0.0, 0.0, 0.0, 7.0, 0.0, 0.0, 0.0])
    b = run(fewer, ns=[0.0] * 9)
    found = compare(a, b, DeviceTimes.of("phone", [a.join.samples, b.join.samples]))
    transitions = found.of_kind("transition")
    assert transitions.a_steps == len(more.plan.transitions)
    assert transitions.b_steps == len(fewer.plan.transitions)


times = st.lists(st.integers(0, 10**6).map(float), min_size=9, max_size=9)


@pytest.mark.slow
@given(chains, chains, times, times, st.sampled_from([None, 5.0]), st.sampled_from([0.0, 3.0]))
def test_every_total_adds_up_and_comparing_is_antisymmetric(
    x: Case, y: Case, ns: list[float], other: list[float], staging: float | None, stray: float
) -> None:
    a, b = run(x, ns=ns, staging=staging, stray=stray), run(y, ns=other, staging=staging)
    taught = DeviceTimes.of("phone", [a.join.samples, b.join.samples])
    there, back = compare(a, b, taught), compare(b, a, taught)
    assert there.everything.a_measured == pytest.approx(a.join.total)
    assert there.everything.b_measured == pytest.approx(b.join.total)
    kinds = [there.of_kind("operator"), there.of_kind("transition"), there.of_kind("staging")]
    groups = [group.total for group in there.groups]
    for parts in (kinds, groups, [there.alike, there.other]):
        assert sum(p.change for p in parts) - stray == pytest.approx(there.everything.change)
        assert sum(p.a_predicted for p in parts) == pytest.approx(there.everything.a_predicted)
        assert sum(p.b_steps for p in parts) == there.everything.b_steps
    assert kinds[1].a_steps == len(x.plan.transitions)
    assert kinds[1].b_steps == len(y.plan.transitions)
    changes = [abs(step.change) for step in there.steps]
    assert changes == sorted(changes, reverse=True)
    assert {(positions(s), s.kind, s.change) for s in there.steps} == {
        (positions(s)[::-1], s.kind, -s.change) for s in back.steps
    }
    assert json.loads(json.dumps(document(there))) == document(there)


def test_the_document_has_every_step() -> None:
    a, b = run(chain((TEX_C, TEX_W)), ns=(10, 100), stray=1), run(chain((TEX_C, TEX_C)), ns=(50,))
    found = document(compare(a, b))
    assert found["a"] == {
        "name": "run.etdump",
        "graph": "run.pte",
        "kind": "vkgraph",
        "origins": {"measured": 1.0, "interpolated": 0.0, "estimated": 0.0, "modelled": 0.0},
    }
    everything = found["totals"]["everything"]
    assert everything["measured_ns"] == {"a": 111, "b": 50}
    assert (everything["change_ns"], everything["ratio"]) == (-61, 2.22)
    assert found["totals"]["transitions"]["ratio"] is None
    assert found["totals"]["transitions"]["steps"] == {"a": 1, "b": 0}
    assert found["totals"]["unknown_ns"] == {"a": 1, "b": 0}
    (group, _) = found["groups"]
    assert (group["name"], group["share"], group["other_change_ns"]) == (ADD, 0.8197, -50)
    operator, repack = found["steps"]
    assert operator["a"] == {
        "position": 1,
        "value_id": operator["a"]["value_id"],
        "representations": dict.fromkeys(("0", "1", "o0"), "texture:WIDTH_PACKED"),
        "measured_ns": 100,
        "predicted_ns": 100,
        "origin": "measured",
    }
    assert (operator["dims"], operator["dtype"], operator["alike"]) == ([1, 8, 6, 10], "float32", 0)
    assert (repack["kind"], repack["readers"], repack["b"]) == ("transition", [ADD, ADD], None)


def test_nothing_over_nothing_is_one() -> None:
    assert Total.of(()).ratio == 1
    assert Total(1, 1, 5, 0, 5, 0).ratio is None
    assert Total(1, 1, 0, 5, 0, 5).ratio == 0


@pytest.mark.lowering
def test_a_real_run_equals_itself() -> None:
    etdump, program = (
        lzma.decompress((PROFILES / f"mv2_xs_int8_greedy.{kind}.xz").read_bytes())
        for kind in ("etdump", "vkgraph")
    )
    a = read_run(etdump, "run", program, "graph")
    found = compare(a, a)
    assert len(found.steps) == len(a.join.steps) == 259
    assert {step.change for step in found.steps} == {0}
    assert found.speed is not None
    assert (found.speed.b_over_a, found.speed.share) == (1, 1)
    assert found.everything.ratio == 1
    assert found.everything.a_predicted == pytest.approx(found.everything.a_measured, rel=0.01)
    with pytest.raises(InputError, match=r"\(other\): name the programs that ran"):
        read_run(etdump, "run", bare(chain((TEX_C, TEX_W))), "other")
