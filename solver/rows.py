"""Rows of numbers that are equal."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_FEW: Final = 64
"""Rows that a dictionary tells apart sooner than sorting does."""


def equal_rows(rows: NDArray[np.integer[Any]]) -> list[NDArray[np.intp]]:
    """The places, ascending, of equal rows (rows, columns) of numbers from 0 up, by row."""
    if len(rows) <= _FEW:
        places: dict[tuple[int, ...], list[int]] = {}
        for place, row in enumerate(rows.tolist()):
            places.setdefault(tuple(row), []).append(place)
        return [np.array(places[row], np.intp) for row in sorted(places)]
    codes = np.zeros(len(rows), np.int64)
    for column in rows.T:
        codes = np.unique(codes * (column.max() + 1) + column, return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
