"""What a user's restrictions leave to the operands and tensors of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from planner.errors import OptionError
from planner.ir.graph import LayoutGraph, Operator, Side
from planner.kernels.registry import PREPACK
from planner.kernels.restrictions import Restriction, unknown_name

ANY = -1
"""The bit mask over labels of all representations."""


class Restricted:
    """Restrictions in terms of one graph. Bit masks are over labels."""

    def __init__(self, graph: LayoutGraph, restrictions: Sequence[Restriction]) -> None:
        self._graph = graph
        self._everywhere = ANY
        self._made: dict[int, int] = {}  # by tensor, where it is made
        self._copied: dict[int, int] = {}  # by tensor, wherever it is read
        self._of_operators: list[Restriction] = []
        self._of_type: dict[str, tuple[Restriction, ...]] = {}
        for restriction in restrictions:
            target = restriction.target
            if target is None:
                self._everywhere &= restriction.allowed.mask
            elif not _is_of(restriction, graph):
                continue
            elif target.kind in ("operator", "type"):
                self._of_operators.append(restriction)
            else:
                for t in _tensors(restriction, graph):
                    mask = restriction.allowed.mask
                    self._made[t] = self._made.get(t, ANY) & mask
                    if restriction.is_of_copies:
                        self._copied[t] = self._copied.get(t, ANY) & mask
        if self._of_operators:
            self._add_prepacked()

    def _add_prepacked(self) -> None:
        """What operators prepack: they have no operands that are planned, but make tensors."""
        for index, operator in enumerate(self._graph.operators):
            if operator.name == PREPACK:
                for j, t in enumerate(operator.outputs):
                    mask = self.operand(index, "output", j, (t,))
                    self._made[t] = self._made.get(t, ANY) & mask

    def made(self, tensor: int) -> int:
        """What a tensor may be where it is made."""
        return self._everywhere & self._made.get(tensor, ANY)

    def operand(self, operator: int, side: Side, index: int, members: Iterable[int]) -> int:
        """What an operand may be."""
        mask = self._everywhere
        found = self._made if side == "output" else self._copied
        for t in members:
            mask &= found.get(t, ANY)
        for restriction in self._of(operator):
            if restriction.target is not None and restriction.target.is_operand(side, index):
                mask &= restriction.allowed.mask
        return mask

    def _of(self, operator: int) -> Iterator[Restriction]:
        """The restrictions that name an operator."""
        if not self._of_operators:
            return
        name = self._graph.operators[operator].name
        if name not in self._of_type:
            self._of_type[name] = tuple(
                r
                for r in self._of_operators
                if r.target is not None and (r.target.kind == "operator" or r.target.is_type(name))
            )
        for restriction in self._of_type[name]:
            target = restriction.target
            if target is not None and (
                target.kind == "type" or int(target.name) == self._graph.number_of(operator)
            ):
                yield restriction


def check_names(
    restrictions: Iterable[Restriction], graphs: Sequence[LayoutGraph], program: str
) -> None:
    """Raises ``OptionError`` for a restriction that names nothing in any graph of a program."""
    for restriction in restrictions:
        if restriction.target is not None and not any(
            _is_of(restriction, graph) and _names_something(restriction, graph) for graph in graphs
        ):
            raise _unknown(restriction, graphs, program)


def _unknown(restriction: Restriction, graphs: Sequence[LayoutGraph], program: str) -> OptionError:
    known = [name for graph in graphs for name in _names(graph)]
    return unknown_name(restriction, program, known)


def _names(graph: LayoutGraph) -> Iterator[str]:
    """The names of all that restrictions can be about."""
    yield from ("input", "output")
    for index, operator in enumerate(graph.operators):
        yield operator.name
        yield str(graph.number_of(index))
    for t, tensor in enumerate(graph.tensors):
        if not tensor.constant:
            yield graph.name_of(t)
            if t in graph.aliases:
                yield graph.aliases[t]


def _is_of(restriction: Restriction, graph: LayoutGraph) -> bool:
    """Whether a restriction is about this graph's delegate."""
    target = restriction.target
    return target is None or target.delegate is None or target.delegate in graph.delegates


def _names_something(restriction: Restriction, graph: LayoutGraph) -> bool:
    target = restriction.target
    if target is None or target.kind not in ("operator", "type"):
        return any(not graph.tensors[t].constant for t in _tensors(restriction, graph))

    def has_operand(operator: Operator) -> bool:
        return any(
            target.is_operand(side, index) and not any(graph.tensors[t].constant for t in members)
            for side, index, members in operator.operands()
        )

    if target.kind == "type":
        return any(target.is_type(op.name) and has_operand(op) for op in graph.operators)
    wanted = int(target.name)
    return any(
        graph.number_of(i) == wanted and has_operand(op) for i, op in enumerate(graph.operators)
    )


def _tensors(restriction: Restriction, graph: LayoutGraph) -> tuple[int, ...]:
    """The tensors that a restriction names."""
    target = restriction.target
    if target is None:
        return ()
    if target.kind in ("input", "output"):
        listed = graph.inputs if target.kind == "input" else graph.outputs
        return listed if target.index is None else listed[target.index : target.index + 1]
    return tuple(
        t
        for t in range(len(graph.tensors))
        if target.name in (graph.name_of(t), graph.aliases.get(t))
    )
