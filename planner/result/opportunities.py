"""What kernels could accept to make plans cheaper, ranked over one program or many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from planner.costs.model import CostModel
from planner.costs.profile import DeviceProfile
from planner.ir.representation import LABELS, REPRS
from planner.optimise.explain import blocked
from planner.optimise.whatif import Acceptance, Occurrence, WhatIf
from planner.result.program import DelegateResult
from planner.result.report import read_document, to_document, to_number
from schema import PlannedProgram
from schema.frozen import frozen

EXACT: Final = 12
"""For so many things that kernels could accept, by promise, the optimum of all operators of a type
is found by default."""

_MOST_OCCURRENCES: Final = 8


@frozen
class OccurrenceReport:
    """One operator of a program, and the optimum if its kernel alone took a representation."""

    delegate: int
    operator_index: int
    """The operator's place in the chain of operators of the planned graph."""
    tensor: str
    """The name of the operand's tensor, the first of a list; empty where it has none."""
    objective_cost: float
    """Of the whole program."""
    saved: float


@frozen
class OpportunityReport:
    """What a kernel could accept, and what the program would cost then."""

    operator: str
    operand: str
    """``argument 0`` or ``output 0``; operands that are tied to it follow it."""
    representation: str
    why: str
    """``kernel``: its kernel does not take it. ``avoided``: it does, but has a known fault."""
    operators: int
    """How many operators of the program it is about."""
    objective_cost: float
    """The optimum if all of them took it; if not exact, the least if one of them did."""
    saved: float
    """How much less that is than what the plan costs."""
    share: float
    """The same as a share of what the plan costs."""
    is_exact: bool
    """Whether it is the optimum for all operators of the type. If not, no less can be saved."""
    occurrences: tuple[OccurrenceReport, ...]
    """Operators that save something by themselves, the most first; each is exact. At most 8."""


@frozen
class Opportunities:
    """What kernels could accept to make the plan of a program cheaper, the most first.

    Costs are in ``unit``. Under the objective ``latency`` costs of operators in representations
    that their kernels do not take are predicted.
    """

    source: str
    objective: str
    unit: str
    objective_cost: float
    """What the plan costs."""
    is_predicted: bool
    is_known: bool
    """False where a graph is too dense to find the optimum for each operator, and some may help."""
    candidates: int
    """Representations that kernels could accept and do not, counted by operator."""
    opportunities: tuple[OpportunityReport, ...]

    def document(self) -> dict[str, Any]:
        """The opportunities as a JSON document."""
        found: dict[str, Any] = to_document(self)
        return found


@frozen
class RankedModel:
    """A program that would be cheaper."""

    source: str
    before: float
    after: float
    share: float
    is_exact: bool


@frozen
class RankedOpportunity:
    """What a kernel could accept, and the programs that would be cheaper, the most first."""

    operator: str
    operand: str
    representation: str
    why: str
    share: float
    """What all programs would cost less, as the mean of their shares."""
    models: tuple[RankedModel, ...]


@frozen
class Ranking:
    """Opportunities over programs, the most first."""

    models: tuple[str, ...]
    objective: str
    unit: str
    is_predicted: bool
    opportunities: tuple[RankedOpportunity, ...]

    def document(self) -> dict[str, Any]:
        """The ranking as a JSON document."""
        found: dict[str, Any] = to_document(self)
        return found


def read_opportunities(document: Mapping[str, Any]) -> Opportunities:
    """The opportunities of a JSON document that ``Opportunities.document`` made."""
    return read_document(Opportunities, document)


class Study:
    """A planned program, and the plans that it would have if kernels took more."""

    def __init__(
        self,
        program: PlannedProgram,
        delegates: Sequence[DelegateResult],
        costs: CostModel,
        profile: DeviceProfile,
    ) -> None:
        self.source, self.objective = program.source_name, program.objective
        self.unit, self._profile = profile.unit, profile
        # Equal delegates share their plan.
        self._delegates = {id(d.layout_plan): d for d in reversed(delegates)}
        self._times = {
            key: sum(id(d.layout_plan) == key for d in delegates) for key in self._delegates
        }
        self._whatifs = {
            key: WhatIf(d.graph, d.layout_plan, costs)
            for key, d in self._delegates.items()
            # What costs nothing cannot cost less.
            if d.layout_plan.cost
        }
        self._cost = sum(d.layout_plan.cost for d in delegates)
        self._names_of: dict[int, Mapping[int, str]] = {}

    @cached_property
    def _alone(self) -> Mapping[Acceptance, list[tuple[int, Occurrence]]]:
        """Operators that save something by themselves, with the key of their delegate."""
        found: dict[Acceptance, list[tuple[int, Occurrence]]] = {}
        for key, whatif in self._whatifs.items():
            for occurrence in whatif.occurrences or ():
                if occurrence.optimum[0] < whatif.cost[0]:
                    found.setdefault(occurrence.acceptance, []).append((key, occurrence))
        for occurrences in found.values():
            occurrences.sort(key=lambda each: each[1].optimum[0] - self._whatifs[each[0]].cost[0])
        return found

    @cached_property
    def promising(self) -> tuple[Acceptance, ...]:
        """What kernels could accept, by what it promises to save, the most first.

        That is what operators save by themselves, and what the repacks cost that they force.
        """
        promise: dict[Acceptance, int] = {}
        for acceptance, occurrences in self._alone.items():
            promise[acceptance] = sum(
                self._times[key] * (self._whatifs[key].cost[0] - occurrence.optimum[0])
                for key, occurrence in occurrences
            )
        for key, whatif in self._whatifs.items():
            if whatif.occurrences is None:
                # Nothing is known of single operators: any type may save something.
                promise = dict.fromkeys(whatif.acceptances, 0) | promise
            result = self._delegates[key]
            group_of = {slot.variable: group for group in whatif.groups for slot in group.slots}
            for transition, made, read in blocked(result.graph, result.layout_plan):
                for side, label in (
                    (made, LABELS[transition.target]),
                    (read, LABELS[transition.source]),
                ):
                    for blocker in side:
                        group = group_of.get(blocker.slot.variable)
                        if group is None:
                            continue
                        acceptance = group.accepting(label)
                        if acceptance in whatif.acceptances:
                            price = self._times[key] * transition.cost
                            promise[acceptance] = promise.get(acceptance, 0) + price
        return tuple(sorted(promise, key=lambda a: (-promise[a], _order(a))))

    def if_all(self, acceptance: Acceptance) -> tuple[int, bool]:
        """The program's cost if every operator of the type took it, and whether that is proven."""
        total, proven = self._cost, True
        for key, whatif in self._whatifs.items():
            if acceptance in whatif.acceptances:
                (cost, _), is_optimal = whatif.if_all(acceptance)
                total -= self._times[key] * (whatif.cost[0] - cost)
                proven = proven and is_optimal
        return total, proven

    def find_all(self, acceptances: Iterable[Acceptance]) -> None:
        """Finds what ``if_all`` says of these, which is sooner done together."""
        asked = tuple(acceptances)
        for whatif in self._whatifs.values():
            whatif.find_all(asked)

    def if_one(self, acceptance: Acceptance) -> int:
        """The program's cost if the operator that saves the most by itself took it."""
        best = (
            self._times[key] * (self._whatifs[key].cost[0] - occurrence.optimum[0])
            for key, occurrence in self._alone.get(acceptance, ())
        )
        return self._cost - max(best, default=0)

    def saves(self, acceptance: Acceptance, *, exactly: bool) -> RankedModel | None:
        """The program with what it would cost; None if it would cost the same."""
        cost, is_exact = self.if_all(acceptance) if exactly else (self.if_one(acceptance), False)
        if cost >= self._cost:
            return None
        share = (self._cost - cost) / self._cost
        return RankedModel(
            self.source, self._number(self._cost), self._number(cost), round(share, 4), is_exact
        )

    def why(self, acceptance: Acceptance) -> str:
        """Why operators do not have the representation, by the first; empty if there is none."""
        for whatif in self._whatifs.values():
            for group in whatif.acceptances.get(acceptance, ()):
                return "avoided" if whatif.is_avoided(group, acceptance.label) else "kernel"
        return ""

    def report(self, exact: int = EXACT) -> Opportunities:
        """What would help; for the ``exact`` most promising the optimum if all operators did."""
        chosen = self.promising[:exact]
        self.find_all(chosen)
        rows = [
            (model, acceptance)
            for acceptance in self.promising
            if (model := self.saves(acceptance, exactly=acceptance in chosen)) is not None
        ]
        rows.sort(key=lambda row: (-row[0].share, _order(row[1])))
        return Opportunities(
            source=self.source,
            objective=self.objective,
            unit=self.unit,
            objective_cost=self._number(self._cost),
            is_predicted=self.objective == "latency",
            is_known=all(w.occurrences is not None for w in self._whatifs.values()),
            candidates=sum(
                self._times[key] * len(groups)
                for key, whatif in self._whatifs.items()
                for groups in whatif.acceptances.values()
            ),
            opportunities=tuple(self._opportunity(*row) for row in rows),
        )

    def _opportunity(self, model: RankedModel, acceptance: Acceptance) -> OpportunityReport:
        return OpportunityReport(
            operator=acceptance.operator,
            operand=_operand(acceptance),
            representation=str(REPRS[acceptance.label]),
            why=self.why(acceptance),
            operators=sum(
                self._times[key] * len(whatif.acceptances.get(acceptance, ()))
                for key, whatif in self._whatifs.items()
            ),
            objective_cost=model.after,
            saved=self._number_of(model.before - model.after),
            share=model.share,
            is_exact=model.is_exact,
            occurrences=tuple(
                self._occurrence(key, occurrence)
                for key, occurrence in self._alone.get(acceptance, ())[:_MOST_OCCURRENCES]
            ),
        )

    def _occurrence(self, key: int, occurrence: Occurrence) -> OccurrenceReport:
        result = self._delegates[key]
        slot = occurrence.group.slots[0]
        saved = self._times[key] * (self._whatifs[key].cost[0] - occurrence.optimum[0])
        return OccurrenceReport(
            delegate=result.plan.index,
            operator_index=result.places.operators[slot.operator],
            tensor=self._names(key).get(result.places.tensors[slot.tensors[0]], ""),
            objective_cost=self._number(self._cost - saved),
            saved=self._number(saved),
        )

    def _names(self, key: int) -> Mapping[int, str]:
        """The names of a delegate's tensors, by their values."""
        if key not in self._names_of:
            tensors = self._delegates[key].plan.tensors
            self._names_of[key] = {tensor.value_id: tensor.name for tensor in tensors}
        return self._names_of[key]

    def _number(self, cost: int) -> float:
        return to_number(self._profile.in_units(cost), self._profile.unit)

    def _number_of(self, cost: float) -> float:
        return to_number(round(cost, 3), self._profile.unit)


def rank(studies: Sequence[Study], exact: int = EXACT) -> Ranking:
    """Opportunities over programs that were planned with the same options; there is at least one.

    For the ``exact`` most promising of each program, and of all, the optima are exact.
    """
    promising = {study: study.promising[:exact] for study in studies}
    found: dict[Acceptance, float] = {}
    for study in studies:
        study.find_all(promising[study])
        for acceptance in study.promising:
            model = study.saves(acceptance, exactly=acceptance in promising[study])
            if model is not None:
                found[acceptance] = found.get(acceptance, 0.0) + model.share
    ranked = sorted(found, key=lambda a: (-found[a], _order(a)))
    for study in studies:
        study.find_all(ranked[:exact])
    rows = []
    for place, acceptance in enumerate(ranked):
        models = []
        for study in studies:
            exactly = place < exact or acceptance in promising[study]
            model = study.saves(acceptance, exactly=exactly)
            if model is not None:
                models.append(model)
        models.sort(key=lambda model: (-model.share, model.source))
        rows.append(
            RankedOpportunity(
                operator=acceptance.operator,
                operand=_operand(acceptance),
                representation=str(REPRS[acceptance.label]),
                why=next(why for study in studies if (why := study.why(acceptance))),
                share=round(sum(model.share for model in models) / len(studies), 4),
                models=tuple(models),
            )
        )
    rows.sort(key=lambda row: -row.share)
    first = studies[0]
    return Ranking(
        models=tuple(study.source for study in studies),
        objective=first.objective,
        unit=first.unit,
        is_predicted=first.objective == "latency",
        opportunities=tuple(rows),
    )


def rank_found(programs: Sequence[Opportunities]) -> Ranking:
    """The opportunities that were found for programs with the same options, ranked together.

    What was not found for one of them counts as nothing there.
    """
    models: dict[tuple[str, str, str], list[tuple[RankedModel, str]]] = {}
    for program in programs:
        for row in program.opportunities:
            model = RankedModel(
                program.source,
                program.objective_cost,
                row.objective_cost,
                row.share,
                row.is_exact,
            )
            key = row.operator, row.operand, row.representation
            models.setdefault(key, []).append((model, row.why))
    rows = [
        RankedOpportunity(
            *key,
            why=found[0][1],
            share=round(sum(model.share for model, _ in found) / len(programs), 4),
            models=tuple(
                sorted((m for m, _ in found), key=lambda model: (-model.share, model.source))
            ),
        )
        for key, found in sorted(models.items())
    ]
    rows.sort(key=lambda row: -row.share)
    return Ranking(
        models=tuple(program.source for program in programs),
        objective=programs[0].objective,
        unit=programs[0].unit,
        is_predicted=programs[0].is_predicted,
        opportunities=tuple(rows),
    )


def _operand(acceptance: Acceptance) -> str:
    return f"{acceptance.side} {acceptance.index}"


def _order(acceptance: Acceptance) -> tuple[str, str, int]:
    return acceptance.operator, _operand(acceptance), acceptance.label
