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
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from math import prod
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.ir.graph import LayoutGraph, TensorArg, TensorListArg
from planner.ir.physical import ELEMENT_BYTES, MAX_TEXTURE_DIMS, padded_bytes
from planner.ir.representation import LABELS, REPRS, TensorRepr
from planner.kernels.registry import PREPACK
from planner.optimise.problem import LayoutProblem
from schema import VkDataType

Moment = tuple[int, int, int]
"""An operator by its index, then ``AT``, ``AT``; or the transition that comes before the operator
for one of its arguments, and a tensor of that. The start is operator -1, the end the one after the
last."""

AT: Final = sys.maxsize

Integers = NDArray[np.int64]

Domains = Sequence[tuple[int, ...]] | Mapping[int, tuple[int, ...]]
"""The labels that each variable may take."""

_UNMADE: Final = -2
_WRITTEN: Final = -1
"""In place of an argument: the tensor is written again."""


@lru_cache(maxsize=65536)
def bytes_by_label(shape: tuple[int, ...], dtype: VkDataType) -> tuple[int, ...]:
    """Bytes of a tensor in each representation; 0 for one that it cannot have.

    The last is what its elements take alone, where nothing says how it is represented.
    """
    fits = len(shape) <= MAX_TEXTURE_DIMS
    padded = [padded_bytes(shape, dtype, r) if r.is_buffer or fits else 0 for r in REPRS]
    return (*padded, prod(shape) * ELEMENT_BYTES[dtype])


@dataclass(frozen=True, slots=True)
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
        self._graph, self.layout = graph, layout
        self.end = len(graph.operators)
        self._uses: list[list[tuple[int, int]]] = [[] for _ in graph.tensors]
        self._made, self._lasting = self._read()
        self._tensors = [t for t, made in enumerate(self._made) if made > _UNMADE]
        self._first = np.array([self._made[t] for t in self._tensors], np.int64)
        self._last = np.array(
            [uses[-1][0] if (uses := self._uses[t]) else self._made[t] for t in self._tensors],
            np.int64,
        )
        kinds: dict[tuple[tuple[int, ...], VkDataType], int] = {}
        tensors = graph.tensors
        self._kind = np.array(
            [
                kinds.setdefault((tensors[t].shape, tensors[t].dtype), len(kinds))
                for t in self._tensors
            ],
            np.int64,
        )
        self._sizes = np.array([bytes_by_label(*kind) for kind in kinds], np.int64)
        self._sizes = self._sizes.reshape(-1, len(REPRS) + 1)
        self._variables = np.array([self._variable(t) for t in self._tensors], np.int64)
        self._labels = np.zeros(len(self._tensors), np.int64)
        for place in np.flatnonzero(self._variables < 0).tolist():
            self._labels[place] = _label(free(self._tensors[place]))
        self._counts = np.array([t not in self._lasting for t in self._tensors], np.bool_)
        self._pairs = self._may_copy()

    def _read(self) -> tuple[list[int], set[int]]:
        """The operator that makes each tensor, ``_UNMADE`` for those that are left out; and those
        that last, and may have copies."""
        tensors, uses = self._graph.tensors, self._uses
        made = [_UNMADE] * len(tensors)
        lasting = {t for t, tensor in enumerate(tensors) if tensor.constant}
        for given in self._graph.inputs:
            made[given] = -1
        for index, operator in enumerate(self._graph.operators):
            for argument, value in enumerate(operator.args):
                if isinstance(value, TensorArg):
                    members: tuple[int | None, ...] = (value.tensor,)
                elif isinstance(value, TensorListArg):
                    members = value.tensors
                else:
                    continue
                for t in members:
                    if t is not None:
                        uses[t].append((index, argument))
                        if made[t] == _UNMADE:
                            lasting.add(t)
            for output in operator.outputs:
                if made[output] == _UNMADE:
                    made[output] = index
                else:
                    uses[output].append((index, _WRITTEN))
            if operator.name == PREPACK:
                lasting.update(operator.outputs)
        for output in self._graph.outputs:
            uses[output].append((self.end, 0))
        for kept in lasting:
            # Only its copies count.
            made[kept] = -1 if self.layout.producers[kept] is not None else _UNMADE
        return made, lasting

    def _variable(self, t: int) -> int:
        """The variable for the representation in which a tensor is made; -1 if it has none."""
        producer, readers = self.layout.producers[t], self.layout.readers[t]
        if producer is not None:
            return producer
        return readers[0].variable if readers else -1

    def _may_copy(self) -> Integers:
        """A row for each operand that may read a copy: the tensor's place, the two variables, and
        the operand. Of a tensor, operands come in the order in which they run."""
        rows = [
            (place, producer, slot.variable, slot.operator, slot.index)
            for place, t in enumerate(self._tensors)
            if (producer := self.layout.producers[t]) is not None
            for slot in self.layout.readers[t]
        ]
        return np.array(rows, np.int64).reshape(-1, 5).T

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
        made = np.where(self._variables >= 0, labels[self._variables], self._labels)
        sizes = self._sizes[self._kind, made] * self._counts
        copies = self._copies(labels)
        # The positions of operators, the start among them, in the graph as it is written.
        before = [copy.moment[0] for copy in copies]
        operators = np.arange(-1, self.end + 1)
        position = 1 + operators + np.searchsorted(before, operators, side="right")
        first, last = position[self._first + 1], position[self._last + 1]
        change = np.zeros(len(operators) + len(copies) + 1, np.int64)
        read: dict[int, set[tuple[int, int]]] = {}
        for copy in copies:
            read.setdefault(copy.place, set()).update(copy.users)
        for place, users in read.items():
            direct = [use for use in self._uses[self._tensors[place]] if use not in users]
            last[place] = position[direct[-1][0] + 1] if direct else 0
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
            _Copy((*users[0], self._tensors[where]), where, label, users)
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

    def _alive(self, place: int, moment: Moment) -> Alive:
        t, sizes = self._tensors[place], self._sizes[self._kind[place]].tolist()
        readers = self.layout.readers[t] if self.layout.producers[t] is not None else ()
        at = [(slot.operator, slot.index, t) for slot in readers]
        operands = {operand[:2] for operand in at}
        return Alive(
            int(self._variables[place]),
            tuple(slot.variable for slot, made in zip(readers, at, strict=True) if made < moment),
            tuple(slot.variable for slot, made in zip(readers, at, strict=True) if made <= moment),
            tuple(slot.variable for slot in readers if slot.operator >= moment[0]),
            self._made[t] == moment[0]
            or any(use[0] >= moment[0] for use in self._uses[t] if use not in operands),
            t in self._lasting,
            sizes,
        )


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
