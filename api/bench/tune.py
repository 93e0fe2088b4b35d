"""Whole tunings on simulated devices, whose best plan is known: how near they come, and how safely.

A device takes what recorded runs took, with hidden luck where none was recorded. It is noisy, slows
down as it gets hot, and loses its connection. A kernel that its best plan would use computes
something else, and another one ends the process: the best plan is one that does without both.
"""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from api.bench.profiles import recorded
from api.terminal.markdown import head, print_and_write, row
from planner.files.lowered import graphs_of
from planner.ir.representation import TensorRepr, TensorRepSet
from planner.kernels.faults import Fault, Faults
from planner.kernels.registry import CLONE
from planner.kernels.releases import RELEASES
from planner.measured.calls import calls_of
from planner.measured.costs import DeviceTimes, LearnedCosts, MeasuredSource
from planner.measured.join import Sample, inference_ns
from planner.measured.pricing import price_graph
from planner.options import PlanOptions
from planner.pipelines.lowered import replan
from planner.tuning.corpus import Recording
from planner.tuning.result import Tuned
from planner.tuning.runners import RunFailedError
from planner.tuning.simulation import OUTPUT, Behaviour, RandomCosts, SimulatedDevice, SimulatedRuns
from planner.tuning.subject import Subject
from planner.tuning.tensors import Signature
from planner.tuning.tune import TuneSettings, Tuning

_STARTS_FROM: Final = "greedy"
_RUN_NOISE: Final = 0.04
_STEP_NOISE: Final = 0.05
_THROTTLING: Final = 0.2
_FLAKY: Final = 0.05
_CLOSE: Final = 1.02
_ONE_ROUND: Final = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """True times over the least possible, of what each way of choosing a plan came to.

    ``is_found`` says whether the wrong kernel, where a plan met it, was named; None if none met it.
    """

    executorch: float
    least_cost: float
    random: float
    one_round: float
    tuned: float
    rounds: int
    runs: int
    is_found: bool | None

    @property
    def is_slower(self) -> bool:
        """Whether the program that was written is slower than ExecuTorch's."""
        return self.tuned > self.executorch


class _Silent:
    def stage(self, text: str) -> None:
        """Says nothing."""

    def measured(self, candidate: object, baseline: object) -> None:
        """Says nothing."""


def tuning(folder: Path | None, seeds: int, first_seed: int, output: Path | None) -> None:
    """Tunes simulated devices and prints Markdown.

    Raises ``InputError`` for a folder without recorded runs.
    """
    lines = [
        "True times over the least possible: the median of the devices, and the worst. Plans of "
        f"{seeds} simulated devices a model; runs are noisy ({_RUN_NOISE:.0%} as a whole, "
        f"{_STEP_NOISE:.0%} a step), throttle by up to {np.expm1(2 * _THROTTLING):.0%} and fail in "
        f"{_FLAKY:.0%}. The random search measures as many plans as the tuning.",
        "",
        *head(
            [
                *("model", "ExecuTorch's", "least repack cost", "random search", "one round"),
                *("tuned", f"within {_CLOSE - 1:.0%}", "slower than ExecuTorch's", "runs"),
                "wrong kernel named",
            ]
        ),
    ]
    for model, recordings in recorded(folder).items():
        runs = [recording.join().samples for recording in recordings]
        start = next((r for r in recordings if r.plan == _STARTS_FROM), recordings[0])
        drawn = range(first_seed, first_seed + seeds)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(mp_context=context) as pool:
            outcomes = list(pool.map(partial(outcome_of, start, runs), drawn))
        lines.append(_row(model, outcomes))
    print_and_write("\n".join(lines) + "\n", output)


def _row(model: str, outcomes: Sequence[Outcome]) -> str:
    def of(name: str) -> str:
        ratios = [getattr(outcome, name) for outcome in outcomes]
        return f"{np.median(ratios):.3f}, {max(ratios):.3f}"

    found = [outcome.is_found for outcome in outcomes if outcome.is_found is not None]
    near = sum(outcome.tuned <= _CLOSE for outcome in outcomes)
    return row(
        [
            model,
            *map(of, ("executorch", "least_cost", "random", "one_round", "tuned")),
            f"{near} of {len(outcomes)}",
            str(sum(outcome.is_slower for outcome in outcomes)),
            f"{np.median([outcome.runs for outcome in outcomes]):.0f}",
            f"{sum(found)} of {len(found)}",
        ]
    )


def outcome_of(
    start: Recording,
    runs: Sequence[Sequence[Sample]],
    seed: int,
    settings: TuneSettings | None = None,
) -> Outcome:
    """What tuning a simulated device comes to, from a program with ExecuTorch's plan."""
    settings = replace(settings or TuneSettings(), seed=seed)
    options, program = PlanOptions(), start.program
    device = SimulatedDevice(runs, seed, _RUN_NOISE, _STEP_NOISE)
    empty = DeviceTimes.of("", ())
    truth = LearnedCosts(empty, options.profile, "latency", device)

    def true_time(data: bytes) -> float:
        graphs = graphs_of(data, "")
        return float(sum(step.cost for graph in graphs for step in price_graph(graph, truth)))

    by_time = replace(options, costs=MeasuredSource(empty, options.profile), objective="latency")
    best = replan(program, "", by_time, chooser=truth).data
    behaviour = _drawn(program, best, seed)
    possible = replace(by_time, avoid=_avoiding(behaviour))
    least = true_time(replan(program, "", possible, chooser=truth).data)
    found = []
    for rounds in (settings.rounds, _ONE_ROUND):
        simulated = SimulatedRuns(device, behaviour, seed)
        tuned = _tuned(program, simulated, options, replace(settings, rounds=rounds))
        found.append((tuned, simulated.runs))
    (tuned, count), (one, _) = found
    searched = _random_search(program, SimulatedRuns(device, behaviour, seed), by_time, tuned, seed)
    met = [c for c in tuned.candidates if c.run.verdict == "wrong"]
    named = {(row["operators"][0], row["representations"][0]) for row in tuned.avoided}
    wrong = {(operator, str(representation)) for operator, representation in behaviour.wrong}
    return Outcome(
        executorch=true_time(program) / least,
        least_cost=true_time(replan(program, "", options).data) / least,
        random=true_time(searched) / least,
        one_round=true_time(one.program) / least,
        tuned=true_time(tuned.program) / least,
        rounds=len(tuned.rounds),
        runs=count,
        is_found=wrong <= named if met else None,
    )


def _tuned(
    program: bytes, device: SimulatedRuns, options: PlanOptions, settings: TuneSettings
) -> Tuned:
    subject = Subject("model.pte", program, Signature((), (OUTPUT,)), ())
    with TemporaryDirectory() as folder:
        where = Path(folder) / "tuning"
        return Tuning(subject, device, "simulated", options, settings, where, _Silent()).result()


def _random_search(
    program: bytes, device: SimulatedRuns, options: PlanOptions, like: Tuned, seed: int
) -> bytes:
    """The fastest of as many random plans as were measured, and ExecuTorch's, by a run of each."""
    best, least = program, float("inf")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.pte"
        for number in range(len(like.candidates)):
            data = program
            if number:
                chooser = RandomCosts(1000 * seed + number)
                data = replan(program, "", options, chooser=chooser).data
            path.write_bytes(data)
            try:
                found = device.execute(path, TuneSettings().inferences, 0.0)
            except RunFailedError:
                continue
            ns, _ = inference_ns(found.executions, "simulated")
            if not found.outputs[0][0] and ns < least:
                best, least = data, ns
    return best


def _drawn(program: bytes, best: bytes, seed: int) -> Behaviour:
    """A device's faults: two kernels of the best plan that the program does not use."""
    draw = random.Random(seed)
    used = {(name, r) for name, r in _used(best) if name != CLONE}
    others = sorted(used.difference(_used(program)), key=str)
    kernels = draw.sample(others, min(2, len(others)))
    throttling = draw.uniform(0, _THROTTLING)
    return Behaviour(frozenset(kernels[:1]), frozenset(kernels[1:]), _FLAKY, throttling)


def _avoiding(behaviour: Behaviour) -> Faults:
    """The rows with which a plan would not meet a device's faults."""
    return Faults(
        tuple(
            Fault(
                (name,), TensorRepSet.from_reprs([r]), (), (), RELEASES, (), "unstable", *[""] * 3
            )
            for name, r in (*behaviour.wrong, *behaviour.crashing)
        )
    )


def _used(program: bytes) -> Iterator[tuple[str, TensorRepr]]:
    for graph in graphs_of(program, ""):
        for call in calls_of(graph):
            for _, representation in call.operands:
                yield call.call.operator, representation
