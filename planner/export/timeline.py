"""A program's steps in the order in which they run, with measured and predicted times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from planner.errors import InputError, OptionError, Remedy
from planner.files.listing import ListedDelegate, Listing, read_listing, representation
from planner.measured.calls import Place, place
from planner.measured.costs import MeasuredSource
from planner.measured.etdump import read_etdump
from planner.measured.join import STAGING, Join, Sample, StepKind, join
from planner.measured.pricing import price_contracted
from planner.options import PlanOptions
from planner.vkgraph.wellformed import members_of
from schema import CostOrigin, OperatorCost, Transition, VkTensor
from schema.frozen import frozen
from schema.vkgraph import OperatorCall

_MOST_NS: Final = 1e15


@frozen
class StepTensor:
    """A tensor of a step, at a place of its call or of the graph's inputs or outputs.

    ``representation`` is None for one left to the runtime, ``name`` is None if the file has none.
    """

    place: Place
    value_id: int
    name: str | None
    shape: tuple[int, ...]
    dtype: str
    representation: str | None
    is_constant: bool

    @property
    def type_text(self) -> str:
        """Type and shape: ``float32[1,3,96,96]``."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@frozen
class Predicted:
    """A step's predicted time in ns, and its origin."""

    ns: float
    origin: CostOrigin


@frozen
class ProgramStep:
    """A step of a delegate. Staging has no ``position`` in the chain and no tensors of its own.

    ``measured`` (ns) and ``predicted`` are None where they are unknown.
    """

    delegate: int
    position: int | None
    node_id: int | None
    operator: str
    kind: StepKind
    inputs: tuple[StepTensor, ...]
    outputs: tuple[StepTensor, ...]
    measured: Sample | None
    predicted: Predicted | None

    @property
    def name(self) -> str | None:
        """The name of the tensor that the step makes; None if unknown."""
        return self.outputs[0].name if self.outputs else None

    @property
    def change(self) -> tuple[str, str] | None:
        """The source and target representation of a transition; None for other steps."""
        if self.kind != "transition":
            return None
        made = self.inputs[0].representation, self.outputs[0].representation
        return made[0] or "default", made[1] or "default"


@frozen
class TimedProgram:
    """A program with the measured times of a run and with predicted times.

    ``predicted_by`` names the source of the predictions. Steps are in the order in which they run,
    delegate by delegate; staging comes first.
    """

    listing: Listing
    run: Join | None
    predicted_by: str
    steps: tuple[ProgramStep, ...]

    @property
    def predicted(self) -> float:
        """The predicted time of all steps, in ns."""
        return sum(step.predicted.ns for step in self.steps if step.predicted is not None)

    @property
    def unpredicted(self) -> tuple[ProgramStep, ...]:
        """Steps without a prediction, except staging."""
        return tuple(
            step
            for step in self.steps
            if step.kind != "staging" and (step.predicted is None or not step.predicted.ns)
        )


_Key = tuple[int, int | None]
"""A step's delegate and position."""


def time_program(
    data: bytes,
    name: str,
    options: PlanOptions | None = None,
    etdump: bytes | None = None,
    etdump_name: str = "",
) -> TimedProgram:
    """Reads a .pte, a VkGraph or a planned program, and predicts the time of each step.

    Predictions use the costs in ``options``; without options, those in a planned program.
    ``etdump`` holds the times of a run. Raises ``InputError`` for files that cannot be read or do
    not belong together, ``OptionError`` for costs that are not times.
    """
    if options is not None:
        _check_unit(options)
    listing = read_listing(data, name)
    if options is None:
        predicted_by, predicted = _planned(listing)
    else:
        predicted_by, predicted = _priced(listing, options)
    run = None
    if etdump is not None:
        graphs = [delegate.graph for delegate in listing.delegates]
        run = join(read_etdump(etdump, etdump_name), graphs, etdump_name)
    measured: dict[_Key, Sample] = {}
    for step in () if run is None else run.steps:
        call = step.graph_call
        measured[step.delegate, None if call is None else call.position] = step.sample
    steps = tuple(
        step
        for index, delegate in enumerate(listing.delegates)
        for step in _steps(index, delegate, measured, predicted)
    )
    return TimedProgram(listing, run, predicted_by, steps)


def tensors_of(delegate: ListedDelegate, value_id: int, where: Place) -> Iterator[StepTensor]:
    """The tensors of a value: one, the members of a list, or none."""
    for member in members_of(delegate.graph, value_id):
        tensor = delegate.graph.values[member]
        if isinstance(tensor, VkTensor):
            yield StepTensor(
                place=where,
                value_id=member,
                name=delegate.names.get(member),
                shape=tensor.dims,
                dtype=tensor.datatype.name.lower(),
                representation=representation(tensor),
                is_constant=tensor.constant_id >= 0,
            )


def _steps(
    index: int,
    delegate: ListedDelegate,
    measured: Mapping[_Key, Sample],
    predicted: Mapping[_Key, Predicted],
) -> Iterator[ProgramStep]:
    staging = index, None
    if staging in measured or staging in predicted:
        yield ProgramStep(
            delegate=index,
            position=None,
            node_id=None,
            operator=STAGING.operator,
            kind="staging",
            inputs=(),
            outputs=(),
            measured=measured.get(staging),
            predicted=predicted.get(staging),
        )
    transitions = {t.position for t in delegate.contracted.transitions}
    for position, call in enumerate(delegate.graph.chain):
        inputs, outputs = _operands(delegate, call)
        yield ProgramStep(
            delegate=index,
            position=position,
            node_id=call.node_id,
            operator=call.name,
            kind="transition" if position in transitions else "operator",
            inputs=inputs,
            outputs=outputs,
            measured=measured.get((index, position)),
            predicted=predicted.get((index, position)),
        )


def _operands(
    delegate: ListedDelegate, call: OperatorCall
) -> tuple[tuple[StepTensor, ...], tuple[StepTensor, ...]]:
    inputs = [
        tensor
        for argument, value_id in enumerate(call.args[:-1])
        for tensor in tensors_of(delegate, value_id, place(False, argument))
    ]
    outputs = [
        tensor
        for output, value_id in enumerate(members_of(delegate.graph, call.args[-1]))
        for tensor in tensors_of(delegate, value_id, place(True, output))
    ]
    return tuple(inputs), tuple(outputs)


def _check_unit(options: PlanOptions) -> None:
    if options.profile.unit != "ns":
        raise OptionError(
            f"profile {options.profile.name!r} counts {options.profile.unit}, not time",
            Remedy.PREDICT_TIMES,
        )


def _priced(listing: Listing, options: PlanOptions) -> tuple[str, dict[_Key, Predicted]]:
    costs, profile = options.cost_model(), options.profile
    source = options.costs
    staging = source.times.model.staging if isinstance(source, MeasuredSource) else 0.0
    predicted: dict[_Key, Predicted] = {}
    for index, delegate in enumerate(listing.delegates):
        if staging:
            predicted[index, None] = Predicted(staging, CostOrigin.MEASURED)
        for priced in price_contracted(delegate.graph, delegate.contracted, costs):
            step = Predicted(profile.in_units(priced.cost), priced.origin)
            predicted[index, priced.call.position] = step
    return options.costs.name, predicted


def _planned(listing: Listing) -> tuple[str, dict[_Key, Predicted]]:
    """The source and the predictions in a planned program, by delegate and position."""
    program = listing.program
    if program is None:
        raise OptionError(f"{listing.name} has no times", Remedy.PREDICT_TIMES)
    if program.cost_unit != "ns":
        raise OptionError(
            f"the plan {listing.name} counts {program.cost_unit}, not time", Remedy.PREDICT_TIMES
        )
    predicted: dict[_Key, Predicted] = {}
    for index, delegate in enumerate(listing.delegates):
        if delegate.plan is None:
            continue
        costs: tuple[Transition | OperatorCost, ...]
        costs = *delegate.plan.transitions, *delegate.plan.operator_costs
        for cost in costs:
            if not 0 <= cost.cost < _MOST_NS:
                raise InputError(
                    f"{listing.name} is damaged: operator {cost.operator_index} of delegate "
                    f"{index} costs {cost.cost} ns"
                )
            step = Predicted(cost.cost, cost.origin)
            predicted[index, cost.operator_index] = step
    return f"the plan, by {program.profile_name}", predicted
