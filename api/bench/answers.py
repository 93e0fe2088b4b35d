"""Answers about plans, on models of the zoo: how long they take, and that planning again agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from time import process_time
from typing import Final, TypeVar

import numpy as np

from api.bench import zoo
from api.bench.instances import OBJECTIVES
from api.terminal.markdown import Printed, head, row
from planner.costs.model import CostModel, Costs, PricedOperand
from planner.ir.graph import Operator, Tensor
from planner.ir.representation import LABELS, REPRS
from planner.measured.device import device_options
from planner.optimise.alternatives import Alternative, alternatives
from planner.optimise.explain import Reason, explain_plan, users_of, with_questions
from planner.optimise.problem import build_problem
from planner.optimise.sensitivity import Price, sensitivities
from planner.optimise.tradeoff import SUMMED, TradeoffPoint, amounts, tradeoff
from planner.optimise.whatif import Occurrence, WhatIf
from planner.options import PlanOptions, make_options
from planner.pipelines.lowered import Planned, replan
from planner.pipelines.verifying import verify_plan
from planner.result.program import DelegateResult
from schema import CostOrigin, VkDataType
from solver import (
    FORBIDDEN,
    Agree,
    CostTable,
    InfeasibleError,
    Limit,
    Problem,
    SharedCopies,
    Status,
    TooDenseError,
    marginals,
    optimum,
    solve_ilp,
)

T = TypeVar("T")

_ALTERNATIVES: Final = 3
_PROVING_SECONDS: Final = 60.0
_STEP: Final = Fraction(1, 1000)
"""Parts of a price between which an end is looked for again."""
_FAR: Final = Fraction(1000)
"""Parts of a price to which it may rise where there is no end."""

_HEADINGS: Final = (
    *("model", "objective", "variables", "repacks explained", "again"),
    *("kernels of one operator", "again", "all opportunities"),
    *("points of trade-offs", "again", "prices", "again"),
    *("3 more plans", "proof", "checked"),
)

Check = Callable[[], bool | None]
"""Asks again, by planning anew; whether the answer is the same, None if that cannot be asked."""

Asked = tuple[int, Sequence[Check]]
"""An answer: how many parts it has, and checks of them."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """CPU milliseconds of an answer of ``count`` parts; ``again`` those of planning for each."""

    count: int
    ms: float
    again: float
    checks: int
    agreed: int

    def cells(self) -> tuple[str, str]:
        """What it took, with what it is about, and what planning again takes."""
        return f"{self.ms:.0f} ({self.count})", f"{self.again:.0f}" if self.checks else ""


class ChangedCosts:
    """Other costs, all times a number, of which one price has changed by a part of it."""

    def __init__(self, costs: CostModel, price: Price, change: Fraction) -> None:
        """The change of a launch is in integer steps."""
        self._costs, self._price = costs, price
        self._times, self._more = change.denominator, change.numerator

    def transition(self, shape: tuple[int, ...], dtype: VkDataType) -> Costs:
        """Prices (labels, labels) of repacking."""
        prices = self._costs.transition(shape, dtype)
        changed: Costs = prices * self._times
        if self._price.is_launch:
            changed += self._more * (1 - np.eye(len(REPRS), dtype=np.int64))
        elif self._price.target is not None and self._price.source is not None:
            pair = LABELS[self._price.source], LABELS[self._price.target]
            changed[pair] += self._more * prices[pair]
        return changed

    def transition_origin(
        self, shape: tuple[int, ...], dtype: VkDataType, source: int, target: int
    ) -> CostOrigin:
        """Where the price comes from that was changed."""
        return self._costs.transition_origin(shape, dtype, source, target)

    def operator(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> Iterable[tuple[tuple[int, ...], Costs]]:
        """The costs of an operator."""
        for scope, table in self._costs.operator(operator, tensors, operands):
            changed: Costs = table * self._times
            domain = operands[scope[0]].domain
            if operator.name == self._price.operator and self._price.source is not None:
                label = LABELS[self._price.source]
                # A table that is the same everywhere is the same in every plan.
                if label in domain and len(np.unique(table)) > 1:
                    changed[domain.index(label)] += self._more * table[domain.index(label)]
            yield scope, changed

    def operator_origin(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> CostOrigin:
        """Where the cost comes from that was changed."""
        return self._costs.operator_origin(operator, tensors, operands)


def answers(
    files: Sequence[Path],
    models: Sequence[str],
    size: zoo.Size,
    device: str | None,
    most: int,
    output: Path | None,
) -> None:
    """Asks everything of each program, and a part of it again; prints a row for each as it comes.

    Of each kind of answer, ``most`` parts are asked again. Without ``files`` and ``models`` the
    programs are all models of the zoo. Raises ``OptionError`` for a model that is not there.
    """
    printed = Printed()
    printed.add(*head(_HEADINGS, 2))
    for name, program in programs(files, models, size):
        for objective in OBJECTIVES:
            options = make_options("default", objective=objective)
            if device is not None:
                options = device_options(device, objective=objective)
            printed.add(row([name, objective, *_asked(replan(program, name, options), most)]))
    printed.add(
        "",
        "CPU milliseconds of one run; what it is about in brackets, as many repacks or operators. "
        f"Again: planning anew for each, from what that took for {most} of them, by chance. "
        "Checked: how many of these agree.",
    )
    printed.write(output)


def programs(
    files: Sequence[Path], models: Sequence[str], size: zoo.Size
) -> Iterator[tuple[str, bytes]]:
    """The names and bytes of lowered programs: of files, and of models of the zoo.

    Without either these are all models. Raises ``OptionError`` for a model that is not there.
    """
    for file in files:
        yield file.stem, file.read_bytes()
    if models or not files:
        from planner.pipelines.exported import plan_exported

        for name in zoo.chosen(models):
            yield name, plan_exported(zoo.save(name, size), name, PlanOptions()).data


def _asked(planned: Planned, most: int) -> Iterator[str]:
    """The cells of a program's row."""
    costs = planned.options.cost_model()
    # Delegates that are the same share their plan.
    delegates = list({id(d.layout_plan): d for d in planned.delegates}.values())
    yield f"{sum(len(d.layout_plan.layout.problem.variables) for d in delegates):,}"
    asks = (_repacks, _kernels, _points, _prices, _more_plans)
    found = [_answer(ask, delegates, costs, most) for ask in asks]
    repacks, kernels, points, prices, more = found
    yield from (*repacks.cells(), *kernels.cells())
    report, ms = _timed(planned.opportunities)
    yield f"{ms:.0f} ({len(report.opportunities)})"
    yield from (*points.cells(), *prices.cells(), f"{more.ms:.0f}")
    proof, ms = _timed(
        lambda: verify_plan(
            planned.flatbuffer(),
            planned.program.source_name,
            planned.options,
            prove=True,
            search_seconds=_PROVING_SECONDS,
        )
    )
    yield f"{ms:.0f}" if proof.verdict == "proven" else proof.verdict
    yield f"{sum(one.agreed for one in found)} of {sum(one.checks for one in found)}"


def _answer(
    ask: Callable[[DelegateResult, CostModel], Asked],
    delegates: Sequence[DelegateResult],
    costs: CostModel,
    most: int,
) -> _Answer:
    """Asks about each delegate, and some parts again."""
    found, ms = _timed(lambda: [ask(delegate, costs) for delegate in delegates])
    checks = [check for _, own in found for check in own]
    chosen = Random(0).sample(checks, min(most, len(checks)))
    same, again = _timed(lambda: [check() for check in chosen])
    each = again / len(chosen) if chosen else 0.0
    count = sum(number for number, _ in found)
    asked = [one for one in same if one is not None]
    return _Answer(count, ms, each * len(checks), len(asked), sum(asked))


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """What comes of some work, and its CPU time in ms."""
    start = process_time()
    found = work()
    return found, 1_000 * (process_time() - start)


def first_level(problem: Problem) -> Problem:
    """A problem of costs alone, without what decides between equal ones."""
    made: dict[int, Costs] = {}

    def first(costs: Costs) -> Costs:
        return made.setdefault(id(costs), costs[:1])

    factors: list[CostTable | SharedCopies | Agree] = []
    for factor in problem.factors:
        if isinstance(factor, CostTable):
            factors.append(replace(factor, costs=first(factor.costs)))
        elif isinstance(factor, SharedCopies):
            factors.append(replace(factor, prices=first(factor.prices)))
        else:
            factors.append(factor)
    return Problem(problem.labels, 1, problem.variables, tuple(factors))


def _repacks(delegate: DelegateResult, costs: CostModel) -> Asked:
    """The best plan without each repack, against planning with its users kept from a copy."""
    plan, layout = delegate.layout_plan, delegate.layout_plan.layout
    reasons = explain_plan(delegate.graph, plan)

    def check(reason: Reason) -> bool:
        source = layout.producers[reason.transition.tensor]
        assert source is not None
        asked = with_questions(layout.problem, [(source, users_of(layout, reason.transition))])
        no = np.zeros((asked.levels, 2), np.int64)
        no[0, 0] = FORBIDDEN
        factors = (*asked.factors, CostTable((len(asked.variables) - 1,), no))
        try:
            least, _ = optimum(replace(asked, factors=factors))
        except InfeasibleError:
            return reason.without is None
        return (least[0], least[1]) == reason.without

    return len(reasons), [partial(check, reason) for reason in reasons if reason.is_known]


def _kernels(delegate: DelegateResult, costs: CostModel) -> Asked:
    """The optimum if one operator's kernel took one more representation, by planning for that."""
    if not delegate.layout_plan.cost:
        return 0, []
    whatif = WhatIf(delegate.graph, delegate.layout_plan, costs)
    found = whatif.occurrences or ()

    def check(one: Occurrence) -> bool:
        return whatif.if_taken([one.group], one.acceptance.label) == (one.optimum, True)

    return len(found), [partial(check, one) for one in found]


def _points(delegate: DelegateResult, costs: CostModel) -> Asked:
    """The trade-offs, against the integer program with each point's amount as a limit."""
    graph, plan = delegate.graph, delegate.layout_plan
    problem = first_level(plan.layout.problem)

    def check(limited: Sequence[CostTable | SharedCopies], point: TradeoffPoint) -> bool:
        found = solve_ilp(problem, [Limit(tuple(limited), point.amount)])
        return found.status is Status.OPTIMAL and found.cost[0] == point.plan.cost

    count, checks = 0, list[Check]()
    for criterion in SUMMED:
        points = tradeoff(graph, plan, costs, criterion).points
        limited = amounts(graph, plan.layout, criterion)
        count += len(points)
        checks += [partial(check, limited, point) for point in points]
    return count, checks


def _prices(delegate: DelegateResult, costs: CostModel) -> Asked:
    """How far prices may change, against planning by prices a little before an end and after it."""
    try:
        found = list(sensitivities(delegate.graph, delegate.layout_plan, costs))
    except TooDenseError:
        return 0, []

    def is_best(price: Price, change: Fraction) -> bool:
        graph, plan = delegate.graph, delegate.layout_plan
        changed = ChangedCosts(costs, price, change)
        problem = build_problem(graph, plan.limits, changed).problem
        own = problem.cost(plan.solution.assignment)
        return own is not None and own[0] == optimum(first_level(problem))[0][0]

    def check(price: Price, end: Fraction | None, way: int) -> bool:
        if end is None:
            return is_best(price, way * (_FAR if way > 0 else Fraction(not price.is_launch)))
        step = Fraction(1) if price.is_launch else _STEP
        before = int(end / step) * step
        beyond = before + way * 2 * step
        is_left = beyond < -1 and not price.is_launch
        return is_best(price, before) and (is_left or not is_best(price, beyond))

    ends = [(one.price, end, way) for one in found for end, way in ((one.low, -1), (one.high, 1))]
    return len(found), [partial(check, *end) for end in ends]


def _more_plans(delegate: DelegateResult, costs: CostModel) -> Asked:
    """The plans that come next, the first of them against the min-marginals of other labels."""
    plan = delegate.layout_plan
    try:
        found = list(islice(alternatives(delegate.graph, plan, costs), _ALTERNATIVES))
    except TooDenseError:
        return 0, []

    def check(first: Alternative) -> bool | None:
        every = marginals(plan.layout.problem)
        if every.left_out:
            return None  # The plan that comes next may have a label that no best one needs.
        domains = (variable.domain for variable in plan.layout.problem.variables)
        labels = enumerate(zip(domains, plan.solution.assignment, strict=True))
        others = (every.cost(v, b) for v, (domain, a) in labels for b in domain if b != a)
        return first.plan.solution.cost == min(cost for cost in others if cost is not None)

    return len(found), [partial(check, one) for one in found[:1]]
