"""Search over frontiers: nodes get values in turn, and partial choices that cannot pay are dropped.

The frontier are the nodes that others, which have no value yet, depend on. Of partial choices that
agree there only the cheapest is kept, and of those only what mini-buckets do not show to cost as
much as the best known choice. Where they are too many, those of the highest bounds go, and the
lowest of these bounds is what the search proves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solver.minibuckets import STEP, Bounds, Numbers, Stopped

Rows = NDArray[np.int16]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to."""

    values: dict[int, int] | None
    """The cheapest values of all nodes among those kept; None if none cost less than is known."""
    cost: Any
    bound: Any
    """No values cost less than this and less than what is known."""


def search(bounds: Bounds, sizes: Sequence[int], known: Any, limit: int, stopped: Stopped) -> Found:
    """Gives values to all nodes, with at most ``limit`` partial choices at a time.

    Only what costs less than ``known`` counts, which is infinite where nothing is known.
    """
    nodes = bounds.nodes
    needed = _needed(bounds)
    infinite = np.full((), np.inf, np.result_type(bounds.least))[()]
    if not np.isfinite(bounds.least.real):
        return Found(None, infinite, infinite)
    dropped = infinite
    frontier: list[int] = []
    rows: Rows = np.zeros((1, 0), np.int16)
    costs = np.array([bounds.least])
    trail: list[tuple[NDArray[np.int32], Rows]] = []
    for place in reversed(range(len(nodes))):
        v = nodes[place]
        grown = _grown(bounds, place, sizes, frontier, rows, costs)
        parent, value = np.nonzero((grown < known) & np.isfinite(grown.real))
        costs = grown[parent, value]
        kept = [axis for axis, u in enumerate(frontier) if needed[u] < place]
        rows = rows[:, kept][parent]
        frontier = [frontier[axis] for axis in kept]
        if needed.get(v, place) < place:
            rows = np.concatenate((rows, value.astype(np.int16)[:, None]), axis=1)
            frontier.append(v)
        chosen = _cheapest(rows, costs, [sizes[u] for u in frontier])
        if len(chosen) > limit:
            ranked = chosen[np.argsort(costs[chosen], kind="stable")]
            dropped = np.minimum(dropped, costs[ranked[limit]])
            chosen = np.sort(ranked[:limit])
        costs = costs[chosen]
        rows = rows[chosen]
        trail.append((parent[chosen].astype(np.int32), value[chosen].astype(np.int16)))
        if not chosen.size:
            return Found(None, infinite, dropped)
        if stopped(grown.size * (len(bounds.tables[place]) + len(frontier) + 1) + 10 * STEP):
            return Found(None, infinite, np.minimum(dropped, costs.min()))
    at = int(np.argmin(costs))
    best = costs[at]
    values = {}
    for v, (parents, own) in zip(nodes, reversed(trail), strict=True):
        values[v] = int(own[at])
        at = int(parents[at])
    return Found(values, best, np.minimum(dropped, best))


def _needed(bounds: Bounds) -> dict[int, int]:
    """The lowest place at which each node's value matters to another one."""
    needed: dict[int, int] = {}
    for place, tables in enumerate(bounds.tables):
        for scope, _ in tables:
            for u in scope[:-1]:
                needed.setdefault(u, place)
    return needed


def _grown(
    bounds: Bounds,
    place: int,
    sizes: Sequence[int],
    frontier: list[int],
    rows: Rows,
    costs: Numbers,
) -> Numbers:
    """The bounds of each partial choice with each value of the next node."""
    axis = {u: number for number, u in enumerate(frontier)}

    def at(scope: tuple[int, ...]) -> Places:
        index = np.zeros(len(rows), np.intp)
        for u in scope:
            index = index * sizes[u] + rows[:, axis[u]]
        return index

    # What the node was to cost at least makes way for what it does.
    for scope, message in bounds.sent[place]:
        costs = costs - message.reshape(-1)[at(scope)]
    size = sizes[bounds.nodes[place]]
    grown = np.broadcast_to(costs[:, None], (len(rows), size))
    for scope, table in bounds.tables[place]:
        grown = grown + table.reshape(-1, size)[at(scope[:-1])]
    return grown


def _cheapest(rows: Rows, costs: Numbers, sizes: list[int]) -> Places:
    """The cheapest of the rows that are equal, the first of several, in order."""
    ranked = np.argsort(costs, kind="stable")
    if not sizes:
        return ranked[:1]
    if prod(sizes) < 2**62:
        keys: NDArray[Any] = np.zeros(len(rows), np.int64)
        for column, size in zip(rows.T, sizes, strict=True):
            keys = keys * size + column
    else:
        keys = np.ascontiguousarray(rows).view(np.dtype((np.void, 2 * len(sizes))))[:, 0]
    ranked = ranked[np.argsort(keys[ranked], kind="stable")]
    grouped = keys[ranked]
    first = np.ones(len(ranked), np.bool_)
    first[1:] = grouped[1:] != grouped[:-1]
    return np.sort(ranked[first])
