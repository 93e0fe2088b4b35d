"""Two runs of one program with different layouts: measured and predicted times of each step."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from math import exp

from planner.compare.comparison import ComparedStep, Comparison, ProfiledRun, Speed, StepTime
from planner.compare.matching import match
from planner.costs.model import CostSource
from planner.errors import InputError
from planner.files.listing import ListedDelegate, read_listing
from planner.measured.calls import Operands, place
from planner.measured.costs import DeviceTimes, LearnedCosts, MeasuredSource
from planner.measured.etdump import read_etdump
from planner.measured.join import Sample, join
from planner.measured.pricing import PricedCall, price_contracted
from planner.measured.timemodel import TimeModel, counted_places
from planner.vkgraph.reader import PresentTransition
from planner.vkgraph.wellformed import repr_of
from schema import CostOrigin, VkGraph, VkTensor


def read_run(etdump: bytes, etdump_name: str, program: bytes, program_name: str) -> ProfiledRun:
    """Reads an ETDump and the program that it measured: a .pte, a VkGraph or a planned program.

    Raises ``InputError`` for damaged files, and for an ETDump of another program.
    """
    listing = read_listing(program, program_name)
    graphs = [delegate.graph for delegate in listing.delegates]
    runs = read_etdump(etdump, etdump_name)
    try:
        joined = join(runs, graphs, etdump_name)
    except InputError as error:
        raise InputError(
            f"{error} ({program_name}): name the programs that ran, in the order of the runs"
        ) from error
    return ProfiledRun(etdump_name, listing, joined)


def compare_runs(a: ProfiledRun, b: ProfiledRun, source: CostSource) -> Comparison:
    """Compares two runs of one program.

    Predictions come from measured costs; if ``source`` is only a profile, from what run A measured
    and else the profile. Raises ``InputError`` for different programs, naming the first operator
    that differs, and ``OptionError`` for a profile that does not count in ns.
    """
    if len(a.program.delegates) != len(b.program.delegates):
        raise InputError(
            "these are different programs: the number of Vulkan delegates is "
            f"{len(a.program.delegates)} in {a.program.name} but {len(b.program.delegates)} in "
            f"{b.program.name}"
        )
    if isinstance(source, MeasuredSource):
        by = source.times
    else:
        by = DeviceTimes.of(f"run A ({a.name})", [a.join.samples])
    profile = source.profile
    costs = LearnedCosts(by, profile, "latency")
    steps = [
        step
        for index in range(len(a.program.delegates))
        for step in _Delegates(index, *(_Side(run, index, by, costs) for run in (a, b))).steps()
    ]
    return Comparison(
        a=a,
        b=b,
        costs=f"{by.device}; else profile {profile.name}",
        # Equal changes stay in the order of execution.
        steps=tuple(sorted(steps, key=lambda step: -abs(step.change))),
        unknown=(a.join.unknown, b.join.unknown),
        speed=_speed(a.join.samples, b.join.samples),
    )


def _speed(a: Sequence[Sample], b: Sequence[Sample]) -> Speed | None:
    ns_a, ns_b = map(_by_call, (a, b))
    shared = ns_a.keys() & ns_b.keys()
    total = sum(ns_a.values())
    if not shared or not total:
        return None
    drift = TimeModel([a, b]).drift
    return Speed(exp(drift[1] - drift[0]), sum(ns_a[key] for key in shared) / total)


def _by_call(samples: Sequence[Sample]) -> Mapping[Hashable, float]:
    """Nanoseconds by call and representations, which the time model treats as the same."""
    found: dict[Hashable, float] = defaultdict(float)
    for sample in samples:
        if sample.operands:
            counted = counted_places([where for where, _ in sample.operands])
            operands = tuple((where, r) for where, r in sample.operands if where in counted)
            found[sample.call, operands] += sample.median
    return found


class _Side:
    """A delegate of one of the runs, with its steps' times by position in the chain."""

    def __init__(
        self, run: ProfiledRun, index: int, times: DeviceTimes, costs: LearnedCosts
    ) -> None:
        self.file = run.program.name
        self.delegate: ListedDelegate = run.program.delegates[index]
        self.contracted = self.delegate.contracted
        self.priced: dict[int, PricedCall] = {
            priced.call.position: priced
            for priced in price_contracted(self.delegate.graph, self.contracted, costs)
        }
        self.times, self.profile = times, costs.profile
        self.measured: dict[int, float] = defaultdict(float)
        self.staging: float | None = None
        for step in run.join.steps:
            if step.delegate != index:
                continue
            if step.graph_call is None:
                self.staging = (self.staging or 0.0) + step.sample.median
            else:
                self.measured[step.graph_call.position] += step.sample.median

    def time(self, position: int, value_id: int | None) -> StepTime:
        """The time of the call at a position."""
        priced = self.priced[position]
        return StepTime(
            position,
            value_id,
            priced.call.operands,
            self.measured.get(position, 0.0),
            self.profile.in_units(priced.cost),
            priced.origin,
        )

    def ran(self, time: StepTime | None) -> bool:
        """Whether there is such a step, and it was measured, be it as nothing, or takes time."""
        return time is not None and (time.position in self.measured or time.predicted > 0)

    def staged(self) -> StepTime | None:
        """The time of the copies of inputs and outputs; None where there are none."""
        if self.staging is None:
            return None
        predicted = self.times.model.staging
        origin = CostOrigin.MEASURED if predicted else CostOrigin.MODELLED
        operands = _represented(self.delegate.graph)
        return StepTime(None, None, operands, self.staging, predicted, origin)


def _represented(graph: VkGraph) -> Operands:
    """A graph's inputs and outputs, as operands."""
    return tuple(
        (place(is_output, index), representation)
        for is_output, ids in ((False, graph.input_ids), (True, graph.output_ids))
        for index, value_id in enumerate(ids)
        if isinstance(value := graph.values[value_id], VkTensor)
        and (representation := repr_of(value)) is not None
    )


class _Delegates:
    """A delegate in both runs."""

    def __init__(self, index: int, a: _Side, b: _Side) -> None:
        self.index, self.a, self.b = index, a, b
        matching = match(a.contracted, a.file, b.contracted, b.file)
        self.pairs = tuple(zip(matching.a, matching.b, strict=True))
        self.a_numbers = {value_id: n for n, value_id in enumerate(matching.a)}
        self.b_numbers = {value_id: n for n, value_id in enumerate(matching.b)}

    def steps(self) -> Iterator[ComparedStep]:
        """All steps except those that do not run: constants are packed when a program loads."""
        found = [*self._operators(), *self._transitions()]
        found.sort(key=self._order)
        for step in found:
            if self.a.ran(step.a) or self.b.ran(step.b):
                yield step
        yield from self._staging()

    @staticmethod
    def _order(step: ComparedStep) -> int:
        position = next(t.position for t in (step.a, step.b) if t is not None)
        return position or 0

    def _operators(self) -> Iterator[ComparedStep]:
        a, b = self.a.contracted, self.b.contracted
        operators = zip(a.graph.operators, b.graph.operators, strict=True)
        positions = zip(a.positions, b.positions, strict=True)
        for (x, y), (at, there) in zip(operators, positions, strict=True):
            a_id, b_id = (
                side.tensors[operator.outputs[0]] if operator.outputs else None
                for side, operator in ((a, x), (b, y))
            )
            tensor = a.graph.tensors[x.outputs[0]] if x.outputs else None
            yield ComparedStep(
                "operator",
                self.index,
                x.name,
                self._name(None if a_id is None else self.a_numbers.get(a_id)),
                () if tensor is None else tensor.shape,
                None if tensor is None else tensor.dtype,
                (),
                self.a.time(at, a_id),
                self.b.time(there, b_id),
            )

    def _transitions(self) -> Iterator[ComparedStep]:
        for x, y in self._paired():
            side, present = (self.a, x) if x is not None else (self.b, y)
            assert present is not None
            contracted = side.contracted
            tensor = contracted.graph.tensors[present.tensor]
            operators = contracted.graph.operators
            yield ComparedStep(
                "transition",
                self.index,
                side.priced[present.position].call.call.operator,
                self._name(self._number(side, present)),
                tensor.shape,
                tensor.dtype,
                tuple(operators[user.operator].name for user in present.users),
                None if x is None else self.a.time(x.position, x.copy),
                None if y is None else self.b.time(y.position, y.copy),
            )

    def _paired(self) -> list[tuple[PresentTransition | None, PresentTransition | None]]:
        """Pairs of transitions of the same tensor, the most similar ones first."""

        def same(side: _Side, t: PresentTransition) -> tuple[Hashable, ...]:
            return self._number(side, t), t.source, t.target, frozenset(t.users)

        keys: tuple[Callable[[tuple[Hashable, ...]], Hashable], ...] = (
            lambda t: t,
            lambda t: t[:3],
            lambda t: (t[0], t[2]),
            lambda t: t[0],
        )
        left_a, left_b = self.a.contracted.transitions, self.b.contracted.transitions
        pairs: list[tuple[PresentTransition | None, PresentTransition | None]] = []
        for key in keys:
            waiting: dict[Hashable, deque[PresentTransition]] = defaultdict(deque)
            for y in left_b:
                waiting[key(same(self.b, y))].append(y)
            left = []
            for x in left_a:
                found = waiting.get(key(same(self.a, x)))
                if found:
                    pairs.append((x, found.popleft()))
                else:
                    left.append(x)
            kept = {y.position for found in waiting.values() for y in found}
            left_a, left_b = tuple(left), tuple(y for y in left_b if y.position in kept)
        return [*pairs, *((x, None) for x in left_a), *((None, y) for y in left_b)]

    def _staging(self) -> Iterator[ComparedStep]:
        a, b = self.a.staged(), self.b.staged()
        if a is not None or b is not None:
            yield ComparedStep("staging", self.index, "staging", None, (), None, (), a, b)

    def _number(self, side: _Side, transition: PresentTransition) -> int:
        numbers = self.a_numbers if side is self.a else self.b_numbers
        return numbers[side.contracted.tensors[transition.tensor]]

    def _name(self, number: int | None) -> str | None:
        """A tensor's name, from the file that has it."""
        if number is None:
            return None
        a_id, b_id = self.pairs[number]
        return self.a.delegate.names.get(a_id) or self.b.delegate.names.get(b_id)
