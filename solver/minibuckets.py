"""Lower bounds by mini-buckets: elimination that splits a table which would be too large.

Each part of a split table takes its own best value of the node, so that together they cost no more
than the whole would. Before that their costs are moved between them, so that their best values
differ as little as can be (moment matching). All costs are whole numbers, and stay so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.inexact[Any]]
"""Packed costs of one lane: floats, or complex numbers, which compare lexicographically."""

CoreTable: TypeAlias = tuple[tuple[int, ...], Numbers]
"""A scope of nodes, and costs over it."""

STEP: Final = 200
"""What one step over a table counts as besides its entries."""

Stopped = Callable[[int], bool]
"""Asked after each node with the work that it took; whether to give up."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What mini-buckets say of partial choices, by place in the order of elimination."""

    nodes: Sequence[int]
    tables: list[list[CoreTable]]
    """The tables and messages over a node, whose axis is the last one, and nodes after it."""
    sent: list[list[CoreTable]]
    """The messages that a node's mini-buckets send to nodes after it; some are constants."""
    least: Any
    """A lower bound of the cost of any choice."""


def mini_buckets(
    nodes: Sequence[int],
    sizes: Sequence[int],
    tables: Sequence[CoreTable],
    limit: int,
    stopped: Stopped,
) -> Bounds | None:
    """The bounds of eliminating ``nodes`` in order with tables of at most ``limit`` entries.

    A table of the problem that is larger stays whole. None if it was ``stopped``.
    """
    position = {v: place for place, v in enumerate(nodes)}
    buckets: list[list[CoreTable]] = [[] for _ in nodes]

    def put(scope: tuple[int, ...], table: Numbers) -> None:
        axes = sorted(range(len(scope)), key=lambda axis: -position[scope[axis]])
        turned = tuple([scope[axis] for axis in axes])
        buckets[position[turned[-1]]].append((turned, table.transpose(axes)))

    for scope, table in tables:
        put(scope, table)
    sent: list[list[CoreTable]] = []
    least = np.zeros((), np.result_type(np.float64, *[table for _, table in tables]))
    for place in range(len(nodes)):
        joined = [_joined(some, sizes, position) for some in _split(buckets[place], sizes, limit)]
        if stopped(sum([5 * STEP + table.size for _, table in joined])):
            return None
        if len(joined) > 1:
            joined = _matched(joined)
        messages = []
        for scope, table in joined:
            message = np.asarray(table.min(axis=-1))
            messages.append((scope[:-1], message))
            if len(scope) > 1:
                put(*messages[-1])
            else:
                least = least + message
        sent.append(messages)
    return Bounds(nodes, buckets, sent, least[()])


def _split(bucket: list[CoreTable], sizes: Sequence[int], limit: int) -> list[list[CoreTable]]:
    """The tables of a bucket in groups, each over few enough entries; the largest tables first."""
    groups: list[list[CoreTable]] = []
    scopes: list[set[int]] = []
    for scope, table in sorted(bucket, key=lambda item: -item[1].size):
        for number, own in enumerate(scopes):
            union = own.union(scope)
            if prod([sizes[u] for u in union]) <= limit:
                scopes[number] = union
                groups[number].append((scope, table))
                break
        else:
            scopes.append(set(scope))
            groups.append([(scope, table)])
    return groups


def _joined(group: list[CoreTable], sizes: Sequence[int], position: Mapping[int, int]) -> CoreTable:
    """The sum of a group, its first node's axis last."""
    union = {u for scope, _ in group for u in scope}
    scope = tuple(sorted(union, key=position.__getitem__, reverse=True))
    shape = [sizes[u] for u in scope]
    total: Numbers | None = None
    for own, table in sorted(group, key=lambda item: item[1].size):
        aligned = table.reshape([sizes[u] if u in own else 1 for u in scope])
        total = aligned if total is None else total + aligned
    assert total is not None
    return scope, np.broadcast_to(total, shape)


def _matched(joined: list[CoreTable]) -> list[CoreTable]:
    """Tables of the same sum, whose best costs by their common nodes differ as little as can be."""
    common = set(joined[0][0]).intersection(*[scope for scope, _ in joined])
    best = [
        table.min(axis=tuple([axis for axis, u in enumerate(scope) if u not in common]))
        for scope, table in joined
    ]
    total = np.sum(best, axis=0)
    possible = np.isfinite(total)
    share = floored(np.where(possible, total, 0), len(joined))
    changes = [np.where(possible, share - np.where(possible, own, 0), 0) for own in best[1:]]
    changes.insert(0, -np.sum(changes, axis=0))
    matched = []
    for (scope, table), change in zip(joined, changes, strict=True):
        shape = [size if u in common else 1 for u, size in zip(scope, table.shape, strict=True)]
        matched.append((scope, table + change.reshape(shape)))
    return matched


def floored(numbers: Numbers, parts: int) -> Numbers:
    """Whole numbers divided, and rounded down to whole ones."""
    if np.iscomplexobj(numbers):
        whole: Numbers = np.floor(numbers.real / parts) + 1j * np.floor(numbers.imag / parts)
        return whole
    return np.asarray(np.floor(numbers.real / parts))
