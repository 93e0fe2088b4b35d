"""What a plan would cost if kernels accepted more: the optimum for each thing they could accept.

All representations that tensors can physically have are put into the domains of a plan's problem.
A new first level counts how many groups of tied operands have one that their kernel does not take.
The best plan that gives a group such a representation, with nothing else counted, is the optimum if
that one kernel took it there; the min-marginals of the problem are these optima, all at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Final, Literal

import numpy as np

from planner.costs.model import CostModel
from planner.ir.graph import LayoutGraph, Side
from planner.ir.representation import ANY_TEXTURE, PACKED_INT8_CONV2D_BUFFER, labels_of
from planner.kernels.rep_sets import op_rep_sets
from planner.optimise.constraints import possible
from planner.optimise.plan import LayoutPlan
from planner.optimise.problem import copy_prices, resolves_conv2d
from planner.optimise.restricted import Restricted
from planner.optimise.slots import Slot
from schema import VkDataType
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
from solver.problem import Costs, Factor
from solver.solve import optima

_CONV2D: Final = PACKED_INT8_CONV2D_BUFFER.mask
"""The runtime replaces it by what its neighbours have: no kernel could take it anywhere."""

Cost = tuple[int, int]
"""The cost of a plan, and its transitions."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What a kernel could accept: a representation, for an operand and those that are tied to it.

    ``operand`` is the first of them, as an operator's side and index there.
    """

    operator: str
    side: Literal["argument", "output"]
    index: int
    label: int


@dataclass(frozen=True, slots=True)
class Group:
    """Operands of one operator that have to be packed alike."""

    slots: tuple[Slot, ...]
    is_one: bool
    """Whether they can only have one and the same label."""

    def accepting(self, graph: LayoutGraph, label: int) -> Acceptance:
        """That this operator's kernel takes a label for the group."""
        first = self.slots[0]
        return Acceptance(
            graph.operators[first.operator].name,
            "output" if first.is_output else "argument",
            first.index,
            label,
        )


@dataclass(frozen=True, slots=True)
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
        self._slots, self._readers = list(layout.slots), list(layout.readers)
        self._today = [_mask(variable.domain) for variable in problem.variables]
        self._agrees = [f for f in problem.factors if isinstance(f, Agree)]
        self._restricted = Restricted(graph, plan.limits.restrictions)
        self._possible: dict[tuple[tuple[int, ...], VkDataType], int] = {}
        self._prices = _prices_of(graph, plan, costs)
        self._tables: dict[tuple[int, tuple[int, ...]], list[tuple[tuple[int, ...], Costs]]] = {}
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
            for label in labels_of(self._missing(group)):
                found.setdefault(group.accepting(self._graph, label), []).append(group)
        return {acceptance: tuple(groups) for acceptance, groups in found.items()}

    @cached_property
    def occurrences(self) -> tuple[Occurrence, ...] | None:
        """The optimum for each group and label, if that kernel alone took it: all are exact.

        None where the graph is connected too densely to find them.
        """
        problem, asked = self._problem({id(g): self._missing(g) for g in self.groups}, [{}])
        try:
            found = marginals(problem)
            best: list[Occurrence] = []
            for group, label, variable in asked:
                entry = found.cost(variable, label)
                cost = self.cost
                if entry is not None and entry[0] == 1:
                    cost = min(cost, (entry[1], entry[2]))
                best.append(Occurrence(group, group.accepting(self._graph, label), cost))
        except TooDenseError:
            return None
        return tuple(best)

    def find_all(self, acceptances: Iterable[Acceptance]) -> None:
        """Finds what ``if_all`` says of these, together where that is possible: it is sooner done.

        Their labels are in one problem, with a level for each that counts the labels of others.
        """
        asked = [a for a in acceptances if a in self.acceptances and a not in self._solved]
        if len(asked) < 2:
            return
        extra: dict[int, int] = {}
        free: list[dict[int, int]] = []
        for acceptance in asked:
            free.append({id(g): 1 << acceptance.label for g in self.acceptances[acceptance]})
            for group, label in free[-1].items():
                extra[group] = extra.get(group, 0) | label
        problem, _ = self._problem(extra, free)
        try:
            found = optima(problem, len(free))
        except TooDenseError:
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
        problem, _ = self._problem({id(group): 1 << label for group in groups}, [])
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
        for operator, slots in groupby(self._slots, key=lambda slot: slot.operator):
            if operator in self._graph.pinned:
                continue
            group_of = {slot.variable: [slot] for slot in slots}
            ties: dict[int, list[Agree]] = {v: [] for v in group_of}
            for agree in self._agrees_of(group_of):
                tied = group_of[agree.scope[0]]
                factors = ties[agree.scope[0]]
                for v in agree.scope[1:]:
                    if group_of[v] is not tied:
                        tied += group_of[v]
                        factors += ties[v]
                        for slot in group_of[v]:
                            group_of[slot.variable], ties[slot.variable] = tied, factors
                factors.append(agree)
            seen: list[list[Slot]] = []
            for v, tied in group_of.items():
                if not any(tied is other for other in seen):
                    seen.append(tied)
                    mask = 0
                    for slot in tied:
                        mask |= self._today[slot.variable] | self._could(slot)
                    is_one = len(tied) == 1 or all(
                        _is_equality(agree.classes, mask) for agree in ties[v]
                    )
                    yield Group(tuple(tied), is_one)

    @cached_property
    def _agrees_by_variable(self) -> dict[int, list[Agree]]:
        found: dict[int, list[Agree]] = {}
        for agree in self._agrees:
            found.setdefault(agree.scope[0], []).append(agree)
        return found

    def _agrees_of(self, variables: Mapping[int, object]) -> Iterable[Agree]:
        for v in variables:
            for agree in self._agrees_by_variable.get(v, ()):
                if all(other in variables for other in agree.scope):
                    yield agree

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

    def _missing(self, group: Group) -> int:
        """The labels that all operands of a group could have, and the kernel does not take."""
        could, taken = -1, -1
        for slot in group.slots:
            could &= self._could(slot) | self._today[slot.variable]
            taken &= self._today[slot.variable]
        return could & ~taken & (1 << self._plan.layout.problem.labels) - 1

    def _problem(
        self, extra: Mapping[int, int], free: Sequence[Mapping[int, int]]
    ) -> tuple[Problem, list[tuple[Group, int, int]]]:
        """The problem in which groups, by their ids, have more labels.

        For each of ``free`` there is a first level, which counts the groups that have one of these
        but for the labels that it has for them. What to ask for is a group, a label, and the
        variable that has it then.
        """
        layout = self._plan.layout
        builder = _Building(layout.problem.labels, len(free), list(self._today))
        asked: list[tuple[Group, int, int]] = []
        for group in self.groups:
            more = extra.get(id(group), 0)
            if more:
                for slot in group.slots:
                    builder.masks[slot.variable] |= more
        slots = {slot.variable for slot in self._slots}
        for t, (producer, readers) in enumerate(zip(layout.producers, self._readers, strict=True)):
            if producer is not None and producer not in slots:
                for reader in readers:
                    read = builder.masks[reader.variable]
                    builder.masks[producer] |= read & self._restricted.made(t)
        builder.close()
        from_outside = self._newly_from_outside(builder, slots) if free else {}
        readers_of = {v for users in from_outside.values() for v in users}
        for group in self.groups:
            more = extra.get(id(group), 0)
            if free and more:
                counted = [more & ~own.get(id(group), 0) for own in free]
                is_plain = group.is_one and readers_of.isdisjoint(s.variable for s in group.slots)
                asked += builder.count(group, more, counted, self._today, is_plain=is_plain)
        for producer, users in from_outside.items():
            builder.use_new_labels(producer, users, self._today[producer])
        builder.factors += [Agree(a.scope, (*a.classes, *builder.spare)) for a in self._agrees]
        self._add_copies(builder)
        self._add_operators(builder)
        return builder.problem(), asked

    def _newly_from_outside(
        self, builder: _Building, slots: set[int]
    ) -> dict[int, tuple[int, ...]]:
        """Tensors from outside that could have more labels than before, and their users."""
        layout = self._plan.layout
        return {
            producer: tuple(dict.fromkeys(slot.variable for slot in readers))
            for producer, readers in zip(layout.producers, self._readers, strict=True)
            if producer is not None
            and producer not in slots
            and builder.masks[producer] & ~self._today[producer]
        }

    def _add_copies(self, builder: _Building) -> None:
        layout = self._plan.layout
        for t, (producer, readers) in enumerate(zip(layout.producers, self._readers, strict=True)):
            if producer is None or not readers:
                continue
            users = tuple(dict.fromkeys(slot.variable for slot in readers))
            mask = builder.masks[producer]
            if not (mask & mask - 1) and all(builder.masks[u] == mask for u in users):
                continue
            builder.factors.append(SharedCopies(producer, users, builder.prices(self._prices[t])))

    def _add_operators(self, builder: _Building) -> None:
        graph = self._graph
        for operator, group in groupby(self._slots, key=lambda slot: slot.operator):
            if operator in graph.pinned:
                continue
            slots = list(group)
            masks = tuple(builder.masks[slot.variable] for slot in slots)
            key = operator, masks
            if key not in self._tables:
                operands = [
                    slot.priced(labels_of(mask)) for slot, mask in zip(slots, masks, strict=True)
                ]
                self._tables[key] = list(
                    self._costs.operator(graph.operators[operator], graph.tensors, operands)
                )
            for scope, costs in self._tables[key]:
                builder.add_cost(tuple(slots[i].variable for i in scope), costs)


class _Building:
    """A problem that is being put together; its levels are counts, if any, cost, transitions.

    Two labels more than representations have are answers of variables that are no operands: no,
    and yes.
    """

    def __init__(self, labels: int, counts: int, masks: list[int]) -> None:
        self.labels, self._no, self._yes = labels, labels, labels + 1
        self.spare = (1000, 1001)
        """Classes of the labels that are no representations."""
        self.masks = masks
        self.factors: list[Factor] = []
        self._first = counts
        self._levels = self._first + 2
        self._domains: list[tuple[int, ...]] = []
        self._padded: dict[int, Costs] = {}
        self._counts: dict[tuple[tuple[int, ...], tuple[int, ...]], Costs] = {}
        self._taken: dict[int, int] = {}
        """By operand: the variable that says which label the kernel takes besides, if any."""

    def close(self) -> None:
        """The masks are known."""
        self._domains = [labels_of(mask) for mask in self.masks]

    def problem(self) -> Problem:
        """The problem."""
        variables = tuple(Variable(domain) for domain in self._domains)
        return Problem(self.labels + 2, self._levels, variables, tuple(self.factors))

    def prices(self, prices: Costs) -> Costs:
        """The prices of copies in the levels and labels of the problem."""
        if id(prices) not in self._padded:
            self._padded[id(prices)] = np.pad(prices, ((self._first, 0), (0, 2), (0, 2)))
            if self._first:
                padded = self._padded[id(prices)]
                barred = padded[self._first] >= FORBIDDEN
                padded[0, barred], padded[self._first, barred] = FORBIDDEN, 0
        return self._padded[id(prices)]

    def add_cost(self, scope: tuple[int, ...], costs: Costs) -> None:
        """Adds a table of costs."""
        levels = np.zeros((self._levels, *costs.shape), np.int64)
        levels[self._first] = costs
        self.factors.append(CostTable(scope, levels))

    def count(
        self,
        group: Group,
        more: int,
        counted: Sequence[int],
        today: Sequence[int],
        *,
        is_plain: bool,
    ) -> list[tuple[Group, int, int]]:
        """Counts a group that has one of the labels ``more``; what can be asked for then.

        Each level counts the labels that are ``counted`` there.

        It is plain if the label that its first operand has says which one the kernel takes besides.
        """
        first = group.slots[0].variable
        if is_plain:
            domain = self._domains[first]
            key = domain, tuple(counted)
            if key not in self._counts:
                table = np.zeros((self._levels, len(domain)), np.int64)
                for level, mask in enumerate(counted):
                    table[level] = [mask >> label & 1 for label in domain]
                self._counts[key] = table
            self.factors.append(CostTable((first,), self._counts[key]))
            return [(group, label, first) for label in labels_of(more)]
        taken = self._variable((self._no, *labels_of(more)))
        self._taken |= {slot.variable: taken for slot in group.slots}
        table = np.zeros((self._levels, len(self._domains[taken])), np.int64)
        for level, mask in enumerate(counted):
            table[level, 1:] = [mask >> label & 1 for label in labels_of(more)]
        self.factors.append(CostTable((taken,), table))
        besides = np.array(self._domains[taken])
        for slot in group.slots:
            labels = np.array(self._domains[slot.variable])
            fresh = np.array([not today[slot.variable] >> label & 1 for label in labels.tolist()])
            table = np.zeros((self._levels, len(labels), len(besides)), np.int64)
            table[0, fresh[:, None] & (labels[:, None] != besides)] = FORBIDDEN
            self.factors.append(CostTable((slot.variable, taken), table))
        return [(group, label, taken) for label in labels_of(more)]

    def use_new_labels(self, source: int, users: tuple[int, ...], today: int) -> None:
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
                self.factors.append(CostTable((source, taken, found), table))
            else:
                either = np.stack([table, np.zeros_like(table)], axis=3)
                self.factors.append(CostTable((source, taken, before, found), either))
            before = found
        assert before is not None
        last = np.zeros((self._levels, len(made), 2), np.int64)
        last[0, fresh, 0] = FORBIDDEN
        self.factors.append(CostTable((source, before), last))

    def _variable(self, domain: tuple[int, ...]) -> int:
        self._domains.append(domain)
        return len(self._domains) - 1


def _prices_of(graph: LayoutGraph, plan: LayoutPlan, costs: CostModel) -> list[Costs]:
    """The prices of copies by tensor, in the levels cost and transitions; equal ones are shared."""
    known: dict[tuple[tuple[int, ...], VkDataType, bool], Costs] = {}
    found = []
    for tensor, readers in zip(graph.tensors, plan.layout.readers, strict=True):
        key = tensor.shape, tensor.dtype, resolves_conv2d(graph, readers)
        if key not in known:
            known[key] = copy_prices(costs, tensor, resolves_conv2d=key[2])[:2]
        found.append(known[key])
    return found


def _mask(domain: Iterable[int]) -> int:
    return sum(1 << label for label in domain)


def _is_equality(classes: tuple[int, ...], mask: int) -> bool:
    labels = labels_of(mask)
    return len({classes[label] for label in labels}) == len(labels)
