"""Where the dashboard draws operators."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from api.dashboard.drawing import NODE_HEIGHT, NODE_WIDTH, draw


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    nodes = draw(st.integers(0, 40))
    ends = st.tuples(st.integers(0, max(nodes - 1, 0)), st.integers(0, max(nodes - 1, 0)))
    edges = draw(st.lists(ends, max_size=80)) if nodes else []
    return nodes, [(min(edge), max(edge)) for edge in edges]


@given(graphs())
def test_no_two_operators_overlap_and_all_are_in_the_picture(
    graph: tuple[int, list[tuple[int, int]]],
) -> None:
    nodes, edges = graph
    drawing = draw(nodes, edges)
    assert len(drawing.positions) == len(drawing.layers) == len(drawing.columns) == nodes
    for (x, y), (other_x, other_y) in combinations(drawing.positions, 2):
        assert abs(x - other_x) >= NODE_WIDTH or abs(y - other_y) >= NODE_HEIGHT
    for x, y in drawing.positions:
        assert NODE_WIDTH / 2 <= x <= drawing.width - NODE_WIDTH / 2 + 1e-6
        assert NODE_HEIGHT / 2 <= y <= drawing.height - NODE_HEIGHT / 2 + 1e-6


@given(graphs())
def test_who_reads_is_below_who_makes(graph: tuple[int, list[tuple[int, int]]]) -> None:
    nodes, edges = graph
    drawing = draw(nodes, edges)
    for source, target in edges:
        if source != target:
            assert drawing.layers[source] < drawing.layers[target]
            assert drawing.columns[source] <= drawing.columns[target]


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


def test_edges_that_pass_very_many_layers_by_do_not_count_for_places() -> None:
    nodes = 2000
    chain = [(n, n + 1) for n in range(nodes - 1)]
    drawing = draw(nodes, chain + [(0, n) for n in range(2, nodes)])
    # With all of them, this would take minutes.
    assert sorted(drawing.layers) == list(range(nodes))
    assert len(set(drawing.positions)) == nodes
