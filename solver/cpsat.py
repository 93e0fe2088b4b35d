"""Solves with CP-SAT: the core that elimination leaves, or a whole problem as it is stated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from time import perf_counter
from typing import Any, Final, TypeAlias

import numpy as np

from solver.problem import (
    FORBIDDEN,
    LIMIT,
    Agree,
    Costs,
    CostTable,
    Problem,
    ProblemError,
    SharedCopies,
)
from solver.solution import InfeasibleError, NoSolutionFoundError, Solution, Statistics, Status

MODEL_LIMIT = 2**18
"""Most entries in all tables of a core: each becomes a variable, and presolve has no time limit."""

_LOOK: Final = 0.02
"""Seconds between looks at whether a search has to stop."""

Literal: TypeAlias = Any
"""A Boolean variable of CP-SAT, which has no types of its own."""


@dataclass(frozen=True, slots=True)
class CoreSolution:
    """What CP-SAT found of a core."""

    values: dict[int, int] | None
    """Of the core's nodes; None if it found none."""
    bound: list[int]
    """By level, as far as it is known: the levels before the last one are proven optimal."""
    proven: bool
    """Whether every level is proven optimal."""


def solve_core(
    nodes: Sequence[int],
    sizes: Sequence[int],
    tables: Sequence[tuple[tuple[int, ...], Costs]],
    levels: int,
    hint: Sequence[int] | None,
    time_limit: float,
    deadline: float,
) -> CoreSolution:
    """Minimises the sum of cost tables over nodes, level by level.

    Each of ``tables`` is a scope of nodes and costs of shape (levels, sizes of the nodes...); the
    ``hint`` has values of all nodes. The search stops after ``time_limit`` units of deterministic
    time, or when ``perf_counter`` reaches ``deadline``. It has no values of tables that are too
    large for a model, or whose costs are. Raises ``InfeasibleError``.
    """
    least = _least(tables)
    if sum(costs[0].size for _, costs in tables) > MODEL_LIMIT or perf_counter() >= deadline:
        return CoreSolution(None, [least], False)
    model = _Model(levels)
    literals = {v: model.choice(sizes[v]) for v in nodes}
    for scope, costs in tables:
        model.add_table([literals[v] for v in scope], costs)
    if hint is not None:
        for v in nodes:
            for position, literal in enumerate(literals[v]):
                model.cp.add_hint(literal, int(position == hint[v]))
    try:
        outcome = model.minimise(time_limit, deadline)
    except ProblemError:
        return CoreSolution(None, [least], False)
    values = None
    if outcome.chosen is not None:
        values = {v: _position(outcome.chosen, literals[v]) for v in nodes}
    return CoreSolution(values, outcome.bound, outcome.proven)


def _least(tables: Sequence[tuple[tuple[int, ...], Costs]]) -> int:
    """A lower bound of the first level: the least entry of each table."""
    least = [int(costs[0].min()) for _, costs in tables]
    if max(least, default=0) >= FORBIDDEN:
        raise InfeasibleError
    return sum(least)


def solve_whole(
    problem: Problem,
    *,
    time_limit: float = 30.0,
    search_seconds: float = math.inf,
    stops: Callable[[], bool] | None = None,
) -> Solution:
    """Solves a problem with CP-SAT alone, straight from its definition.

    It shares only the problem with ``solve``, so that each can check the other. The time limit is
    in CP-SAT's deterministic time, whose unit is about a second; ``search_seconds`` are those of
    the clock. From another thread ``stops`` is asked again and again whether the search has to end.

    Raises ``ProblemError`` for a problem that is not well formed or too large to add up,
    ``InfeasibleError``, and ``NoSolutionFoundError`` if the time ran out first.
    """
    started = perf_counter()
    problem.validate()
    model = _Model(problem.levels)
    literals = [model.choice(len(variable.domain)) for variable in problem.variables]
    takes = [
        dict(zip(variable.domain, choice, strict=True))
        for variable, choice in zip(problem.variables, literals, strict=True)
    ]
    for factor in problem.factors:
        if isinstance(factor, CostTable):
            model.add_table([literals[v] for v in factor.scope], factor.costs)
        elif isinstance(factor, SharedCopies):
            users = [takes[u] for u in dict.fromkeys(factor.users)]
            model.add_copies(takes[factor.source], users, factor.prices)
        else:
            model.add_agree([takes[v] for v in factor.scope], factor)
    outcome = model.minimise(time_limit, started + search_seconds, linearization=1, stops=stops)
    if outcome.chosen is None:
        raise NoSolutionFoundError(_no_solution(time_limit))
    chosen = outcome.chosen
    assignment = tuple(
        variable.domain[_position(chosen, choice)]
        for variable, choice in zip(problem.variables, literals, strict=True)
    )
    cost = problem.cost(assignment)
    if cost is None:
        raise AssertionError("CP-SAT returned an assignment that the problem forbids")
    bound = (*outcome.bound, *model.least[len(outcome.bound) :])
    statistics = Statistics(
        variables=len(problem.variables),
        merged=len(problem.variables),
        nodes=len(problem.variables),
        width=0,
        largest_table=0,
        core=len(problem.variables),
        lanes=problem.levels,
        seconds={"cpsat": perf_counter() - started},
    )
    status = Status.OPTIMAL if outcome.proven else Status.FEASIBLE
    return Solution(assignment, cost, bound, status, statistics)


@dataclass(slots=True)
class _Objective:
    literals: list[Literal] = field(default_factory=list)
    costs: list[int] = field(default_factory=list)
    constant: int = 0


@dataclass(frozen=True, slots=True)
class _Outcome:
    chosen: set[int] | None
    """Indices of the literals that are true; None if no solution was found."""
    bound: list[int]
    proven: bool


class _Model:
    """A CP-SAT model of one-of-n choices with one objective for each level."""

    def __init__(self, levels: int) -> None:
        from ortools.sat.python import cp_model

        self._library = cp_model
        self.cp: Any = cp_model.CpModel()
        self._objectives = [_Objective() for _ in range(levels)]

    @property
    def least(self) -> list[int]:
        """A lower bound for each level that needs no search."""
        return [
            objective.constant + sum(min(cost, 0) for cost in objective.costs)
            for objective in self._objectives
        ]

    def choice(self, size: int) -> list[Literal]:
        """Adds a variable of ``size`` values: one literal for each, exactly one of them true."""
        literals = [self.cp.new_bool_var("") for _ in range(size)]
        self.cp.add_exactly_one(literals)
        return literals

    def add_table(self, axes: Sequence[Sequence[Literal]], costs: Costs) -> None:
        """Adds costs over choices; combinations that cost FORBIDDEN are excluded."""
        allowed = costs[0] < FORBIDDEN
        if not allowed.any():
            raise InfeasibleError
        finite = costs[:, allowed]
        if finite.max() >= LIMIT or finite.min() <= -LIMIT:
            raise ProblemError(f"a cost is {LIMIT} or more; express costs in a coarser unit")
        least = finite.min(axis=1)
        above = (costs - least.reshape(-1, *[1] * len(axes)))[:, allowed].T.tolist()
        for objective, constant in zip(self._objectives, least.tolist(), strict=True):
            objective.constant += constant
        for index in np.argwhere(~allowed).tolist():
            self.cp.add_bool_or([axis[i].negated() for axis, i in zip(axes, index, strict=True)])
        if not any(map(any, above)):
            return
        where = np.argwhere(allowed).tolist()
        if len(axes) == 1:
            entries = [axes[0][index[0]] for index in where]
        else:
            # The entries of a table are a distribution whose marginals are the choices.
            entries = [self.cp.new_bool_var("") for _ in where]
            for number, axis in enumerate(axes):
                slices: list[list[Literal]] = [[] for _ in axis]
                for index, entry in zip(where, entries, strict=True):
                    slices[index[number]].append(entry)
                for literal, members in zip(axis, slices, strict=True):
                    self.cp.add(sum(members) == literal)
        for entry, cost in zip(entries, above, strict=True):
            self._charge(entry, cost)

    def add_copies(
        self,
        source: dict[int, Literal],
        users: Sequence[dict[int, Literal]],
        prices: Costs,
    ) -> None:
        """Adds one copy for each target that users can need, made from the source's label."""
        for target in sorted(set(itertools.chain.from_iterable(users))):
            made = []
            for label, literal in source.items():
                price = prices[:, label, target].tolist()
                if label != target and price[0] < FORBIDDEN:
                    # A copy exists, made from this label of the source.
                    copy = self.cp.new_bool_var("")
                    self.cp.add_implication(copy, literal)
                    self._charge(copy, price)
                    made.append(copy)
            exists = self.cp.new_bool_var("")
            self.cp.add(sum(made) == exists)
            there = [exists, source[target]] if target in source else [exists]
            for user in users:
                if target in user:
                    self.cp.add_bool_or([user[target].negated(), *there])

    def add_agree(self, variables: Sequence[dict[int, Literal]], agree: Agree) -> None:
        """Requires all variables to take labels of the same class as the first one."""
        first = variables[0]
        for other in variables[1:]:
            for group in set(agree.classes):
                at_first, at_other = (
                    sum(literal for label, literal in v.items() if agree.classes[label] == group)
                    for v in (first, other)
                )
                if not (isinstance(at_first, int) and isinstance(at_other, int)):
                    self.cp.add(at_first == at_other)

    def minimise(
        self,
        time_limit: float,
        deadline: float,
        linearization: int = 2,
        stops: Callable[[], bool] | None = None,
    ) -> _Outcome:
        """Minimises the levels one after the other, with the earlier ones kept at their optimum."""
        solver: Any = self._library.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = 1
        # Tables are of no use to the search without their linear relaxation.
        solver.parameters.linearization_level = linearization
        left = time_limit
        chosen: set[int] | None = None
        bound: list[int] = []
        for level, objective in enumerate(self._objectives):
            if chosen is not None and not any(objective.costs):
                bound.append(objective.constant)
                continue
            if 2 * sum(map(abs, objective.costs)) >= FORBIDDEN:
                raise ProblemError(
                    f"level {level}: the costs are too large for CP-SAT to add; "
                    f"express them in a coarser unit"
                )
            expression = self._library.LinearExpr.weighted_sum(objective.literals, objective.costs)
            self.cp.minimize(expression)
            solver.parameters.max_deterministic_time = max(left, 0.0)
            solver.parameters.max_time_in_seconds = max(deadline - perf_counter(), 0.0)
            with _watched(solver, stops):
                status = solver.solve(self.cp)
            left -= solver.response_proto.deterministic_time
            if status == self._library.MODEL_INVALID:
                raise AssertionError(self.cp.validate())
            if status == self._library.INFEASIBLE and chosen is None:
                raise InfeasibleError
            found = status in {self._library.OPTIMAL, self._library.FEASIBLE}
            if found:
                values = list(solver.response_proto.solution)
                chosen = {index for index, value in enumerate(values) if value}
            if status != self._library.OPTIMAL:
                bound.append(max(self.least[level], self._bound(solver, objective)))
                return _Outcome(chosen, bound, False)
            best = sum(
                cost
                for literal, cost in zip(objective.literals, objective.costs, strict=True)
                if literal.index in (chosen or ())
            )
            bound.append(objective.constant + best)
            self.cp.add(expression <= best)
            self.cp.clear_hints()
            for index, value in enumerate(values):
                self.cp.add_hint(self.cp.get_bool_var_from_proto_index(index), value)
        return _Outcome(chosen, bound, True)

    @staticmethod
    def _bound(solver: Any, objective: _Objective) -> int:
        bound: float = solver.best_objective_bound
        if not math.isfinite(bound):
            return -LIMIT
        # CP-SAT reports a float: stay on the safe side of its rounding.
        slack = 1e-6 + abs(bound) * 2.0**-50
        return objective.constant + math.ceil(bound - slack)

    def _charge(self, literal: Literal, cost: Sequence[int]) -> None:
        for objective, amount in zip(self._objectives, cost, strict=True):
            if amount:
                objective.literals.append(literal)
                objective.costs.append(amount)


@contextmanager
def _watched(solver: Any, stops: Callable[[], bool] | None) -> Iterator[None]:
    """Stops a search that runs meanwhile, once it has to end."""
    if stops is None:
        yield
        return
    is_solved = Event()

    def look() -> None:
        while not is_solved.wait(_LOOK):
            if stops():
                solver.stop_search()

    watch = Thread(target=look)
    watch.start()
    try:
        yield
    finally:
        is_solved.set()
        watch.join()


def _position(chosen: set[int], choice: Sequence[Literal]) -> int:
    return next(i for i, literal in enumerate(choice) if literal.index in chosen)


def _no_solution(time_limit: float) -> str:
    return f"CP-SAT found no valid assignment in {time_limit} units of deterministic time"
