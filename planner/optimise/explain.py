"""Why a plan's repacks remain: which operands force each, and what the plan without it costs.

A repack of a tensor, from the representation ``s`` to ``t``, lies between operands that do not take
``t`` and operands that do not take ``s``. From where the tensor is made, everything that could be
``t`` and is not is gone through, until operands that do not take ``t``: were there none, all of it
could be ``t``, and the repack could go. The same from where the copy is read, for ``s``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np

from planner.ir.graph import LayoutGraph, Operand, Side
from planner.ir.representation import LABELS
from planner.kernels.limits import Limits
from planner.kernels.rep_sets import op_rep_sets
from planner.optimise.constraints import possible
from planner.optimise.plan import LayoutPlan, Transition
from planner.optimise.problem import LayoutProblem
from planner.optimise.restricted import Restricted
from planner.optimise.slots import Slot
from schema.frozen import frozen
from solver import (
    FORBIDDEN,
    Agree,
    CostTable,
    Problem,
    SharedCopies,
    TooDenseError,
    Variable,
    marginals,
)
from solver.problem import Costs, Factor

Why = Literal["kernel", "avoided", "limits"]
"""Why an operand does not take a representation: its kernel does not; the plan avoids it there,
for a known fault or because textures come first; or the tensor cannot have it within the limits."""

_DEPTH: Final[dict[Why, int]] = {"kernel": 0, "avoided": 1, "limits": 2}
_MOST_BLOCKERS: Final = 8


@frozen
class Blocker:
    """An operand that does not take a representation, ``distance`` tensors away from a repack."""

    slot: Slot
    accepted: tuple[int, ...]
    """The labels that it takes."""
    distance: int
    why: Why


@frozen
class Reason:
    """Why a repack remains.

    ``made`` are operands on the side where the tensor is made, that do not take the representation
    of the copy; ``read`` are those on the other side, that do not take the one it is made in. The
    nearest come first, and at most 8 of a side are named. ``without`` is the least cost, and the
    transitions, of a plan in which the copy's users read the tensor as it is made; None if there is
    no such plan. If elimination is too dense to find it, ``is_known`` is false.
    """

    transition: Transition
    made: tuple[Blocker, ...]
    read: tuple[Blocker, ...]
    without: tuple[int, int] | None
    is_known: bool = True


def explain_plan(graph: LayoutGraph, plan: LayoutPlan) -> tuple[Reason, ...]:
    """The reasons of a plan's transitions, in their order."""
    if not plan.transitions:
        return ()
    layout = plan.layout
    questions = [
        (_producer(layout, transition.tensor), users_of(layout, transition))
        for transition in plan.transitions
    ]
    try:
        costs = marginals(with_questions(layout.problem, questions))
    except TooDenseError:
        costs = None
    first, (_, yes) = len(layout.problem.variables), _answers(layout.problem)
    found = []
    for number, (transition, made, read) in enumerate(blocked(graph, plan)):
        cost = None if costs is None else costs.cost(first + number, yes)
        without = None if cost is None else (cost[0], cost[1])
        found.append(Reason(transition, made, read, without, costs is not None))
    return tuple(found)


def blocked(
    graph: LayoutGraph, plan: LayoutPlan
) -> Iterator[tuple[Transition, tuple[Blocker, ...], tuple[Blocker, ...]]]:
    """A plan's transitions, with what forces each where its tensor is made and where it is read."""
    layout, ties = plan.layout, _Ties(graph, plan)
    for transition in plan.transitions:
        source, users = _producer(layout, transition.tensor), users_of(layout, transition)
        yield (
            transition,
            ties.blockers([source], LABELS[transition.target]),
            ties.blockers(users, LABELS[transition.source]),
        )


def _producer(layout: LayoutProblem, tensor: int) -> int:
    producer = layout.producers[tensor]
    assert producer is not None
    return producer


def users_of(layout: LayoutProblem, transition: Transition) -> tuple[int, ...]:
    """The variables of the operands that read a transition's copy."""
    wanted = set(transition.users)
    slots = layout.readers[transition.tensor]
    return tuple(s.variable for s in slots if Operand(s.operator, s.index) in wanted)


def _answers(problem: Problem) -> tuple[int, int]:
    """Two labels that no variable of a problem has: no, and yes."""
    return problem.labels, problem.labels + 1


def with_questions(problem: Problem, questions: Sequence[tuple[int, tuple[int, ...]]]) -> Problem:
    """The problem with a variable for each question: do these users have the source's label?

    Yes, the label after the problem's last but one, is only possible where they all have.
    """
    answers = _answers(problem)
    prices: dict[int, Costs] = {}

    def widened(factor: Factor) -> Factor:
        if isinstance(factor, Agree):
            most = max(factor.classes, default=0)
            return Agree(factor.scope, (*factor.classes, most + 1, most + 2))
        if isinstance(factor, SharedCopies):
            if id(factor.prices) not in prices:
                padding = ((0, 0), (0, 2), (0, 2))
                prices[id(factor.prices)] = np.pad(factor.prices, padding)
            return SharedCopies(factor.source, factor.users, prices[id(factor.prices)])
        return factor

    variables, factors = list(problem.variables), [widened(f) for f in problem.factors]
    tables: dict[tuple[tuple[int, ...], tuple[int, ...]], Costs] = {}
    for source, users in questions:
        question = len(variables)
        variables.append(Variable(answers))
        for user in dict.fromkeys(users):
            if user == source:
                continue
            domains = problem.variables[source].domain, problem.variables[user].domain
            if domains not in tables:
                made, read = (np.array(domain) for domain in domains)
                table = np.zeros((problem.levels, len(made), len(read), 2), np.int64)
                table[0, made[:, None] != read, 1] = FORBIDDEN
                tables[domains] = table
            factors.append(CostTable((source, user, question), tables[domains]))
    return Problem(problem.labels + 2, problem.levels, tuple(variables), tuple(factors))


class _Ties:
    """Which variables depend on each other: those that agree, and those of one tensor."""

    def __init__(self, graph: LayoutGraph, plan: LayoutPlan) -> None:
        problem = plan.layout.problem
        self._graph, self._limits = graph, plan.limits
        self._domains = [variable.domain for variable in problem.variables]
        self._labels = plan.solution.assignment
        self._agreed: dict[int, list[Agree]] = {}
        self._copied: dict[int, list[int]] = {}
        self._slots = plan.layout.slots
        self._restricted = Restricted(graph, plan.limits.restrictions)
        self._known: dict[tuple[int, int], Why] = {}
        for factor in problem.factors:
            if isinstance(factor, Agree):
                for v in factor.scope:
                    self._agreed.setdefault(v, []).append(factor)
            elif isinstance(factor, SharedCopies):
                self._copied.setdefault(factor.source, []).extend(factor.users)
                for user in factor.users:
                    self._copied.setdefault(user, []).append(factor.source)

    def blockers(self, start: Iterable[int], label: int) -> tuple[Blocker, ...]:
        """The operands, reached from some variables, that keep them from having a label."""
        found: list[Blocker] = []
        front = list(dict.fromkeys(start))
        seen = set(front)
        distance = 0
        while front and len(found) < _MOST_BLOCKERS:
            after: list[int] = []
            # What agrees is as near; it is gone through first.
            for v in front:
                accepts = label in self._domains[v]
                if not accepts and v < len(self._slots):
                    found.append(self._blocker(self._slots[v], label, distance))
                for factor in self._agreed.get(v, ()):
                    for other in factor.scope:
                        has = self._labels[other]
                        if other not in seen and factor.classes[has] != factor.classes[label]:
                            seen.add(other)
                            front.append(other)
                if accepts:
                    after += [u for u in self._copied.get(v, ()) if self._labels[u] != label]
            front = [u for u in dict.fromkeys(after) if u not in seen]
            seen.update(front)
            distance += 1
        return _by_operator(found)[:_MOST_BLOCKERS]

    def _blocker(self, slot: Slot, label: int, distance: int) -> Blocker:
        key = slot.variable, label
        if key not in self._known:
            self._known[key] = _why(self._graph, self._limits, self._restricted, slot, label)
        return Blocker(slot, self._domains[slot.variable], distance, self._known[key])


def _by_operator(found: Sequence[Blocker]) -> tuple[Blocker, ...]:
    """One operand of each operator: that with the deepest reason, which its others follow."""
    kept: dict[int, Blocker] = {}
    for blocker in found:
        other = kept.setdefault(blocker.slot.operator, blocker)
        if _DEPTH[blocker.why] > _DEPTH[other.why]:
            kept[blocker.slot.operator] = replace(blocker, distance=other.distance)
    return tuple(kept.values())


def _why(graph: LayoutGraph, limits: Limits, restricted: Restricted, slot: Slot, label: int) -> Why:
    if any(not possible(graph.tensors[t], limits) >> label & 1 for t in slot.tensors):
        return "limits"
    side: Side = "output" if slot.is_output else "argument"
    if not restricted.operand(slot.operator, side, slot.index, slot.tensors) >> label & 1:
        return "limits"
    if slot.operator in graph.pinned:
        return "kernel"
    sets = op_rep_sets(
        graph.operators[slot.operator], graph.tensors, limits.texture, limits.runtime
    )
    assert sets is not None
    accepted = sets.of(side, slot.index)
    return "avoided" if accepted is not None and accepted.mask >> label & 1 else "kernel"
