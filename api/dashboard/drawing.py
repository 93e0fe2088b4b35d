"""Where the operators of a graph are drawn: in layers, folded into columns that fit a screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import accumulate
from typing import Final

from fast_sugiyama import from_edges

NODE_WIDTH: Final = 132
NODE_HEIGHT: Final = 30

_SPACING: Final = 10
_ACROSS: Final = 148
_DOWN: Final = 58
_COLUMN_GAP: Final = 150
_ASPECT: Final = 1.7  # of a screen, width to height
_MOST_COLUMNS: Final = 40
_MOST_PASSED: Final = 40_000  # layers that edges pass by: the layout's time grows with the square
_CUT_FREEDOM: Final = 0.2  # of a column's layers, by which a cut may move to part fewer edges

Edge = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Drawing:
    """Centres of nodes in pixels, x to the right and y down; ``layers`` tell an edge's length."""

    positions: tuple[tuple[float, float], ...]
    layers: tuple[int, ...]
    columns: tuple[int, ...]
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class _Place:
    layer: int
    across: float


def draw(nodes: int, edges: Iterable[Edge]) -> Drawing:
    """Draws ``nodes`` nodes, 0 and up; edges lead from an earlier to a later node.

    A network is far deeper than wide. Its layers are cut where few edges are parted, and the
    pieces stand side by side, read as columns of a newspaper. Where many edges pass very many
    layers by, the longest ones do not count for where nodes stand.
    """
    distinct = sorted({edge for edge in edges if edge[0] != edge[1]})
    places = _layered(nodes, _shortest(nodes, distinct))
    last = max((place.layer for place in places), default=0)
    parted = _parted(last + 1, places, distinct)
    candidates = [
        _folded(places, starts)
        for columns in range(1, min(_MOST_COLUMNS, last + 1) + 1)
        if (starts := _cuts(columns, parted)) is not None
    ]
    return min(candidates, key=lambda drawing: max(drawing.width / _ASPECT, drawing.height))


def _shortest(nodes: int, edges: Sequence[Edge]) -> Sequence[Edge]:
    """The edges without the longest ones, where together they pass too many layers by."""
    sources: dict[int, list[int]] = {node: [] for node in range(nodes)}
    for source, target in edges:
        sources[target].append(source)
    depth: dict[int, int] = {}
    for node in TopologicalSorter(sources).static_order():
        depth[node] = max((depth[source] + 1 for source in sources[node]), default=0)
    spans = sorted((depth[target] - depth[source], source, target) for source, target in edges)
    passed = accumulate(span - 1 for span, _, _ in spans)
    kept = sum(total <= _MOST_PASSED for total in passed)
    return edges if kept == len(edges) else [(s, t) for _, s, t in spans[:kept]]


def _layered(nodes: int, edges: Sequence[Edge]) -> list[_Place]:
    connected = sorted({end for edge in edges for end in edge})
    number = {node: n for n, node in enumerate(connected)}
    layouts = from_edges(
        [(number[source], number[target]) for source, target in edges],
        vertex_spacing=_SPACING,
        ranking_type="minimize",
        check_layout=False,
    )
    found: dict[int, _Place] = {}
    offset = 0.0
    for placed, *_ in layouts:
        layer = {y: n for n, y in enumerate(sorted({y for _, (_, y) in placed}, reverse=True))}
        # Numbers beyond those of nodes are of bends in long edges.
        positions = [(connected[int(n)], xy) for n, xy in placed if int(n) < len(connected)]
        left = min(x for _, (x, _) in positions)
        for node, (x, y) in positions:
            found[node] = _Place(layer[y], offset + (x - left) / _SPACING)
        offset = 1 + max(place.across for place in found.values())
    # A node without edges belongs to no component; such nodes stand in a layer of their own.
    below = 1 + max((place.layer for place in found.values()), default=-1)
    alone = (node for node in range(nodes) if node not in found)
    found.update({node: _Place(below, float(n)) for n, node in enumerate(alone)})
    return [found[node] for node in range(nodes)]


def _parted(layers: int, places: Sequence[_Place], edges: Sequence[Edge]) -> list[int]:
    """How many edges a cut above each layer parts."""
    change = [0] * (layers + 1)
    for source, target in edges:
        change[places[source].layer + 1] += 1
        change[places[target].layer + 1] -= 1
    parted, crossing = [], 0
    for difference in change[:layers]:
        crossing += difference
        parted.append(crossing)
    return parted


def _cuts(columns: int, parted: Sequence[int]) -> tuple[int, ...] | None:
    """The first layer of each column; None where columns would be empty."""
    length = len(parted) / columns
    reach = int(length * _CUT_FREEDOM)
    starts = [0]
    for column in range(1, columns):
        middle = round(column * length)
        choice = range(max(middle - reach, starts[-1] + 1), min(middle + reach + 1, len(parted)))
        if not choice:
            return None
        starts.append(min(choice, key=lambda at: (parted[at], abs(at - middle))))
    return tuple(starts)


def _folded(places: Sequence[_Place], starts: Sequence[int]) -> Drawing:
    ends = [*starts[1:], 1 + max((place.layer for place in places), default=0)]
    column_of = [c for c, (a, b) in enumerate(zip(starts, ends, strict=True)) for _ in range(a, b)]
    columns = tuple(column_of[place.layer] for place in places)
    low, high = [float("inf")] * len(starts), [float("-inf")] * len(starts)
    for place, column in zip(places, columns, strict=True):
        low[column] = min(low[column], place.across)
        high[column] = max(high[column], place.across)
    lefts, left = [], 0.0
    for a, b in zip(low, high, strict=True):
        lefts.append(left)
        left += (b - a) * _ACROSS + NODE_WIDTH + _COLUMN_GAP
    positions = tuple(
        (
            lefts[column] + (place.across - low[column]) * _ACROSS + NODE_WIDTH / 2,
            (place.layer - starts[column]) * _DOWN + NODE_HEIGHT / 2,
        )
        for place, column in zip(places, columns, strict=True)
    )
    deepest = max(b - a for a, b in zip(starts, ends, strict=True))
    return Drawing(
        positions,
        tuple(place.layer for place in places),
        columns,
        left - _COLUMN_GAP,
        (deepest - 1) * _DOWN + NODE_HEIGHT,
    )
