"""The order in which to eliminate nodes, and those whose tables would be too large for it.

The greedy order by the size of tables is taken where it is good enough, as it is on real graphs.
Elsewhere each connected part gets the best of several orders: no single rule is good on all nets.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, log2, prod

WORK_LIMIT = 2**27
"""Most entries of all tables together: about a second, and a quarter of a gigabyte at most."""

EASY_TABLE = 2**14
"""Entries of a table that is eliminated sooner than a better order is looked for."""

EASY_WORK = 2**22
"""Entries of all tables together that are eliminated sooner than a better order is looked for."""

_SEARCHED_TABLE = 2**30
"""Entries of a table up to which rules choose the next node by it."""

Adjacency = list[set[int]]


@dataclass(frozen=True, slots=True)
class Order:
    """The nodes in order of elimination, the core (never eliminated) last."""

    nodes: list[int]
    neighbours: list[list[int]]
    """For each eliminated node: the remaining nodes in its table's scope, in order."""
    position: list[int]
    """The place of each node in the order."""
    largest: int
    """Entries of the largest table that elimination makes."""
    work: int
    """Entries of all tables together."""

    @property
    def core(self) -> list[int]:
        """The nodes that are not eliminated."""
        return self.nodes[len(self.neighbours) :]

    @property
    def width(self) -> int:
        """The most neighbours that a node has when it is eliminated."""
        return max(map(len, self.neighbours), default=0)

    @property
    def is_easy(self) -> bool:
        """Whether all nodes are eliminated, with tables that are small enough."""
        return not self.core and self.largest <= EASY_TABLE


def greedy_order(
    sizes: Sequence[int], scopes: Sequence[tuple[int, ...]], table_limit: int
) -> Order:
    """The order in which always the node with the smallest table leaves, the lowest of several.

    It ends like ``elimination_order``, which looks for a better one where this is not easy.
    """
    return _consume(sizes, adjacency_of(len(sizes), scopes), table_limit, WORK_LIMIT)


def elimination_order(
    sizes: Sequence[int],
    scopes: Sequence[tuple[int, ...]],
    table_limit: int,
    core_limit: int | None = None,
) -> Order:
    """The first order that is good enough, or the best of several for each connected part.

    All tables together have at most ``WORK_LIMIT`` entries. A part for which no order keeps each
    table to ``table_limit`` entries is eliminated greedily as long as tables have at most
    ``core_limit``, by default the same; the nodes that are left are the core.
    """
    adjacency = adjacency_of(len(sizes), scopes)
    greedy = _greedy(sizes, adjacency, table_limit, WORK_LIMIT)
    if greedy.is_easy:
        return greedy
    done: list[int] = []
    left: list[int] = []
    neighbours: list[list[int]] = []
    largest = work = 0
    for part in _parts(adjacency):
        name = {v: place for place, v in enumerate(part)}
        near = [{name[u] for u in adjacency[v]} for v in part]
        own = [sizes[v] for v in part]
        best = _best(own, near, table_limit, WORK_LIMIT - work)
        if best.core and core_limit is not None:
            best = _greedy(own, near, core_limit, WORK_LIMIT - work)
        done += [part[v] for v in best.nodes[: len(best.neighbours)]]
        left += [part[v] for v in best.core]
        neighbours += [[part[u] for u in around] for around in best.neighbours]
        largest = max(largest, best.largest)
        work += best.work
    return _order([*done, *sorted(left)], neighbours, largest, work)


def quick_order(sizes: Sequence[int], scopes: Sequence[tuple[int, ...]], table_limit: int) -> Order:
    """The greedy order where there is little work in it, else as ``elimination_order``.

    That is as soon done where costs are all that is asked for: they are the same by any order.
    """
    greedy = greedy_order(sizes, scopes, table_limit)
    if not greedy.core and greedy.work <= EASY_WORK:
        return greedy
    return elimination_order(sizes, scopes, table_limit)


def search_order(
    sizes: Sequence[int], scopes: Sequence[tuple[int, ...]], nodes: Sequence[int]
) -> list[int]:
    """The order of ``nodes`` in which the largest table is least, depth first.

    Depth first, what depends on the same nodes comes together, so that few nodes matter at a time.
    """
    name = {v: place for place, v in enumerate(nodes)}
    adjacency = adjacency_of(len(sizes), scopes)
    near = [{name[u] for u in adjacency[v]} for v in nodes]
    own = [sizes[v] for v in nodes]
    ordered: list[int] = []
    for part in _parts(near):
        place = {v: number for number, v in enumerate(part)}
        around = [{place[u] for u in near[v]} for v in part]
        domains = [own[v] for v in part]
        best: Order | None = None
        for make in (_by_table, *_RULES):
            limit = inf if best is None else best.largest
            found = _along(domains, around, make(domains, around, _SEARCHED_TABLE), limit, inf)
            if found is not None and (
                best is None or (found.largest, found.work) < (best.largest, best.work)
            ):
                best = found
        assert best is not None
        ordered += [nodes[part[v]] for v in _depth_first(best)]
    return ordered


def _depth_first(order: Order) -> list[int]:
    """An order with the same tables, in which each node follows those that depend on it alone."""
    before: list[list[int]] = [[] for _ in order.nodes]
    last = []
    for v, near in zip(order.nodes, order.neighbours, strict=True):
        if near:
            before[near[0]].append(v)
        else:
            last.append(v)
    ordered: list[int] = []
    while last:
        v = last.pop()
        ordered.append(v)
        last += before[v]
    return ordered[::-1]


def adjacency_of(count: int, scopes: Sequence[tuple[int, ...]]) -> Adjacency:
    """The nodes that share a table with each node."""
    adjacency: Adjacency = [set() for _ in range(count)]
    for scope in scopes:
        if len(scope) == 2:
            a, b = scope
            adjacency[a].add(b)
            adjacency[b].add(a)
        elif len(scope) > 2:
            for a in scope:
                adjacency[a].update(scope)
                adjacency[a].discard(a)
    return adjacency


def _parts(adjacency: Adjacency) -> Iterator[list[int]]:
    """The connected parts, the lowest node's first, each in ascending order."""
    seen = [False] * len(adjacency)
    for start in range(len(adjacency)):
        if seen[start]:
            continue
        seen[start] = True
        part = [start]
        for v in part:
            for u in adjacency[v]:
                if not seen[u]:
                    seen[u] = True
                    part.append(u)
        yield sorted(part)


def _best(sizes: Sequence[int], adjacency: Adjacency, table_limit: int, room: int) -> Order:
    """Of the orders that leave no core the one with the least work; else the greedy one."""
    best = _greedy(sizes, adjacency, table_limit, room)
    for make in _RULES:
        if best.is_easy:
            break
        nodes = make(sizes, adjacency, table_limit)
        found = _along(sizes, adjacency, nodes, table_limit, room if best.core else best.work)
        if found is not None and (best.core or found.work < best.work):
            best = found
    return best


def _order(nodes: list[int], neighbours: list[list[int]], largest: int, work: int) -> Order:
    position = [0] * len(nodes)
    for place, v in enumerate(nodes):
        position[v] = place
    for near in neighbours:
        near.sort(key=position.__getitem__)
    return Order(nodes, neighbours, position, largest, work)


class Leaving:
    """Nodes that leave one after another; next is always the one with the smallest table.

    Of several the first in ``nodes`` is next. ``adjacency`` changes as nodes leave: those that are
    eliminated keep the neighbours that they had then.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        adjacency: Adjacency | dict[int, set[int]],
        table_limit: int,
        nodes: Sequence[int],
    ) -> None:
        # A node has at least two values: with that many neighbours its table is over the limit.
        hopeless = table_limit.bit_length()
        too_large = table_limit + 1

        def weigh(v: int) -> int:
            near = adjacency[v]
            if len(near) >= hopeless:
                return too_large
            weight = sizes[v]
            for u in near:
                weight *= sizes[u]
            return weight if weight < too_large else too_large

        self._nodes = nodes
        # Of a range each node is its own.
        self._ranks: Sequence[int] | dict[int, int] = nodes
        if not isinstance(nodes, range):
            self._ranks = {v: rank for rank, v in enumerate(nodes)}
        self.weights = {v: weigh(v) for v in nodes}
        """The entries of the tables of nodes that are left; one more than the limit if too many."""
        self._heap = [(weight, rank) for rank, weight in enumerate(self.weights.values())]
        heapq.heapify(self._heap)
        self._adjacency = adjacency
        self._weigh = weigh

    def smallest(self) -> int | None:
        """The node that is next, None if none is left."""
        heap, weights, nodes = self._heap, self.weights, self._nodes
        while heap:
            weight, rank = heap[0]
            v = nodes[rank]
            if weights.get(v) == weight:
                return v
            heapq.heappop(heap)
        return None

    def eliminate(self, v: int) -> None:
        """Takes a node out, and joins its neighbours."""
        near = self._adjacency[v]
        self._take_out(v, near if len(near) > 1 else set())

    def fix(self, v: int) -> None:
        """Takes a node out whose value is known, so that no table depends on it."""
        self._take_out(v, set())

    def _take_out(self, v: int, joined: set[int]) -> None:
        adjacency, weights, weigh = self._adjacency, self.weights, self._weigh
        del weights[v]
        for u in adjacency[v]:
            around = adjacency[u]
            if joined:
                around |= joined
                around.discard(u)
            around.discard(v)
            fresh = weigh(u)
            if fresh != weights[u]:
                weights[u] = fresh
                heapq.heappush(self._heap, (fresh, self._ranks[u]))


def _greedy(sizes: Sequence[int], given: Adjacency, table_limit: int, room: int) -> Order:
    """Always the node with the smallest table, the lowest of several."""
    return _consume(sizes, [set(near) for near in given], table_limit, room)


def _consume(sizes: Sequence[int], adjacency: Adjacency, table_limit: int, room: int) -> Order:
    """The same, of an adjacency that is not needed any more."""
    leaving = Leaving(sizes, adjacency, table_limit, range(len(sizes)))
    nodes: list[int] = []
    neighbours: list[list[int]] = []
    nothing = set[int]()
    largest = work = 0
    while (v := leaving.smallest()) is not None:
        weight = leaving.weights[v]
        if weight > table_limit or work + weight > room:
            break
        work += weight
        largest = max(largest, weight)
        nodes.append(v)
        leaving.eliminate(v)
        neighbours.append(list(adjacency[v]))
        adjacency[v] = nothing
    return _order([*nodes, *leaving.weights], neighbours, largest, work)


def _along(
    sizes: Sequence[int], given: Adjacency, nodes: list[int], table_limit: float, room: float
) -> Order | None:
    """The elimination of all nodes in this order; None if a table or the work is too large."""
    position = [0] * len(nodes)
    for place, v in enumerate(nodes):
        position[v] = place
    joined: list[set[int]] = [set() for _ in nodes]
    neighbours = []
    largest = work = 0
    for place, v in enumerate(nodes):
        near = joined[v]
        near.update([u for u in given[v] if position[u] > place])
        near.discard(v)
        entries = prod([sizes[u] for u in near], start=sizes[v])
        work += entries
        largest = max(largest, entries)
        if entries > table_limit or work > room:
            return None
        if near:
            # The first of the neighbours is joined to the others, and they through it.
            joined[min(near, key=position.__getitem__)] |= near
        neighbours.append(list(near))
    return _order(nodes, neighbours, largest, work)


def _by_table(sizes: Sequence[int], adjacency: Adjacency, table_limit: int) -> list[int]:
    return _greedy(sizes, adjacency, table_limit, WORK_LIMIT).nodes


def _by_fill(sizes: Sequence[int], given: Adjacency, table_limit: int) -> list[int]:
    """Always the node that joins the fewest pairs of neighbours, weighed by their domains."""
    adjacency = [set(near) for near in given]
    bits = [log2(size) for size in sizes]
    most = log2(table_limit) + 1e-9

    def weigh(v: int) -> float:
        near = adjacency[v]
        if sum([bits[u] for u in near]) + bits[v] > most:
            return inf
        fill = 0.0
        for a in near:
            missing = near - adjacency[a]
            missing.discard(a)
            if missing:
                fill += bits[a] * sum(sorted([bits[b] for b in missing]))
        return fill

    weights = [weigh(v) for v in range(len(sizes))]
    heap = [(weight, v) for v, weight in enumerate(weights)]
    heapq.heapify(heap)
    nodes: list[int] = []
    gone = -1.0
    while heap:
        weight, v = heapq.heappop(heap)
        if weights[v] != weight:
            continue
        if weight == inf:
            break
        weights[v] = gone
        nodes.append(v)
        near = adjacency[v]
        changed = set(near)
        for u in near:
            adjacency[u].discard(v)
        for u in sorted(near):
            joined = near - adjacency[u]
            joined.discard(u)
            for other in joined:
                # Both are neighbours of each other now: those of both have one pair less to join.
                changed |= adjacency[u] & adjacency[other]
                adjacency[other].add(u)
            adjacency[u] |= joined
        for u in sorted(changed):
            fresh = weigh(u)
            if fresh != weights[u] and weights[u] != gone:
                weights[u] = fresh
                heapq.heappush(heap, (fresh, u))
    return nodes + [v for v, weight in enumerate(weights) if weight != gone]


def _from_an_end(sizes: Sequence[int], adjacency: Adjacency, table_limit: int) -> list[int]:
    """Layer by layer from one end of the part (reverse Cuthill-McKee)."""
    return _layers(adjacency)[::-1]


def _to_that_end(sizes: Sequence[int], adjacency: Adjacency, table_limit: int) -> list[int]:
    return _layers(adjacency)


def _layers(adjacency: Adjacency) -> list[int]:
    """Breadth first, nodes with few neighbours first, from a node that is far from others."""
    found = [0]
    for _ in range(3):
        start = found[-1]
        seen = {start}
        found = [start]
        for v in found:
            fresh = sorted(adjacency[v] - seen, key=lambda u: (len(adjacency[u]), u))
            seen.update(fresh)
            found += fresh
    return found


def _as_given(sizes: Sequence[int], adjacency: Adjacency, table_limit: int) -> list[int]:
    return list(range(len(sizes)))


_RULES: Sequence[Callable[[Sequence[int], Adjacency, int], list[int]]] = (
    _by_fill,
    _from_an_end,
    _to_that_end,
    _as_given,
)
"""Orders of a connected part, which end early where a table would be larger than the limit."""
