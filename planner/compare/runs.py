"""Two runs of one program with different layouts: measured and predicted times of each step."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any, Literal

from planner.compare.matching import match
from planner.costs.model import CostSource
from planner.errors import InputError
from planner.files.listing import ListedDelegate, Listing, read_listing
from planner.measured.calls import Operands, place
from planner.measured.costs import DeviceTimes, LearnedCosts, MeasuredSource
from planner.measured.etdump import read_etdump
from planner.measured.join import Join, Sample, StepKind, join
from planner.measured.pricing import PricedCall, price_contracted
from planner.measured.timemodel import TimeModel, counted_places
from planner.vkgraph.reader import PresentTransition
from planner.vkgraph.wellformed import repr_of
from schema import CostOrigin, VkDataType, VkGraph, VkTensor


@dataclass(frozen=True, slots=True)
class ProfiledRun:
    """A profiled run and the program that ran."""

    name: str
    program: Listing
    join: Join


@dataclass(frozen=True, slots=True)
class StepTime:
    """A step of one of the programs, and its time in ns.

    ``position`` is its place in the delegate's chain and ``value_id`` the tensor that it makes;
    both are None for staging. A step that was not dispatched took 0.
    """

    position: int | None
    value_id: int | None
    operands: Operands
    measured: float
    predicted: float
    origin: CostOrigin


@dataclass(frozen=True, slots=True)
class ComparedStep:
    """A step that A and B both take, each in its representations; None where one does not take it.

    ``shape`` and ``dtype`` are those of the first output, ``name`` is the tensor's if a file has
    it. ``readers`` are the operators that read a transition's output.
    """

    kind: StepKind
    delegate: int
    operator: str
    name: str | None
    shape: tuple[int, ...]
    dtype: VkDataType | None
    readers: tuple[str, ...]
    a: StepTime | None
    b: StepTime | None

    @property
    def is_alike(self) -> bool:
        """Whether both take the step in the same representations."""
        return self.a is not None and self.b is not None and self.a.operands == self.b.operands

    @property
    def change(self) -> float:
        """Nanoseconds that B took more than A."""
        return _measured(self.b) - _measured(self.a)

    @property
    def group(self) -> str:
        """The operator's name; all transitions form one group, and so does all staging."""
        return self.operator if self.kind == "operator" else self.kind


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of some steps of A and B: their number and times in ns."""

    a_steps: int
    b_steps: int
    a_measured: float
    b_measured: float
    a_predicted: float
    b_predicted: float

    @classmethod
    def of(cls, steps: Iterable[ComparedStep]) -> Total:
        """The total of these steps."""
        found = tuple(steps)
        a = [step.a for step in found if step.a is not None]
        b = [step.b for step in found if step.b is not None]
        return cls(
            len(a),
            len(b),
            sum(x.measured for x in a),
            sum(x.measured for x in b),
            sum(x.predicted for x in a),
            sum(x.predicted for x in b),
        )

    @property
    def change(self) -> float:
        """Nanoseconds that B took more than A."""
        return self.b_measured - self.a_measured

    @property
    def ratio(self) -> float | None:
        """A's time over B's; None where only B's is 0."""
        return _ratio(self.a_measured, self.b_measured)

    @property
    def predicted_ratio(self) -> float | None:
        """A's predicted time over B's; None where only B's is 0."""
        return _ratio(self.a_predicted, self.b_predicted)


@dataclass(frozen=True, slots=True)
class StepGroup:
    """Steps of one name; ``other`` are those in other representations, or in only one run."""

    name: str
    total: Total
    other: Total


@dataclass(frozen=True, slots=True)
class Speed:
    """The overall speed of the runs, by calls that both made in the same representations.

    ``b_over_a`` is B's time for those calls over A's: below 1 where B's run was faster. ``share``
    is their part of A's time.
    """

    b_over_a: float
    share: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs step by step, the largest change first.

    ``unknown`` are the ns of dispatches of A and B that name no operator; ``speed`` is None for
    runs that have no call in common. ``costs`` names the source of the predictions.
    """

    a: ProfiledRun
    b: ProfiledRun
    costs: str
    steps: tuple[ComparedStep, ...]
    unknown: tuple[float, float]
    speed: Speed | None

    @property
    def everything(self) -> Total:
        """All steps, with the dispatches that name no operator."""
        total = Total.of(self.steps)
        return Total(
            total.a_steps,
            total.b_steps,
            total.a_measured + self.unknown[0],
            total.b_measured + self.unknown[1],
            total.a_predicted,
            total.b_predicted,
        )

    def of_kind(self, kind: StepKind) -> Total:
        """The steps of one kind."""
        return Total.of(step for step in self.steps if step.kind == kind)

    @property
    def alike(self) -> Total:
        """Steps in the same representations: layouts do not explain their changes."""
        return Total.of(step for step in self.steps if step.is_alike)

    @property
    def other(self) -> Total:
        """Steps in different representations, and steps that only one run has."""
        return Total.of(step for step in self.steps if not step.is_alike)

    @property
    def groups(self) -> tuple[StepGroup, ...]:
        """Groups of operators by name, of transitions and of staging, the largest change first."""
        steps: dict[str, list[ComparedStep]] = defaultdict(list)
        for step in self.steps:
            steps[step.group].append(step)
        found = [
            StepGroup(name, Total.of(members), Total.of(s for s in members if not s.is_alike))
            for name, members in steps.items()
        ]
        return tuple(sorted(found, key=lambda group: (-abs(group.total.change), group.name)))

    @property
    def b_at_speed_of_a(self) -> float | None:
        """Nanoseconds that B would have taken at the speed of A's run; None if unknown."""
        return None if self.speed is None else self.everything.b_measured / self.speed.b_over_a

    @property
    def ratio_at_one_speed(self) -> float | None:
        """A's time over B's at the speed of A's run; None if unknown."""
        at_speed = self.b_at_speed_of_a
        return None if at_speed is None else _ratio(self.everything.a_measured, at_speed)

    def origins(self, side: Literal["a", "b"]) -> dict[str, float]:
        """The parts of A's or B's predicted time, by origin."""
        parts = dict.fromkeys((origin.name.lower() for origin in reversed(CostOrigin)), 0.0)
        for step in self.steps:
            time = step.a if side == "a" else step.b
            if time is not None:
                parts[time.origin.name.lower()] += time.predicted
        total = sum(parts.values())
        return {name: part / total if total else 0.0 for name, part in parts.items()}


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
        for step in (*found, *self._staging()):
            if any(t is not None and (t.measured or t.predicted) for t in (step.a, step.b)):
                yield step

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


def document(comparison: Comparison) -> dict[str, Any]:
    """A comparison as a JSON document. Times are ns, and ratios A over B (None for A over 0).

    ``a``, ``b``
        the run's ``name``, its program (``graph``, ``kind``), and the parts of its predicted time
        that are ``measured``, ``interpolated``, ``estimated`` and ``modelled`` (``origins``).
    ``costs``
        the source of the predictions.
    ``totals``
        ``everything``, ``operators``, ``transitions``, ``staging``; ``alike`` has the steps in the
        same representations, ``other`` all others: each with ``steps``, ``measured_ns`` and
        ``predicted_ns`` of ``a`` and ``b``, ``change_ns``, ``ratio``, ``predicted_ratio``.
        ``unknown_ns`` is the time of dispatches that name no operator; ``everything`` includes it.
    ``speed``
        the overall speed of the runs, by calls that both made in the same representations: B's
        time for them over A's (``b_over_a``), their ``share`` of A's time, B's time at A's speed
        (``b_measured_ns``), and the ``ratio`` with that. None without such calls.
    ``groups``
        operators by name, transitions and staging, the largest change first: the keys of a total,
        ``name``, the ``share`` of the whole change (None where nothing changed), and the part of
        the change from steps in other representations or in only one run (``other_change_ns``).
    ``steps``
        all, the largest change first: ``kind`` (operator, transition, staging), ``delegate``,
        ``operator``, ``name`` of the tensor (None if unknown), ``dims`` and ``dtype`` of the first
        output, ``readers`` (operators that read a transition's output), ``alike`` (the same
        representations), ``change_ns``; ``a`` and ``b``: None, or ``position`` in the delegate's
        chain, ``value_id``, ``representations`` by place (``0`` the first argument, ``o0`` the
        first output), ``measured_ns``, ``predicted_ns``, ``origin``.
    """
    change = comparison.everything.change
    unknown = dict(zip("ab", comparison.unknown, strict=True))
    return {
        "a": _run(comparison.a, comparison.origins("a")),
        "b": _run(comparison.b, comparison.origins("b")),
        "costs": comparison.costs,
        "totals": {
            "everything": _total(comparison.everything),
            "operators": _total(comparison.of_kind("operator")),
            "transitions": _total(comparison.of_kind("transition")),
            "staging": _total(comparison.of_kind("staging")),
            "alike": _total(comparison.alike),
            "other": _total(comparison.other),
            "unknown_ns": unknown,
        },
        "speed": None
        if comparison.speed is None
        else {
            "b_over_a": _rounded(comparison.speed.b_over_a),
            "share": _rounded(comparison.speed.share),
            "b_measured_ns": comparison.b_at_speed_of_a,
            "ratio": _rounded(comparison.ratio_at_one_speed),
        },
        "groups": [
            {
                "name": group.name,
                **_total(group.total),
                "share": _share(group.total.change, change),
                "other_change_ns": group.other.change,
            }
            for group in comparison.groups
        ],
        "steps": [_step(step) for step in comparison.steps],
    }


def _run(run: ProfiledRun, origins: Mapping[str, float]) -> dict[str, Any]:
    program = run.program
    return {
        "name": run.name,
        "graph": program.name,
        "kind": program.kind,
        "origins": {name: _rounded(part) for name, part in origins.items()},
    }


def _total(total: Total) -> dict[str, Any]:
    return {
        "steps": {"a": total.a_steps, "b": total.b_steps},
        "measured_ns": {"a": total.a_measured, "b": total.b_measured},
        "predicted_ns": {"a": total.a_predicted, "b": total.b_predicted},
        "change_ns": total.change,
        "ratio": _rounded(total.ratio),
        "predicted_ratio": _rounded(total.predicted_ratio),
    }


def _step(step: ComparedStep) -> dict[str, Any]:
    return {
        "kind": step.kind,
        "delegate": step.delegate,
        "operator": step.operator,
        "name": step.name,
        "dims": list(step.shape),
        "dtype": None if step.dtype is None else step.dtype.name.lower(),
        "readers": list(step.readers),
        "alike": step.is_alike,
        "change_ns": step.change,
        "a": _time(step.a),
        "b": _time(step.b),
    }


def _time(time: StepTime | None) -> dict[str, Any] | None:
    if time is None:
        return None
    return {
        "position": time.position,
        "value_id": time.value_id,
        "representations": {where: str(r) for where, r in time.operands},
        "measured_ns": time.measured,
        "predicted_ns": time.predicted,
        "origin": time.origin.name.lower(),
    }


def _measured(time: StepTime | None) -> float:
    return 0.0 if time is None else time.measured


def _ratio(a: float, b: float) -> float | None:
    return a / b if b else (None if a else 1.0)


def _share(part: float, whole: float) -> float | None:
    return _rounded(part / whole) if whole else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
