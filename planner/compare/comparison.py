"""What a comparison of two runs says, step by step, and as a JSON document."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from planner.costs.model import ratio
from planner.files.listing import Listing
from planner.measured.calls import Operands
from planner.measured.join import Join, StepKind
from schema import CostOrigin, VkDataType
from schema.frozen import frozen


@frozen
class ProfiledRun:
    """A profiled run and the program that ran."""

    name: str
    program: Listing
    join: Join


@frozen
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


@frozen
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
        a, b = (0.0 if time is None else time.measured for time in (self.a, self.b))
        return b - a

    @property
    def group(self) -> str:
        """The operator's name; all transitions form one group, and so does all staging."""
        return self.operator if self.kind == "operator" else self.kind


@frozen
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
        return ratio(self.a_measured, self.b_measured)

    @property
    def predicted_ratio(self) -> float | None:
        """A's predicted time over B's; None where only B's is 0."""
        return ratio(self.a_predicted, self.b_predicted)


@frozen
class StepGroup:
    """Steps of one name; ``other`` are those in other representations, or in only one run."""

    name: str
    total: Total
    other: Total


@frozen
class Speed:
    """The overall speed of the runs, by calls that both made in the same representations.

    ``b_over_a`` is B's time for those calls over A's: below 1 where B's run was faster. ``share``
    is their part of A's time.
    """

    b_over_a: float
    share: float


@frozen
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
        return None if at_speed is None else ratio(self.everything.a_measured, at_speed)

    def origins(self, side: Literal["a", "b"]) -> dict[str, float]:
        """The parts of A's or B's predicted time, by origin."""
        parts = dict.fromkeys((origin.name.lower() for origin in reversed(CostOrigin)), 0.0)
        for step in self.steps:
            time = step.a if side == "a" else step.b
            if time is not None:
                parts[time.origin.name.lower()] += time.predicted
        total = sum(parts.values())
        return {name: part / total if total else 0.0 for name, part in parts.items()}


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
            "ratio": comparison.ratio_at_one_speed,
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
        "ratio": total.ratio,
        "predicted_ratio": total.predicted_ratio,
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


def _share(part: float, whole: float) -> float | None:
    return _rounded(part / whole) if whole else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
