"""Turns a graph into a layout problem for the solver.

There is one variable for each operand *slot*: an argument of an operator (a list of tensors is one
slot, its members share a representation) or an output. A tensor that is unconstrained where it is
made (a graph input, a prepacked constant) gets its own variable if two or more slots read it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from planner.costs.model import CostModel, FreeTransitions
from planner.costs.standins import CONV2D
from planner.errors import NoRepresentationError, Remedy
from planner.ir.graph import (
    LayoutGraph,
    Layouts,
    Operator,
    PinnedReprs,
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
from planner.optimise.slots import NO_LABEL, Readers, Slot, Slots
from schema import VkDataType, VkMemoryLayout
from schema.frozen import frozen
from solver import (
    FORBIDDEN,
    Agree,
    CostTable,
    Factor,
    Factors,
    Problem,
    SharedCopies,
    Stamp,
    Variable,
    equal_rows,
)
from solver.problem import at_scope

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

_EQUAL = Agree((), tuple(range(len(REPRS))))
_COMPATIBLE = Agree((), COMPATIBILITY_CLASSES)
_FEW: Final = 16
"""Factors that are alike and fewer are kept one by one: arrays would take more time."""

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


@frozen
class LayoutProblem:
    """A problem for the solver, and the meaning of its variables.

    ``producers[t]`` is the variable of tensor ``t`` where it is made, or None if it takes its only
    reader's representation; ``readers[t]`` are the slots that read it.
    """

    problem: Problem
    slots: Slots
    producers: tuple[int | None, ...]
    readers: Readers


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


@frozen
class _Operands:
    """The slots of an operator, in terms of its row of tensors: the same for all that are like it.

    ``written`` are arguments that it writes to.
    """

    index: tuple[int, ...]
    """Of an argument, or ``~`` of an output."""
    places: tuple[slice, ...]
    masks: tuple[int, ...]
    groups: tuple[tuple[tuple[int, ...], Agree], ...] = ()
    """Slots, by their places here, that agree."""
    written: frozenset[int] = frozenset()
    direct: frozenset[int] = frozenset()
    """Arguments that are what they were before, because no copy will do."""
    is_priced: bool = True


class _Builder:
    def __init__(
        self, graph: LayoutGraph, limits: Limits, costs: CostModel, given: Layouts | None
    ) -> None:
        self.graph = graph
        self.limits = limits
        self.costs = costs
        self.given = given or Layouts((None,) * len(graph.tensors), ())
        self.restricted = Restricted(graph, limits.restrictions) if limits.restrictions else None
        self.operands: dict[int, _Operands] = {}  # by the first of operators that are alike
        self.like: list[int] = []  # by operator: the first that is like it
        self.masks: list[int] = []  # by variable
        self._factors = FactorsAlike()
        self._possible_of: dict[tuple[tuple[int, ...], VkDataType], int] = {}
        self._prices: dict[tuple[tuple[int, ...], VkDataType, bool], SharedCopies] = {}
        self._tables: dict[int, tuple[NDArray[np.int64], CostTable]] = {}

    def build(self) -> LayoutProblem:
        self.slots = self._stamped()
        self.readers = Readers(self.slots, len(self.graph.tensors))
        self.producers = self._producers()
        kept = self._kept()
        self._add_free_producers(kept)
        conv2d_read = self._restrict_conv2d()
        domains = [labels_of(mask) for mask in self.masks]
        self._add_written_in_place()
        self._add_preferences(kept)
        self._add_copies(conv2d_read)
        self._add_operator_tables(domains)
        variables = {mask: Variable(labels_of(mask)) for mask in set(self.masks)}
        return LayoutProblem(
            problem=Problem(
                len(REPRS),
                LEVELS,
                tuple([variables[mask] for mask in self.masks]),
                self._factors.all(),
            ),
            slots=self.slots,
            producers=tuple([None if v < 0 else v for v in self.producers]),
            readers=self.readers,
        )

    def _stamped(self) -> Slots:
        """The slots of all operators, worked out once for those that are alike, and their ties."""
        graph = self.graph
        columns = graph.columns
        # A user's limits may name any operator.
        self.like = graph.alike.tolist() if self.restricted is None else list(range(len(columns)))
        operator, index, tensors, counts = array("i"), array("i"), array("i"), array("i")
        rows, starts = columns.rows.tolist(), columns.starts.tolist()
        for number, like in enumerate(self.like):
            key = number if number in graph.pinned else like
            found = self.operands.get(key)
            if found is None:
                found = self.operands[key] = self._operands(number)
            self.like[number] = key
            base = len(index)
            index.extend(found.index)
            self.masks += found.masks
            row = rows[starts[number] : starts[number + 1]]
            for place in found.places:
                operator.append(number)
                members = row[place]
                tensors.extend(members)
                counts.append(len(members))
            for members, agree in found.groups:
                self._factors.add(agree, [base + i for i in members])
        return Slots(operator, index, tensors, counts)

    def _operands(self, index: int) -> _Operands:
        operator = self.graph.operators[index]
        if index in self.graph.pinned:
            return self._pinned(index, operator, self.graph.pinned[index])
        sets = self._accepted(index, operator)
        return _Operands((), (), ()) if sets is None else self._planned(index, operator, sets)

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

    def _planned(self, index: int, operator: Operator, sets: OpRepSets) -> _Operands:
        """The operands of an operator that the registry knows."""
        tensors, places = self.graph.tensors, _places(operator)
        textures_first = self.graph.textures_first and self._has_textures(index, operator, sets)
        found: list[tuple[int, slice, int]] = []
        primary = None
        for arg, members in operator.tensor_args():
            accepted = sets.args[arg]
            if accepted is None or any(tensors[t].constant for t in members):
                continue
            if arg == sets.primary_arg:
                primary = len(found)
            mask = self._mask(index, False, arg, members, accepted.mask, textures_first)
            found.append((arg, places[arg], mask))
        args = list(range(len(found)))
        for j, t in enumerate(operator.outputs):
            mask = self._mask(index, True, j, (t,), sets.outs[j].mask, textures_first)
            found.append((~j, places[~j], mask))
        outs = list(range(len(args), len(found)))

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
        agree = _EQUAL if operator.name == CLONE else _COMPATIBLE
        tied = tuple([(tuple(group), agree) for group in groups if len(group) > 1])
        return _Operands(*_columns(found), tied, frozenset(written_args(operator.name)))

    def _pinned(self, index: int, operator: Operator, pinned: PinnedReprs) -> _Operands:
        """An operator that keeps its representations, each member of a list its own."""
        places = _places(operator)
        found: list[tuple[int, slice, int]] = []

        def add(at: int, place: int, t: int, kept: TensorRepr) -> None:
            accepted = TensorRepSet.from_reprs([kept])
            accepted &= fitting(self.graph.tensors[t].shape, self.limits.texture)
            position = ~at if at < 0 else at
            mask = self._mask(index, at < 0, position, (t,), accepted.mask, False)
            found.append((at, slice(place, place + 1), mask))

        for argument, kept in pinned.args.items():
            # Lists with a member left out as well, which are no arguments to operators with sets.
            read = operator.args[argument]
            members: tuple[int | None, ...] = ()
            if isinstance(read, TensorListArg):
                members = read.tensors
            elif isinstance(read, TensorArg):
                members = (read.tensor,)
            for t, representation in dict(zip(members, kept, strict=True)).items():
                if t is not None and representation is not None:
                    place = places[argument].start + members.index(t)
                    add(argument, place, t, representation)
        for j, (t, representation) in enumerate(zip(operator.outputs, pinned.outs, strict=True)):
            if representation is not None:
                add(~j, places[~j].start, t, representation)
        written = frozenset(written_args(operator.name))
        return _Operands(*_columns(found), (), written, pinned.direct, is_priced=False)

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

    def _mask(
        self,
        operator: int,
        is_output: bool,
        index: int,
        members: tuple[int, ...],
        accepted: int,
        textures_first: bool,
    ) -> int:
        """What an operand may be, as a bit mask over labels."""
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
        return mask

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

    def _producers(self) -> list[int]:
        """By tensor: the variable of the first operand that makes it, or -1."""
        found = [-1] * len(self.graph.tensors)
        made = np.flatnonzero(self.slots.operand < 0)[::-1]
        for variable, t in zip(made.tolist(), self.slots.first[made].tolist(), strict=True):
            found[t] = variable
        return found

    def _kept(self) -> list[int]:
        """By variable: the label that it should keep, or ``NO_LABEL``."""
        is_int8 = np.array([t.dtype == VkDataType.INT8 for t in self.graph.tensors], bool)
        labels = self.slots.labels(self.given)
        kept: list[int] = np.where(is_int8[self.slots.first], NO_LABEL, labels).tolist()
        return kept

    def _add_free_producers(self, kept: list[int]) -> None:
        for t, (producer, slots) in enumerate(
            zip(self.producers, self.readers.each(), strict=True)
        ):
            if producer >= 0 or not slots:
                continue
            wanted = ANY if self.restricted is None else self.restricted.made(t)
            union = 0
            for slot in slots:
                union |= self.masks[slot]
            if union & ~wanted:
                # Restricted where it is made: what its readers take is copied.
                union = union & wanted or self._made_otherwise(t, union) & wanted
                if not union:
                    raise restricted_away(self._tensor(t), self.limits)
            elif len(slots) < 2:
                continue
            self.producers[t] = len(self.masks)
            self.masks.append(union)
            made = self.given.made[t]
            is_int8 = self.graph.tensors[t].dtype == VkDataType.INT8
            kept.append(NO_LABEL if made is None or is_int8 else LABELS[made])

    def _made_otherwise(self, t: int, read: int) -> int:
        """What a tensor that no operator makes could be, and be copied to what its readers take."""
        is_int8 = REPRS[labels_of(read)[0]].is_packed_int8
        alike = TensorRepSet.from_reprs(r for r in REPRS if r.is_packed_int8 == is_int8)
        return self._possible(self.graph.tensors[t]) & alike.mask & ~_CONV2D

    def _tensor(self, t: int) -> str:
        """A tensor, for messages."""
        tensor = self.graph.tensors[t]
        place = f"{self.graph.name}, " if self.graph.name else ""
        return f"{place}tensor {self.graph.name_of(t)} ({tensor.shape_text})"

    def _add_written_in_place(self) -> None:
        """Variables that must be equal: tensors that are written into have no copies.

        Nor has an operator without registration any that it had not before: what it reads may be
        more than the tensor's contents.
        """
        rewritten = self._rewritten()
        written, direct = self._where("written"), self._where("direct")
        named = self.slots.first[[*written, *direct]].tolist() if written or direct else []
        for t in sorted(rewritten.union(named)):
            readers = self.readers.of(t)
            if t not in rewritten and written.isdisjoint(readers):
                readers = [v for v in readers if v in direct]
            makers = np.flatnonzero((self.slots.first == t) & (self.slots.operand < 0))
            scope = {*readers, *makers.tolist(), self.producers[t]} - {-1}
            if len(scope) > 1:
                self._factors.add(_EQUAL, sorted(scope))

    def _where(self, what: Literal["written", "direct"]) -> set[int]:
        """The variables of arguments that are written, or direct."""
        places = {key: getattr(found, what) for key, found in self.operands.items()}
        if not any(places.values()):
            return set()
        return {
            v
            for operator, start, end in self.slots.bounds()
            if places[self.like[operator]]
            for v in range(start, end)
            if self.slots.operand[v] in places[self.like[operator]]
        }

    def _rewritten(self) -> set[int]:
        """The tensors that are made more than once, or inputs that an operator makes again."""
        inputs = np.array([*{*self.graph.inputs}], np.int32)
        made = np.concatenate([inputs, self.graph.columns.outputs()])
        tensors, times = np.unique(made, return_counts=True)
        return set(tensors[times > 1].astype(int).tolist())

    def _restrict_conv2d(self) -> set[int]:
        """Leaves CONV2D only to tensors for which the runtime will resolve it.

        It does so if an operator that resolves CONV2D reads the tensor, for every reader of the
        same copy. Where no other layout is left (transposed convolution), CONV2D stays and resolves
        to the producer's layout. Returns the tensors with a resolving reader.
        """
        names = {form.name for form in self.graph.columns.forms}
        if names.isdisjoint(_RESOLVES_CONV2D) and not any(m & _CONV2D for m in set(self.masks)):
            return set()
        resolved = {
            t for t, readers in enumerate(self.readers) if resolves_conv2d(self.graph, readers)
        }
        for t, readers in enumerate(self.readers):
            names = {self.graph.operators[slot.operator].name for slot in readers}
            if t in resolved or not names.isdisjoint(_TAKES_PRODUCERS):
                continue
            for v in (self.producers[t], *(slot.variable for slot in readers)):
                if v >= 0:
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
            if producer >= 0 and not self.masks[producer]:
                raise NoRepresentationError(f"{self._tensor(t)} {nothing_but}", Remedy.DROP_LIMITS)
        return resolved

    def _add_preferences(self, kept: Sequence[int]) -> None:
        masks, labels = np.array(self.masks, np.int64), np.array(kept, np.int64)
        for variables in equal_rows(np.stack([masks, labels - NO_LABEL], axis=1)):
            v = int(variables[0])
            if self.masks[v] & self.masks[v] - 1:
                preference = CostTable((v,), _preference(self.masks[v], kept[v]))
                self._factors.add(preference, variables.tolist(), width=1)

    def _add_copies(self, conv2d_read: set[int]) -> None:
        for t, (producer, readers) in enumerate(
            zip(self.producers, self.readers.each(), strict=True)
        ):
            if producer < 0 or not readers:
                continue
            if all_alike(self.masks, producer, readers):
                continue
            copies = self._copies_of(self.graph.tensors[t], t in conv2d_read)
            self._factors.add(copies, [producer, *readers])

    def _copies_of(self, tensor: Tensor, resolves_conv2d: bool) -> SharedCopies:
        is_int8 = tensor.dtype == VkDataType.INT8
        key = (tensor.shape, tensor.dtype, is_int8 and resolves_conv2d)
        found = self._prices.get(key)
        if found is None:
            prices = copy_prices(self.costs, tensor, resolves_conv2d=resolves_conv2d)
            found = self._prices[key] = SharedCopies(0, (), prices)
        return found

    def _add_operator_tables(self, domains: Sequence[tuple[int, ...]]) -> None:
        known: dict[tuple[int, ...], list[tuple[tuple[int, ...], CostTable]]] = {}
        tells_apart = isinstance(self.costs, FreeTransitions)
        for index, start, end in self.slots.bounds():
            like = self.like[index]
            if not self.operands[like].is_priced:
                continue
            key = (index if tells_apart else like, *self.masks[start:end])
            if key not in known:
                known[key] = self._operator_tables(index, self.slots[start:end], domains)
            for scope, table in known[key]:
                self._factors.add(table, [start + i for i in scope])

    def _operator_tables(
        self, index: int, slots: Sequence[Slot], domains: Sequence[tuple[int, ...]]
    ) -> list[tuple[tuple[int, ...], CostTable]]:
        """What an operator costs: places among its slots, and the table that they have."""
        operands = [slot.priced(domains[slot.variable]) for slot in slots]
        operator = self.graph.operators[index]
        found = self.costs.operator(operator, self.graph.tensors, operands)
        return [(tuple(scope), self._table_of(costs)) for scope, costs in found]

    def _table_of(self, costs: NDArray[np.int64]) -> CostTable:
        """The table of costs; one for all that are one array."""
        known = self._tables.get(id(costs))
        if known is None:
            levels = np.zeros((LEVELS, *costs.shape), dtype=np.int64)
            levels[0] = costs
            known = self._tables[id(costs)] = costs, CostTable((), levels)
        return known[1]


class FactorsAlike:
    """Factors that are put together one by one; those that are alike are kept as one."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[Factor, array[int]]] = {}

    def add(self, like: Factor, scope: Sequence[int], width: int | None = None) -> None:
        """Adds a factor like one, whatever its scope; or several, with scopes of one ``width``."""
        key = id(like), width or len(scope)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = like, array("i")
        found[1].extend(scope)

    def all(self) -> Factors:
        """All factors; those that few are like one by one."""
        others: list[Factor] = []
        stamps: list[Stamp] = []
        for (_, width), (like, scopes) in self._known.items():
            if len(scopes) < _FEW * width:
                starts = range(0, len(scopes), width)
                others += [at_scope(like, scopes[start : start + width]) for start in starts]
            else:
                stamps.append(Stamp.of(like, np.array(scopes, np.int32).reshape(-1, width)))
        return Factors(others, stamps)


def all_alike(masks: Sequence[int], producer: int, readers: Iterable[int]) -> bool:
    """Whether a tensor can be only one label, where it is made and where it is read."""
    mask = masks[producer]
    return not mask & mask - 1 and all(masks[v] == mask for v in readers)


def _preference(mask: int, kept: int) -> NDArray[np.int64]:
    labels = np.array(labels_of(mask))
    found = np.zeros((LEVELS, len(labels)), dtype=np.int64)
    found[2] = _NOT_PREFERRED[labels] if kept == NO_LABEL else labels != kept
    found[3] = labels
    return found


def _places(operator: Operator) -> dict[int, slice]:
    """The places of an operator's arguments, and of outputs ``~i``, in its row of tensors."""
    places: dict[int, slice] = {}
    at = 0
    for argument, read in enumerate(operator.args):
        if isinstance(read, TensorArg | TensorListArg):
            end = at + (len(read.tensors) if isinstance(read, TensorListArg) else 1)
            places[argument] = slice(at, end)
            at = end
    places.update({~j: slice(at + j, at + j + 1) for j in range(len(operator.outputs))})
    return places


def _columns(
    operands: Sequence[tuple[int, slice, int]],
) -> tuple[tuple[int, ...], tuple[slice, ...], tuple[int, ...]]:
    indices, places, masks = zip(*operands, strict=True) if operands else ((), (), ())
    return indices, places, masks


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
            return f"tensor {graph.name_of(t)}"
    return f"variable {variable}"
