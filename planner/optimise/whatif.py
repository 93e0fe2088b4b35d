"""What a plan would cost if kernels accepted more: the optimum for each thing they could accept.

All representations that tensors can physically have are put into the domains of a plan's problem.
A new first level counts how many groups of tied operands have one that their kernel does not take.
The best plan that gives a group such a representation, with nothing else counted, is the optimum if
that one kernel took it there; the min-marginals of the problem are these optima, all at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, reduce
from operator import and_, or_
from typing import Final, Literal

import numpy as np

from planner.costs.model import CostModel, FreeTransitions
from planner.ir.graph import LayoutGraph, Side
from planner.ir.representation import ANY_TEXTURE, PACKED_INT8_CONV2D_BUFFER, labels_of
from planner.kernels.rep_sets import op_rep_sets
from planner.optimise.constraints import possible
from planner.optimise.plan import LayoutPlan
from planner.optimise.problem import FactorsAlike, all_alike, copy_prices, resolves_conv2d
from planner.optimise.restricted import Restricted
from planner.optimise.slots import Slot
from schema import VkDataType
from schema.frozen import frozen
from solver import (
    FORBIDDEN,
    Agree,
    CostTable,
    Problem,
    SharedCopies,
    TooDenseError,
    Variable,
    marginals,
    optimum,
)
from solver.optima import optima
from solver.prepared import Prepared
from solver.problem import Costs

_CONV2D: Final = PACKED_INT8_CONV2D_BUFFER.mask
"""The runtime replaces it by what its neighbours have: no kernel could take it anywhere."""

_SPARE: Final = (1000, 1001)
"""Classes of labels that are no representations."""

Classes = tuple[int, ...]
"""Of labels: those of one class agree."""

Cost = tuple[int, int]
"""The cost of a plan, and its transitions."""


@frozen
class Acceptance:
    """What a kernel could accept: a representation, for an operand and those that are tied to it.

    ``operand`` is the first of them, as an operator's side and index there.
    """

    operator: str
    side: Literal["argument", "output"]
    index: int
    label: int


@frozen
class Group:
    """Operands of one operator that have to be packed alike."""

    operator: str
    """Its name."""
    slots: tuple[Slot, ...]
    is_one: bool
    """Whether they can only have one and the same label."""
    acceptances: Mapping[int, Acceptance]
    """By label: what all of them could have, and the kernel does not take."""

    @property
    def missing(self) -> int:
        """These labels as a bit mask."""
        return _mask(self.acceptances)

    def accepting(self, label: int) -> Acceptance:
        """That kernels of this type take a label for such operands."""
        return self.acceptances.get(label) or _accepting(self.operator, self.slots[0], label)


@frozen
class Occurrence:
    """One operator whose kernel could accept more: ``optimum`` is the best plan if it alone did."""

    group: Group
    acceptance: Acceptance
    optimum: Cost


class WhatIf:
    """The plans of a graph that there would be if kernels accepted more."""

    def __init__(self, graph: LayoutGraph, plan: LayoutPlan, costs: CostModel) -> None:
        self._graph, self._plan, self._costs = graph, plan, costs
        problem, layout = plan.layout.problem, plan.layout
        # Each is made when it is asked for.
        self._slots, self._readers = list(layout.slots), list(layout.readers.each())
        self._today = [_mask(variable.domain) for variable in problem.variables]
        self._agrees = list(_agrees(problem))
        self._restricted = Restricted(graph, plan.limits.restrictions)
        self._possible: dict[tuple[tuple[int, ...], VkDataType], int] = {}
        self._prices = _prices_of(graph, plan, costs)
        self._alike: list[int] = graph.alike.tolist()
        self._tables: dict[tuple[int, ...], list[tuple[tuple[int, ...], Costs]]] = {}
        self.groups = tuple(self._groups())
        self._solved: dict[Acceptance, tuple[Cost, bool]] = {}

    @property
    def cost(self) -> Cost:
        """The plan as it is."""
        return self._plan.cost, len(self._plan.transitions)

    @cached_property
    def acceptances(self) -> Mapping[Acceptance, tuple[Group, ...]]:
        """What kernels could accept and do not, and the groups that it is about."""
        found: dict[Acceptance, list[Group]] = {}
        for group in self.groups:
            for acceptance in group.acceptances.values():
                found.setdefault(acceptance, []).append(group)
        return {acceptance: tuple(groups) for acceptance, groups in found.items()}

    @cached_property
    def occurrences(self) -> tuple[Occurrence, ...] | None:
        """The optimum for each group and label, if that kernel alone took it: all are exact.

        None where the graph is connected too densely to find them, and some may help.
        """
        if self._is_least:
            return self._as_it_is
        prepared, asked = self._widened
        best: list[Occurrence] = []
        try:
            found = marginals(prepared)
            for group, variable in asked:
                if not found.left_out.isdisjoint(group.acceptances):
                    raise TooDenseError
                least = found.of(variable)
                for label, acceptance in group.acceptances.items():
                    entry, cost = least[label], self.cost
                    if entry is not None and entry[0] == 1:
                        cost = min(cost, (entry[1], entry[2]))
                    best.append(Occurrence(group, acceptance, cost))
        except TooDenseError:
            return self._as_it_is if self._is_optimal_with_all else None
        return tuple(best)

    @cached_property
    def _is_least(self) -> bool:
        """Whether each operator costs the least that it could if its kernel took all, and nothing
        is repacked: then nothing would help, which is soon known however dense the graph is."""
        if self.cost[1]:
            return False
        least: dict[int, int] = {}
        total = 0
        for _, tables in self._operators(self._masks(self._missing)):
            if id(tables) not in least:
                least[id(tables)] = sum(int(costs.min()) for _, costs in tables)
            total += least[id(tables)]
        return total >= self.cost[0]

    @cached_property
    def _is_optimal_with_all(self) -> bool:
        """Whether no plan is better where all kernels take all, if that can be proven."""
        problem, _ = self._problem(self._missing)
        least, is_proven = optimum(problem)
        return is_proven and (least[0], least[1]) >= self.cost

    @property
    def _as_it_is(self) -> tuple[Occurrence, ...]:
        """The occurrences if nothing would help."""
        each = ((group, a) for group in self.groups for a in group.acceptances.values())
        return tuple([Occurrence(group, acceptance, self.cost) for group, acceptance in each])

    def find_all(self, acceptances: Iterable[Acceptance]) -> None:
        """Finds what ``if_all`` says of these, together where that is possible: it is sooner done.

        All are asked of one problem, in which each bans the labels of the others.
        """
        asked = [a for a in acceptances if a in self.acceptances and a not in self._solved]
        if not asked:
            return
        if self._is_least:
            self._solved |= dict.fromkeys(asked, (self.cost, True))
            return
        prepared, groups = self._widened
        place = {id(group): i for i, (group, _) in enumerate(groups)}
        banned = np.tile(
            np.array([group.missing for group, _ in groups], np.int64), (len(asked), 1)
        )
        for row, acceptance in zip(banned, asked, strict=True):
            row[[place[id(g)] for g in self.acceptances[acceptance]]] &= ~(1 << acceptance.label)
        try:
            found = optima(prepared, [variable for _, variable in groups], banned, first=1)
        except TooDenseError:
            if self._is_optimal_with_all:
                self._solved |= dict.fromkeys(asked, (self.cost, True))
            return
        for acceptance, least in zip(asked, found, strict=True):
            cost = self.cost if least is None else min(self.cost, (least[0], least[1]))
            self._solved[acceptance] = cost, True

    def if_all(self, acceptance: Acceptance) -> tuple[Cost, bool]:
        """The optimum if every operator of the type took it, and whether that is proven."""
        if acceptance not in self._solved:
            groups = self.acceptances.get(acceptance, ())
            self._solved[acceptance] = self.if_taken(groups, acceptance.label)
        return self._solved[acceptance]

    def if_taken(self, groups: Iterable[Group], label: int) -> tuple[Cost, bool]:
        """The optimum if the kernels of these groups took a label, and whether that is proven."""
        problem, _ = self._problem({id(group): 1 << label for group in groups})
        least, is_proven = optimum(problem)
        return min(self.cost, (least[0], least[1])), is_proven

    def is_avoided(self, group: Group, label: int) -> bool:
        """Whether the kernel takes it, and the plan goes around it: a fault, or textures first."""
        limits, first = self._plan.limits, group.slots[0]
        operator = self._graph.operators[first.operator]
        sets = op_rep_sets(operator, self._graph.tensors, limits.texture, limits.runtime)
        accepted = None
        if sets is not None:
            accepted = sets.of("output" if first.is_output else "argument", first.index)
        return accepted is not None and accepted.mask >> label & 1 == 1

    def _groups(self) -> Iterable[Group]:
        """The groups of tied operands of each operator that has a kernel of its own choice."""
        ties: dict[int, list[Agree]] = {}
        for agree in self._agrees:
            ties.setdefault(agree.scope[0], []).append(agree)
        names = list(self._graph.columns.names())
        # Worked out once for operators that are alike, but a user's limits may name any of them.
        known: dict[object, list[tuple[list[int], bool, dict[int, Acceptance]]]] = {}
        like = range(len(names)) if self._plan.limits.restrictions else self._alike
        for operator, start, end in self._plan.layout.slots.bounds():
            if operator in self._graph.pinned:
                continue
            own = tuple(
                (tuple([v - start for v in agree.scope]), agree.classes)
                for v in range(start, end)
                for agree in ties.get(v, ())
                if start <= min(agree.scope) and max(agree.scope) < end
            )
            slots = self._slots[start:end]
            key = like[operator], own, *self._today[start:end]
            if key not in known:
                known[key] = list(self._tied(names[operator], slots, own))
            for places, is_one, acceptances in known[key]:
                own_slots = tuple([slots[i] for i in places])
                yield Group(names[operator], own_slots, is_one, acceptances)

    def _tied(
        self, name: str, slots: Sequence[Slot], ties: Sequence[tuple[tuple[int, ...], Classes]]
    ) -> Iterable[tuple[list[int], bool, dict[int, Acceptance]]]:
        """The groups of an operator: places of slots, whether they have one label, and what the
        kernel could accept for them, by label."""
        could = [self._could(slot) for slot in slots]
        today = [self._today[slot.variable] for slot in slots]
        group_of = list(range(len(slots)))
        for (first, *others), _ in ties:
            joined = {group_of[i] for i in others}
            group_of = [group_of[first] if group in joined else group for group in group_of]
        for group in dict.fromkeys(group_of):
            places = [i for i, own in enumerate(group_of) if own == group]
            held = [classes for scope, classes in ties if group_of[scope[0]] == group]
            masks = [could[i] | today[i] for i in places]
            any_of = reduce(or_, masks)
            is_one = len(places) == 1 or all(_is_equality(classes, any_of) for classes in held)
            taken = reduce(and_, [today[i] for i in places])
            missing = reduce(and_, masks) & ~taken & (1 << self._plan.layout.problem.labels) - 1
            labels = labels_of(missing)
            acceptances = {label: _accepting(name, slots[places[0]], label) for label in labels}
            yield places, is_one, acceptances

    def _could(self, slot: Slot) -> int:
        """The labels that an operand may have, whatever its kernel takes."""
        side: Side = "output" if slot.is_output else "argument"
        mask = ~_CONV2D & self._restricted.operand(slot.operator, side, slot.index, slot.tensors)
        for t in slot.tensors:
            tensor = self._graph.tensors[t]
            key = tensor.shape, tensor.dtype
            if key not in self._possible:
                self._possible[key] = possible(tensor, self._plan.limits)
            mask &= self._possible[key]
        return mask & ANY_TEXTURE.mask if self._graph.textures_first else mask

    @cached_property
    def _widened(self) -> tuple[Prepared, list[tuple[Group, int]]]:
        """The problem in which groups have all labels that they could have, and what to ask for."""
        problem, asked = self._problem(self._missing, is_counted=True)
        return Prepared(problem), asked

    @property
    def _missing(self) -> Mapping[int, int]:
        """What all kernels do not take, by the ids of groups."""
        return {id(group): group.missing for group in self.groups}

    def _masks(self, extra: Mapping[int, int]) -> list[int]:
        """The labels of each variable today, and those that groups, by their ids, have besides."""
        masks = list(self._today)
        for group in self.groups:
            for slot in group.slots:
                masks[slot.variable] |= extra.get(id(group), 0)
        return masks

    def _problem(
        self, extra: Mapping[int, int], *, is_counted: bool = False
    ) -> tuple[Problem, list[tuple[Group, int]]]:
        """The problem in which groups, by their ids, have more labels.

        If ``is_counted``, a first level counts the groups that have one of these. What to ask for
        is a group, and the variable that has its label then.
        """
        layout = self._plan.layout
        builder = _Building(layout.problem.labels, int(is_counted), self._masks(extra))
        asked: list[tuple[Group, int]] = []
        widened = [(group, more) for group in self.groups if (more := extra.get(id(group), 0))]
        outside = [
            (t, producer, readers)
            for t, (producer, readers) in enumerate(
                zip(layout.producers, self._readers, strict=True)
            )
            # The slots come first.
            if producer is not None and producer >= len(self._slots)
        ]
        for t, producer, readers in outside:
            for reader in readers:
                builder.masks[producer] |= builder.masks[reader] & self._restricted.made(t)
        builder.close()
        if is_counted:
            # Tensors from outside that could have more labels than before.
            fresh = [
                (producer, readers)
                for _, producer, readers in outside
                if builder.masks[producer] & ~self._today[producer]
            ]
            readers_of = {v for _, readers in fresh for v in readers}
            for group, more in widened:
                is_plain = group.is_one and readers_of.isdisjoint(
                    [slot.variable for slot in group.slots]
                )
                variable = builder.count(group, more, self._today, is_plain=is_plain)
                asked.append((group, variable))
            for producer, readers in fresh:
                builder.use_new_labels(producer, readers, self._today[producer])
        for agree in self._agrees:
            builder.add_agree(agree)
        self._add_copies(builder)
        self._add_operators(builder)
        return builder.problem(), asked

    def _add_copies(self, builder: _Building) -> None:
        producers = self._plan.layout.producers
        for producer, readers, prices in zip(producers, self._readers, self._prices, strict=True):
            if producer is not None and readers and not all_alike(builder.masks, producer, readers):
                builder.add_copies(producer, readers, prices)

    def _add_operators(self, builder: _Building) -> None:
        for start, tables in self._operators(builder.masks):
            for scope, costs in tables:
                builder.add_cost([start + i for i in scope], costs)

    def _operators(
        self, masks: Sequence[int]
    ) -> Iterable[tuple[int, list[tuple[tuple[int, ...], Costs]]]]:
        """The first slot of each operator, and the tables of its costs, for labels of slots."""
        graph = self._graph
        tells_apart = isinstance(self._costs, FreeTransitions)
        for operator, start, end in self._plan.layout.slots.bounds():
            if operator in graph.pinned:
                continue
            own = masks[start:end]
            key = operator if tells_apart else self._alike[operator], *own
            if key not in self._tables:
                operands = [
                    slot.priced(labels_of(mask))
                    for slot, mask in zip(self._slots[start:end], own, strict=True)
                ]
                self._tables[key] = list(
                    self._costs.operator(graph.operators[operator], graph.tensors, operands)
                )
            yield start, self._tables[key]


class _Building:
    """A problem that is being put together; its levels are a count, if any, cost, transitions.

    Two labels more than representations have are answers of variables that are no operands: no,
    and yes.
    """

    def __init__(self, labels: int, counts: int, masks: list[int]) -> None:
        self.labels, self._no, self._yes = labels, labels, labels + 1
        self.masks = masks
        self._factors = FactorsAlike()
        self._first = counts
        self._levels = self._first + 2
        self._domains: list[tuple[int, ...]] = []
        self._agrees: dict[Classes, Agree] = {}
        self._copies: dict[int, SharedCopies] = {}
        self._costs: dict[int, CostTable] = {}
        self._counts: dict[tuple[tuple[int, ...], int], CostTable] = {}
        self._taken: dict[int, int] = {}
        """By operand: the variable that says which label the kernel takes besides, if any."""

    def close(self) -> None:
        """The masks are known."""
        self._domains = [labels_of(mask) for mask in self.masks]

    def problem(self) -> Problem:
        """The problem."""
        variables = {domain: Variable(domain) for domain in set(self._domains)}
        return Problem(
            self.labels + 2,
            self._levels,
            tuple([variables[domain] for domain in self._domains]),
            self._factors.all(),
        )

    def add_agree(self, agree: Agree) -> None:
        """Adds a tie of operands."""
        if agree.classes not in self._agrees:
            self._agrees[agree.classes] = Agree((), (*agree.classes, *_SPARE))
        self._factors.add(self._agrees[agree.classes], agree.scope)

    def add_copies(self, producer: int, readers: Sequence[int], prices: Costs) -> None:
        """Adds copies; arrays of prices stay as they are until the problem is complete."""
        if id(prices) not in self._copies:
            labels = self.labels + 2
            padded = np.zeros((self._levels, labels, labels), np.int64)
            padded[self._first :, : self.labels, : self.labels] = prices
            if self._first:
                barred = padded[self._first] >= FORBIDDEN
                padded[0, barred], padded[self._first, barred] = FORBIDDEN, 0
            self._copies[id(prices)] = SharedCopies(0, (), padded)
        self._factors.add(self._copies[id(prices)], [producer, *readers])

    def add_cost(self, scope: Sequence[int], costs: Costs) -> None:
        """Adds a table of costs; such arrays stay, too."""
        if id(costs) not in self._costs:
            levels = np.zeros((self._levels, *costs.shape), np.int64)
            levels[self._first] = costs
            self._costs[id(costs)] = CostTable((), levels)
        self._factors.add(self._costs[id(costs)], scope)

    def count(
        self,
        group: Group,
        more: int,
        today: Sequence[int],
        *,
        is_plain: bool,
    ) -> int:
        """Counts a group that has one of the labels ``more``; the variable that has it then.

        It is plain if the label that its first operand has says which one the kernel takes besides.
        """
        first = group.slots[0].variable
        if is_plain:
            domain = self._domains[first]
            key = domain, more
            if key not in self._counts:
                table = np.zeros((self._levels, len(domain)), np.int64)
                table[0] = [more >> label & 1 for label in domain]
                self._counts[key] = CostTable((), table)
            self._factors.add(self._counts[key], [first])
            return first
        taken = self._variable((self._no, *labels_of(more)))
        self._taken |= {slot.variable: taken for slot in group.slots}
        table = np.zeros((self._levels, len(self._domains[taken])), np.int64)
        table[0, 1:] = 1
        self._add(table, taken)
        besides = np.array(self._domains[taken])
        for slot in group.slots:
            labels = np.array(self._domains[slot.variable])
            fresh = np.array([not today[slot.variable] >> label & 1 for label in labels.tolist()])
            table = np.zeros((self._levels, len(labels), len(besides)), np.int64)
            table[0, fresh[:, None] & (labels[:, None] != besides)] = FORBIDDEN
            self._add(table, slot.variable, taken)
        return taken

    def use_new_labels(self, source: int, users: Sequence[int], today: int) -> None:
        """A tensor from outside has a label that it could not have before only if a user takes it.

        Whether the user has it does not matter.
        """
        made = np.array(self._domains[source])
        fresh = np.array([not today >> label & 1 for label in made.tolist()])
        before: int | None = None
        for taken in dict.fromkeys(self._taken[user] for user in users if user in self._taken):
            found = self._variable((self._no, self._yes))
            equal = made[:, None] == np.array(self._domains[taken])
            table = np.zeros((self._levels, *equal.shape, 2), np.int64)
            table[0, ~equal, 1] = FORBIDDEN
            if before is None:
                self._add(table, source, taken, found)
            else:
                either = np.stack([table, np.zeros_like(table)], axis=3)
                self._add(either, source, taken, before, found)
            before = found
        assert before is not None
        last = np.zeros((self._levels, len(made), 2), np.int64)
        last[0, fresh, 0] = FORBIDDEN
        self._add(last, source, before)

    def _add(self, costs: Costs, *scope: int) -> None:
        self._factors.add(CostTable((), costs), scope)

    def _variable(self, domain: tuple[int, ...]) -> int:
        self._domains.append(domain)
        return len(self._domains) - 1


def _prices_of(graph: LayoutGraph, plan: LayoutPlan, costs: CostModel) -> list[Costs]:
    """The prices of copies by tensor, in the levels cost and transitions; equal ones are shared."""
    known: dict[tuple[tuple[int, ...], VkDataType, bool], Costs] = {}
    found = []
    for t, tensor in enumerate(graph.tensors):
        resolves = tensor.dtype == VkDataType.INT8 and resolves_conv2d(
            graph, plan.layout.readers[t]
        )
        key = tensor.shape, tensor.dtype, resolves
        if key not in known:
            known[key] = copy_prices(costs, tensor, resolves_conv2d=resolves)[:2]
        found.append(known[key])
    return found


def _accepting(operator: str, slot: Slot, label: int) -> Acceptance:
    return Acceptance(operator, "output" if slot.is_output else "argument", slot.index, label)


def _agrees(problem: Problem) -> Iterable[Agree]:
    yield from (factor for factor in problem.others if isinstance(factor, Agree))
    for stamp in problem.stamps:
        if isinstance(stamp.first, Agree):
            for scope in stamp.scopes.tolist():
                yield Agree(tuple(scope), stamp.first.classes)


def _mask(domain: Iterable[int]) -> int:
    return sum(1 << label for label in domain)


def _is_equality(classes: tuple[int, ...], mask: int) -> bool:
    labels = labels_of(mask)
    return len({classes[label] for label in labels}) == len(labels)
