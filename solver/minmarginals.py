"""Min-marginals: what it costs to give a variable a label, for all variables and labels at once.

Elimination leaves the least cost of what lies behind a node, by the values of its neighbours. A
second pass, the other way, brings each node the least cost of all the rest. The two together are
the least cost of the whole for each value of the node.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solver.conflict import behind
from solver.dominance import undominated
from solver.eliminate import DeadEndError, eliminate
from solver.lanes import Lanes, pack
from solver.order import Order
from solver.prepared import TABLE_LIMIT, Prepared
from solver.problem import FORBIDDEN, Costs, Problem
from solver.reduce import Reduced
from solver.solution import InfeasibleError, TooDenseError


@dataclass(frozen=True, slots=True)
class Marginals:
    """The least cost of all assignments that give a variable a label.

    ``costs[v]`` has shape (levels, labels of v's domain), in the domain's order; ``FORBIDDEN`` in
    level 0 says that there is no such assignment. ``optimum`` is the least cost of any assignment.

    Of a dense problem, labels that no optimum needs are left out, of ``problem`` as well: all
    others have their exact costs, and those in ``left_out`` have none.
    """

    problem: Problem
    optimum: tuple[int, ...]
    costs: tuple[Costs, ...]
    left_out: frozenset[int] = frozenset()

    def cost(self, variable: int, label: int) -> tuple[int, ...] | None:
        """The least cost with this label; None if no assignment has it.

        Raises ``TooDenseError`` for a label that was left out.
        """
        if label in self.left_out:
            raise TooDenseError(f"label {label} was left out: the problem is too dense with it")
        return self.of(variable).get(label)

    def of(self, variable: int) -> dict[int, tuple[int, ...] | None]:
        """The same of all labels of a variable, but those that were left out."""
        domain, costs = self.problem.variables[variable].domain, self.costs[variable].T.tolist()
        return {
            label: None if cost[0] >= FORBIDDEN else tuple(cost)
            for label, cost in zip(domain, costs, strict=True)
        }


def marginals(problem: Problem | Prepared, *, table_limit: int = TABLE_LIMIT) -> Marginals:
    """The min-marginals of a problem, all exact.

    Raises ``ProblemError`` for a problem that is not well formed, ``InfeasibleError`` for one
    without a solution, and ``TooDenseError`` where elimination would need a table of more than
    ``table_limit`` entries even without the labels that no optimum needs: there is no answer then,
    rather than an estimate.
    """
    prepared = problem if isinstance(problem, Prepared) else Prepared(problem, table_limit)
    left_out: frozenset[int] = frozenset()
    if prepared.order is None:
        smaller = undominated(prepared.problem)
        if smaller is not None:
            left_out = _labels(prepared.problem) - _labels(smaller)
            prepared = Prepared(smaller, table_limit)
    problem, reduced, order = prepared.problem, prepared.reduced, prepared.order
    if order is None:
        raise TooDenseError("elimination would need tables that are too large")
    packed = pack(reduced.tables, problem.levels, separate=False)
    try:
        elimination = eliminate(order, reduced.sizes, reduced.scopes, packed, keep="sums")
    except DeadEndError as error:
        factors = {reduced.origins[table] for table in error.tables} - {-1}
        raise InfeasibleError((), behind(problem, reduced.merged.root, factors)) from None
    wholes = everything(order, elimination.sums, packed.lanes)
    tables = [_least(table, range(1, table.ndim - 1)) for table in wholes]
    constant = np.array(reduced.constant, np.int64)[:, None]
    by_node: list[Costs] = [constant] * len(order.nodes)
    if tables:
        flat = packed.costs(np.concatenate(tables, axis=1))
        allowed = flat[0] < FORBIDDEN
        flat[:, allowed] += constant
        start = 0
        for v, table in zip(order.nodes, tables, strict=True):
            by_node[v] = flat[:, start : start + table.shape[1]]
            start += table.shape[1]
        first = by_node[order.nodes[0]]
        optimum = min(tuple(cost) for cost in first.T.tolist() if cost[0] < FORBIDDEN)
    else:
        optimum = tuple(reduced.constant)
    costs = _by_variable(problem, reduced, by_node, optimum)
    return Marginals(problem, optimum, costs, left_out)


def _labels(problem: Problem) -> frozenset[int]:
    return frozenset(label for variable in problem.variables for label in variable.domain)


def everything(order: Order, sums: list[tuple[Lanes, Lanes]], lanes: int) -> list[Lanes]:
    """For each node in order: the least cost of all nodes together, by the values of the node and
    of its neighbours."""
    position, count = order.position, len(order.neighbours)
    roots = [best for near, (_, best) in zip(order.neighbours, sums, strict=True) if not near]
    of_all: Lanes = sum(roots, start=np.zeros(lanes))
    whole: list[Lanes] = [of_all] * count
    for place in reversed(range(count)):
        near = order.neighbours[place]
        joined, best = sums[place]
        if near:
            above = position[near[0]]
            scope = (near[0], *order.neighbours[above])
            outside = _least(whole[above], [a for a, u in enumerate(scope) if u not in near])
        else:
            outside = of_all
        # What this node and those behind it cost is in both, but for what is impossible.
        behind_ = np.where(np.isinf(best[0].real), 0, best)
        whole[place] = joined + (outside - behind_)[:, None]
    return whole


def _least(table: Lanes, axes: list[int] | range) -> Lanes:
    """The lexicographically least costs over some axes, counted after that of the lanes."""
    if not axes:
        return table
    over = tuple(axis + 1 for axis in axes)
    if len(table) == 1:
        best: Lanes = np.minimum.reduce(table, axis=over)
        return best
    lanes = []
    open_ = np.ones(table.shape[1:], np.bool_)
    for lane in table:
        candidates = np.where(open_, lane, np.inf)
        least = np.minimum.reduce(candidates, axis=tuple(axes), keepdims=True)
        lanes.append(least.squeeze(tuple(axes)))
        open_ &= candidates == least
    return np.array(lanes)


def _by_variable(
    problem: Problem, reduced: Reduced, by_node: list[Costs], optimum: tuple[int, ...]
) -> tuple[Costs, ...]:
    """The costs over each variable's own domain, which may have labels that its class lost."""
    merged, node = reduced.merged, reduced.node
    single = np.array(optimum, np.int64)[:, None]
    found: list[Costs] = []
    for v, variable in enumerate(problem.variables):
        root = merged.root[v]
        left = merged.domains[root]
        costs = by_node[node[root]] if node[root] >= 0 else single
        if left != variable.domain:
            own = np.zeros((problem.levels, len(variable.domain)), np.int64)
            own[0] = FORBIDDEN
            own[:, [variable.domain.index(label) for label in left]] = costs
            costs = own
        found.append(costs)
    return tuple(found)
