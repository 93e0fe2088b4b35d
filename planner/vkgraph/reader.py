"""Reads a lowered VkGraph and takes out the transitions in it."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.ir.graph import (
    NO_TENSOR,
    Argument,
    LayoutGraph,
    Layouts,
    Operand,
    Operator,
    Operators,
    PinnedReprs,
    Scalar,
    Symbolic,
    Tensor,
    TensorArg,
    TensorListArg,
)
from planner.ir.representation import TensorRepr
from planner.kernels.registry import CLONE, PREPACK, lookup, written_args
from planner.kernels.rep_sets import check_arguments
from planner.vkgraph.wellformed import (
    check_wellformed,
    is_variable,
    lists_of,
    members_of,
    place_of,
    repr_at_runtime,
    repr_of,
)
from schema import VkDataType, VkGraph, VkMemoryLayout, VkTensor
from schema.frozen import frozen
from schema.vkgraph import (
    Bool,
    BoolList,
    Calls,
    Double,
    DoubleList,
    Int,
    IntList,
    Null,
    OperatorCall,
    String,
    Value,
    ValueList,
)


@frozen
class PresentTransition:
    """A transition in the file: the graph's tensor, source and target, and the copy's users.

    ``copy`` is the value that it makes, ``empty`` the value of its argument that is not given,
    ``position`` its operator's place in the file's chain, and ``node_id`` that operator's id.
    """

    tensor: int
    source: TensorRepr
    target: TensorRepr
    users: tuple[Operand, ...]
    copy: int
    empty: int
    position: int
    node_id: int


@frozen
class ContractedGraph:
    """A VkGraph without its transitions, as a layout graph, and its present representations.

    ``written`` is the graph without the transitions' operators; it keeps their values, listed in
    ``dropped``, so that ids stay those of the file. ``tensors[t]`` is the value of tensor ``t``,
    and ``positions[i]`` the place of operator ``i`` in the file's chain. ``made`` and
    ``transitions`` are the file's. ``unknown`` are names of operators that the registry lacks.
    ``repacking`` are operators that are clones of the program's own, and repack as transitions do.
    """

    graph: LayoutGraph
    written: VkGraph
    dropped: frozenset[int]
    tensors: Sequence[int]
    positions: Sequence[int]
    made: tuple[TensorRepr | None, ...]
    transitions: tuple[PresentTransition, ...]
    unknown: tuple[str, ...]
    repacking: frozenset[int]

    def layouts(self) -> Layouts:
        """The layouts that the file has."""
        return Layouts(self.made, self.transitions)


def read_vkgraph(graph: VkGraph, name: str = "") -> ContractedGraph:
    """Reads a VkGraph; operators unknown to the registry are pinned to their representations.

    Raises ``InputError``, naming the operator and what is wrong, for a malformed graph.
    """
    check_wellformed(graph, name)
    return _Reader(graph, name).read()


def without_representations(graph: VkGraph) -> VkGraph:
    """The graph without any chosen representations and memory objects."""
    known: dict[object, VkTensor] = {}

    def cleared(value: Value) -> Value:
        if not isinstance(value, VkTensor):
            return value
        kind = value.datatype, value.dims, value.constant_id, value.staging_datatype
        if kind not in known:
            datatype, dims, constant_id, staging = kind
            known[kind] = VkTensor(datatype, dims, constant_id, staging_datatype=staging)
        return known[kind]

    return replace(graph, values=tuple([cleared(value) for value in graph.values]))


class _Reader:
    def __init__(self, graph: VkGraph, name: str) -> None:
        self.file = graph
        self.name = name
        self.copies: dict[int, int] = {}  # value of a copy -> value that it copies
        self.clone_at: dict[int, int] = {}
        self.own_repacks: list[int] = []  # positions of the program's own
        self.tensor_of: dict[int, int] = {}
        self.lists = lists_of(graph)

    def read(self) -> ContractedGraph:
        values = self.file.values
        clones, chain, positions = self._split()
        dropped = self._only_in(clones, chain)
        reads, contracted = {}, self.file
        if self.copies:
            reads, contracted = self._copies_read(chain), self._contracted(chain)
        kept = array(
            "i", (i for i, v in enumerate(values) if isinstance(v, VkTensor) and i not in dropped)
        )
        self.tensor_of = {value: t for t, value in enumerate(kept)}
        made = tuple(self._repr(value) for value in kept)
        graph = self._layout_graph(contracted, kept, positions)
        return ContractedGraph(
            graph=graph,
            written=contracted,
            dropped=frozenset(dropped),
            tensors=kept,
            positions=positions,
            made=made,
            transitions=self._transitions(reads),
            unknown=tuple(sorted({graph.operators[i].name for i in graph.pinned})),
            repacking=frozenset(np.searchsorted(np.asarray(positions), self.own_repacks).tolist()),
        )

    def _repr(self, value_id: int) -> TensorRepr | None:
        value = self.file.values[value_id]
        return repr_of(value) if isinstance(value, VkTensor) else None

    def _split(self) -> tuple[list[OperatorCall], Calls, array[int]]:
        """The transitions; the other operators, and their positions.

        A transition is a clone that only changes the representation in which others read a tensor.
        A clone that does more, or that planning would not have inserted, is the program's own: one
        that is a graph output or another clone's source, that nothing reads, that repeats another
        one, or that copies a tensor which is overwritten, because it may keep the old contents.
        """
        calls = self.file.calls
        read, overwritten = self._uses(calls)
        stays = overwritten.union(self.file.output_ids)
        clones, kept = [], np.ones(len(calls), np.bool_)
        present: set[tuple[int, TensorRepr | None]] = set()
        for position in _named(calls, CLONE):
            call = calls[position]
            if not self._changes_representation(call):
                continue
            source, copy = call.args[0], call.args[-1]
            if (
                source in overwritten
                or source in self.copies
                or not read[copy]
                or copy in stays
                or (source, self._repr(copy)) in present
            ):
                self.own_repacks.append(position)
            else:
                clones.append(call)
                present.add((source, self._repr(copy)))
                self.copies[copy] = source
                self.clone_at[copy] = position
                kept[position] = False
        if not clones:
            return clones, calls, array("i", range(len(calls)))
        counts = np.diff(calls.starts)
        chain = Calls.of_arrays(
            calls.names,
            np.asarray(calls.name)[kept],
            np.asarray(calls.node_ids)[kept],
            np.asarray(calls.args)[np.repeat(kept, counts)],
            counts[kept],
        )
        positions = np.flatnonzero(kept).astype(np.int32)
        return clones, chain, array("i", positions.tobytes())

    def _uses(self, calls: Calls) -> tuple[NDArray[np.bool_], set[int]]:
        """Whether each value is read; and the values that are made more than once, be it by an
        operator that writes into its arguments."""
        lists, count = self.lists, len(self.file.values)
        args, starts = np.asarray(calls.args), np.asarray(calls.starts)
        is_output = np.zeros(len(args), np.bool_)
        is_output[starts[1:][np.diff(starts) > 0] - 1] = True
        read = np.zeros(count, np.bool_)
        read[args[~is_output]] = True
        made = np.bincount(args[is_output], minlength=count)
        for value_id, members in lists.items():
            for member in members:
                read[member] |= read[value_id]
                made[member] += made[value_id]
        made[[*{*self.file.input_ids}]] += 1
        overwritten = set(np.flatnonzero(made > 1).tolist()).difference(lists)
        for name in calls.names:
            written = written_args(name)
            for position in _named(calls, name) if written else ():
                arguments = calls[position].args[:-1]
                for argument in written:
                    for value_id in arguments[argument : argument + 1]:
                        overwritten.update(lists.get(value_id, (value_id,)))
        return read, overwritten

    def _changes_representation(self, call: OperatorCall) -> bool:
        """Whether a call is a clone that changes nothing but the representation."""
        if call.name != CLONE or len(call.args) != 3:
            return False
        source, memory_format, copy = (self.file.values[i] for i in call.args)
        if not (
            isinstance(source, VkTensor)
            and isinstance(memory_format, Null)
            and isinstance(copy, VkTensor)
        ):
            return False
        made, target = repr_of(source), repr_of(copy)
        return (
            made is not None
            and target is not None
            and made != target
            and (source.dims, source.datatype, source.staging_datatype)
            == (copy.dims, copy.datatype, copy.staging_datatype)
            # No clone converts int8 elements between words of four and single ones.
            and (source.datatype != VkDataType.INT8 or made.is_packed_int8 == target.is_packed_int8)
        )

    def _only_in(self, clones: list[OperatorCall], chain: Calls) -> set[int]:
        """Values that only transitions use: their copies and their missing arguments."""
        spare = {i for call in clones for i in call.args[1:-1]}
        spare.difference_update(self.file.input_ids, self.file.output_ids, *self.lists.values())
        spare.difference_update(chain.args if spare else ())
        return spare.union(self.copies)

    def _contracted(self, chain: Calls) -> VkGraph:
        """The file's graph with this chain, which reads what was copied, not the copies."""
        source = np.arange(len(self.file.values))
        source[[*self.copies]] = [*self.copies.values()]
        args = source[np.asarray(chain.args)]
        columns = np.asarray(chain.name), np.asarray(chain.node_ids), args, np.diff(chain.starts)
        return replace(
            self.file,
            chain=Calls.of_arrays(chain.names, *columns),
            values=tuple(
                ValueList(tuple(self.copies.get(i, i) for i in v.items))
                if isinstance(v, ValueList)
                else v
                for v in self.file.values
            ),
        )

    def _copies_read(self, chain: Calls) -> dict[int, list[Operand]]:
        """The operands that read each copy, among the operators that stay."""
        reads: dict[int, list[Operand]] = {copy: [] for copy in self.copies}
        leads = np.zeros(len(self.file.values), np.bool_)
        leads[[*reads]] = True
        for value, members in self.lists.items():
            leads[value] = not reads.keys().isdisjoint(members)
        starts = np.asarray(chain.starts)
        found = np.flatnonzero(leads[np.asarray(chain.args)])
        operators = np.searchsorted(starts, found, "right") - 1
        for operator, at in zip(operators.tolist(), found.tolist(), strict=True):
            if at == chain.starts[operator + 1] - 1:
                continue
            operand, value = Operand(operator, at - chain.starts[operator]), chain.args[at]
            for i in dict.fromkeys(self.lists.get(value, (value,))):
                if i in reads:
                    reads[i].append(operand)
        return reads

    def _transitions(self, reads: Mapping[int, list[Operand]]) -> tuple[PresentTransition, ...]:
        found = []
        for copy, source in self.copies.items():
            made, target = self._repr(source), self._repr(copy)
            if made is not None and target is not None:
                found.append(
                    PresentTransition(
                        self.tensor_of[source],
                        made,
                        target,
                        tuple(reads[copy]),
                        copy,
                        self.file.chain[self.clone_at[copy]].args[1],
                        self.clone_at[copy],
                        self.file.chain[self.clone_at[copy]].node_id,
                    )
                )
        return tuple(found)

    def _layout_graph(
        self, graph: VkGraph, kept: Sequence[int], positions: Sequence[int]
    ) -> LayoutGraph:
        known: dict[Tensor, Tensor] = {}
        tensors = []
        for value in kept:
            tensor = graph.values[value]
            assert isinstance(tensor, VkTensor)
            found = Tensor("", tensor.dims, tensor.datatype, tensor.constant_id >= 0)
            tensors.append(known.setdefault(found, found))
        read = LayoutGraph(
            name=self.name,
            tensors=tuple(tensors),
            operators=self._operators(graph),
            inputs=tuple(self.tensor_of[i] for i in graph.input_ids if i in self.tensor_of),
            outputs=tuple(self.tensor_of[i] for i in graph.output_ids if i in self.tensor_of),
            textures_first=any(
                isinstance(v, VkTensor)
                and v.datatype == VkDataType.FLOAT16
                and v.staging_datatype == VkDataType.FLOAT32
                for v in graph.values
            ),
            positions=positions,
            values=kept,
        )
        pinned: dict[int, PinnedReprs] = {}
        for index in np.flatnonzero(read.alike == np.arange(len(read.alike))).tolist():
            operator = read.operators[index]
            try:
                check_arguments(operator, tensors)
            except InputError as error:
                place = place_of(self.name, self.file, positions[index])
                raise InputError(f"{place}: {error}") from error
        unknown = {
            form.name
            for form in read.columns.forms
            if form.name != PREPACK and lookup(form.name) is None
        }
        bound = self._bound() if unknown else frozenset()
        for index, call in enumerate(graph.chain if unknown else ()):
            if call.name in unknown and self._has_tensors(positions[index]):
                pinned[index] = self._pinned(positions[index], bound)
        return replace(read, pinned=pinned)

    def _bound(self) -> frozenset[int]:
        """The tensors that an operator with rep sets reads or makes, copies of them included."""
        found = set(self.copies) | set(self.copies.values())
        for call in self.file.chain:
            if call.name == PREPACK or lookup(call.name) is not None:
                for value_id in call.args:
                    found.update(members_of(self.file, value_id))
        return frozenset(found)

    def _kept(self, value_id: int, bound: frozenset[int]) -> TensorRepr | None:
        """The representation that a tensor has for an operator that must not see another one.

        None for one that the runtime chooses and that no planned operator binds.
        """
        value = self.file.values[value_id]
        if not isinstance(value, VkTensor) or not is_variable(value):
            return None
        return repr_of(value) or (repr_at_runtime(value) if value_id in bound else None)

    def _pinned(self, position: int, bound: frozenset[int]) -> PinnedReprs:
        """The present representations of the operator at a position, which it keeps."""
        kept: list[tuple[TensorRepr | None, ...]] = []
        args = self.file.chain[position].args
        for argument, value_id in enumerate(args):
            members = members_of(self.file, value_id)
            found = tuple(self._kept(i, bound) for i in members)
            is_output = argument == len(args) - 1
            wrong = None
            if any(r.memory_layout == VkMemoryLayout.PACKED_INT8_CONV2D for r in found if r):
                wrong = "PACKED_INT8_CONV2D becomes another one when the program is loaded"
            elif not is_output and self._is_in_two_representations(members, found):
                wrong = "it reads one tensor in two of them by one argument"
            if wrong is not None:
                raise InputError(
                    f"{place_of(self.name, self.file, position)}, "
                    f"{'output' if is_output else f'argument {argument}'}: the registry does not "
                    f"know this operator, so it must keep its representations, but {wrong}"
                )
            kept.append(found)
        tensors = (members_of(self.file, value_id) for value_id in args[:-1])
        return PinnedReprs(
            args={a: found for a, found in enumerate(kept[:-1]) if any(found)},
            outs=tuple(
                r
                for i, r in zip(members_of(self.file, args[-1]), kept[-1], strict=True)
                if i in self.tensor_of
            ),
            direct=frozenset(
                argument
                for argument, members in enumerate(tensors)
                if self.copies.keys().isdisjoint(members)
            ),
        )

    def _is_in_two_representations(
        self, members: Sequence[int], found: Sequence[TensorRepr | None]
    ) -> bool:
        """Whether a list has a tensor and a copy of it."""
        tensors = (self.tensor_of.get(self.copies.get(i, i)) for i in members)
        pairs = {(t, r) for t, r in zip(tensors, found, strict=True) if t is not None}
        return len({t for t, _ in pairs}) < len(pairs)

    def _has_tensors(self, position: int) -> bool:
        return any(
            is_variable(self.file.values[member])
            for value_id in self.file.chain[position].args
            for member in members_of(self.file, value_id)
        )

    def _operators(self, graph: VkGraph) -> Operators:
        """The calls as operators; those of one name with equal literals have one form."""
        tensor_of, values = self.tensor_of, graph.values
        marks = _marks(values)
        known: dict[tuple[object, ...], int] = {}
        forms: list[Operator] = []
        form, rows = array("i"), array("i")
        for _, name, ids in graph.calls.rows():
            number = known.setdefault((name, *[marks[i] for i in ids]), len(forms))
            if number == len(forms):
                args = tuple([self._argument(graph, i) for i in ids[:-1]])
                outputs = members_of(graph, ids[-1]) if ids else ()
                made = tuple([tensor_of[i] for i in outputs if i in tensor_of])
                forms.append(Operator(name, args, made).general())
            form.append(number)
            for i in ids:
                if marks[i] == _TENSOR:
                    rows.append(tensor_of[i])
                elif type(marks[i]) is tuple:
                    value = values[i]
                    assert isinstance(value, ValueList)
                    rows.extend([tensor_of.get(member, NO_TENSOR) for member in value.items])
        return Operators(forms, form, rows)

    def _argument(self, graph: VkGraph, value_id: int) -> Argument:
        value = graph.values[value_id]
        match value:
            case VkTensor():
                return TensorArg(self.tensor_of[value_id])
            case ValueList(items):
                if any(i in self.tensor_of for i in items):
                    return TensorListArg(tuple(self.tensor_of.get(i) for i in items))
                return tuple(_scalar(graph.values[i]) for i in items)
            case IntList(items) | DoubleList(items) | BoolList(items):
                return items
        return _scalar(value)


_TENSOR: Final = -1


def _marks(values: Sequence[Value]) -> list[int | tuple[int, ...]]:
    """A mark for each value, the same for equal literals; a list with tensors has its members'."""
    known: dict[object, int] = {}
    marks: list[int | tuple[int, ...]] = []
    lists = []
    for value_id, value in enumerate(values):
        key: object = value
        if isinstance(value, VkTensor):
            marks.append(_TENSOR)
            continue
        if isinstance(value, ValueList):
            lists.append((value_id, value.items))
        elif isinstance(value, Double | DoubleList):
            # Equal floats can differ in their sign.
            key = repr(value)
        marks.append(known.setdefault(key, len(known)))
    # Lists may name what comes after them, but hold no lists.
    for value_id, items in lists:
        members = tuple([mark for i in items if isinstance(mark := marks[i], int)])
        key = "list", members
        marks[value_id] = members if _TENSOR in members else known.setdefault(key, len(known))
    return marks


def _named(calls: Calls, name: str) -> list[int]:
    """The positions of the calls of an operator."""
    if name not in calls.names:
        return []
    found: list[int] = np.flatnonzero(np.asarray(calls.name) == calls.names.index(name)).tolist()
    return found


def _scalar(value: Value) -> Scalar | Symbolic:
    match value:
        case Int(number):
            return number
        case Bool(truth):
            return truth
        case Double(number):
            # ExecuTorch's builder shares equal numbers: a 1 may be written as 1.0.
            return int(number) if number.is_integer() else number
        case String(text):
            return text
        case Null():
            return None
    return Symbolic.VALUE
