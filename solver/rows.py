"""Rows of numbers that are equal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def equal_rows(rows: NDArray[np.integer[Any]]) -> list[NDArray[np.intp]]:
    """The places, ascending, of equal rows (rows, columns) of numbers from 0 up, by row."""
    if not len(rows):
        return []
    codes = np.zeros(len(rows), np.int64)
    for column in rows.T:
        codes = np.unique(codes * (column.max() + 1) + column, return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
