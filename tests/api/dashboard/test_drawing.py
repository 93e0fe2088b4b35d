"""Where the dashboard draws operators."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dashboard.drawing import NODE_HEIGHT, NODE_WIDTH, Drawing, draw
from api.dashboard.layers import place_nodes
from tests.paths import ROOT

Graph = tuple[int, list[tuple[int, int]]]

_ELSEWHERE = """
import json, sys
from api.dashboard.drawing import draw
graphs = json.load(sys.stdin)
print(json.dumps([draw(nodes, map(tuple, edges)).positions for nodes, edges in graphs]))
"""

# Of these, an earlier release made two drawings, and operators overlapped in one of them.
UNSTEADY: tuple[Graph, ...] = (
    (14, [(0, 8), (4, 7), (4, 9), (4, 13), (7, 9), (7, 13)]),
    (13, [(0, 6), (2, 4), (2, 5), (2, 11), (3, 8), (3, 11), (4, 11), (5, 9), (8, 9)]),
    (13, [(0, 2), (1, 4), (1, 10), (4, 12), (6, 7), (6, 12), (7, 10), (11, 12)]),
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    nodes = draw(st.integers(0, 40))
    ends = st.tuples(st.integers(0, max(nodes - 1, 0)), st.integers(0, max(nodes - 1, 0)))
    edges = draw(st.lists(ends, max_size=80)) if nodes else []
    return nodes, [(min(edge), max(edge)) for edge in edges]


def _random(seed: int, nodes: int, edges: int, reach: int) -> Graph:
    """A graph whose edges reach so far at most, in numbers of nodes."""
    chance = random.Random(seed)
    sources = [chance.randrange(nodes - 1) for _ in range(edges)]
    return nodes, [(s, chance.randint(s + 1, min(s + reach, nodes - 1))) for s in sources]


def _check_apart(drawing: Drawing) -> None:
    """Asserts that no two operators overlap, and that all are in the picture."""
    at = np.array(drawing.positions).reshape(-1, 2)
    size = np.array([NODE_WIDTH, NODE_HEIGHT])
    is_apart = (abs(at[:, None] - at) >= size).any(axis=2)
    assert (is_apart | np.eye(len(at), dtype=bool)).all()
    assert (at >= size / 2).all()
    assert (at <= np.array([drawing.width, drawing.height]) - size / 2 + 1e-6).all()


@given(graphs())
def test_no_two_operators_overlap_and_all_are_in_the_picture(graph: Graph) -> None:
    nodes, edges = graph
    drawing = draw(nodes, edges)
    assert len(drawing.positions) == len(drawing.layers) == len(drawing.columns) == nodes
    _check_apart(drawing)


@pytest.mark.slow
def test_operators_of_large_and_of_wide_graphs_do_not_overlap_either() -> None:
    for seed in range(6):
        _check_apart(draw(*_random(seed, 300, 450, reach=10)))
        _check_apart(draw(*_random(seed, 120, 600, reach=120)))


@pytest.mark.slow
@pytest.mark.parametrize("graph", UNSTEADY)
def test_three_hundred_drawings_of_a_graph_are_one(graph: Graph) -> None:
    drawn = {draw(*graph) for _ in range(300)}
    assert len(drawn) == 1
    _check_apart(drawn.pop())


@given(graphs(), st.randoms(use_true_random=False))
def test_the_same_graph_is_drawn_in_the_same_way(graph: Graph, chance: random.Random) -> None:
    nodes, edges = graph
    drawing = draw(nodes, edges)
    chance.shuffle(edges)
    for _ in range(2):
        assert draw(nodes, edges) == drawing


@pytest.mark.slow
def test_another_process_draws_the_same_graph_in_the_same_way() -> None:
    drawn = [_random(seed, 60, 100, reach=30) for seed in range(20)]
    here = [[list(at) for at in draw(*graph).positions] for graph in drawn]
    for seed in ("0", "1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", _ELSEWHERE],
            input=json.dumps(drawn),
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert json.loads(there.stdout) == here


@given(graphs())
def test_who_reads_is_below_who_makes(graph: Graph) -> None:
    nodes, edges = graph
    drawing = draw(nodes, edges)
    for source, target in edges:
        if source != target:
            assert drawing.layers[source] < drawing.layers[target]
            assert drawing.columns[source] <= drawing.columns[target]


@given(graphs())
def test_no_layer_is_empty(graph: Graph) -> None:
    drawing = draw(*graph)
    assert sorted(set(drawing.layers)) == list(range(len(set(drawing.layers))))


def test_a_chain_is_straight_beside_the_edge_that_passes_it_by() -> None:
    # A block of a residual network: 1 to 5 in a line, while an edge leads from 0 to 6.
    places = place_nodes(7, [*pairwise(range(7)), (0, 6)])
    assert [place.layer for place in places] == list(range(7))
    assert len({place.across for place in places[1:6]}) == 1
    # The edge has a lane to the right, where the page bends it to.
    assert places[0].across == places[6].across == places[1].across + 0.5


def test_what_a_node_alone_reads_is_next_to_it() -> None:
    # 5 comes from a chain of its own, of which 6 is the start.
    places = place_nodes(8, [*pairwise(range(5)), (6, 7), (7, 5), (5, 4)])
    assert [places[node].layer for node in (6, 7, 5, 4)] == [1, 2, 3, 4]


def test_edges_do_not_cross_where_they_need_not() -> None:
    # Two rows of a hundred operators, joined in the opposite order.
    places = place_nodes(201, [(200, n) for n in range(100)] + [(n, 199 - n) for n in range(100)])
    upper = sorted(range(100), key=lambda n: places[n].across)
    lower = sorted(range(100, 200), key=lambda n: places[n].across)
    assert [199 - n for n in upper] == lower


def test_parts_that_are_not_connected_stand_side_by_side() -> None:
    places = place_nodes(7, [(0, 1), (0, 2), (3, 4)])
    assert [place.layer for place in places] == [0, 1, 1, 0, 1, 2, 2]
    assert max(places[n].across for n in (0, 1, 2)) + 1 <= min(places[n].across for n in (3, 4))
    assert places[5].across + 1 == places[6].across


def test_a_deep_graph_is_folded_into_columns_that_fit_a_screen() -> None:
    drawing = draw(500, [(n, n + 1) for n in range(499)])
    assert 0.8 < drawing.width / drawing.height < 3
    assert max(drawing.columns) > 5


def test_a_column_is_cut_where_few_edges_are_parted() -> None:
    # Blocks of two wide layers, with one edge between a block and the next.
    edges = []
    for block in range(60):
        first = block * 6
        edges += [(first, first + k) for k in range(1, 5)]
        edges += [(first + k, first + 5) for k in range(1, 5)]
        edges += [(first + 5, first + 6)] if block < 59 else []
    drawing = draw(360, edges)
    parted = [(a, b) for a, b in edges if drawing.columns[a] != drawing.columns[b]]
    assert len(parted) == max(drawing.columns)


@pytest.mark.slow
def test_edges_that_pass_very_many_layers_by_get_no_room() -> None:
    nodes = 4000
    far = [(n, nodes - 1 - n) for n in range(0, nodes // 2 - 1, 2)]
    drawing = draw(nodes, [*pairwise(range(nodes)), *far])
    # Room for all of them would be two million lanes, and take minutes.
    assert list(drawing.layers) == list(range(nodes))
    _check_apart(drawing)
