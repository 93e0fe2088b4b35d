"""Writes a layout plan into a VkGraph."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, count
from typing import Final

import numpy as np

from planner.ir.graph import Operand
from planner.ir.representation import TensorRepr
from planner.kernels.registry import CLONE
from planner.optimise.plan import LayoutPlan
from planner.vkgraph.places import WrittenPlaces
from planner.vkgraph.reader import ContractedGraph
from schema import VkGraph, VkTensor
from schema.frozen import frozen
from schema.vkgraph import Calls, Null, OperatorCall, Value, ValueList

NEW: Final = -1


@frozen
class WrittenGraph:
    """A VkGraph with a plan in it, and the places of the plan's parts.

    ``operators`` and ``values`` have, for each one of the graph, its index in the file, or ``NEW``.
    A transition that is also in the file is not new.
    """

    graph: VkGraph
    places: WrittenPlaces
    operators: Sequence[int]
    values: Sequence[int]


def is_written(source: ContractedGraph, plan: LayoutPlan) -> bool:
    """Whether the file already has exactly the plan's representations and transitions.

    Each transition must have a ``node_id`` of its own, too.
    """
    if len(_own_ids(source)) < len(source.transitions):
        return False
    if any(want not in (None, have) for want, have in zip(plan.made, source.made, strict=True)):
        return False
    have = {(t.tensor, t.target, frozenset(t.users)) for t in source.transitions}
    want = {(t.tensor, t.target, frozenset(t.users)) for t in plan.transitions}
    return have == want and len(source.transitions) == len(plan.transitions)


def written_places(source: ContractedGraph, plan: LayoutPlan) -> WrittenPlaces:
    """The places of a plan's parts in a file that already has it."""
    present = {(t.tensor, t.target): t for t in source.transitions}
    found = [present[t.tensor, t.target] for t in plan.transitions]
    return WrittenPlaces(
        tensors=source.tensors,
        operators=source.positions,
        copies=[t.copy for t in found],
        clones=[t.position for t in found],
    )


def write_vkgraph(source: ContractedGraph, plan: LayoutPlan) -> WrittenGraph:
    """The graph with the plan's representations and transitions instead of its own.

    A transition comes right before its first user, its copy right after the tensor among the
    values. It keeps the ``node_id`` that it has in the file or gets a new one: the runtime reports
    times by these, and no two operators may have the same. Constants, ids of inputs and outputs,
    names and all other values are kept. Memory objects are planned again by the memory planner.
    """
    return _Writer(source, plan).write()


def _own_ids(source: ContractedGraph) -> dict[int, int]:
    """The file's transitions by position, with their ids that no other operator has."""
    used = Counter(source.written.calls.node_ids)
    used.update(t.node_id for t in source.transitions)
    return {t.position: t.node_id for t in source.transitions if used[t.node_id] == 1}


def _unused_ids(source: ContractedGraph) -> Iterator[int]:
    """Ids that nothing in the file has, above all that are there if they fit into 32 bits."""
    used = set(source.written.calls.node_ids)
    used.update(t.node_id for t in source.transitions)
    return (i for i in chain(range(max(used, default=-1) + 1, 2**32), count()) if i not in used)


class _Writer:
    def __init__(self, source: ContractedGraph, plan: LayoutPlan) -> None:
        self.source, self.plan = source, plan
        self.values: list[Value] = []
        self.moved = array("i", [-1]) * len(source.written.values)
        """By value in the file: its id in the written graph; -1 for one that is dropped."""
        self.known: dict[tuple[object, ...], VkTensor] = {}
        self.copies: list[int] = []  # by transition
        self.empty: list[int] = []  # by transition: the clone's argument that is not given
        self.lists: dict[Operand, int] = {}
        self.origins = array("i")  # by value
        present = {(t.tensor, t.target): t for t in source.transitions}
        self.ids, self.new_ids = _own_ids(source), _unused_ids(source)
        self.present = [present.get((t.tensor, t.target)) for t in plan.transitions]
        self.is_shared = any(
            isinstance(v, VkTensor) and v.mem_obj_id >= 0 for v in source.written.values
        )

    def write(self) -> WrittenGraph:
        plan, written = self.plan, self.source.written
        read_copy: dict[Operand, dict[int, int]] = {}  # tensor -> transition
        for i, transition in enumerate(plan.transitions):
            for user in transition.users:
                read_copy.setdefault(user, {})[transition.tensor] = i
        self._add_values(read_copy)
        # In the order of their first users, before which they come.
        first = [transition.users[0].operator for transition in plan.transitions]
        order = sorted(range(len(first)), key=first.__getitem__)
        before = [first[i] for i in order]
        present = (self.present[i] for i in order)
        origins = [NEW if t is None else t.position for t in present]
        clones = [-1] * len(first)
        for place, i in enumerate(order):
            clones[i] = before[place] + place
        operators = np.arange(len(written.chain))
        operators += np.searchsorted(before, operators, "right")
        graph = replace(
            written,
            chain=self._chain(before, [self._clone(i) for i in order], read_copy),
            values=tuple(self.values),
            input_ids=tuple(self.moved[i] for i in written.input_ids),
            output_ids=tuple(self.moved[i] for i in written.output_ids),
        )
        places = WrittenPlaces(
            tensors=array("i", [self.moved[value] for value in self.source.tensors]),
            operators=array("i", operators.astype(np.int32).tobytes()),
            copies=self.copies,
            clones=clones,
        )
        positions = np.insert(np.array(self.source.positions, np.int32), before, origins)
        return WrittenGraph(
            graph, places, array("i", positions.astype(np.int32).tobytes()), self.origins
        )

    def _chain(
        self,
        before: Sequence[int],
        clones: Sequence[OperatorCall],
        read_copy: dict[Operand, dict[int, int]],
    ) -> Calls:
        """The calls with their values' new ids, and clones before these of them."""
        values, calls = self.source.written.values, self.source.written.calls
        made = Calls.of(clones)
        given, starts = np.asarray(calls.args), np.asarray(calls.starts)
        args = np.asarray(self.moved)[given]
        for operand, transitions in read_copy.items():
            at = int(starts[operand.operator]) + operand.argument
            if isinstance(values[given[at]], ValueList):
                args[at] = self.lists.get(operand, args[at])
            else:
                (i,) = transitions.values()
                args[at] = self.copies[i]
        names = tuple(dict.fromkeys((*calls.names, CLONE)))
        counts = np.diff(made.starts)
        return Calls.of_arrays(
            names,
            np.insert(np.asarray(calls.name), before, names.index(CLONE)),
            np.insert(np.asarray(calls.node_ids), before, np.asarray(made.node_ids)),
            np.insert(args, np.repeat(starts[before], counts), np.asarray(made.args)),
            np.insert(np.diff(starts), before, counts),
        )

    def _add_values(self, read_copy: dict[Operand, dict[int, int]]) -> None:
        """Adds the values of the file in their order, with copies after their tensors."""
        plan, written = self.plan, self.source.written
        tensor_of = {value: t for t, value in enumerate(self.source.tensors)}
        copies_of: dict[int, list[int]] = {}
        for i, transition in enumerate(plan.transitions):
            copies_of.setdefault(transition.tensor, []).append(i)
        self.copies = [-1] * len(plan.transitions)
        self.empty = [-1] * len(plan.transitions)
        for value_id, value in enumerate(written.values):
            if value_id in self.source.dropped:
                continue
            t = tensor_of.get(value_id)
            if t is None or not isinstance(value, VkTensor):
                self.moved[value_id] = self._add(value, value_id)
                continue
            self.moved[value_id] = self._add(self._represented(value, plan.made[t]), value_id)
            for i in copies_of.get(t, ()):
                present = self.present[i]
                self.empty[i] = self._add(Null(), NEW if present is None else present.empty)
                copy = self._represented(value, plan.transitions[i].target, is_copy=True)
                self.copies[i] = self._add(copy, NEW if present is None else present.copy)
        self._point_lists(read_copy)

    def _point_lists(self, read_copy: dict[Operand, dict[int, int]]) -> None:
        """Renumbers the members of lists; operands that read copies get lists with the copies."""
        written = self.source.written
        for value, new in zip(written.values, self.moved, strict=True):
            if isinstance(value, ValueList):
                self.values[new] = ValueList(tuple(self.moved[i] for i in value.items))
        uses = Counter(written.calls.args) if read_copy else Counter[int]()
        for operand, transitions in read_copy.items():
            value_id = written.chain[operand.operator].args[operand.argument]
            value = written.values[value_id]
            if not isinstance(value, ValueList):
                continue
            copies = {self.source.tensors[t]: self.copies[i] for t, i in transitions.items()}
            items = ValueList(tuple(copies.get(i, self.moved[i]) for i in value.items))
            if uses[value_id] == 1:
                self.values[self.moved[value_id]] = items
            else:
                self.lists[operand] = self._add(items)

    def _add(self, value: Value, origin: int = NEW) -> int:
        self.values.append(value)
        self.origins.append(origin)
        return len(self.values) - 1

    def _clone(self, transition: int) -> OperatorCall:
        present = self.present[transition]
        own = None if present is None else self.ids.get(present.position)
        tensor = self.source.tensors[self.plan.transitions[transition].tensor]
        args = (self.moved[tensor], self.empty[transition], self.copies[transition])
        return OperatorCall(next(self.new_ids) if own is None else own, CLONE, args)

    def _represented(
        self, tensor: VkTensor, representation: TensorRepr | None, is_copy: bool = False
    ) -> VkTensor:
        """The tensor in a representation; equal ones are one object.

        Any memory object will do until memory is planned.
        """
        memory_object = tensor.mem_obj_id
        if tensor.constant_id < 0:
            is_shared = self.is_shared if is_copy else memory_object >= 0
            memory_object = 0 if is_shared else -1
        storage, layout = tensor.storage_type, tensor.memory_layout
        if representation is not None:
            storage, layout = representation.storage_type, representation.memory_layout
        key = (
            tensor.datatype,
            tensor.dims,
            tensor.constant_id,
            memory_object,
            storage,
            layout,
            tensor.staging_datatype,
        )
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = VkTensor(*key)
        return found
