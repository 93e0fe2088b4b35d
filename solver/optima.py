"""What the best assignments cost without some labels, for several sets of labels at once."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from solver.eliminate import least_each
from solver.lanes import Lanes, pack
from solver.order import WORK_LIMIT, Order, quick_order
from solver.prepared import TABLE_LIMIT, Prepared
from solver.problem import FORBIDDEN, Costs
from solver.solution import TooDenseError


def optima(
    prepared: Prepared,
    variables: Sequence[int],
    banned: NDArray[np.int64],
    *,
    first: int = 0,
) -> list[tuple[int, ...] | None]:
    """For each row of ``banned``: what the best assignment without these labels costs, by the
    levels from the ``first`` on; None if there is no such assignment.

    A row (variables,) has the labels of each of the ``variables`` as a bit mask. Raises
    ``TooDenseError`` where elimination would leave a core, or costs take more than two numbers.
    """
    reduced = prepared.reduced
    constant = reduced.constant[first:]
    is_possible, barred = _barred(prepared, variables, banned)
    # What no question allows is left out, for all of them.
    kept: list[tuple[int, ...] | None] = [None] * len(reduced.sizes)
    sizes = list(reduced.sizes)
    for node, rows in barred.items():
        is_out = rows.all(axis=0)
        if is_out.any():
            places = tuple(np.flatnonzero(~is_out).tolist())
            if not places:
                return [None] * len(banned)
            kept[node], sizes[node] = places, len(places)
    order = _order(prepared, sizes, len(banned))
    cut: dict[object, tuple[Costs, Costs]] = {}
    tables = []
    for scope, table in zip(reduced.scopes, reduced.tables, strict=True):
        places_of = [kept[node] for node in scope]
        key = id(table), *places_of
        if key not in cut:
            own = _from_level(table, first)
            for axis, left in enumerate(places_of, 1):
                if left is not None:
                    own = own.take(left, axis=axis)
            cut[key] = table, own
        tables.append(cut[key][1])
    packed = pack(tables, len(constant))
    if packed.lanes > 1:
        raise TooDenseError("costs take more than two numbers")
    scopes, lanes = list(reduced.scopes), list(packed.tables)
    for node, rows in barred.items():
        left = kept[node]
        own_rows = rows if left is None else rows[:, left]
        if own_rows.any():
            bans: Lanes = np.where(own_rows, np.inf, 0.0)
            scopes.append((node,))
            lanes.append(bans)
    totals = least_each(order, sizes, scopes, lanes)
    costs = packed.costs(np.broadcast_to(totals, (len(banned),))[None])
    return [
        tuple([a + b for a, b in zip(cost, constant, strict=True)])
        if possible and cost[0] < FORBIDDEN
        else None
        for possible, cost in zip(is_possible.tolist(), costs.T.tolist(), strict=True)
    ]


def _barred(
    prepared: Prepared, variables: Sequence[int], banned: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], dict[int, NDArray[np.bool_]]]:
    """Whether the variables with one label may have it, by question; and by node which of its
    values are banned, of shape (questions, values)."""
    reduced = prepared.reduced
    is_possible = np.ones(len(banned), np.bool_)
    barred: dict[int, NDArray[np.bool_]] = {}
    for v, masks in zip(variables, banned.T, strict=True):
        root = reduced.merged.root[v]
        rows = (masks[:, None] >> np.array(reduced.merged.domains[root]) & 1).astype(np.bool_)
        node = reduced.node[root]
        if node < 0:
            is_possible &= ~rows[:, 0]
        else:
            barred[node] = barred[node] | rows if node in barred else rows
    return is_possible, barred


def _order(prepared: Prepared, sizes: Sequence[int], questions: int) -> Order:
    """An order that eliminates all nodes, with little enough work."""
    order, scopes = prepared.order, prepared.reduced.scopes
    if order is not None:
        near = zip(order.nodes, order.neighbours, strict=True)
        work = sum([prod([sizes[u] for u in around], start=sizes[v]) for v, around in near])
        if work * questions <= WORK_LIMIT:
            return order
    order = quick_order(sizes, scopes, TABLE_LIMIT)
    if order.core or order.work * questions > WORK_LIMIT:
        raise TooDenseError("elimination would need tables that are too large")
    return order


def _from_level(table: Costs, first: int) -> Costs:
    """A table of the levels from one on; it forbids the same."""
    if not first:
        return table
    own = table[first:].copy()
    barred = table[0] >= FORBIDDEN
    own[:, barred] = 0
    own[0, barred] = FORBIDDEN
    return own
