"""How well costs that were learned from some runs predict others, on recorded runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import expm1
from pathlib import Path
from typing import Final

import numpy as np

from api.terminal.markdown import head, print_and_write, row
from planner.costs.profile import DeviceProfile
from planner.errors import InputError
from planner.files.lowered import graphs_of
from planner.kernels.releases import Runtime
from planner.measured.costs import DeviceTimes, MeasuredSource
from planner.measured.join import Join
from planner.measured.pricing import price_graph
from planner.options import PlanOptions
from planner.pipelines.lowered import replan
from planner.tuning.corpus import Recording, read_corpora, read_corpus
from planner.tuning.prediction import TRANSITIONS, PredictedRun, noise, order_of, predict_run
from schema import CostOrigin, VkGraph

DEVICES: Final = Path(__file__).parents[2] / "benchmarks" / "profiles"
"""The recorded runs that the repository has, a folder for each device."""

RECORDED: Final = DEVICES / "lavapipe"
"""Those of the device that simulated ones are made from."""

_TAUGHT: Final = ("greedy", "random")
_PLANNED_FROM: Final = "greedy"
_LEAST_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class _Run:
    recording: Recording
    join: Join
    graphs: tuple[VkGraph, ...]

    @property
    def plan(self) -> str:
        return self.recording.plan


def profiles(folder: Path | None, profile: DeviceProfile, output: Path | None) -> None:
    """Learns from the runs of ExecuTorch's and random plans, predicts all; then from all others.

    Prints Markdown. Raises ``InputError`` for a folder without recorded runs.
    """
    lines = []
    for device, models in recorded_by_device(folder).items():
        runs = {
            model: [
                _Run(r, r.join(), tuple(graphs_of(r.program, f"{r.name}.pte"))) for r in recordings
            ]
            for model, recordings in models.items()
        }
        lines += [f"# {device}", ""]
        for model, found in runs.items():
            lines += list(_model(model, found, profile))
        if len(runs) > 1:
            lines += list(_models(runs, profile))
    print_and_write("\n".join(lines).strip() + "\n", output)


def recorded_by_device(folder: Path | None) -> dict[str, dict[str, tuple[Recording, ...]]]:
    """The recorded runs in a folder, by device and model; the repository's if none is named."""
    if folder is None:
        _check_repository()
    return read_corpora(folder or DEVICES)


def recorded(folder: Path | None) -> dict[str, tuple[Recording, ...]]:
    """The recorded runs in a folder, by model; the repository's where none is named."""
    if folder is None:
        _check_repository()
    return read_corpus(folder or RECORDED)


def _check_repository() -> None:
    if not RECORDED.is_dir():
        raise InputError("the recorded runs are in the repository, not in the package: name a DIR")


def _models(models: Mapping[str, Sequence[_Run]], profile: DeviceProfile) -> Iterator[str]:
    """What one model's runs teach of another's, and what all in one database do."""
    yield "## Several models"
    yield ""
    yield from head(
        [
            *("model", "runs", "one database of all: error", "at most", "right order"),
            *("without its own runs: error", "at most", "right order"),
        ]
    )
    for model, runs in models.items():
        taught = [run for run in runs if run.plan.startswith(_TAUGHT)]
        others = [run for name, found in models.items() if name != model for run in found]
        cells, chance = [model, str(len(runs))], noise(_learn(runs))
        for learned in ([*taught, *others], others):
            times = _learn(learned)
            source = MeasuredSource(times, profile)
            predicted = [predict_run(run.join, run.graphs, source) for run in runs]
            errors = [run.error for run in predicted]
            order = order_of(predicted, chance)
            cells += [
                f"{np.mean(errors):+.1%}",
                f"{max(map(abs, errors)):.1%}",
                f"{order.clear - len(order.wrong)} of {order.clear}",
            ]
        yield row(cells)
    yield ""
    yield (
        "Errors of the totals, on average and at most: learned from all runs of the other models "
        f"and those of {' and '.join(_TAUGHT)} plans of this one; and from those of others alone. "
        "The order is that of pairs that differ by more than chance."
    )
    yield ""


def _model(model: str, runs: Sequence[_Run], profile: DeviceProfile) -> Iterator[str]:
    share = min(run.join.share for run in runs)
    everything = _learn(runs)
    chance = noise(everything)
    yield f"## {model}"
    yield ""
    yield (
        f"{len(runs)} runs; {share:.1%} of the GPU time, or more, is joined to operators. The same "
        "steps take longer in one run than in another, all of them together: by chance two runs of "
        f"one plan differ by up to {expm1(chance):.0%} (two standard deviations of that)."
    )
    taught = [run for run in runs if run.plan.startswith(_TAUGHT)]
    if not taught or len(taught) == len(runs):
        raise InputError(f"{model} needs runs of greedy and random plans, and of others")
    first = _learn(taught)
    predicted = {
        run.plan: predict_run(run.join, run.graphs, MeasuredSource(first, profile)) for run in runs
    }
    names = {run.plan for run in taught}
    yield ""
    yield f"### Learned from {', '.join(sorted(names))}"
    yield from _totals(predicted, names)
    yield from _order(predicted, chance)
    others = {plan: p for plan, p in predicted.items() if plan not in names}
    yield from _classes(others)
    yield from _plan(runs, first, profile)
    yield ""
    yield "### Each learned from all the others"
    left_out = {
        run.plan: predict_run(
            run.join,
            run.graphs,
            MeasuredSource(_learn([r for r in runs if r is not run]), profile),
        )
        for run in runs
    }
    yield from _totals(left_out, set())
    yield from _order(left_out, chance)
    yield from _classes(left_out)
    yield from _plan(runs, everything, profile)
    yield ""


def _learn(runs: Sequence[_Run]) -> DeviceTimes:
    return DeviceTimes.of("recorded", [run.join.samples for run in runs])


def _totals(predicted: Mapping[str, PredictedRun], taught: set[str]) -> Iterator[str]:
    yield ""
    yield from head(
        [
            "plan",
            "repacks",
            "measured",
            "predicted",
            "error",
            "at the run's own speed",
            "known",
            "learned",
        ]
    )
    for plan, run in predicted.items():
        yield row(
            [
                f"{plan} (learned from)" if plan in taught else plan,
                str(len(run.of(TRANSITIONS).steps)),
                f"{run.measured / 1e6:.4g} ms",
                f"{run.predicted / 1e6:.4g} ms",
                f"{run.error:+.1%}",
                f"{run.error_at_its_speed:+.1%}",
                f"{run.share(CostOrigin.MEASURED):.1%}",
                f"{run.share(CostOrigin.INTERPOLATED, CostOrigin.ESTIMATED):.1%}",
            ]
        )


def _order(predicted: Mapping[str, PredictedRun], chance: float) -> Iterator[str]:
    order = order_of(predicted.values(), chance)
    plans = list(predicted)
    wrong = ", ".join(f"{plans[i]} and {plans[j]}" for i, j in order.wrong)
    yield ""
    yield (
        f"Order by time: right for {order.clear - len(order.wrong)} of the {order.clear} pairs "
        f"that differ by more than chance{f' (wrong: {wrong})' if wrong else ''}; for "
        f"{order.right} of all {order.pairs}."
    )


def _classes(predicted: Mapping[str, PredictedRun]) -> Iterator[str]:
    """Errors by operator, at each run's own speed."""
    total = sum(run.measured for run in predicted.values())
    found = []
    for kind in dict.fromkeys(kind for run in predicted.values() for kind in run.kinds):
        parts = [(run.of(kind), run.speed) for run in predicted.values() if kind in run.kinds]
        sums = [abs(part.predicted * speed / part.measured - 1) for part, speed in parts]
        steps = [
            abs(step.predicted * speed / step.measured - 1)
            for part, speed in parts
            for step in part.steps
            if step.measured
        ]
        share = sum(part.measured for part, _ in parts) / total
        found.append((share, kind, float(np.median(sums)), float(np.median(steps)), len(steps)))
    found.sort(reverse=True)
    yield ""
    yield from head(["operator", "of the time", "error of its total", "of a step", "steps"])
    for share, kind, of_total, of_step, count in found:
        if share >= _LEAST_SHARE:
            yield row([kind, f"{share:.1%}", f"{of_total:.1%}", f"{of_step:.1%}", str(count)])
    yield ""
    yield (
        "Errors at each run's own speed; medians over runs, and over steps. Operators that take "
        f"less than {_LEAST_SHARE:.0%} of the time are left out."
    )


def _plan(runs: Sequence[_Run], times: DeviceTimes, profile: DeviceProfile) -> Iterator[str]:
    """The plan for least time under learned costs, next to the plans that were recorded."""
    # The runs are of the latest runtime: what older ones take is no matter here.
    options = PlanOptions(MeasuredSource(times, profile), "latency", runtime=Runtime())
    costs = options.cost_model()
    source = next((run for run in runs if run.plan == _PLANNED_FROM), runs[0]).recording
    planned = replan(source.program, f"{source.name}.pte", options)
    total = planned.program.total
    priced = {
        run.plan: profile.in_units(
            sum(step.cost for graph in run.graphs for step in price_graph(graph, costs))
        )
        for run in runs
        if not run.plan.startswith("random")
    }
    recorded = ", ".join(f"{plan} {ns / 1e6:.4g}" for plan, ns in priced.items())
    yield ""
    yield (
        f"The plan for the least time by these costs: {total.objective_cost / 1e6:.4g} ms, "
        f"{total.status.name}, {total.transitions} transitions. By the same costs, in ms: "
        f"{recorded}."
    )
