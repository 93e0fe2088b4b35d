"""Costs moved between tables until the least entries of all together are as much as can be.

Each table's least entry is a bound of its own, and their sum bounds the whole. Node by node, costs
go from the tables behind it to those before it, there and back (sequential message passing). The
sum of all tables stays what it was for every choice; whole numbers stay whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from solver.minibuckets import STEP, CoreTable, Numbers, Stopped, floored


def ascended(
    nodes: Sequence[int],
    sizes: Sequence[int],
    tables: Sequence[CoreTable],
    passes: int,
    stopped: Stopped,
) -> list[CoreTable]:
    """The tables, and one more for each node, after so many passes in order and back."""
    kind = np.result_type(np.float64, *[table for _, table in tables])
    position = {v: place for place, v in enumerate(nodes)}
    own: dict[int, Numbers] = {v: np.zeros(sizes[v], kind) for v in nodes}
    moved: list[Numbers] = []
    scopes: list[tuple[int, ...]] = []
    around: dict[int, list[tuple[int, int, tuple[int, ...], tuple[int, ...]]]] = {
        v: [] for v in nodes
    }
    for scope, table in tables:
        if len(scope) == 1:
            own[scope[0]] = own[scope[0]] + table
            continue
        for axis, v in enumerate(scope):
            others = tuple([a for a in range(len(scope)) if a != axis])
            shape = tuple([sizes[v] if a == axis else 1 for a in range(len(scope))])
            around[v].append((len(moved), axis, others, shape))
        moved.append(table.copy())
        scopes.append(scope)
    places = [[position[v] for v in scope] for scope in scopes]
    first = [min(p) for p in places]
    last = [max(p) for p in places]
    for number in range(passes):
        forward = number % 2 == 0
        for v in nodes if forward else reversed(nodes):
            tabs = around[v]
            if not tabs:
                continue
            here = position[v]
            total = own[v]
            best = []
            for index, _, others, _ in tabs:
                least = moved[index].min(axis=others)
                least = np.where(np.isfinite(least), least, 0)
                best.append(least)
                total = total + least
            ahead = [last[i] > here if forward else first[i] < here for i, *_ in tabs]
            behind = [first[i] < here if forward else last[i] > here for i, *_ in tabs]
            parts = max(sum(ahead), sum(behind))
            share = floored(np.where(np.isfinite(total), total, 0), parts)
            for (index, _, _, shape), least, gets in zip(tabs, best, ahead, strict=True):
                change = share - least if gets else -least
                moved[index] = moved[index] + change.reshape(shape)
                if gets:
                    total = total - share
            own[v] = total
            if stopped(STEP * (1 + 2 * len(tabs)) + sum([2 * moved[i].size for i, *_ in tabs])):
                break
        else:
            continue
        break
    return [*[((v,), own[v]) for v in nodes], *zip(scopes, moved, strict=True)]
