"""The known faults that the kernels of a graph have in given representations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from planner.ir.graph import LayoutGraph, Operand
from planner.ir.representation import TensorRepr
from planner.kernels.faults import Fault, Faults
from planner.optimise.problem import Slot


class Repacked(Protocol):
    """A repack, of a plan or of a file: its users read the target."""

    @property
    def target(self) -> TensorRepr:
        """The representation of the copy."""

    @property
    def users(self) -> Sequence[Operand]:
        """The operands that read the copy."""


@dataclass(frozen=True, slots=True)
class MetFault:
    """An operator, by index, that has a known fault in a representation of one of its operands."""

    operator: int
    representation: TensorRepr
    fault: Fault


def met_faults(
    graph: LayoutGraph,
    slots: Iterable[Slot],
    faults: Faults,
    representation: Callable[[Slot], TensorRepr | None],
) -> Iterator[MetFault]:
    """The faults that a graph's operators have under given representations, each once."""
    for index, group in groupby(slots, key=lambda slot: slot.operator):
        known = faults.of(graph.operators[index], graph.tensors)
        operands = [(slot, representation(slot)) for slot in group] if known else []
        for fault in known:
            for slot, given in operands:
                if given is not None and fault.concerns(slot.is_output, slot.index, given):
                    yield MetFault(index, given, fault)
                    break


def representations_of(
    made: Sequence[TensorRepr | None], repacks: Iterable[Repacked]
) -> Callable[[Slot], TensorRepr | None]:
    """The representation of each operand, where tensors are made and repacked like this."""
    copied = {user: t.target for t in repacks for user in t.users}

    def represented(slot: Slot) -> TensorRepr | None:
        copy = None if slot.is_output else copied.get(Operand(slot.operator, slot.index))
        return made[slot.tensors[0]] if copy is None else copy

    return represented
