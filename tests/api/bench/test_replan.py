"""The benchmark of re-planning."""

from __future__ import annotations

from api.bench.replan import measure
from tests.api.graphs import graph


def test_measures_the_product_with_its_check() -> None:
    found = measure(graph(8, 4), 40)
    assert found.operators == 40
    assert found.flatbuffer_bytes > len(graph(8, 4))
    assert found.planning > 0 and found.checking > 0
    assert found.planning + found.checking <= found.whole
    assert [cell.strip() for cell in found.row().split("|")][1] == "40"
