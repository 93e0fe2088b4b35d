"""Which operand's representation makes a program wrong: found by halving what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from planner.costs.model import Costs, FreeTransitions, PricedOperand
from planner.files.lowered import graphs_of
from planner.ir.graph import Operator, Side, Tensor
from planner.ir.representation import REPRS, TensorRepr
from planner.options import PlanOptions
from planner.pipelines.lowered import replan
from planner.vkgraph.reader import read_vkgraph

_DEPARTURE: Final = 1000

Operand = tuple[Side, int]
Key = tuple[Operator, tuple[Tensor, ...]]
Chosen = Mapping[Operand, TensorRepr]


@dataclass(frozen=True, slots=True)
class Suspect:
    """An operand of an operator in a representation, wherever a program has that."""

    operator: str
    operand: Operand
    representation: TensorRepr


def suspects(program: bytes, other: bytes, name: str) -> tuple[Suspect, ...]:
    """The operands that have other representations in ``other``, and which."""
    pairs = zip(_operators(program, name), _operators(other, name), strict=True)
    found = (s for (_, given), (key, chosen) in pairs for s in _departures(key, given, chosen))
    return tuple(dict.fromkeys(found))


def _departures(key: Key, given: Chosen, chosen: Chosen) -> Iterator[Suspect]:
    for operand, representation in chosen.items():
        if given.get(operand) != representation:
            yield Suspect(key[0].name, operand, representation)


def mixed(
    program: bytes, other: bytes, name: str, options: PlanOptions, taken: Iterable[Suspect]
) -> bytes:
    """The program, with the representations of ``other`` for these operands alone.

    Operands that must be laid out alike are, in one way or the other.
    """
    taken, wanted = set(taken), dict[Key, Chosen]()
    pairs = zip(_operators(program, name), _operators(other, name), strict=True)
    for (key, given), (_, chosen) in pairs:
        moved = taken.intersection(_departures(key, given, chosen))
        wanted[key] = {**given, **{s.operand: s.representation for s in moved}}
    return replan(program, name, options, chooser=_Towards(wanted)).data


def culprits(
    found: Sequence[Suspect], is_bad: Callable[[Sequence[Suspect]], bool]
) -> tuple[Suspect, ...]:
    """Suspects that make a program bad together, and of which each is needed for that.

    ``is_bad`` tells of some of them, and is known to hold for all. Delta debugging (Zeller and
    Hildebrandt 2002): parts of the suspects are tried, then all but a part, ever finer.
    """
    left, parts = list(found), 2
    while len(left) > 1:
        size = -(-len(left) // parts)
        chunks = [left[at : at + size] for at in range(0, len(left), size)]
        rests = [[s for s in left if s not in chunk] for chunk in chunks] if parts > 2 else []
        smaller = next((some for some in (*chunks, *rests) if is_bad(some)), None)
        if smaller is not None:
            parts = 2 if len(smaller) <= size else max(parts - 1, 2)
            left = smaller
        elif size == 1:
            break
        else:
            parts = min(2 * parts, len(left))
    return tuple(left)


def rows_of(found: Iterable[Suspect], effect: str, source: str, seen: str) -> list[dict[str, Any]]:
    """Rows of a table of faults: these operands of their operators in these representations."""
    return [
        {
            "operators": [suspect.operator],
            "representations": [str(suspect.representation)],
            "operands": [f"{suspect.operand[0]} {suspect.operand[1]}"],
            "effect": effect,
            "source": source,
            "state": "open",
            "seen": seen,
        }
        for suspect in found
    ]


def _operators(program: bytes, name: str) -> Iterator[tuple[Key, Chosen]]:
    """Each operator of a program, and the representations of its operands."""
    for graph in graphs_of(program, name):
        source = read_vkgraph(graph, name)
        layouts, tensors = source.layouts(), source.graph.tensors
        for index, operator in enumerate(source.graph.operators):
            operands = {
                (side, position): found
                for side, position, members in operator.operands()
                if (found := layouts(index, side, position, members[0])) is not None
            }
            yield _key(operator, tensors), operands


def _key(operator: Operator, tensors: Sequence[Tensor]) -> Key:
    """What tells operators apart: those of delegates that are alike are laid out alike."""
    members = (t for _, _, found in operator.operands() for t in found)
    return operator, tuple(tensors[t] for t in members)


class _Towards(FreeTransitions):
    """Prices that make a plan choose given representations wherever it may."""

    def __init__(self, wanted: Mapping[Key, Chosen]) -> None:
        self._wanted = wanted

    def operator(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> Iterable[tuple[tuple[int, ...], Costs]]:
        """A price for each operand that has another representation than it should."""
        wanted = self._wanted.get(_key(operator, tensors), {})
        for index, operand in enumerate(operands):
            side: Side = "output" if operand.is_output else "argument"
            target = wanted.get((side, operand.index))
            departs = [REPRS[label] != target for label in operand.domain]
            yield (index,), _DEPARTURE * np.array(departs, np.int64)
