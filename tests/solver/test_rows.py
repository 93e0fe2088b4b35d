from __future__ import annotations

import numpy as np
import pytest

from solver.rows import equal_rows


@pytest.mark.parametrize("count", [0, 1, 5, 64, 65, 500])
@pytest.mark.parametrize("seed", range(5))
def test_equal_rows_are_found_in_the_order_of_rows(count: int, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 3, (count, seed))
    found = equal_rows(rows)
    by_row = {tuple(rows[places[0]].tolist()): places.tolist() for places in found}
    assert list(by_row) == sorted({tuple(row) for row in rows.tolist()})
    for row, places in by_row.items():
        assert places == [i for i, other in enumerate(rows.tolist()) if tuple(other) == row]
