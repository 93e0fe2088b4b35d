"""The numbers of a flatbuffer at many positions at once, by NumPy.

What is read one by one names the place of what is wrong with it. Here it is only found: errors say
no more than that.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schema.error import SchemaError

Positions: TypeAlias = NDArray[np.int64]


class Columns:
    """A buffer as aligned numbers of each size; raises ``SchemaError`` outside of it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._views: dict[str, NDArray[Any]] = {}

    def vtables(self, positions: Positions) -> Iterator[tuple[int, Positions]]:
        """The vtables of tables, each with the indices of its tables."""
        return _groups(positions - self._at(positions, "i"))

    def groups(self, positions: Positions, number_format: str) -> Iterator[tuple[int, Positions]]:
        """The distinct numbers at these positions, each with the indices of its places."""
        return _groups(self._at(positions, number_format))

    def numbers(self, positions: Positions, number_format: str) -> list[Any]:
        """The numbers at these positions."""
        numbers: list[Any] = self._at(positions, number_format).tolist()
        return numbers

    def follow(self, positions: Positions) -> Positions:
        """Where the offsets at these positions lead."""
        followed: Positions = positions + self._at(positions, "I")
        return followed

    def vectors(
        self, positions: Positions, item_format: str, item_size: int
    ) -> tuple[list[tuple[Any, ...]], int]:
        """The vectors of numbers at these positions, and how many numbers they have together."""
        counts = self._at(positions, "I").astype(np.int64)
        starts = positions + 4
        if (starts + counts * item_size > len(self._data)).any():
            raise SchemaError("a vector ends outside the buffer")
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        # A vector that many share is charged each time, but could come to any amount before that.
        if total * item_size > 4 * len(self._data) + 2**16:
            raise SchemaError("the buffer refers to its own bytes too many times over")
        before = ends - counts
        at = np.repeat(starts - before * item_size, counts) + np.arange(total) * item_size
        items = self._at(at, item_format)
        if items.dtype.kind in "iu" and total:
            # Ids are named again and again: an object for each number, not for each place.
            least, most = int(items.min()), int(items.max())
            if most - least <= total:
                items = np.arange(least, most + 1).astype(object)[items - items.min()]
        numbers = items.tolist()
        bounds = [0, *ends.tolist()]
        return [tuple(numbers[start:end]) for start, end in pairwise(bounds)], total

    def _at(self, positions: Positions, number_format: str) -> NDArray[Any]:
        view = self._views.get(number_format)
        size = struct.calcsize(f"<{number_format}")
        if view is None:
            whole = len(self._data) // size
            view = np.frombuffer(self._data, f"<{number_format}", whole)
            self._views[number_format] = view
        index, over = divmod(positions, size) if size > 1 else (positions, 0)
        if np.any(over):
            raise SchemaError("numbers that are not aligned")
        try:
            return view[index]
        except IndexError:
            raise SchemaError("a number ends outside the buffer") from None


def _groups(numbers: NDArray[Any]) -> Iterator[tuple[int, Positions]]:
    order = np.argsort(numbers, kind="stable")
    changes = np.flatnonzero(np.diff(numbers[order])) + 1
    for places in np.split(order, changes) if len(order) else ():
        yield int(numbers[places[0]]), places
