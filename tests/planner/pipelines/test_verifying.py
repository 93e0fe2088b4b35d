"""Planned programs that are checked again, and whose optimum is proven without reductions."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import replace

import pytest

from planner.errors import InputError, OptionError, VerificationError
from planner.options import PlanOptions, make_options
from planner.pipelines import verifying
from planner.pipelines.lowered import replan
from planner.result.verification import VerificationReport, read_verification
from schema import DelegatePlan, Method, PlannedProgram, Status, plan, vkgraph
from tests.paths import RECORDED
from tests.planner.verify.sketches import EXAMPLES, float_chain


def recorded(name: str) -> bytes:
    with tarfile.open(RECORDED / f"{name}.tar.xz") as archive:
        first = sorted(m for m in archive.getnames() if m.endswith(".pte"))[0]
        file = archive.extractfile(first)
        assert file is not None
        return file.read()


@pytest.fixture(scope="module")
def chain() -> bytes:
    return vkgraph.encode(float_chain().before)


def planned(data: bytes, options: PlanOptions) -> bytes:
    return replan(data, "program", options).flatbuffer()


def verify(data: bytes, options: PlanOptions, **more: object) -> VerificationReport:
    return verifying.verify_plan(data, "a.plan", options, prove=True, **more)  # type: ignore[arg-type]


def changed(data: bytes, change: Callable[[DelegatePlan], DelegatePlan]) -> bytes:
    program = plan.decode(data)
    return plan.encode(replace(program, delegates=tuple(map(change, program.delegates))))


@pytest.mark.parametrize("objective", ["repack", "latency"])
@pytest.mark.parametrize("name", ["cvt_xs_fp32", "mv2_xs_int8"])
def test_real_plans_are_proven(name: str, objective: str) -> None:
    data = recorded(name)
    made = replan(data, name, make_options("default", objective))
    found = verify(made.flatbuffer(), make_options("default"), source=data, source_name=name)
    assert found.verdict == "proven"
    for delegate, result in zip(found.delegates, made.delegates, strict=True):
        assert delegate.bound == pytest.approx(delegate.cost, rel=1e-9)
        assert delegate.fewest_transitions == delegate.transitions
        assert delegate.cost == result.plan.figures.objective_cost
        assert (delegate.method, delegate.status) == ("elimination", "OPTIMAL")


@pytest.mark.parametrize("name", EXAMPLES)
def test_small_plans_are_proven(name: str) -> None:
    options = make_options("default", "latency")
    made = planned(vkgraph.encode(EXAMPLES[name]().before), options)
    assert verify(made, make_options("default")).verdict == "proven"


def test_plans_by_the_options_that_they_name(chain: bytes) -> None:
    options = make_options(
        "bytes", texture_limits="64,64,64", without_layouts=["TENSOR_HEIGHT_PACKED"]
    )
    found = verify(planned(chain, options), make_options("bytes"))
    assert (found.verdict, found.unit, found.profile) == ("proven", "bytes", "bytes")
    assert found.objective == "repack"
    assert read_verification(found.document()) == found


def test_without_a_proof(chain: bytes) -> None:
    found = verifying.verify_plan(planned(chain, make_options("bytes")), "a", make_options("bytes"))
    assert found.verdict == "right"
    (delegate,) = found.document()["delegates"]
    assert "bound" not in delegate


def dearer() -> bytes:
    """A plan that was chosen by other costs than its own, by which it is not the cheapest."""
    by_latency = make_options("default", "latency").cost_model()
    made = replan(recorded("mv2_xs_int8"), "mv2", make_options("bytes"), chooser=by_latency)
    assert made.report.total.objective_cost == 10240
    return made.flatbuffer()


def optimal(delegate: DelegatePlan) -> DelegatePlan:
    cost = delegate.figures.objective_cost
    figures = replace(delegate.figures, status=Status.OPTIMAL, bound=cost)
    return replace(delegate, figures=figures, bound_by_level=delegate.cost_by_level)


def test_a_plan_that_is_not_the_cheapest() -> None:
    honest = verify(dearer(), make_options("bytes"))
    assert honest.verdict == "open"
    (delegate,) = honest.delegates
    assert (delegate.cost, delegate.bound, delegate.least_cost) == (10240, 0, 0)
    assert verify(changed(dearer(), optimal), make_options("bytes")).verdict == "refuted"


def test_a_proof_that_does_not_come_off(chain: bytes) -> None:
    data = recorded("cvt_xs_fp32")
    made = planned(data, make_options("bytes"))
    for limit in ({"work_limit": 0}, {"search_seconds": 0.0}):
        found = verify(made, make_options("bytes"), **limit)
        assert found.verdict == "open"
        first = found.delegates[0]
        assert first.bound is not None
        assert first.bound < first.cost
        assert first.fewest_transitions is None


def test_costs_that_are_not_the_plans(chain: bytes) -> None:
    made = planned(chain, make_options("bytes"))
    with pytest.raises(OptionError, match=r"was planned with the costs bytes .* not with default"):
        verify(made, make_options("default"))


def test_what_is_no_planned_program(chain: bytes) -> None:
    with pytest.raises(InputError, match="is not a planned program: give what 'plan --plan FILE'"):
        verify(chain, make_options("bytes"))
    with pytest.raises(InputError, match="is damaged"):
        verify(planned(chain, make_options("bytes"))[:64], make_options("bytes"))


def test_another_program(chain: bytes) -> None:
    made = planned(chain, make_options("bytes"))
    other = vkgraph.encode(EXAMPLES["cache"]().before)
    with pytest.raises(VerificationError):
        verify(made, make_options("bytes"), source=other, source_name="other")
    with pytest.raises(InputError, match="has 2 delegates, and the plan 1"):
        verify(made, make_options("bytes"), source=recorded("cvt_xs_fp32"), source_name="cvt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cost_by_level": (3840, 2, 0, 0)}, "were counted, not"),
        ({"bound_by_level": ()}, "4 of them, and 0 bounds"),
        ({"bound_by_level": (3840, 0, 0, 0)}, "is not optimal under a bound"),
        ({"bound_by_level": (3841, 0, 0, 0)}, "is not a lower bound"),
    ],
)
def test_levels_that_are_not_true(
    chain: bytes, change: dict[str, tuple[int, ...]], message: str
) -> None:
    made = planned(chain, make_options("bytes"))
    levels = plan.decode(made).delegates[0].cost_by_level
    assert levels[:2] == (3840, 1)
    with pytest.raises(VerificationError, match=message):
        verify(changed(made, lambda d: replace(d, **change)), make_options("bytes"))  # type: ignore[arg-type]


def test_plans_of_older_releases_have_no_levels(chain: bytes) -> None:
    def older(delegate: DelegatePlan) -> DelegatePlan:
        return replace(delegate, method=Method.UNKNOWN, core=0, cost_by_level=(), bound_by_level=())

    made = changed(planned(chain, make_options("bytes")), older)
    found = verify(made, make_options("bytes"))
    assert (found.verdict, found.delegates[0].method) == ("proven", "unknown")


def test_the_certificate_of_a_plan(chain: bytes) -> None:
    made: PlannedProgram = replan(chain, "chain", make_options("bytes")).program
    (delegate,) = made.delegates
    assert delegate.method is Method.ELIMINATION
    assert delegate.core == 0
    assert delegate.bound_by_level == delegate.cost_by_level
    assert len(delegate.cost_by_level) == 4
