"""Which kernel makes a program wrong: found by halving what differs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from planner.costs.model import Costs, FreeTransitions, PricedOperand
from planner.files.lowered import graphs_of
from planner.ir.graph import Operator, Side, Tensor
from planner.ir.representation import REPRS, TensorRepr
from planner.options import PlanOptions
from planner.pipelines.lowered import replan
from planner.vkgraph.reader import read_vkgraph
from schema.frozen import frozen

_DEPARTURE: Final = 1000

Operand = tuple[Side, int]
Key = tuple[Operator, tuple[Tensor, ...]]
Chosen = Mapping[Operand, TensorRepr]


@frozen
class Suspect:
    """An operator in a representation, wherever a program has that, and which operands have it.

    They are one suspect: those that must be laid out alike could not be told apart.
    """

    operator: str
    representation: TensorRepr
    operands: tuple[Operand, ...]


def suspects(program: bytes, other: bytes, name: str) -> tuple[Suspect, ...]:
    """The operators that have other representations in ``other``, and which."""
    found = defaultdict[tuple[str, TensorRepr], dict[Operand, None]](dict)
    for (key, given), (_, chosen) in _both(program, other, name):
        for operand, representation in _departures(given, chosen).items():
            found[key[0].name, representation][operand] = None
    return tuple(Suspect(*kernel, tuple(operands)) for kernel, operands in found.items())


def _both(
    program: bytes, other: bytes, name: str
) -> Iterator[tuple[tuple[Key, Chosen], tuple[Key, Chosen]]]:
    return zip(_operators(program, name), _operators(other, name), strict=True)


def _departures(given: Chosen, chosen: Chosen) -> Chosen:
    return {operand: r for operand, r in chosen.items() if given.get(operand) != r}


def mixed(
    program: bytes, other: bytes, name: str, options: PlanOptions, taken: Iterable[Suspect]
) -> bytes:
    """The program, with the representations of ``other`` for these operators alone.

    Operands that must be laid out alike are, in one way or the other.
    """
    kernels = {(suspect.operator, suspect.representation) for suspect in taken}
    wanted = dict[Key, Chosen]()
    for (key, given), (_, chosen) in _both(program, other, name):
        departures = _departures(given, chosen)
        moved = {o: r for o, r in departures.items() if (key[0].name, r) in kernels}
        wanted[key] = {**given, **moved}
    return replan(program, name, options, chooser=Towards(wanted)).data


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
    """Rows of a table of faults: these operators in these representations."""
    return [
        {
            "operators": [suspect.operator],
            "representations": [str(suspect.representation)],
            "operands": [f"{side} {index}" for side, index in suspect.operands],
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
            yield key_of(operator, tensors), operands


def key_of(operator: Operator, tensors: Sequence[Tensor]) -> Key:
    """What tells operators apart: those of delegates that are alike are laid out alike."""
    members = (t for _, _, found in operator.operands() for t in found)
    return operator, tuple(tensors[t] for t in members)


class Towards(FreeTransitions):
    """Prices that make a plan choose given representations wherever it may."""

    def __init__(self, wanted: Mapping[Key, Chosen]) -> None:
        """``wanted`` are the representations of operands, by operator."""
        self._wanted = wanted

    def operator(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> Iterable[tuple[tuple[int, ...], Costs]]:
        """A price for each operand that has another representation than it should."""
        wanted = self._wanted.get(key_of(operator, tensors), {})
        for index, operand in enumerate(operands):
            side: Side = "output" if operand.is_output else "argument"
            target = wanted.get((side, operand.index))
            departs = [REPRS[label] != target for label in operand.domain]
            yield (index,), _DEPARTURE * np.array(departs, np.int64)
