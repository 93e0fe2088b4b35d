"""Operand slots of a layout problem, and the tensors that they read and make, as columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

from planner.costs.model import PricedOperand
from planner.ir.graph import Layouts, Representations, Side
from planner.ir.representation import LABELS, TensorRepr
from schema.frozen import frozen

NO_LABEL = -1
"""Stands for the label of what has no representation."""


@frozen
class Slot:
    """An operand of an operator: argument ``index``, or output ``index`` if ``is_output``."""

    operator: int
    is_output: bool
    index: int
    tensors: tuple[int, ...]
    variable: int

    def represented(self, representations: Representations) -> TensorRepr | None:
        """Which of given representations the operand has."""
        side: Side = "output" if self.is_output else "argument"
        return representations(self.operator, side, self.index, self.tensors[0])

    def priced(self, domain: tuple[int, ...]) -> PricedOperand:
        """The operand, with the labels that it may take, for a cost model."""
        return PricedOperand(self.is_output, self.index, self.tensors, domain)


class Slots(Sequence[Slot]):
    """The slots of all operators, in their order; the variable of a slot is its place here.

    Argument ``i`` is the ``operand`` ``i``, output ``i`` the operand ``~i``. The tensors of slot
    ``s`` are ``tensors[starts[s] : starts[s + 1]]``. All others are columns (slots,).
    """

    def __init__(
        self,
        operator: Sequence[int],
        operand: Sequence[int],
        tensors: Sequence[int],
        counts: Sequence[int],
    ) -> None:
        self.operator = np.array(operator, np.int32)
        self.operand = np.array(operand, np.int32)
        self.tensors = np.array(tensors, np.int32)
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)

    def __len__(self) -> int:
        return len(self.operator)

    @overload
    def __getitem__(self, at: int) -> Slot: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Slot]: ...
    def __getitem__(self, at: int | slice) -> Slot | Sequence[Slot]:
        if isinstance(at, slice):
            return tuple([self[i] for i in range(len(self))[at]])
        at = range(len(self))[at]
        index = int(self.operand[at])
        is_output = index < 0
        tensors = tuple(self.tensors[self.starts[at] : self.starts[at + 1]].tolist())
        return Slot(int(self.operator[at]), is_output, ~index if is_output else index, tensors, at)

    @property
    def first(self) -> NDArray[np.int32]:
        """The first tensor of each."""
        return self.tensors[self.starts[:-1]]

    def bounds(self) -> list[tuple[int, int, int]]:
        """Each operator that has slots, its first slot, and the one after its last."""
        starts = np.flatnonzero(np.diff(self.operator, prepend=-1))
        bounds = pairwise([*starts.tolist(), len(self)])
        operators = self.operator[starts].tolist()
        return [(index, *ends) for index, ends in zip(operators, bounds, strict=True)]

    def labels(self, given: Layouts) -> NDArray[np.int32]:
        """The label that each has by given layouts; ``NO_LABEL`` where they have none."""
        found = labels_of(given)[self.first]
        if given.copied:
            users = np.array([operator for operator, _, _ in given.copied])
            starts = np.searchsorted(self.operator, users).tolist()
            ends = np.searchsorted(self.operator, users, "right").tolist()
            for (copied, target), start, end in zip(
                given.copied.items(), starts, ends, strict=True
            ):
                for at in range(start, end):
                    if copied[1:] == (self.operand[at], self.tensors[self.starts[at]]):
                        found[at] = LABELS[target]
        return found


class Readers(Sequence[tuple[Slot, ...]]):
    """The slots that read each tensor, in their order.

    Those of tensor ``t`` are ``places[starts[t] : starts[t + 1]]``, places among the slots.
    """

    def __init__(self, slots: Slots, tensors: int) -> None:
        self._slots = slots
        counts = np.diff(slots.starts)
        slot = np.repeat(np.arange(len(slots)), counts)
        is_read = slots.operand[slot] >= 0
        read = np.sort(slots.tensors[is_read].astype(np.int64) * len(slots) + slot[is_read])
        # A list may have a tensor more than once.
        read = read[np.diff(read, prepend=-1) > 0]
        tensor, places = np.divmod(read, max(len(slots), 1))
        self.places = places.astype(np.int32)
        self.starts = np.searchsorted(tensor, np.arange(tensors + 1)).astype(np.int32)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, at: int) -> tuple[Slot, ...]: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[tuple[Slot, ...]]: ...
    def __getitem__(self, at: int | slice) -> tuple[Slot, ...] | Sequence[tuple[Slot, ...]]:
        if isinstance(at, slice):
            return tuple([self[i] for i in range(len(self))[at]])
        return tuple([self._slots[i] for i in self.of(range(len(self))[at])])

    def each(self) -> Iterator[list[int]]:
        """The variables that read each tensor."""
        places, starts = self.places.tolist(), self.starts.tolist()
        return (places[start:end] for start, end in pairwise(starts))

    def of(self, tensor: int) -> list[int]:
        """The variables that read a tensor."""
        read: list[int] = self.places[self.starts[tensor] : self.starts[tensor + 1]].tolist()
        return read


def labels_of(given: Layouts) -> NDArray[np.int32]:
    """The label with which each tensor is made; ``NO_LABEL`` where that is not known."""
    return np.array([NO_LABEL if r is None else LABELS[r] for r in given.made], np.int32)
