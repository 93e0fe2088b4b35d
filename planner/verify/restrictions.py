"""Operands and tensors are what the user restricted them to.

Restrictions name the parts of a program as it was handed in; what they name in the written graph is
worked out here again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field

from planner.ir.graph import Side
from planner.ir.representation import REPRS, TensorRepSet
from planner.kernels.restrictions import Restriction, Target
from planner.verify.operands import Demand, Operand
from planner.verify.program import Program, fail
from schema import VkTensor
from schema.frozen import frozen


@frozen
class Named:
    """What a user calls the parts of a delegate as it was handed in.

    ``delegates`` are its places in the program, ``operators`` the numbers of the operators that
    are no transitions; empty if they are counted from 0. A value has the name ``v`` and its id
    there, and that in ``values``.
    """

    delegates: Collection[int] = (0,)
    operators: Sequence[int] = ()
    values: Mapping[int, str] = field(default_factory=dict)


class Wanted:
    """The restrictions of a program's operands and tensors.

    ``origins`` are the values that were handed in, by those of the program; ``copies`` the outputs
    of its transitions, and ``repacks`` these transitions' positions.
    """

    def __init__(
        self,
        program: Program,
        restrictions: Iterable[Restriction],
        named: Named,
        origins: Mapping[int, int],
        copies: Collection[int],
        repacks: Collection[int],
    ) -> None:
        self._program = program
        self._copies = frozenset(copies)
        self._restrictions = [
            r
            for r in restrictions
            if r.target is None or r.target.delegate in (None, *named.delegates)
        ]
        self._number_at: dict[int, int] = {}
        if self._restrictions:
            others = [index for index in range(len(program.calls)) if index not in repacks]
            numbers = named.operators or range(len(others))
            self._number_at = dict(zip(others, numbers, strict=True))
        graph = program.graph
        self._inputs, self._outputs = (
            [i for i in ids if isinstance(graph.values[i], VkTensor)]
            for ids in (graph.input_ids, graph.output_ids)
        )
        self._origins = origins
        self._names = named.values

    def broken(self, demands: Iterable[Demand]) -> Iterator[tuple[str, Restriction, str]]:
        """The place, the restriction that is broken there, and how."""
        if not self._restrictions:
            return
        program = self._program
        demanding = {demand.index: demand for demand in demands}
        for restriction in self._restrictions:
            target = restriction.target
            if target is None or target.kind not in ("operator", "type"):
                for value_id in self._values(restriction):
                    given = program.representations.get(value_id)
                    if given is None and restriction.flag == "pin":
                        yield program.place_of(value_id), restriction, "it has no representation"
                    elif given is not None and given not in restriction.allowed:
                        yield program.place_of(value_id), restriction, f"it is {given}"
                continue
            for index in self._number_at:
                if not self._is_operator(target, index):
                    continue
                for side, position, name, tensors in self._operands(index, demanding.get(index)):
                    if not target.is_operand(side, position):
                        continue
                    for value_id in tensors:
                        given = program.representations[value_id]
                        if given not in restriction.allowed:
                            yield program.place(index, name), restriction, f"it is {given}"
                            break

    def allowed(self, index: int, operand: Operand) -> TensorRepSet:
        """What the restrictions leave to an operand of the operator at ``index``."""
        found = TensorRepSet.from_reprs(REPRS)
        for restriction in self._restrictions:
            target = restriction.target
            if target is None:
                is_meant = True
            elif target.kind in ("operator", "type"):
                side, place = _side(operand.name)
                is_meant = self._is_operator(target, index) and target.is_operand(side, place)
            else:
                is_meant = operand.is_output or restriction.is_of_copies
                is_meant = is_meant and any(self._is_value(target, t) for t in operand.tensors)
            if is_meant:
                found &= restriction.allowed
        return found

    def _is_operator(self, target: Target, index: int) -> bool:
        name = self._program.calls[index].name
        if target.kind == "type":
            return target.name in (name, name.rpartition(".")[0])
        return int(target.name) == self._number_at.get(index)

    def _is_value(self, target: Target, value_id: int) -> bool:
        """Whether a value, or what it is a copy of, is one that a target names."""
        origin = self._origins.get(value_id)
        if target.kind == "tensor":
            return target.name in (f"v{origin}", self._names.get(-1 if origin is None else origin))
        listed = self._inputs if target.kind == "input" else self._outputs
        if target.index is not None:
            listed = listed[target.index : target.index + 1]
        return origin in [self._origins.get(i) for i in listed]

    def _values(self, restriction: Restriction) -> Iterator[int]:
        """The values that a restriction is about."""
        program, target = self._program, restriction.target
        if target is None:
            yield from program.representations
            return
        for value_id in range(len(program.graph.values)):
            if (
                (restriction.is_of_copies or value_id not in self._copies)
                and program.is_variable(value_id)
                and self._is_value(target, value_id)
            ):
                yield value_id

    def _operands(
        self, index: int, demand: Demand | None
    ) -> Iterator[tuple[Side, int, str, Sequence[int]]]:
        """The operands that have representations: those with demands, if there are any."""
        program = self._program
        if demand is not None:
            for operand in demand.operands:
                if not operand.constant:
                    side, place = _side(operand.name)
                    yield side, place, operand.name, operand.tensors
            return
        call = program.calls[index]
        for place, tensors in program.arguments(call):
            bound = [t for t in tensors if t in program.representations]
            yield "argument", place, f"argument {place}", bound
        for place, t in enumerate(program.outputs(call)):
            if t in program.representations:
                yield "output", place, f"output {place}", (t,)


def check_restrictions(wanted: Wanted, demands: Iterable[Demand]) -> None:
    """Shows that restrictions are kept; raises ``VerificationError``."""
    for place, restriction, how in wanted.broken(demands):
        raise fail(place, f"{how}, against {restriction}")


def _side(name: str) -> tuple[Side, int]:
    """The side of an operand and its index there, by its name."""
    side, _, index = name.partition(" ")
    return ("output" if side == "output" else "argument"), int(index)
