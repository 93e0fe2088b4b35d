"""Nodes in layers: each below all that it reads, edges short and straight, few of them crossed.

This is Sugiyama's method in its four steps: layers, lanes for edges that pass layers by, an order
within each layer, and places across. The same graph is always laid out in the same way, and two
nodes of a layer are always at least one unit apart.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

import networkx as nx

_MOST_LANES: Final = 40_000  # beyond these, the longest edges get no room: a bound on the time
_SWEEPS: Final = 24  # of the order, at most
_PATIENCE: Final = 4  # sweeps without fewer crossings, after which the best order is taken

Edge = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Place:
    """A node's layer, 0 at the top, and where in it the node is, in widths of a node."""

    layer: int
    across: float


def place_nodes(nodes: int, edges: Iterable[Edge]) -> list[Place]:
    """Places of the nodes 0 and up, two of a layer at least 1 apart.

    Parts of the graph that are not connected stand side by side. Nodes without edges share a layer
    below all others. Raises ``networkx.NetworkXUnfeasible`` for edges that go in a circle.
    """
    graph = nx.DiGraph(sorted({edge for edge in edges if edge[0] != edge[1]}))
    found: dict[int, Place] = {}
    left = 0.0
    for part in sorted(map(sorted, nx.weakly_connected_components(graph))):
        placed = _placed(graph.subgraph(part).copy(), part)
        least = min(place.across for place in placed.values())
        shift = left - least
        found |= {n: Place(at.layer, at.across + shift) for n, at in placed.items()}
        left = 1 + max(found[node].across for node in part)
    below = 1 + max((place.layer for place in found.values()), default=-1)
    alone = (node for node in range(nodes) if node not in found)
    found.update({node: Place(below, float(n)) for n, node in enumerate(alone)})
    return [found[node] for node in range(nodes)]


def _placed(graph: Any, nodes: Sequence[int]) -> dict[int, Place]:
    """Places of one connected part."""
    layers = _Layers(graph, nodes, _ranks(graph))
    layers.order()
    across = layers.across()
    return {node: Place(layers.rank[n], across[n]) for n, node in enumerate(nodes)}


def _ranks(graph: Any) -> dict[int, int]:
    """The layer of each node: as high as it can be, or low where that makes its edges shorter."""
    order = list(nx.topological_sort(graph))
    rank: dict[int, int] = {}
    for node in order:
        rank[node] = max((rank[source] + 1 for source in graph.predecessors(node)), default=0)
    # Two passes, of which none makes edges longer in sum: down to what reads a node, and back up
    # to what it reads.
    for node in reversed(order):
        if graph.out_degree(node) >= max(1, graph.in_degree(node)):
            rank[node] = min(rank[target] for target in graph.successors(node)) - 1
    for node in order:
        if graph.in_degree(node) >= max(1, graph.out_degree(node)):
            rank[node] = max(rank[source] for source in graph.predecessors(node)) + 1
    return rank


class _Layers:
    """The items of each layer, from the left: nodes, and lanes in which edges pass a layer by.

    Items are numbered, nodes first. The edges from one node share their lane.
    """

    def __init__(self, graph: Any, nodes: Sequence[int], rank: dict[int, int]) -> None:
        number = {node: n for n, node in enumerate(nodes)}
        self.rank = [rank[node] for node in nodes]
        self.nodes = len(nodes)
        self.above: list[list[int]] = [[] for _ in nodes]
        self.below: list[list[int]] = [[] for _ in nodes]
        readers = [sorted(number[target] for target in graph.successors(node)) for node in nodes]
        reach = _reach(self.rank, readers)
        for source, targets in enumerate(readers):
            self._connect(source, targets, reach)
        self.layers = self._visited()

    def _connect(self, source: int, targets: Sequence[int], reach: int) -> None:
        lanes = [source]
        for target in sorted(targets, key=lambda t: (self.rank[t], t)):
            passed = self.rank[target] - self.rank[source] - 1
            if passed > reach:
                break
            while len(lanes) <= passed:
                lanes.append(self._lane(lanes[-1]))
            self._join(lanes[passed], target)

    def _lane(self, upper: int) -> int:
        lane = len(self.rank)
        self.rank.append(self.rank[upper] + 1)
        self.above.append([])
        self.below.append([])
        self._join(upper, lane)
        return lane

    def _join(self, upper: int, lower: int) -> None:
        self.below[upper].append(lower)
        self.above[lower].append(upper)

    def _visited(self) -> list[list[int]]:
        """Each layer in the order in which a walk in depth first comes to its items."""
        layers: list[list[int]] = [[] for _ in range(1 + max(self.rank))]
        seen: set[int] = set()
        for start in range(self.nodes):
            stack = [start] if not self.above[start] else []
            while stack:
                item = stack.pop()
                if item not in seen:
                    seen.add(item)
                    layers[self.rank[item]].append(item)
                    # Lanes last, to the right: that is the side to which long edges are bent.
                    stack += sorted(self.below[item], key=lambda n: (n < self.nodes, -n))
        return layers

    def order(self) -> None:
        """Orders each layer by where its items' neighbours are, until crossings get no fewer."""
        best, fewest, idle = self.layers, self._crossings(self.layers), 0
        for sweep in range(_SWEEPS):
            if fewest == 0 or idle == _PATIENCE:
                break
            self.layers = self._swept(self.layers, downwards=sweep % 2 == 0)
            crossings = self._crossings(self.layers)
            idle = 0 if crossings < fewest else idle + 1
            if crossings < fewest:
                best, fewest = self.layers, crossings
        self.layers = best

    def _swept(self, layers: list[list[int]], *, downwards: bool) -> list[list[int]]:
        neighbours = self.above if downwards else self.below
        at = {item: float(n) for layer in layers for n, item in enumerate(layer)}

        def middle(item: int) -> float:
            found = neighbours[item]
            return sum(at[other] for other in found) / len(found) if found else at[item]

        swept = []
        for layer in layers if downwards else reversed(layers):
            swept.append(sorted(layer, key=middle))
            at.update({item: float(n) for n, item in enumerate(swept[-1])})
        return swept if downwards else swept[::-1]

    def _crossings(self, layers: list[list[int]]) -> int:
        at = {item: n for layer in layers for n, item in enumerate(layer)}
        count = 0
        for layer in layers:
            ends: list[int] = []
            for item in layer:
                lower = sorted(at[other] for other in self.below[item])
                count += sum(len(ends) - bisect_right(ends, end) for end in lower)
                for end in lower:
                    insort(ends, end)
        return count

    def across(self) -> list[float]:
        """Where each item is in its layer, after Brandes and Köpf.

        Of four layouts, each leaning to another corner, the mean of the middle two. In each of them
        items of a layer keep their distance, so that they do in the mean as well.
        """
        crossed = self._crossed()
        layouts = [
            self._leaning(crossed, downwards=downwards, leftwards=leftwards)
            for downwards in (True, False)
            for leftwards in (True, False)
        ]
        narrowest = min(layouts, key=lambda at: max(at) - min(at))
        low, high = min(narrowest), max(narrowest)
        for n, at in enumerate(layouts):
            shift = low - min(at) if n % 2 == 0 else high - max(at)
            at[:] = [x + shift for x in at]
        return [sum(sorted(found)[1:3]) / 2 for found in zip(*layouts, strict=True)]

    def _crossed(self) -> set[Edge]:
        """Edges that cross a long edge's piece between two lanes, which is to be straight."""
        crossed = set()
        for upper, lower in pairwise(self.layers):
            at = {item: n for n, item in enumerate(upper)}
            first = left = 0
            for n, item in enumerate(lower):
                lane = next((u for u in self.above[item] if min(u, item) >= self.nodes), None)
                if lane is None and n < len(lower) - 1:
                    continue
                right = len(upper) - 1 if lane is None else at[lane]
                for other in lower[first : n + 1]:
                    crossed |= {(u, other) for u in self.above[other] if not left <= at[u] <= right}
                first, left = n + 1, right
        return crossed

    def _leaning(self, crossed: set[Edge], *, downwards: bool, leftwards: bool) -> list[float]:
        """A layout of straight blocks of items, one above the other, packed from one side."""
        step = 1 if leftwards else -1
        layers = [layer[::step] for layer in self.layers[:: 1 if downwards else -1]]
        root = self._aligned(crossed, layers, self.above if downwards else self.below)
        blocks = nx.DiGraph()
        blocks.add_nodes_from(root)
        for layer in layers:
            blocks.add_edges_from((root[a], root[b]) for a, b in pairwise(layer))
        order = list(nx.topological_sort(blocks))
        at = dict.fromkeys(order, 0.0)
        for block in order:
            for other in blocks.successors(block):
                at[other] = max(at[other], at[block] + 1)
        # What is free to move is then next to what it would otherwise have left behind.
        for block in reversed(order):
            room = min((at[other] - 1 for other in blocks.successors(block)), default=0.0)
            at[block] = max(at[block], room)
        return [step * at[block] for block in root]

    def _aligned(
        self, crossed: set[Edge], layers: list[list[int]], neighbours: list[list[int]]
    ) -> list[int]:
        """The first item of each item's block: each follows its middle neighbour where it can."""
        root = list(range(len(self.rank)))
        for before, layer in pairwise(layers):
            at = {item: n for n, item in enumerate(before)}
            free = 0
            for item in layer:
                near = sorted(neighbours[item], key=at.__getitem__)
                for other in near[(len(near) - 1) // 2 : len(near) // 2 + 1]:
                    is_crossed = (other, item) in crossed or (item, other) in crossed
                    if root[item] == item and free <= at[other] and not is_crossed:
                        root[item] = root[other]
                        free = at[other] + 1
        return root


def _reach(rank: Sequence[int], readers: Sequence[Sequence[int]]) -> int:
    """The most layers that an edge may pass by to have a lane."""
    passed = sorted(
        rank[target] - rank[source] - 1
        for source, targets in enumerate(readers)
        for target in targets
    )
    for count, total in zip(passed, accumulate(passed), strict=True):
        if total > _MOST_LANES:
            return count - 1
    return passed[-1]
