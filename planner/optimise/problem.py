"""Turns a graph into a layout problem for the solver.

There is one variable for each operand *slot*: an argument of an operator (a list of tensors is one
slot, its members share a representation) or an output. A tensor that is unconstrained where it is
made (a graph input, a prepacked constant) gets its own variable if two or more slots read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from planner.costs.model import CostModel, PricedOperand
from planner.costs.standins import CONV2D
from planner.errors import NoRepresentationError, Remedy
from planner.ir.graph import (
    LayoutGraph,
    Layouts,
    Operator,
    PinnedReprs,
    Representations,
    Side,
    Tensor,
    TensorArg,
    TensorListArg,
)
from planner.ir.physical import fitting
from planner.ir.representation import (
    ANY_TEXTURE,
    CHANNELS,
    COMPATIBILITY_CLASSES,
    LABELS,
    PACKED_INT8_CONV2D_BUFFER,
    REPRS,
    PackedDimInfo,
    TensorRepr,
    TensorRepSet,
    labels_of,
)
from planner.kernels.limits import Limits
from planner.kernels.registry import CLONE, written_args
from planner.kernels.rep_sets import OpRepSets, op_rep_sets, without_faults
from planner.optimise.constraints import none_left, possible, restricted_away
from planner.optimise.restricted import ANY, Restricted
from schema import VkDataType, VkMemoryLayout
from solver import FORBIDDEN, Agree, CostTable, Problem, SharedCopies, Variable

LEVELS: Final = 4
"""Levels of costs, compared in order: cost, transitions, departures, a fixed order of labels."""

_RESOLVES_CONV2D: Final = frozenset({"et_vk.q8ta_conv2d.default", "et_vk.q8ta_conv2d_dw.default"})
"""Operators for whose input the runtime replaces PACKED_INT8_CONV2D by a layout that they accept.

On any other tensor it becomes the layout of its neighbours. Source: ``runtime/ResolveLayouts.cpp``.
"""

_TAKES_PRODUCERS: Final = frozenset({"et_vk.q8ta_conv2d_transposed.default"})
"""Operators whose input is PACKED_INT8_CONV2D and is not resolved: it gets its producer's layout.

Source: ``runtime/ResolveLayouts.cpp``.
"""

_SAME = tuple(range(len(REPRS)))
_CONV2D = PACKED_INT8_CONV2D_BUFFER.mask
_CONV2D_LABEL = LABELS[CONV2D]
_CHANNELS_PACKED_INT8 = [
    label
    for label, r in enumerate(REPRS)
    if r.is_packed_int8 and PackedDimInfo.of(r).packed_dim == CHANNELS
]
_OFF_DIAGONAL = 1 - np.eye(len(REPRS), dtype=np.int64)
_ACROSS_FAMILIES = np.array([[a.is_packed_int8 != b.is_packed_int8 for b in REPRS] for a in REPRS])
_INTO_CONV2D_FROM_WIDTH = np.zeros((len(REPRS), len(REPRS)), dtype=bool)
_INTO_CONV2D_FROM_WIDTH[:, _CONV2D_LABEL] = True
_INTO_CONV2D_FROM_WIDTH[_CHANNELS_PACKED_INT8, _CONV2D_LABEL] = False

PREFERRED: Final = frozenset(
    label
    for label, r in enumerate(REPRS)
    if not r.is_buffer
    or r.memory_layout in (VkMemoryLayout.PACKED_INT8_4C1W, VkMemoryLayout.PACKED_INT8_CONV2D)
)
"""The labels that are preferred where nothing else decides."""

_NOT_PREFERRED = np.array([label not in PREFERRED for label in range(len(REPRS))], np.int64)


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class LayoutProblem:
    """A problem for the solver, and the meaning of its variables.

    ``producers[t]`` is the variable of tensor ``t`` where it is made, or None if it takes its only
    reader's representation; ``readers[t]`` are the slots that read it.
    """

    problem: Problem
    slots: tuple[Slot, ...]
    producers: tuple[int | None, ...]
    readers: tuple[tuple[Slot, ...], ...]


def build_problem(
    graph: LayoutGraph, limits: Limits, costs: CostModel, given: Layouts | None = None
) -> LayoutProblem:
    """The layout problem of a graph.

    Among plans of equal cost, those are preferred that keep the ``given`` layouts of what is not
    int8; where none are given, textures. Of int8 layouts, PACKED_INT8_4C1W is.

    Raises ``NoRepresentationError``, naming the operator and the operand, where limits and
    exclusions leave an operand no representation.
    """
    return _Builder(graph, limits, costs, given).build()


class _Builder:
    def __init__(
        self, graph: LayoutGraph, limits: Limits, costs: CostModel, given: Layouts | None
    ) -> None:
        self.graph = graph
        self.limits = limits
        self.costs = costs
        self.given = given or Layouts((None,) * len(graph.tensors), ())
        self.restricted = Restricted(graph, limits.restrictions) if limits.restrictions else None
        self.slots: list[Slot] = []
        self.masks: list[int] = []  # by variable
        self.kept: list[int | None] = []  # by variable: the label that it should keep
        self.synced: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        self.slots_of: list[list[Slot]] = []  # by operator
        self.producers: list[int | None] = [None] * len(graph.tensors)
        self.makers: list[list[int]] = [[] for _ in graph.tensors]  # variables, by tensor
        self.readers: list[list[Slot]] = [[] for _ in graph.tensors]
        self._possible_of: dict[tuple[tuple[int, ...], VkDataType], int] = {}
        self._prices: dict[tuple[tuple[int, ...], VkDataType, bool], NDArray[np.int64]] = {}
        self._preferences: dict[tuple[int, int | None], NDArray[np.int64]] = {}

    def build(self) -> LayoutProblem:
        accepted: dict[int, OpRepSets | None] = {}
        for index, (operator, first) in enumerate(
            zip(self.graph.operators, self.graph.alike, strict=True)
        ):
            if index in self.graph.pinned:
                self._add_pinned(index, operator, self.graph.pinned[index])
                continue
            # A user's limits may name any operator.
            like = first if self.restricted is None else index
            if like not in accepted:
                accepted[like] = self._accepted(index, operator)
            sets = accepted[like]
            if sets is not None:
                self._add_operator(index, operator, sets)
        self._add_free_producers()
        conv2d_read = self._restrict_conv2d()
        domains = [labels_of(mask) for mask in self.masks]
        factors: list[CostTable | SharedCopies | Agree] = [
            Agree(scope, classes) for scope, classes in self.synced
        ]
        factors.extend(Agree(scope, _SAME) for scope in self._written_in_place())
        factors.extend(
            CostTable((variable,), self._preference(variable))
            for variable in range(len(self.masks))
            if len(domains[variable]) > 1
        )
        for tensor in range(len(self.graph.tensors)):
            copies = self._shared_copies(tensor, tensor in conv2d_read)
            if copies is not None:
                factors.append(copies)
        factors.extend(self._operator_tables(domains))
        variables = [Variable(domain, f"v{i}") for i, domain in enumerate(domains)]
        return LayoutProblem(
            problem=Problem(len(REPRS), LEVELS, tuple(variables), tuple(factors)),
            slots=tuple(self.slots),
            producers=tuple(self.producers),
            readers=tuple(map(tuple, self.readers)),
        )

    def _accepted(self, index: int, operator: Operator) -> OpRepSets | None:
        """What a call accepts, less its known faults; without limits of a user's the same for all
        that are like it."""
        tensors, limits = self.graph.tensors, self.limits
        sets = op_rep_sets(operator, tensors, limits.texture, limits.runtime)
        faults = limits.faults.of(operator, tensors) if sets is not None else ()
        if sets is None or not faults:
            return sets
        possible_there = partial(self._possible_of_operand, index)
        return without_faults(sets, operator, faults, possible_there)

    def _variable(self, mask: int, tensor: int, given: TensorRepr | None) -> int:
        self.masks.append(mask)
        is_int8 = self.graph.tensors[tensor].dtype == VkDataType.INT8
        self.kept.append(None if given is None or is_int8 else LABELS[given])
        return len(self.masks) - 1

    def _add_operator(self, index: int, operator: Operator, sets: OpRepSets) -> None:
        tensors = self.graph.tensors
        slots: list[Slot] = []
        args: list[int] = []
        primary = None
        textures_first = self.graph.textures_first and self._has_textures(index, operator, sets)
        for arg, members in operator.tensor_args():
            accepted = sets.args[arg]
            if accepted is None or any(tensors[t].constant for t in members):
                continue
            slot = self._add_slot(index, False, arg, members, accepted.mask, textures_first)
            slots.append(slot)
            args.append(slot.variable)
            if arg == sets.primary_arg:
                primary = slot.variable
            for t in dict.fromkeys(members):
                self.readers[t].append(slot)
        outs = []
        for j, t in enumerate(operator.outputs):
            slot = self._add_slot(index, True, j, (t,), sets.outs[j].mask, textures_first)
            slots.append(slot)
            outs.append(slot.variable)
            if self.producers[t] is None:
                self.producers[t] = slot.variable
            self.makers[t].append(slot.variable)
        if not slots:
            return
        self.slots.extend(slots)
        self.slots_of.append(slots)

        # If the primary argument is a constant, all synchronised arguments take its place.
        groups: list[list[int]] = []
        if sets.sync_args:
            groups.append(args)
        elif primary is not None:
            groups.append([primary])
        else:
            groups.append([])
        group_outs = outs if sets.sync_outs else outs[:1]
        if sets.sync_primary_io:
            groups[0] = groups[0] + group_outs
        else:
            groups.append(group_outs)
        # A clone that changed its layout would be read as a transition.
        classes = _SAME if operator.name == CLONE else COMPATIBILITY_CLASSES
        self.synced.extend((tuple(group), classes) for group in groups if len(group) > 1)

    def _add_pinned(self, index: int, operator: Operator, pinned: PinnedReprs) -> None:
        """An operator that keeps its representations, each member of a list its own."""

        def add(is_output: bool, position: int, t: int, kept: TensorRepr | None) -> Slot | None:
            if kept is None:
                return None
            accepted = TensorRepSet.from_reprs([kept])
            accepted &= fitting(self.graph.tensors[t].shape, self.limits.texture)
            slot = self._add_slot(index, is_output, position, (t,), accepted.mask, False)
            self.slots.append(slot)
            return slot

        for argument, kept in pinned.args.items():
            # Lists with a member left out as well, which are no arguments to operators with sets.
            read = operator.args[argument]
            members: tuple[int | None, ...] = ()
            if isinstance(read, TensorListArg):
                members = read.tensors
            elif isinstance(read, TensorArg):
                members = (read.tensor,)
            for t, representation in dict(zip(members, kept, strict=True)).items():
                slot = None if t is None else add(False, argument, t, representation)
                if t is not None and slot is not None:
                    self.readers[t].append(slot)
        for j, (t, representation) in enumerate(zip(operator.outputs, pinned.outs, strict=True)):
            slot = add(True, j, t, representation)
            if slot is not None:
                self.makers[t].append(slot.variable)
                if self.producers[t] is None:
                    self.producers[t] = slot.variable

    def _has_textures(self, index: int, operator: Operator, sets: OpRepSets) -> bool:
        """Whether restrictions leave textures to all operands of an operator that accept them.

        If not, it has none of the preference: operands that are synchronised would contradict it.
        """
        return self.restricted is None or all(
            accepted is None
            or not accepted.mask & ANY_TEXTURE.mask
            or accepted.mask & ANY_TEXTURE.mask & self._wanted(index, side, place, members)
            for side, place, members in operator.operands()
            for accepted in (sets.of(side, place),)
        )

    def _wanted(self, operator: int, side: Side, index: int, members: tuple[int, ...]) -> int:
        """What the user's restrictions leave to an operand, as a bit mask over labels."""
        if self.restricted is None:
            return ANY
        return self.restricted.operand(operator, side, index, members)

    def _add_slot(
        self,
        operator: int,
        is_output: bool,
        index: int,
        members: tuple[int, ...],
        accepted: int,
        textures_first: bool,
    ) -> Slot:
        mask = accepted
        for t in members:
            mask &= self._possible(self.graph.tensors[t])
        if not mask:
            raise self._no_representation(operator, is_output, index, members, accepted)
        side: Side = "output" if is_output else "argument"
        if self.restricted is not None:
            mask &= self.restricted.operand(operator, side, index, members)
            if not mask:
                what = self._operand(operator, is_output, index, members)
                raise restricted_away(what, self.limits)
        if textures_first and mask & ANY_TEXTURE.mask:
            mask &= ANY_TEXTURE.mask
        given = self.given(operator, side, index, members[0])
        variable = self._variable(mask, members[0], given)
        return Slot(operator, is_output, index, members, variable)

    def _no_representation(
        self, operator: int, is_output: bool, index: int, members: Sequence[int], accepted: int
    ) -> NoRepresentationError:
        op, tensors = self.graph.operators[operator], self.graph.tensors
        what = self._operand(operator, is_output, index, members)
        ids = {t for _, args in op.tensor_args() for t in args}.union(op.outputs)
        return none_left(what, accepted, [tensors[t] for t in ids], self.limits)

    def _operand(self, operator: int, is_output: bool, index: int, members: Sequence[int]) -> str:
        """An operand, for messages."""
        shapes = ", ".join(self.graph.tensors[t].shape_text for t in members[:4])
        more = ", ..." if len(members) > 4 else ""
        place = f"{self.graph.name}, " if self.graph.name else ""
        place += self.graph.place_of(operator)
        return f"{place}, {'output' if is_output else 'argument'} {index} ({shapes}{more})"

    def _possible(self, tensor: Tensor) -> int:
        key = tensor.shape, tensor.dtype
        found = self._possible_of.get(key)
        if found is None:
            found = self._possible_of[key] = possible(tensor, self.limits)
        return found

    def _possible_of_operand(
        self, operator: int, side: Side, index: int, members: tuple[int, ...]
    ) -> int:
        """What tensors of one operand can have in common; 0 for a constant."""
        mask = self._wanted(operator, side, index, members)
        for t in members:
            tensor = self.graph.tensors[t]
            mask &= 0 if tensor.constant else self._possible(tensor)
        return mask

    def _add_free_producers(self) -> None:
        for t, slots in enumerate(self.readers):
            if self.producers[t] is not None or not slots:
                continue
            wanted = ANY if self.restricted is None else self.restricted.made(t)
            union = 0
            for slot in slots:
                union |= self.masks[slot.variable]
            if union & ~wanted:
                # Restricted where it is made: what its readers take is copied.
                union = union & wanted or self._made_otherwise(t, union) & wanted
                if not union:
                    raise restricted_away(self._tensor(t), self.limits)
            elif len({slot.variable for slot in slots}) < 2:
                continue
            self.producers[t] = self._variable(union, t, self.given.made[t])

    def _made_otherwise(self, t: int, read: int) -> int:
        """What a tensor that no operator makes could be, and be copied to what its readers take."""
        is_int8 = REPRS[labels_of(read)[0]].is_packed_int8
        alike = TensorRepSet.from_reprs(r for r in REPRS if r.is_packed_int8 == is_int8)
        return self._possible(self.graph.tensors[t]) & alike.mask & ~_CONV2D

    def _tensor(self, t: int) -> str:
        """A tensor, for messages."""
        tensor = self.graph.tensors[t]
        place = f"{self.graph.name}, " if self.graph.name else ""
        return f"{place}tensor {tensor.name} ({tensor.shape_text})"

    def _written_in_place(self) -> list[tuple[int, ...]]:
        """Groups of variables that must be equal: tensors that are written into have no copies.

        Nor has an operator without registration any that it had not before: what it reads may be
        more than the tensor's contents.
        """
        scopes = []
        rewritten = self._rewritten()
        for t, readers in enumerate(self.readers):
            names = ((self.graph.operators[slot.operator].name, slot.index) for slot in readers)
            is_written = t in rewritten or any(index in written_args(n) for n, index in names)
            same = readers if is_written else [slot for slot in readers if self._is_direct(slot)]
            scope = {slot.variable for slot in same} | {self.producers[t], *self.makers[t]}
            scopes.append(tuple(sorted(v for v in scope if v is not None)))
        return [scope for scope in scopes if len(scope) > 1]

    def _rewritten(self) -> set[int]:
        """The tensors that are made more than once, or inputs that an operator makes again."""
        made = set(self.graph.inputs)
        found = set[int]()
        for operator in self.graph.operators:
            found |= made.intersection(operator.outputs)
            made.update(operator.outputs)
        return found

    def _is_direct(self, slot: Slot) -> bool:
        pinned = self.graph.pinned.get(slot.operator)
        return pinned is not None and slot.index in pinned.direct

    def _restrict_conv2d(self) -> set[int]:
        """Leaves CONV2D only to tensors for which the runtime will resolve it.

        It does so if an operator that resolves CONV2D reads the tensor, for every reader of the
        same copy. Where no other layout is left (transposed convolution), CONV2D stays and resolves
        to the producer's layout. Returns the tensors with a resolving reader.
        """
        resolved = {
            t for t, readers in enumerate(self.readers) if resolves_conv2d(self.graph, readers)
        }
        for t, readers in enumerate(self.readers):
            names = {self.graph.operators[slot.operator].name for slot in readers}
            if t in resolved or not names.isdisjoint(_TAKES_PRODUCERS):
                continue
            for v in (self.producers[t], *(slot.variable for slot in readers)):
                if v is not None:
                    self.masks[v] &= ~_CONV2D
        nothing_but = (
            f"is left nothing but {PACKED_INT8_CONV2D_BUFFER}, which no operator that reads it "
            "makes a layout of"
        )
        for slot in self.slots:
            if not self.masks[slot.variable]:
                what = self._operand(slot.operator, slot.is_output, slot.index, slot.tensors)
                raise NoRepresentationError(f"{what} {nothing_but}", Remedy.EXCLUDE_FEWER_LAYOUTS)
        for t, producer in enumerate(self.producers):
            if producer is not None and not self.masks[producer]:
                raise NoRepresentationError(f"{self._tensor(t)} {nothing_but}", Remedy.DROP_LIMITS)
        return resolved

    def _preference(self, variable: int) -> NDArray[np.int64]:
        key = mask, kept = self.masks[variable], self.kept[variable]
        found = self._preferences.get(key)
        if found is None:
            labels = np.array(labels_of(mask))
            found = np.zeros((LEVELS, len(labels)), dtype=np.int64)
            found[2] = _NOT_PREFERRED[labels] if kept is None else labels != kept
            found[3] = labels
            self._preferences[key] = found
        return found

    def _shared_copies(self, t: int, resolves_conv2d: bool) -> SharedCopies | None:
        producer, readers = self.producers[t], self.readers[t]
        if producer is None or not readers:
            return None
        mask = self.masks[producer]
        if not mask & mask - 1 and all(self.masks[slot.variable] == mask for slot in readers):
            return None
        return SharedCopies(
            producer,
            tuple(slot.variable for slot in readers),
            self._prices_of(self.graph.tensors[t], resolves_conv2d),
        )

    def _prices_of(self, tensor: Tensor, resolves_conv2d: bool) -> NDArray[np.int64]:
        is_int8 = tensor.dtype == VkDataType.INT8
        key = (tensor.shape, tensor.dtype, is_int8 and resolves_conv2d)
        found = self._prices.get(key)
        if found is None:
            found = copy_prices(self.costs, tensor, resolves_conv2d=resolves_conv2d)
            self._prices[key] = found
        return found

    def _operator_tables(self, domains: Sequence[tuple[int, ...]]) -> list[CostTable]:
        tables = []
        for slots in self.slots_of:
            operator = self.graph.operators[slots[0].operator]
            operands = [slot.priced(domains[slot.variable]) for slot in slots]
            for scope, costs in self.costs.operator(operator, self.graph.tensors, operands):
                levels = np.zeros((LEVELS, *costs.shape), dtype=np.int64)
                levels[0] = costs
                tables.append(CostTable(tuple(slots[i].variable for i in scope), levels))
        return tables


def copy_prices(costs: CostModel, tensor: Tensor, *, resolves_conv2d: bool) -> NDArray[np.int64]:
    """The prices (levels, labels, labels) of a tensor's copies, by source and target."""
    found = np.zeros((LEVELS, len(REPRS), len(REPRS)), dtype=np.int64)
    found[0] = costs.transition(tensor.shape, tensor.dtype)
    found[1] = _OFF_DIAGONAL
    if tensor.dtype == VkDataType.INT8:
        # ET-VK's clone copies int8 words to int8 words or elements to elements.
        found[0][_ACROSS_FAMILIES] = FORBIDDEN
        if not resolves_conv2d:
            found[0][_INTO_CONV2D_FROM_WIDTH] = FORBIDDEN
    return found


def resolves_conv2d(graph: LayoutGraph, readers: Sequence[Slot]) -> bool:
    """Whether one of a tensor's readers has the runtime replace CONV2D by what it accepts."""
    return any(
        graph.operators[slot.operator].name in _RESOLVES_CONV2D and slot.index == 0
        for slot in readers
    )


def describe_variable(graph: LayoutGraph, layout: LayoutProblem, variable: int) -> str:
    """The operand or tensor of a variable, as messages name it."""
    for slot in layout.slots:
        if slot.variable == variable:
            what = "output" if slot.is_output else "argument"
            return f"{what} {slot.index} of {graph.place_of(slot.operator)}"
    for t, producer in enumerate(layout.producers):
        if producer == variable:
            return f"tensor {graph.tensors[t].name}"
    return f"variable {variable}"
