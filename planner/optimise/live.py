"""How many bytes of a graph's tensors are alive at once, by the labels of its layout problem.

The live set of a moment are the tensors that are needed then or later and are there already, each
in its representation, padding included. A moment is an operator of the graph as it is written, the
start, when the inputs are there, or the end. A transition is an operator, too: it comes right
before the first operator that reads its copy. The copy is alive from there to its last reader, and
what it is made from until its own last reader, be that a transition. A tensor that nothing reads is
alive while its operator runs.

Left out is what takes the same memory in every run, as ``planner.optimise.memory`` leaves it out:
constants, what an operator prepacks, and tensors that are read before anything wrote them. Copies
of these are not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, reduce
from math import prod
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.ir.graph import NO_TENSOR, LayoutGraph, Operators, TensorArg, TensorListArg
from planner.ir.physical import ELEMENT_BYTES, MAX_TEXTURE_DIMS, padded_bytes
from planner.ir.representation import LABELS, REPRS, TensorRepr
from planner.kernels.registry import PREPACK
from planner.optimise.problem import LayoutProblem
from schema import VkDataType
from schema.frozen import frozen

Moment = tuple[int, int, int]
"""An operator by its index, then ``AT``, ``AT``; or the transition that comes before the operator
for one of its arguments, and a tensor of that. The start is operator -1, the end the one after the
last."""

AT: Final = sys.maxsize

DENSE_LIMIT: Final = 4096
"""Most entries of a table of what a tensor takes; where more would be needed, yes/no variables say
which labels its readers have."""

Integers = NDArray[np.int64]

Domains = Sequence[tuple[int, ...]] | Mapping[int, tuple[int, ...]]
"""The labels that each variable may take."""


@lru_cache(maxsize=65536)
def bytes_by_label(shape: tuple[int, ...], dtype: VkDataType) -> tuple[int, ...]:
    """Bytes of a tensor in each representation; 0 for one that it cannot have.

    The last is what its elements take alone, where nothing says how it is represented.
    """
    fits = len(shape) <= MAX_TEXTURE_DIMS
    padded = [padded_bytes(shape, dtype, r) if r.is_buffer or fits else 0 for r in REPRS]
    return (*padded, prod(shape) * ELEMENT_BYTES[dtype])


@frozen
class Alive:
    """A tensor that may be alive at a moment, itself or in copies, by the variables of its readers.

    It is made with the label of ``variable``. A copy with another label is alive if a reader in
    ``made`` has it, for whom it was made by then, and one in ``needed``, who reads it then or
    later. What it is made from is alive ``always``, or if it is needed itself, or for a copy that
    no reader in ``before`` has had made earlier; unless it is left out (``lasts``), and its copies
    count alone. ``sizes`` are bytes by label.
    """

    variable: int
    before: tuple[int, ...]
    made: tuple[int, ...]
    needed: tuple[int, ...]
    always: bool
    lasts: bool
    sizes: Sequence[int]

    def moved(self, start: int) -> Alive:
        """The same where the graph's variables begin at ``start``."""

        def moved(variables: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(start + v for v in variables)

        return replace(
            self,
            variable=start + self.variable,
            before=moved(self.before),
            made=moved(self.made),
            needed=moved(self.needed),
        )

    @property
    def scope(self) -> tuple[int, ...]:
        """All its variables."""
        return tuple(dict.fromkeys((self.variable, *self.made, *self.needed)))

    def bytes(self, labels: Sequence[int]) -> int:
        """What is alive of it with these labels of all variables."""
        own, needed = labels[self.variable], {labels[v] for v in self.needed}
        alive = needed & {labels[v] for v in self.made} - {own}
        is_read = self.always or own in needed or needed - {labels[v] for v in self.before}
        if is_read and not self.lasts:
            alive.add(own)
        return sum(self.sizes[label] for label in alive)

    def table(self, domains: Domains) -> tuple[tuple[int, ...], Integers]:
        """The bytes by the labels of the variables that they depend on, in order of the domains."""
        scope = self.scope
        bits = {}
        for axis, v in enumerate(scope):
            shape = [1] * len(scope)
            shape[axis] = -1
            bits[v] = (1 << np.array(domains[v], np.int64)).reshape(shape)
        nothing = np.zeros([len(domains[v]) for v in scope], np.int64)

        def labels(variables: Iterable[int]) -> Integers:
            return reduce(np.bitwise_or, (bits[v] for v in variables), nothing)

        own, needed = labels([self.variable]), labels(self.needed)
        source = needed & (own | ~labels(self.before)) != 0
        alive = labels(self.made) & needed & ~own
        if not self.lasts:
            alive = alive | np.where(source | self.always, own, 0)
        total = nothing
        for label in {label for v in scope for label in domains[v]}:
            total = total + (alive >> label & 1) * self.sizes[label]
        kept = [axis for axis in range(total.ndim) if np.ptp(total, axis=axis).any()]
        at = tuple(slice(None) if axis in kept else 0 for axis in range(total.ndim))
        return tuple(scope[axis] for axis in kept), total[at]


class LiveSets:
    """The live sets of a graph's plans.

    ``free`` says the representations of tensors that the layout problem has no variable for; None
    is for one that the runtime chooses.
    """

    def __init__(
        self,
        graph: LayoutGraph,
        layout: LayoutProblem,
        free: Callable[[int], TensorRepr | None],
    ) -> None:
        self.layout, self.end = layout, len(graph.operators)
        uses = _Uses(graph, layout)
        self._tensors = np.flatnonzero(~uses.lasts | (uses.producer >= 0))
        self._first, self._last = uses.made[self._tensors], uses.last[self._tensors]
        self._direct, self._lasts = uses.direct[self._tensors], uses.lasts[self._tensors]
        kinds: dict[tuple[tuple[int, ...], VkDataType], int] = {}
        every = [graph.tensors[t] for t in self._tensors.tolist()]
        kind = [kinds.setdefault((tensor.shape, tensor.dtype), len(kinds)) for tensor in every]
        self._kind = np.array(kind, np.int64)
        sizes = np.array([bytes_by_label(*kind) for kind in kinds], np.int64)
        self._sizes = sizes.reshape(-1, len(REPRS) + 1)
        self._variables = uses.variable[self._tensors]
        self._labels = np.zeros(len(self._tensors), np.int64)
        for place in np.flatnonzero(self._variables < 0).tolist():
            self._labels[place] = _label(free(int(self._tensors[place])))
        # A row for each operand that may read a copy, by tensor and then in the order in which they
        # run: the tensor's place, the two variables, and the operand.
        where = np.full(len(graph.tensors), -1)
        where[self._tensors] = np.arange(len(self._tensors))
        reader, read = layout.readers.places, uses.read
        may_copy = (uses.producer[read] >= 0) & (where[read] >= 0)
        reader, read = reader[may_copy], read[may_copy]
        slots = layout.slots
        self._pairs = np.stack(
            [
                where[read],
                uses.producer[read],
                reader,
                slots.operator[reader],
                slots.operand[reader],
            ]
        )
        self._starts = np.searchsorted(where[read], np.arange(len(self._tensors) + 1))

    def peak(self, assignment: Sequence[int]) -> tuple[int, Moment]:
        """The most bytes that are alive at once with these labels, and the first such moment."""
        copies, totals = self._totals(assignment)
        most = int(totals.argmax())
        return int(totals[most]), _moment(most, copies)

    def over(self, assignment: Sequence[int], most: int) -> list[Moment]:
        """The moments at which more bytes are alive than ``most``."""
        copies, totals = self._totals(assignment)
        return [_moment(position, copies) for position in np.flatnonzero(totals > most).tolist()]

    def _totals(self, assignment: Sequence[int]) -> tuple[list[_Copy], Integers]:
        """The transitions, and the bytes that are alive at each moment with these labels."""
        labels = np.array(assignment, np.int64)
        made, has_choice = self._labels.copy(), self._variables >= 0
        made[has_choice] = labels[self._variables[has_choice]]
        sizes = np.where(self._lasts, 0, self._sizes[self._kind, made])
        copies = self._copies(labels)
        # The positions of operators, the start among them, in the graph as it is written.
        before = [copy.moment[0] for copy in copies]
        operators = np.arange(-1, self.end + 1)
        position = 1 + operators + np.searchsorted(before, operators, side="right")
        first, last = position[self._first + 1], position[self._last + 1]
        change = np.zeros(len(operators) + len(copies) + 1, np.int64)
        for place in {copy.place for copy in copies}:
            # Who reads it itself.
            _, producer, reader, operator, _ = self._readers(place)
            itself = operator[labels[reader] == labels[producer]].max(initial=-1)
            last[place] = position[max(itself, self._direct[place]) + 1]
        for number, copy in enumerate(copies):
            at, size = 1 + copy.moment[0] + number, self._sizes[self._kind[copy.place], copy.label]
            last[copy.place] = max(last[copy.place], at)
            change[at] += size
            change[position[copy.users[-1][0] + 1] + 1] -= size
        np.add.at(change, first, sizes)
        np.subtract.at(change, last + 1, sizes)
        return copies, np.cumsum(change[:-1])

    def _copies(self, labels: Integers) -> list[_Copy]:
        """The transitions in their order."""
        place, producer, reader, operator, argument = self._pairs
        read = labels[reader]
        found: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for row in np.flatnonzero(read != labels[producer]).tolist():
            users = found.setdefault((int(place[row]), int(read[row])), [])
            users.append((int(operator[row]), int(argument[row])))
        copies = (
            _Copy((*users[0], int(self._tensors[where])), where, label, users)
            for (where, label), users in found.items()
        )
        return sorted(copies, key=lambda copy: copy.moment)

    def alive(self, moment: Moment) -> tuple[int, list[Alive]]:
        """What may be alive at a moment: the bytes of tensors without a choice, and the others.

        The moment may be that of a transition which a plan does not have: no more is alive then
        than at one that it has.
        """
        # What an operator makes is not there when the transitions before it run.
        made_by = moment[0] - (moment[1] != AT)
        alive = (self._first <= made_by) & (self._last >= moment[0])
        places = np.flatnonzero(alive)
        is_free = self._variables[places] < 0
        free = places[is_free]
        return (
            int(self._sizes[self._kind[free], self._labels[free]].sum()),
            [self._alive(place, moment) for place in places[~is_free].tolist()],
        )

    def _readers(self, place: int) -> Integers:
        """The rows of the operands that may read a copy of a tensor."""
        return self._pairs[:, self._starts[place] : self._starts[place + 1]]

    def _alive(self, place: int, moment: Moment) -> Alive:
        t = int(self._tensors[place])
        _, _, reader, operator, argument = self._readers(place).tolist()
        at = list(zip(reader, operator, argument, strict=True))
        return Alive(
            int(self._variables[place]),
            tuple(v for v, index, position in at if (index, position, t) < moment),
            tuple(v for v, index, position in at if (index, position, t) <= moment),
            tuple(v for v, index, _ in at if index >= moment[0]),
            bool(self._first[place] == moment[0] or self._direct[place] >= moment[0]),
            bool(self._lasts[place]),
            self._sizes[self._kind[place]].tolist(),
        )


class _Uses:
    """When a graph's tensors are made and read: columns by tensor, of operators by their index.

    What ``lasts`` is left out of live sets, but for its copies; it is there from the start.
    ``direct`` is the last operator that needs a tensor itself, whatever labels others have.
    ``producer`` is the variable with whose label it is made, if it may have copies, and
    ``variable`` that of its label in any case; -1 is for none. ``read`` are the tensors of the
    layout problem's readers.
    """

    def __init__(self, graph: LayoutGraph, layout: LayoutProblem) -> None:
        count, end = len(graph.tensors), len(graph.operators)
        tensor, operator, argument = _operands(graph.columns)
        is_made = argument < 0
        made, first_read = np.full(count, end + 1), np.full(count, end + 1)
        np.minimum.at(made, tensor[is_made], operator[is_made])
        np.minimum.at(first_read, tensor[~is_made], operator[~is_made])
        made[list(graph.inputs)] = -1
        self.lasts = np.array([tensor.constant for tensor in graph.tensors], np.bool_)
        self.lasts |= first_read <= made
        prepacks = np.array([form.name == PREPACK for form in graph.columns.forms], np.bool_)
        self.lasts[tensor[is_made & prepacks[graph.columns.form[operator]]]] = True

        starts = layout.readers.starts
        self.read = np.repeat(np.arange(count), np.diff(starts))
        self.producer = np.array([-1 if v is None else v for v in layout.producers], np.int64)
        self.variable = self.producer.copy()
        without = self.producer[self.read] < 0
        self.variable[self.read[without]] = layout.readers.places[without]

        outputs = list(graph.outputs)
        self.last = np.where(self.lasts, -1, made)
        np.maximum.at(self.last, tensor, operator)
        self.last[outputs] = end
        # What reads a tensor by a slot may read a copy.
        slots, readers = layout.slots, layout.readers.places
        width = int(max(argument.max(initial=0), slots.operand.max(initial=0))) + 1
        by_slot = (
            slots.operator[readers].astype(np.int64) * width + slots.operand[readers]
        ) * count
        use = (operator * width + argument) * count + tensor
        by_slot = np.sort(by_slot + self.read)
        found = np.append(by_slot, -1)[np.searchsorted(by_slot, use)]
        is_direct = np.where(is_made, operator != made[tensor], found != use)
        self.direct = np.full(count, -2)
        np.maximum.at(self.direct, tensor[is_direct], operator[is_direct])
        self.direct[outputs] = end
        self.direct = np.where(self.producer < 0, self.last, self.direct)
        self.made = np.where(self.lasts, -1, made)


def _operands(operators: Operators) -> tuple[Integers, Integers, Integers]:
    """The tensors of all operators, one after another, with the operator and the argument; -1 in
    place of an argument is for an output."""
    arguments: list[int] = []
    starts = []
    for form in operators.forms:
        starts.append(len(arguments))
        for number, value in enumerate(form.args):
            if isinstance(value, TensorArg):
                arguments.append(number)
            elif isinstance(value, TensorListArg):
                arguments += [number] * len(value.tensors)
        arguments += [-1] * len(form.outputs)
    operator = np.repeat(np.arange(len(operators)), np.diff(operators.starts))
    within = np.arange(len(operator)) - operators.starts[operator]
    of_form = np.array(starts, np.int64)[operators.form[operator]]
    argument = np.array(arguments, np.int64)[of_form + within]
    there = operators.rows != NO_TENSOR
    return operators.rows[there].astype(np.int64), operator[there], argument[there]


class _Copy(NamedTuple):
    """A transition: when, the place of its tensor among those of live sets, and for whom."""

    moment: Moment
    place: int
    label: int
    users: list[tuple[int, int]]


def _label(representation: TensorRepr | None) -> int:
    return len(REPRS) if representation is None else LABELS[representation]


def _moment(position: int, copies: Sequence[_Copy]) -> Moment:
    """The moment at a position of the graph as it is written, where the start is 0."""
    before = 0
    for number, copy in enumerate(copies):
        at = 1 + copy.moment[0] + number
        if at == position:
            return copy.moment
        if at > position:
            break
        before += 1
    return position - 1 - before, AT, AT
