"""Verifies a planned program: it is checked again, and its optimum is proven without reductions.

Nothing that the plan claims is believed. The checker counts all of it again in the graph that the
plan holds. For the proof, the layout problem is built from that graph, with its transitions taken
out, and from the options; and its compact integer program is solved as it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import isclose
from typing import Final

from planner.errors import InputError, OptionError
from planner.files.kinds import FileKind, kind_of
from planner.files.lowered import graphs_of
from planner.kernels.releases import Runtime, parse_runtime
from planner.optimise.budgets import Joint, Part
from planner.optimise.plan import LayoutPlan, assignment_of, plan_graph
from planner.options import PlanOptions, read_wanted
from planner.result.verification import DelegateVerification, Verdict, VerificationReport
from planner.stopwatch import stopwatch
from planner.verify import Named, verify_budget, verify_delegate
from planner.vkgraph.reader import ContractedGraph, read_vkgraph, without_representations
from planner.vkgraph.targets import planned_for, target_of
from schema import PlannedProgram, SchemaError, plan
from solver import Solution, solve_ilp
from solver.ilp import WORK_LIMIT
from solver.levels import with_levels

_TOLERANCE: Final = 1e-9
"""The relative tolerance of costs: sums of floats depend on their order."""

_MEANT: Final = (0, 1)
"""Levels that say something of a plan by itself: the objective, and transitions."""


def verify_plan(
    data: bytes,
    name: str,
    options: PlanOptions,
    *,
    prove: bool = False,
    source: bytes | None = None,
    source_name: str = "",
    work_limit: int = WORK_LIMIT,
    search_seconds: float = math.inf,
) -> VerificationReport:
    """Checks a planned program again; with ``prove``, proves that no plan costs less.

    Objective, texture limits, excluded layouts and releases are those that the plan names; its
    costs and the other limits are those of ``options``. Where the lowered program that was planned
    is given as ``source``, the plan is shown to compute the same. A proof ends undecided after
    ``work_limit`` iterations, or after ``search_seconds``.

    Raises ``VerificationError`` for a plan that is wrong, ``InputError`` for bytes that are no
    planned program, ``OptionError`` where the costs are not the plan's.
    """
    program = _read(data, name)
    options = _of_plan(program, options, name)
    if options.restrictions and source is None:
        wanted = ", ".join(map(str, options.restrictions))
        raise OptionError(
            f"{name} was planned within {wanted}, by names of the program that was planned: give "
            "that as well"
        )
    befores = list(_befores(program, source, source_name))
    target = target_of(befores[0][0].written) if befores else "vulkan"
    runtime = parse_runtime(program.runtime) if program.runtime else Runtime()
    limits = options.limits(program.texture_limits, runtime.of(target))
    found, parts, plans = [], list[Part](), list[LayoutPlan]()
    bound = least_cost = None
    verify_budget(program.delegates, limits)
    for delegate, (graph, before) in zip(program.delegates, befores, strict=True):
        # The names of limits are those of the program that was planned.
        read = before if options.restrictions else graph
        known = replace(read.graph, delegates=frozenset({delegate.index}))
        planned = plan_graph(known, limits, options.cost_model(), read.layouts())
        verify_delegate(
            delegate,
            without_representations(before.written),
            costs=options.costs,
            objective=options.objective,
            limits=planned.limits,
            named=Named((delegate.index,), before.positions),
        )
        checked = DelegateVerification(
            index=delegate.index,
            name=delegate.name,
            cost=delegate.figures.objective_cost,
            transitions=delegate.figures.transitions,
            status=delegate.figures.status.name,
            method=delegate.method.name.lower(),
            claimed_bound=delegate.figures.bound,
            verdict="right",
        )
        if prove and options.budget.words:
            # Such limits are of all delegates together: see below.
            parts.append(Part(known, read.layouts()))
            plans.append(planned)
        elif prove:
            with stopwatch() as watch:
                proof = solve_ilp(
                    with_levels(planned.layout.problem, _MEANT),
                    start=planned.solution.assignment,
                    work_limit=work_limit,
                    search_seconds=search_seconds,
                )
            checked = _judged(checked, proof, options.profile.in_units)
            checked = replace(checked, seconds=round(watch.seconds, 6))
        found.append(checked)
    if parts:
        joint = Joint.of(parts, plans, options.budget)
        with stopwatch() as watch:
            proof = joint.solve(
                with_levels(joint.problem, _MEANT),
                _together(parts, plans),
                work_limit=work_limit,
                search_seconds=search_seconds,
            )
        repeats = len({delegate.graph for delegate in program.delegates}) < len(found)
        units = options.profile.in_units
        found = _judged_together(found, proof, units, repeats=repeats)
        found[0] = replace(found[0], seconds=round(watch.seconds, 6))
        if len(found) > 1:
            bound, least_cost = units(proof.bound[0]), units(proof.cost[0])
    return VerificationReport(
        name=name,
        unit=program.cost_unit,
        objective=program.objective,
        profile=program.profile_name,
        delegates=tuple(found),
        bound=bound,
        least_cost=least_cost,
    )


def _read(data: bytes, name: str) -> PlannedProgram:
    if kind_of(data) is not FileKind.PLANNED:
        raise InputError(f"{name} is not a planned program: give what 'plan --plan FILE' wrote")
    try:
        return plan.decode(data)
    except SchemaError as error:
        raise InputError(f"{name} is damaged: {error}") from error


def _of_plan(program: PlannedProgram, options: PlanOptions, name: str) -> PlanOptions:
    """The options with what the plan says it was made for."""
    if options.costs.digest != program.profile_hash:
        raise OptionError(
            f"{name} was planned with the costs {program.profile_name} "
            f"({program.profile_hash[:12]}), not with {options.costs.name} "
            f"({options.costs.digest[:12]}): name the same profile, device or costs"
        )
    restrictions, budget = read_wanted(program.limits)
    return replace(
        options,
        restrictions=restrictions,
        budget=budget,
        objective="latency" if program.objective == "latency" else "repack",
        texture_limits=program.texture_limits,
        excluded_layouts=frozenset(program.excluded_layouts),
    )


def _befores(
    program: PlannedProgram, source: bytes | None, source_name: str
) -> Iterator[tuple[ContractedGraph, ContractedGraph]]:
    """Each delegate's graph without its transitions, and the one that it must be the same as."""
    given = None if source is None else list(graphs_of(source, source_name))
    if given is not None and len(given) != len(program.delegates):
        raise InputError(
            f"{source_name} has {len(given)} delegates, and the plan {len(program.delegates)}"
        )
    for number, delegate in enumerate(program.delegates):
        try:
            graph = read_vkgraph(delegate.decode_graph(), delegate.name)
        except SchemaError as error:
            raise InputError(f"{delegate.name} is damaged: {error}") from error
        before = graph if given is None else read_vkgraph(given[number], delegate.name)
        target = target_of(graph.written)
        yield planned_for(graph, target), planned_for(before, target)


def _judged(
    checked: DelegateVerification, proof: Solution, units: Callable[[int], float]
) -> DelegateVerification:
    """A delegate with what was proven of it."""
    bound, least = units(proof.bound[0]), units(proof.cost[0])
    verdict: Verdict = "open"
    if _at_least(bound, checked.cost):
        verdict = "proven"
    elif not _at_least(least, checked.claimed_bound):
        verdict = "refuted"
    return replace(
        checked,
        verdict=verdict,
        bound=bound,
        fewest_transitions=proof.bound[1] if verdict == "proven" else None,
        least_cost=least,
    )


def _together(parts: Sequence[Part], plans: Sequence[LayoutPlan]) -> list[int] | None:
    """The labels that a plan's own graphs have; None where one has none."""
    labels: list[int] = []
    for part, planned in zip(parts, plans, strict=True):
        if part.given is None:
            return None
        labels += assignment_of(planned.layout, part.given)
    return labels


def _judged_together(
    found: list[DelegateVerification],
    proof: Solution,
    units: Callable[[int], float],
    *,
    repeats: bool,
) -> list[DelegateVerification]:
    """Delegates with what was proven of all of them together.

    Where one ``repeats``, a plan that costs less may be one that treats its copies differently.
    """
    if len(found) == 1:
        return [_judged(found[0], proof, units)]
    bound, least = units(proof.bound[0]), units(proof.cost[0])
    verdict: Verdict = "open"
    if _at_least(bound, sum(each.cost for each in found)):
        verdict = "proven"
    elif not repeats and not _at_least(least, sum(each.claimed_bound for each in found)):
        verdict = "refuted"
    return [replace(each, verdict=verdict) for each in found]


def _at_least(amount: float, other: float) -> bool:
    return amount >= other or isclose(amount, other, rel_tol=_TOLERANCE)
