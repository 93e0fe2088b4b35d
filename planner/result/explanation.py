"""Why the repacks of a planned program remain, as a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from planner.costs.profile import DeviceProfile
from planner.ir.representation import REPRS
from planner.optimise.explain import Blocker, Reason, explain_plan
from planner.result.program import DelegateResult
from planner.result.report import IN_API, UserReport, read_document, to_document, to_number
from schema import PlannedProgram
from schema.frozen import frozen


@frozen
class BlockerReport:
    """An operand that does not take a representation; its operator's others follow it."""

    operator_index: int
    """The operator's place in the chain of operators of the planned graph."""
    operator: str
    operand: str
    """``argument 0`` or ``output 0``."""
    tensor: str
    """The name of the operand's tensor, the first of a list; empty where it has none."""
    accepts: tuple[str, ...]
    """The representations that the plan has to choose from there."""
    distance: int
    """How many tensors lie between it and the repack."""
    why: str
    """``kernel``: its kernel does not take it. ``avoided``: a known fault, or textures come first.
    ``limits``: the tensor cannot have it within the device's limits and the options."""


@frozen
class WithoutReport:
    """The least that a plan costs in which a repack's users read the tensor as it is made."""

    objective_cost: float
    extra: float
    """What it costs more than the plan."""
    transitions: int


@frozen
class ReasonReport:
    """A repack, and why it remains."""

    __pydantic_config__: ClassVar = IN_API

    tensor: str
    from_: str
    to: str
    cost: float
    operator_index: int
    """The repack's place in the chain of operators."""
    users: tuple[UserReport, ...]
    made: tuple[BlockerReport, ...]
    """Nearest first: operands that keep the tensor from being made in the copy's representation."""
    read: tuple[BlockerReport, ...]
    """Nearest first: operands that keep it from being read in the representation it is made in."""
    without: WithoutReport | None
    """Null where there is no such plan, or it is not known."""
    is_known: bool
    """False where the graph is connected too densely to find the plan without the repack."""


@frozen
class DelegateExplanation:
    """The repacks of a delegate."""

    index: int
    name: str
    objective_cost: float
    repacks: tuple[ReasonReport, ...]


@frozen
class Explanation:
    """Why the repacks of a planned program remain. Costs are in ``unit``."""

    source: str
    objective: str
    unit: str
    delegates: tuple[DelegateExplanation, ...]

    def document(self) -> dict[str, Any]:
        """The explanation as a JSON document."""
        found: dict[str, Any] = to_document(self)
        return found


def read_explanation(document: Mapping[str, Any]) -> Explanation:
    """The explanation of a JSON document that ``Explanation.document`` made."""
    return read_document(Explanation, document)


def explain(
    program: PlannedProgram, delegates: Sequence[DelegateResult], profile: DeviceProfile
) -> Explanation:
    """Why each repack of a planned program remains; ``profile`` has the unit of its costs."""
    return Explanation(
        program.source_name,
        program.objective,
        profile.unit,
        tuple(_Delegate(result, profile).explained() for result in delegates),
    )


class _Delegate:
    """A delegate, by the names and places of its written graph."""

    def __init__(self, result: DelegateResult, profile: DeviceProfile) -> None:
        self._result, self._profile = result, profile
        self._names = {tensor.value_id: tensor.name for tensor in result.plan.tensors}

    def explained(self) -> DelegateExplanation:
        result = self._result
        reasons = explain_plan(result.graph, result.layout_plan)
        return DelegateExplanation(
            result.plan.index,
            result.plan.name,
            self._number(result.layout_plan.cost),
            tuple(self._reason(number, reason) for number, reason in enumerate(reasons)),
        )

    def _reason(self, number: int, reason: Reason) -> ReasonReport:
        described = self._result.plan.transitions[number]
        return ReasonReport(
            tensor=self._names.get(described.source, ""),
            from_=str(reason.transition.source),
            to=str(reason.transition.target),
            cost=self._number(reason.transition.cost),
            operator_index=described.operator_index,
            users=tuple(
                UserReport(user.operator_index, user.operator_name, user.argument)
                for user in described.users
            ),
            made=tuple(map(self._blocker, reason.made)),
            read=tuple(map(self._blocker, reason.read)),
            without=None if reason.without is None else self._without(*reason.without),
            is_known=reason.is_known,
        )

    def _blocker(self, blocker: Blocker) -> BlockerReport:
        slot, places = blocker.slot, self._result.places
        return BlockerReport(
            operator_index=places.operators[slot.operator],
            operator=self._result.graph.operators[slot.operator].name,
            operand=f"{'output' if slot.is_output else 'argument'} {slot.index}",
            tensor=self._names.get(places.tensors[slot.tensors[0]], ""),
            accepts=tuple(str(REPRS[label]) for label in blocker.accepted),
            distance=blocker.distance,
            why=blocker.why,
        )

    def _without(self, cost: int, transitions: int) -> WithoutReport:
        extra = cost - self._result.layout_plan.cost
        return WithoutReport(self._number(cost), self._number(extra), transitions)

    def _number(self, cost: int) -> float:
        return to_number(self._profile.in_units(cost), self._profile.unit)
