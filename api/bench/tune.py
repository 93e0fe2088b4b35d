"""Whole tunings on simulated devices, whose best plan is known: how near they come, and how safely.

A device takes what recorded runs took, with hidden luck where none was recorded. It is noisy, slows
down as it gets hot, and loses its connection. A kernel that its best plan would use computes
something else, and another one ends the process: the best plan is one that does without both.
"""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from api.bench.profiles import recorded
from api.terminal.markdown import head, print_and_write, row
from planner.errors import InputError
from planner.files.lowered import graphs_of
from planner.ir.representation import TensorRepr, TensorRepSet
from planner.kernels.faults import Fault, Faults
from planner.kernels.registry import CLONE
from planner.kernels.releases import RELEASES
from planner.measured.calls import calls_of
from planner.measured.costs import DeviceTimes, LearnedCosts, MeasuredSource
from planner.measured.join import Sample, inference_ns
from planner.measured.pricing import price_graph
from planner.measured.timemodel import Predictor
from planner.options import PlanOptions
from planner.pipelines.lowered import replan
from planner.tuning.journal import Verdict
from planner.tuning.result import Tuned
from planner.tuning.runners import RunFailedError
from planner.tuning.simulation import (
    OUTPUT,
    Behaviour,
    Kernel,
    RandomCosts,
    RecordedTimes,
    SimulatedDevice,
    SimulatedRuns,
)
from planner.tuning.subject import Subject
from planner.tuning.tensors import Signature
from planner.tuning.tune import TuneSettings, Tuning

_STARTS_FROM: Final = "greedy"
_RUN_NOISE: Final = 0.04
_STEP_NOISE: Final = 0.05
_THROTTLING: Final = 0.2
_FLAKY: Final = 0.05
CLOSE: Final = 1.02
_ONE_ROUND: Final = 1

BEHAVIOUR: Final = (
    f"runs are noisy ({_RUN_NOISE:.0%} as a whole, {_STEP_NOISE:.0%} a step), throttle by up to "
    f"{np.expm1(2 * _THROTTLING):.0%} and fail in {_FLAKY:.0%}"
)
"""How the devices differ from ones that only compute."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """True times over the least possible, of what each way of choosing a plan came to.

    ``wrong_is_named`` says whether the kernel that is wrong, where a plan met it, was named, and
    ``crash_is_named`` so of the one that ends the process; None where no plan met it. Nobody told
    the plan of the least repack cost of them: it may not be right. ``one_round`` may be left out.
    """

    executorch: float
    least_cost: float
    least_cost_is_right: bool
    random: float
    one_round: float | None
    tuned: float
    rounds: int
    runs: int
    wrong_is_named: bool | None
    crash_is_named: bool | None

    @property
    def is_slower(self) -> bool:
        """Whether the program that was written is slower than ExecuTorch's."""
        return self.tuned > self.executorch


class _Silent:
    def stage(self, text: str) -> None:
        """Says nothing."""

    def measured(self, candidate: object, baseline: object) -> None:
        """Says nothing."""

    def learned(self, found: object) -> None:
        """Says nothing."""


def tuning(folder: Path | None, seeds: int, first_seed: int, output: Path | None) -> None:
    """Tunes simulated devices and prints Markdown.

    Raises ``InputError`` for a folder without recorded runs.
    """
    lines = [
        "True times over the least possible: the median of the devices, and the worst. Plans of "
        f"{seeds} simulated devices a model; {BEHAVIOUR}. The random search measures as many plans "
        "as the tuning.",
        "",
        *head(
            [
                *("model", "ExecuTorch's", "least repack cost", "random search", "one round"),
                *("tuned", f"within {CLOSE - 1:.0%}", "slower than ExecuTorch's", "runs"),
                "wrong kernel named",
            ]
        ),
    ]
    for model, recordings in recorded(folder).items():
        runs = [recording.join().samples for recording in recordings]
        start = next((r for r in recordings if r.plan == _STARTS_FROM), recordings[0])
        of_seed = partial(_on_recorded, start.program, runs)
        lines.append(
            _row(model, list(in_processes(of_seed, range(first_seed, first_seed + seeds))))
        )
    print_and_write("\n".join(lines) + "\n", output)


def in_processes(of_seed: Callable[[int], Outcome], seeds: Iterable[int]) -> Iterator[Outcome]:
    """The outcomes of seeds in their order, by as many processes as there are processors."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=context) as pool:
        yield from pool.map(of_seed, seeds)


def _on_recorded(program: bytes, runs: Sequence[Sequence[Sample]], seed: int) -> Outcome:
    return outcome_of(program, RecordedTimes(runs, seed), seed)


def _row(model: str, outcomes: Sequence[Outcome]) -> str:
    def of(name: str) -> str:
        ratios = [getattr(outcome, name) for outcome in outcomes]
        return f"{np.median(ratios):.3f}, {max(ratios):.3f}"

    named = [o.wrong_is_named for o in outcomes if o.wrong_is_named is not None]
    near = sum(outcome.tuned <= CLOSE for outcome in outcomes)
    return row(
        [
            model,
            *map(of, ("executorch", "least_cost", "random", "one_round", "tuned")),
            f"{near} of {len(outcomes)}",
            str(sum(outcome.is_slower for outcome in outcomes)),
            f"{np.median([outcome.runs for outcome in outcomes]):.0f}",
            f"{sum(named)} of {len(named)}",
        ]
    )


def outcome_of(
    program: bytes,
    times: Predictor,
    seed: int,
    settings: TuneSettings | None = None,
    also_one_round: bool = True,
) -> Outcome:
    """What tuning a program with ExecuTorch's plan comes to, on a simulated device."""
    settings = replace(settings or TuneSettings(), seed=seed)
    options = PlanOptions()
    empty = DeviceTimes.of("", ())
    truth = LearnedCosts(empty, options.profile, "latency", times)

    def true_time(data: bytes) -> float:
        graphs = graphs_of(data, "")
        return float(sum(step.cost for graph in graphs for step in price_graph(graph, truth)))

    by_time = replace(options, costs=MeasuredSource(empty, options.profile), objective="latency")
    best = replan(program, "", by_time, chooser=truth).data
    behaviour = _behaviour(program, best, seed)
    possible = replace(by_time, avoid=_avoiding(behaviour))
    least = true_time(replan(program, "", possible, chooser=truth).data)

    device = SimulatedDevice(times, seed, _RUN_NOISE, _STEP_NOISE)
    runs, again, others = (SimulatedRuns(device, behaviour, seed) for _ in range(3))
    tuned = _tuned(program, runs, options, settings)
    one_round = None
    if also_one_round:
        one = _tuned(program, again, options, replace(settings, rounds=_ONE_ROUND))
        one_round = true_time(one.program) / least
    searched = _random_search(program, others, by_time, tuned, seed)
    least_cost = replan(program, "", options).data
    verdicts = {candidate.run.verdict for candidate in tuned.candidates}
    named = {(row["operators"][0], row["representations"][0]) for row in tuned.avoided}

    def is_named(verdict: Verdict, kernels: frozenset[Kernel]) -> bool | None:
        return {(k[0], str(k[1])) for k in kernels} <= named if verdict in verdicts else None

    return Outcome(
        executorch=true_time(program) / least,
        least_cost=true_time(least_cost) / least,
        least_cost_is_right=not (behaviour.wrong | behaviour.crashing) & set(_kernels(least_cost)),
        random=true_time(searched) / least,
        one_round=one_round,
        tuned=true_time(tuned.program) / least,
        rounds=len(tuned.rounds),
        runs=runs.runs,
        wrong_is_named=is_named("wrong", behaviour.wrong),
        crash_is_named=is_named("crash", behaviour.crashing),
    )


def _tuned(
    program: bytes, device: SimulatedRuns, options: PlanOptions, settings: TuneSettings
) -> Tuned:
    subject = Subject("model.pte", program, Signature((), (OUTPUT,)), ())
    with TemporaryDirectory() as folder:
        where = Path(folder) / "tuning"

        def again() -> Tuned:
            silent = _Silent()
            return Tuning(subject, device, "simulated", options, settings, where, silent).result()

        # Where the device fails until a tuning ends, it goes on as anybody's would.
        with suppress(InputError):
            return again()
        return again()


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


def _behaviour(program: bytes, best: bytes, seed: int) -> Behaviour:
    """A device's faults: two kernels of the best plan that the program does not use."""
    draw = random.Random(seed)
    others = sorted(set(_kernels(best)).difference(_kernels(program)), key=str)
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
            for name, r in (k[:2] for k in (*behaviour.wrong, *behaviour.crashing))
        )
    )


def _kernels(program: bytes) -> Iterator[tuple[str, TensorRepr]]:
    """The operators of a program with the representations of their operands, but for repacks."""
    for graph in graphs_of(program, ""):
        for call in calls_of(graph):
            if call.call.operator != CLONE:
                yield from ((call.call.operator, r) for _, r in call.operands)
