"""Where the operators of a graph are drawn: in layers, folded into columns that fit a screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from api.dashboard.layers import Edge, Place, place_nodes

NODE_WIDTH: Final = 132
NODE_HEIGHT: Final = 30

_ACROSS: Final = 148
_DOWN: Final = 58
_COLUMN_GAP: Final = 150
_ASPECT: Final = 1.7  # of a screen, width to height
_MOST_COLUMNS: Final = 40
_CUT_FREEDOM: Final = 0.2  # of a column's layers, by which a cut may move to part fewer edges


@dataclass(frozen=True, slots=True)
class Drawing:
    """Centres of nodes in pixels, x to the right and y down; ``layers`` tell an edge's length."""

    positions: tuple[tuple[float, float], ...]
    layers: tuple[int, ...]
    columns: tuple[int, ...]
    width: float
    height: float


def draw(nodes: int, edges: Iterable[Edge]) -> Drawing:
    """Draws ``nodes`` nodes, 0 and up; edges lead from who makes to who reads.

    A network is far deeper than wide. Its layers are cut where few edges are parted, and the
    pieces stand side by side, read as columns of a newspaper. The same graph is always drawn in the
    same way, whatever the order of its edges, and no two nodes overlap.
    """
    distinct = sorted({edge for edge in edges if edge[0] != edge[1]})
    places = place_nodes(nodes, distinct)
    last = max((place.layer for place in places), default=0)
    parted = _parted(last + 1, places, distinct)
    candidates = [
        _folded(places, starts)
        for columns in range(1, min(_MOST_COLUMNS, last + 1) + 1)
        if (starts := _cuts(columns, parted)) is not None
    ]
    return min(candidates, key=lambda drawing: max(drawing.width / _ASPECT, drawing.height))


def _parted(layers: int, places: Sequence[Place], edges: Sequence[Edge]) -> list[int]:
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


def _folded(places: Sequence[Place], starts: Sequence[int]) -> Drawing:
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
