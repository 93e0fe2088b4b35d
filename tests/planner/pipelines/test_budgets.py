"""Limits of whole plans, of recorded models, as their users set them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from api.planning.warming import LOWERED
from api.terminal.files import verification_table
from planner.errors import ConflictingLimitsError, OptionError, VerificationError
from planner.kernels.limits import Budget, Limits
from planner.options import make_options, parse_limits
from planner.pipelines.checking import check_program
from planner.pipelines.lowered import replan
from planner.pipelines.verifying import verify_plan
from planner.result.verification import VerificationReport
from planner.verify import verify_budget
from planner.verify.live import peak_bytes
from schema import plan
from tests.api.graphs import graph, pooled
from tests.recorded import recorded


@pytest.fixture(scope="module")
def cvt() -> bytes:
    return recorded("cvt_xs_fp32", "greedy.pte")


def test_fewer_transitions_cost_more_and_are_proven(cvt: bytes) -> None:
    free = replan(cvt, "cvt.pte", make_options("bytes")).report.total
    most = free.transitions - 2
    planned = replan(cvt, "cvt.pte", make_options("bytes", max_transitions=most))
    total = planned.report.total
    assert (total.transitions, total.status) == (most, "OPTIMAL")
    assert total.repack_cost == total.bound > free.repack_cost
    assert planned.report.limits == (f"max-transitions {most}",)
    with pytest.raises(VerificationError, match=f"has {most} transitions, and not {most - 1} at"):
        verify_budget(planned.program.delegates, Limits(budget=Budget(most - 1)))
    with pytest.raises(VerificationError, match="bytes of copies, and not 7 at most") as found:
        verify_budget(planned.program.delegates, Limits(budget=Budget(bytes=7)))
    # A file says the same without its plan.
    size = int(re.findall(r"has (\d+) bytes", str(found.value))[0])
    assert _over(planned.data, Budget(most, size)) == []
    assert _over(planned.data, Budget(most - 1, size - 1)) == [
        f"the program has {most} transitions, and not {most - 1} at most",
        f"the program has {size} bytes of copies, and not {size - 1} at most",
    ]


def test_an_optimum_within_limits_is_proven_again(cvt: bytes) -> None:
    costs = make_options("bytes")
    free = replan(cvt, "cvt.pte", costs)
    most = free.report.total.transitions
    tight = replan(cvt, "cvt.pte", make_options("bytes", max_transitions=most - 2))
    found = verify_plan(tight.flatbuffer(), "x.plan", costs, prove=True)
    assert (found.verdict, found.bound) == ("proven", tight.report.total.repack_cost)
    assert len(found.delegates) > 1
    # The same plan is not the best within a limit that is less tight, whatever it says.
    loose = plan.encode(replace(tight.program, limits=(f"max-transitions {most}",)))
    found = verify_plan(loose, "x.plan", costs, prove=True)
    assert (found.verdict, found.least_cost) == ("refuted", free.report.total.repack_cost)


def test_delegates_that_share_a_limit_are_proven_together() -> None:
    program, costs = LOWERED.read_bytes(), make_options("bytes")
    least = replan(program, "x.pte", costs).report.total.transitions
    options = make_options("bytes", max_transitions=least, max_transition_bytes=10**6)
    planned = replan(program, "x.pte", options)
    found = verify_plan(planned.flatbuffer(), "x.plan", costs, prove=True)
    assert [each.verdict for each in found.delegates] == ["proven", "proven"]
    assert found.delegates[0].seconds > 0
    assert "none costs less, all delegates together" in _printed(found)


def _printed(report: VerificationReport) -> str:
    console = Console(width=200, file=StringIO())
    for each in verification_table(report):
        console.print(each)
    written = console.file
    assert isinstance(written, StringIO)
    return written.getvalue()


def _over(program: bytes, budget: Budget) -> list[str]:
    """What a check finds wrong about the transitions of a program."""
    found = check_program(program, "cvt.pte", budget=budget).findings
    return [finding.text for finding in found if finding.kind == "restriction"]


def test_what_cannot_be_is_told_with_the_least_that_can(cvt: bytes) -> None:
    wrong = r"no plan keeps --max-transitions 0: the least that is possible is \d+"
    with pytest.raises(ConflictingLimitsError, match=wrong) as failed:
        replan(cvt, "cvt.pte", make_options("bytes", max_transitions=0))
    least = int(failed.value.what.rpartition(" ")[2])
    planned = replan(cvt, "cvt.pte", make_options("bytes", max_transitions=least))
    assert planned.report.total.transitions == least
    assert planned.report.total.status == "OPTIMAL"


def test_less_memory_at_once_costs_more_and_is_proven() -> None:
    data, costs = pooled(), make_options("bytes")
    free = replan(data, "x", costs).report.total
    assert (free.repack_cost, free.peak_memory_bytes) == (0, 2 * 8 * 8 * 4 * 4)
    options = make_options("bytes", max_peak_memory=2047)
    planned = replan(data, "x", options)
    total = planned.report.total
    # Two images of one element to a pixel; then a copy with four is made of one.
    assert (total.transitions, total.peak_memory_bytes) == (1, 8 * 8 * 4 * (1 + 4))
    assert total.status == "OPTIMAL" and total.bound == total.repack_cost > 0
    assert planned.report.limits == ("max-peak-memory 2047",)
    found = verify_plan(planned.flatbuffer(), "x.plan", costs, prove=True)
    assert (found.verdict, found.bound) == ("proven", None)
    assert found.delegates[0].bound == total.repack_cost
    # A file says the same without its plan, and a plan that claims too little is found.
    assert _over(planned.data, Budget(peak_memory=1280)) == []
    over = ["the program has 2048 bytes alive at once, and not 1280 at most"]
    assert _over(data, Budget(peak_memory=1280)) == over
    claimed = replace(replan(data, "x", costs).program, limits=("max-peak-memory 1280",))
    with pytest.raises(VerificationError, match="the plan has 2048 bytes alive at once"):
        verify_plan(plan.encode(claimed), "x.plan", costs)


@pytest.mark.parametrize("name", ["cvt_xs_fp32", "mv2_xs_int8"])
def test_what_is_alive_is_counted_twice(name: str) -> None:
    planned = replan(recorded(name, "random0.pte"), name, make_options("bytes"))
    counted = [peak_bytes(each.plan.decode_graph()) for each in planned.delegates]
    assert [each.layout_plan.peak_bytes for each in planned.delegates] == counted
    assert planned.report.total.peak_memory_bytes == max(counted)


def test_the_smallest_set_of_limits_that_conflict_is_named() -> None:
    def error(**limits: Any) -> str:
        with pytest.raises(ConflictingLimitsError) as failed:
            replan(pooled(), "x", make_options("bytes", **limits))
        return failed.value.what

    pins = ["v1=texture", "v2=texture:CHANNELS_PACKED"]
    alone = "x: no plan keeps --max-peak-memory 1279: the least that is possible is 1280"
    assert error(max_peak_memory=1279) == error(max_peak_memory=1279, pin=pins[:1]) == alone
    assert error(max_peak_memory=1500, max_transitions=0, pin=pins[:1]) == (
        "x: no plan keeps --max-transitions 0 and --max-peak-memory 1500 together"
    )
    assert error(max_peak_memory=1500, max_transition_bytes=10**6, pin=pins) == (
        "x: no plan keeps --pin v2=texture:CHANNELS_PACKED and --max-peak-memory 1500 together"
    )


def test_wrong_numbers_are_told() -> None:
    with pytest.raises(OptionError, match="max-transitions -1 is not a number from 0 up"):
        make_options(max_transitions=-1)
    with pytest.raises(OptionError, match="max-transitions 'few' is not a number from 0 up"):
        parse_limits(["max-transitions few"])
    with pytest.raises(OptionError, match="max-transitions is 3 and 4: name one of them"):
        parse_limits(["max-transitions 3", "max-transitions 4"])
    texts = ["max-transition-bytes 9", "max-transitions 3", "max-peak-memory 5"]
    assert make_options(**parse_limits(texts)).budget == Budget(3, 9, 5)


def test_what_does_not_keep_such_limits_refuses_them() -> None:
    options = make_options("bytes", max_transitions=3, alternatives=1)
    with pytest.raises(OptionError, match="alternatives do not keep --max-transitions 3: leave"):
        replan(graph(8, 3), "x", options)
    planned = replan(graph(8, 3), "x", make_options("bytes", max_transitions=3))
    answers = (planned.explanation, planned.tradeoffs, planned.sensitivity, planned.study)
    answer: Callable[[], object]
    for answer in answers:
        with pytest.raises(OptionError, match="do not keep --max-transitions 3: leave that out"):
            answer()


def test_a_planned_program_is_verified_within_its_limits() -> None:
    data, costs = graph(8, 3), make_options("bytes")
    pinned = make_options("bytes", pin=["v3=buffer:WIDTH_PACKED"])
    planned = replan(data, "x", pinned).flatbuffer()
    with pytest.raises(OptionError, match="was planned within --pin v3=buffer:WIDTH_PACKED, by"):
        verify_plan(planned, "x.plan", costs)
    found = verify_plan(planned, "x.plan", costs, prove=True, source=data, source_name="x")
    assert found.delegates[0].verdict == "proven"
    # What claims a limit that it does not keep is found.
    free = replan(data, "x", costs).program
    claimed = plan.encode(replace(free, limits=("pin v3=buffer:WIDTH_PACKED",)))
    with pytest.raises(VerificationError, match="against --pin v3=buffer:WIDTH_PACKED"):
        verify_plan(claimed, "x.plan", costs, source=data, source_name="x")
    few = replan(data, "x", make_options("bytes", max_transitions=3)).flatbuffer()
    assert verify_plan(few, "x.plan", costs).delegates[0].verdict == "right"
    assert verify_plan(few, "x.plan", costs, prove=True).delegates[0].verdict == "proven"
