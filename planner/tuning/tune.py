"""Tunes a program on a device: measures, learns, plans, and measures again.

Every step is decided by what was measured before, so a tuning that is broken off goes on from its
journal: runs that ended are not repeated.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from planner.costs.profile_file import load_profile
from planner.errors import InputError, NoRepresentationError
from planner.files.lowered import graphs_of
from planner.kernels.faults import DOES_NOT_LOAD, Faults, parse_faults
from planner.kernels.releases import Runtime
from planner.measured.calls import calls_of
from planner.measured.costs import DeviceTimes, MeasuredSource
from planner.measured.database import CostDatabase, Run
from planner.measured.device import Device as KnownDevice
from planner.measured.device import read_device, within_device
from planner.measured.join import Join, inference_ns, join
from planner.measured.pricing import priced_total
from planner.measured.timemodel import labels_of
from planner.options import PlanOptions
from planner.pipelines.lowered import Planned, replan
from planner.tuning.bisection import Suspect, culprits, mixed, rows_of, suspects
from planner.tuning.device import Device
from planner.tuning.journal import Journal, RunRecord, Verdict, digest
from planner.tuning.prediction import kind_of, noise
from planner.tuning.result import (
    BASELINE,
    LEAST_COST,
    REPORT,
    Candidate,
    Finalist,
    Round,
    Tuned,
    document,
)
from planner.tuning.runners import RunFailedError
from planner.tuning.statistics import Gain, gain_of
from planner.tuning.subject import Subject
from planner.tuning.tensors import Array, Difference, are_zeros, compare, read_outputs
from planner.tuning.variants import OPTIMISM, Tried, Variant, explore, is_settled
from schema import VkGraph
from schema.frozen import frozen

COSTS: Final = "costs.sqlite"
AVOID: Final = "avoid.json"
KNOWN: Final = "known.json"
"""What was known of the device before, as its file."""

_RETRY_SECONDS: Final = 2.0
_FEWEST_BLOCKS: Final = 7
_WORTH: Final = 0.01
"""A gain that is not worth more of the device's time, as a part of an inference."""
_MOST_CHOSEN: Final = 5
"""How often a round's variants are chosen, where some of them are wrong."""
_MOST_BLAMED: Final = 40
"""Runs to find what is wrong with a plan: what is left after that is avoided as a whole."""


@frozen
class TuneSettings:
    """How much is tried. ``budget`` are seconds that the device may be busy; None is no limit.

    Each round measures ``variants`` plans and the best one by what is known. The ``finalists`` run
    against ExecuTorch's plan in ``blocks``, ``inferences`` at a time, and one is faster if the
    interval at this ``confidence`` says so, for all of them together. While the best one is not
    proven, and might well be faster, it runs in twice as many, for at most so many ``doublings``. A
    run may take ``seconds``, and is repeated ``retries`` times if it fails.
    """

    rounds: int = 3
    variants: int = 3
    finalists: int = 3
    blocks: int = 9
    doublings: int = 3
    inferences: int = 20
    seconds: float = 600.0
    retries: int = 2
    budget: float | None = None
    confidence: float = 0.95
    seed: int = 0


class Watcher(Protocol):
    """Is told how a tuning goes."""

    def stage(self, text: str) -> None:
        """What is done now."""

    def measured(self, candidate: Candidate, baseline: Candidate | None) -> None:
        """A plan that was measured, and ExecuTorch's."""

    def learned(self, found: Round) -> None:
        """A round that ended."""


class BudgetError(Exception):
    """The device's time is used up."""


class Tuning:
    """One tuning; ``result`` does it."""

    def __init__(
        self,
        subject: Subject,
        device: Device,
        name: str,
        options: PlanOptions,
        settings: TuneSettings,
        folder: Path,
        watcher: Watcher,
        clock: Callable[[], float] = time.monotonic,
        known: KnownDevice | None = None,
    ) -> None:
        """Opens the folder; raises ``OptionError`` for one of another tuning.

        ``clock`` tells the seconds that the device is busy. ``known`` is what earlier runs, of this
        program or of others, taught of the device: times are learned from these as well, and what
        is wrong there is avoided. It is kept in the folder, where a tuning that goes on finds it.
        """
        self._subject, self._device, self._name = subject, device, name
        self._options, self._settings, self._watcher = options, settings, watcher
        self.journal = Journal(
            folder,
            {
                "program": {"name": subject.name, "sha256": digest(subject.program)},
                "device": name,
                "inputs": [digest(path.read_bytes()) for path in subject.inputs],
                "seed": settings.seed,
                "inferences": settings.inferences,
                "variants": settings.variants,
            },
        )
        if subject.eager is not None and options.runtime is None:
            # As for any plan of an exported program: for the release that has lowered it.
            self._options = replace(self._options, runtime=Runtime())
        kept = self._remembered(known)
        self._earlier = [] if kept is None else [run.samples for run in kept.runs]
        if kept is not None:
            self._options = within_device(self._options, kept)
        self._expected: list[Sequence[Array]] = []
        self._baseline_error: float | None = None
        self._baseline_outputs = folder / "baseline"
        self._decoded: dict[str, tuple[VkGraph, ...]] = {}
        self._joins: dict[tuple[str, str], Join] = {}
        self._candidates: list[Candidate] = []
        self._learned_from: list[tuple[str, str]] = []
        self._rows: list[dict[str, Any]] = []
        self._learned: tuple[int, DeviceTimes] | None = None
        self._spent, self._clock = 0.0, clock

    def result(self) -> Tuned:
        """Tunes the program. What was learned is kept, however this ends.

        Raises ``InputError`` if ExecuTorch's own plan does not run, or cannot be measured.
        """
        try:
            tuned = self._tune()
        finally:
            self._keep_costs()
        self.journal.write(REPORT, json.dumps(document(tuned), indent=2).encode() + b"\n")
        return tuned

    def _tune(self) -> Tuned:
        self._watcher.stage("ExecuTorch's plan")
        baseline = self._measure(BASELINE, 0, self._subject.program, None)
        if baseline.run.verdict != "right":
            raise InputError(
                f"{self._subject.name} does not run on {self._name} as ExecuTorch lays it out: "
                f"{baseline.run.said}"
            )
        rounds: list[Round] = []
        ended = "all rounds are done"
        try:
            for number in range(1, self._settings.rounds + 1):
                if number > 1 and self._is_settled():
                    ended = "the plan is settled: no time that was not measured can change it"
                    break
                found = self._round(number)
                rounds.append(found)
                self._watcher.learned(found)
                # The blocks of the last comparison tell smaller gains apart than two runs do.
                chance = noise(self._times()) / math.sqrt(self._settings.blocks)
                if number > 1 and found.saving <= chance:
                    ended = "another round would gain no more than noise"
                    break
                if not found.measured:
                    ended = "there is nothing left to try"
                    break
        except BudgetError:
            ended = "the device's time is used up"
        finalists = self._compare(baseline)
        winner = self._winner(baseline, [f for f in finalists if f.is_faster])
        return Tuned(
            program=self._subject.program if winner is None else winner.candidate.program,
            winner=winner,
            finalists=tuple(finalists),
            candidates=tuple(self._candidates),
            rounds=tuple(rounds),
            classes=self._classes(baseline, winner),
            avoided=tuple(self._rows),
            baseline_error=self._baseline_error,
            seconds=self._spent,
            ended=ended,
            outputs_are_zeros=are_zeros(self._expected[0]),
        )

    # Rounds.

    def _round(self, number: int) -> Round:
        self._watcher.stage(f"round {number}")
        before, measured, saving = self._known(), 0, 0.0
        if number == 1 and (planned := self._planned(self._plan_options())) is not None:
            measured += self._try(LEAST_COST, number, planned.data, None)
        for place, variant in enumerate(self._variants(number), 1):
            saving = max(saving, (variant.saving or 0.0) / max(variant.predicted, 1.0))
            title = f"variant {number}.{place}"
            measured += self._try(title, number, variant.program, variant.predicted)
        best = self._planned(self._learned_options())
        if best is not None:
            predicted = best.program.total.objective_cost
            measured += self._try(f"learned {number}", number, best.data, predicted)
        least = self._planned(self._learned_options())
        return Round(
            number,
            measured,
            len(self._known() - before),
            0.0 if least is None else least.program.total.objective_cost,
            saving,
        )

    def _variants(self, number: int) -> Iterator[Variant]:
        """The variants of a round; chosen anew once something of one was found to be wrong."""
        program, name, settings = self._subject.program, self._subject.name, self._settings
        # The likely gains first; later rounds look where a gain is less likely.
        optimism, seed = OPTIMISM * 2 ** (number - 1), settings.seed + number * settings.variants
        left, rows = settings.variants, -1
        with suppress(NoRepresentationError):
            for _ in range(_MOST_CHOSEN):
                if left <= 0 or rows == len(self._rows):
                    return
                rows, options = len(self._rows), self._learned_options()
                for variant in explore(program, name, options, left, seed, optimism):
                    yield variant
                    if len(self._rows) > rows:
                        break  # the others could fail in the same way
                    left -= 1

    def _is_settled(self) -> bool:
        with suppress(NoRepresentationError):
            program, name = self._subject.program, self._subject.name
            return is_settled(program, name, self._learned_options(), self._settings.seed)
        return False

    def _planned(self, options: PlanOptions) -> Planned | None:
        """A plan by these options; None where what is avoided leaves none."""
        with suppress(NoRepresentationError):
            return replan(self._subject.program, self._subject.name, options)
        return None

    def _try(self, name: str, number: int, program: bytes, predicted: float | None) -> bool:
        """Measures a plan, unless it was measured; finds out what is wrong with one that is."""
        if any(c.program == program for c in self._candidates):
            return False
        candidate = self._measure(name, number, program, predicted)
        if candidate.run.verdict in ("wrong", "crash", "time-out"):
            self._watcher.stage(f"what is wrong with {name}")
            self._blame(candidate)
        return True

    def _measure(
        self, name: str, number: int, program: bytes, predicted: float | None
    ) -> Candidate:
        run = self._run("learn", program)
        graphs = self._graphs(program)
        transitions = sum(call.is_transition for graph in graphs for call in calls_of(graph))
        candidate = Candidate(name, number, program, transitions, predicted, run)
        baseline = self._candidates[0] if self._candidates else None
        self._candidates.append(candidate)
        if run.verdict == "right":
            self._learned_from.append((run.purpose, run.program))
        self._watcher.measured(candidate, baseline)
        return candidate

    def _blame(self, bad: Candidate) -> None:
        """Finds the operator that makes a plan wrong; its representations are avoided then."""
        if self._run("again", bad.program).verdict == "right":
            return  # it was the device, and every part of the plan would be right as well
        base, name = self._subject.program, self._subject.name
        options, last, asked = self._plan_options(), bad.run, 0

        def is_bad(some: Sequence[Suspect]) -> bool:
            nonlocal last, asked
            asked += 1
            if asked > _MOST_BLAMED:
                return False
            with suppress(NoRepresentationError):
                program = mixed(base, bad.program, name, options, some)
                run = self.journal.of("learn", digest(program)) or self._run("blame", program)
                if run.verdict != "right":
                    last = run
                    return True
            return False

        guilty = culprits(suspects(base, bad.program, name), is_bad)
        is_wrong = last.verdict == "wrong"
        effect = "wrong values" if is_wrong else DOES_NOT_LOAD
        seen = f"off by {last.error:.3g}" if is_wrong else last.said
        rows = rows_of(guilty, effect, f"tuning on {self._name}", seen)
        self._rows += [row for row in rows if row not in self._rows]
        self.journal.write(AVOID, json.dumps(self._rows, indent=2).encode() + b"\n")

    # Runs.

    def _run(self, purpose: str, program: bytes) -> RunRecord:
        """What a program's run gave, now or before the tuning was broken off."""
        key = digest(program)
        record = self.journal.of(purpose, key)
        if record is None:
            self._check_budget(purpose)
            record = self._attempts(purpose, program, key)
            # ExecuTorch's plan has to run: where it did not, the same command tries it again.
            if record.verdict != "away" and (self._candidates or record.verdict == "right"):
                self.journal.add(record)
        self._spent += record.seconds
        if record.verdict == "away":
            raise InputError(
                f"{self._name} is away: {record.said.removeprefix('away: ')} (what was measured is "
                f"kept in {self.journal.folder}: go on with the same command)"
            )
        if not self._expected and record.verdict == "right":
            self._expect(read_outputs(self._baseline_outputs, self._subject.signature.outputs))
        return record

    def _check_budget(self, purpose: str) -> None:
        """Leaves time for the last comparison."""
        budget = self._settings.budget
        if budget is None or purpose.startswith("final") or not self._candidates:
            return
        each = self._candidates[0].run.seconds
        if self._spent + each * (1 + 2 * _FEWEST_BLOCKS) > budget:
            raise BudgetError

    def _attempts(self, purpose: str, program: bytes, key: str) -> RunRecord:
        path, etdump = self.journal.program(program), self.journal.etdump(purpose, key)
        record, seconds = None, 0.0
        for attempt in range(self._settings.retries + 1):
            if attempt:
                time.sleep(_RETRY_SECONDS if record and record.verdict == "away" else 0.0)
            start = self._clock()
            record = self._attempt(purpose, program, path, key, etdump)
            seconds += self._clock() - start
            if record.verdict in ("right", "wrong"):
                break
        assert record is not None
        return replace(record, seconds=seconds)

    def _attempt(
        self, purpose: str, program: bytes, path: Path, key: str, etdump: Path
    ) -> RunRecord:
        try:
            found = self._device.execute(path, self._settings.inferences, self._settings.seconds)
            joined = join(found.executions.delegates, self._graphs(program), path.name)
            ns, wall = inference_ns(found.executions, path.name)
            if not ns:
                raise InputError(f"{path.name} ran, but its dispatches took no time by the profile")
        except RunFailedError as failure:
            return RunRecord(purpose, key, failure.kind, 0.0, said=str(failure))
        except InputError as failure:
            return RunRecord(purpose, key, "unreadable", 0.0, said=str(failure))
        difference = self._judge(found.outputs)
        verdict: Verdict = "right" if difference.is_within else "wrong"
        self._joins[purpose, key] = joined
        etdump.write_bytes(found.etdump)
        return RunRecord(
            *(purpose, key, verdict, 0.0, ns, wall, difference.error),
            temperature=found.state.temperature,
            clock=found.state.clock,
        )

    def _judge(self, found: Sequence[Array]) -> Difference:
        """How far outputs are from those expected: eager's, or ExecuTorch's plan's."""
        if not self._expected:
            # Kept for when the tuning goes on.
            for number, array in enumerate(found):
                self.journal.write(f"{self._baseline_outputs.name}-{number}.bin", array.tobytes())
            self._expect(found)
        differences = [compare(expected, found) for expected in self._expected]
        return min(differences, key=lambda d: (not d.is_within, d.error))

    def _expect(self, baseline: Sequence[Array]) -> None:
        """From the outputs of ExecuTorch's plan: what others are compared with.

        Eager's where there are any; ExecuTorch's own as well if those are others, as they can be
        for quantized programs, or where its plan meets a kernel that is wrong.
        """
        eager = self._subject.eager
        if eager is None:
            self._expected = [baseline]
            return
        difference = compare(eager, baseline)
        self._baseline_error = difference.error
        self._expected = [eager] if difference.is_within else [eager, baseline]

    def _graphs(self, program: bytes) -> tuple[VkGraph, ...]:
        """A program's graphs, decoded once: it runs many times."""
        key = digest(program)
        if key not in self._decoded:
            self._decoded[key] = tuple(graphs_of(program, self._subject.name))
        return self._decoded[key]

    # What is known.

    def _remembered(self, known: KnownDevice | None) -> KnownDevice | None:
        """What is known of the device from before: what the folder has, where it has anything."""
        path = self.journal.folder / KNOWN
        if path.exists():
            return read_device(path.read_bytes(), str(path))
        if known is not None and not list(self.journal):
            self.journal.write(KNOWN, known.to_json())
            return known
        return None

    def _join(self, purpose: str, key: str) -> Join:
        """A run's times joined to its program; read anew where the tuning goes on."""
        found = self._joins.get((purpose, key))
        if found is None:
            etdump = self.journal.etdump(purpose, key).read_bytes()
            program = self.journal.program_of(key).read_bytes()
            executions = self._device.executions(etdump, f"the run of {key[:16]}.pte")
            found = join(executions.delegates, self._graphs(program), key[:16])
            self._joins[purpose, key] = found
        return found

    def _right(self) -> list[Candidate]:
        return [c for c in self._candidates if c.run.verdict == "right"]

    def _times(self) -> DeviceTimes:
        known = self._learned_from
        if self._learned is None or self._learned[0] != len(known):
            runs = [self._join(*run).samples for run in known]
            self._learned = len(known), DeviceTimes.of(self._name, [*self._earlier, *runs])
        return self._learned[1]

    def _known(self) -> set[Tried]:
        runs = chain(self._earlier, (self._join(*run).samples for run in self._learned_from))
        return {(s.call, labels_of(s.operands)) for run in runs for s in run}

    def _plan_options(self) -> PlanOptions:
        """The options of a plan, which avoids what was found to be wrong on this device."""
        if not self._rows:
            return self._options
        rows = parse_faults(json.dumps(self._rows), AVOID).rows
        return replace(self._options, avoid=Faults((*self._options.avoid.rows, *rows)))

    def _learned_options(self) -> PlanOptions:
        """The options of a plan for the least time, by all that was measured."""
        profile = self._options.profile
        if profile.unit != "ns":
            profile = load_profile("default")
        source = MeasuredSource(self._times(), profile)
        return replace(self._plan_options(), costs=source, objective="latency")

    # The last comparison.

    def _compare(self, baseline: Candidate) -> list[Finalist]:
        options = self._learned_options()
        costs = options.cost_model()

        prices = {
            c.run.program: priced_total(self._graphs(c.program), costs, options.profile)
            for c in self._right()
        }
        chosen = sorted(self._right()[1:], key=lambda c: prices[c.run.program])
        blocks, count, looks = self._affordable(baseline, len(chosen))
        if not count:
            return []
        chosen = chosen[:count]
        self._watcher.stage(f"the best {count} against ExecuTorch's plan, in turn")
        # Each look at each plan may be wrong by chance: all of them together as often as one.
        confidence = 1 - (1 - self._settings.confidence) / (count * looks)
        # Runs of another comparison were not taken in turn with these.
        key = digest("".join(c.run.program for c in (baseline, *chosen)).encode())[:8]
        runs: dict[str, dict[int, RunRecord]] = defaultdict(dict)
        found: dict[str, Finalist] = {}
        left, done = chosen, 0
        for look in range(looks):
            for block in range(done, blocks << look):
                order = [baseline, *left]
                random.Random(f"{self._settings.seed} {block}").shuffle(order)
                for candidate in order:
                    record = self._run(f"final {key} {block}", candidate.program)
                    runs[candidate.run.program][block] = record
                    if record.verdict == "right":
                        self._learned_from.append((record.purpose, record.program))
            done = blocks << look
            for candidate in left:
                found.pop(candidate.name, None)
                of_both = runs[baseline.run.program], runs[candidate.run.program]
                gains = self._gains(*of_both, confidence)
                if gains is not None:
                    predicted = prices[baseline.run.program] / prices[candidate.run.program]
                    found[candidate.name] = Finalist(candidate, *gains, predicted)
            left = self._undecided(baseline, list(found.values()))
            if not left:
                break
        return [found[c.name] for c in chosen if c.name in found]

    def _undecided(self, baseline: Candidate, finalists: Sequence[Finalist]) -> list[Candidate]:
        """The best one by all that was measured, if more runs may prove what is worth it.

        What was learned tells plans apart that blocks do not yet: what they share, and the speed of
        whole runs, does not count there. Only blocks prove.
        """
        gain = self._likely_gains(baseline)
        best = max(finalists, key=gain, default=None)
        if best is None or best.is_faster:
            return []
        proven = max((gain(f) for f in finalists if f.is_faster), default=1.0)
        if gain(best) - proven < _WORTH:
            return []
        self._watcher.stage(f"{best.candidate.name} against ExecuTorch's plan, in turn")
        return [best.candidate]

    def _winner(self, baseline: Candidate, faster: Sequence[Finalist]) -> Finalist | None:
        """The fastest; of those that blocks cannot tell from it, the best by what was learned."""
        fastest = max((f.gain.median for f in faster), default=0.0)
        like_it = [f for f in faster if f.gain.high >= fastest]
        return max(like_it, key=self._likely_gains(baseline), default=None)

    def _likely_gains(self, baseline: Candidate) -> Callable[[Finalist], float]:
        """The gains of plans over ExecuTorch's, by all that was measured."""
        options = self._learned_options()
        costs = options.cost_model()

        def ns(candidate: Candidate) -> float:
            return priced_total(self._graphs(candidate.program), costs, options.profile)

        return lambda finalist: ns(baseline) / ns(finalist.candidate)

    @staticmethod
    def _gains(
        before: Mapping[int, RunRecord], after: Mapping[int, RunRecord], confidence: float
    ) -> tuple[Gain, Gain | None] | None:
        """The gains on the GPU and of all, by runs in blocks; None for a plan that once failed."""
        both = [(before[b], after[b]) for b in after if before[b].verdict == "right"]
        if not both or any(b.verdict != "right" for b in after.values()):
            return None
        wall = None
        if all(a.wall_ns and b.wall_ns for a, b in both):
            wall = gain_of([a.wall_ns for a, _ in both], [b.wall_ns for _, b in both], confidence)
        return gain_of([a.ns for a, _ in both], [b.ns for _, b in both], confidence), wall

    def _affordable(self, baseline: Candidate, most: int) -> tuple[int, int, int]:
        """Blocks, finalists, and looks at them for which there is time left."""
        settings = self._settings
        blocks, count = settings.blocks, min(settings.finalists, most)
        looks = settings.doublings + 1
        if settings.budget is None:
            return blocks, count, looks
        runs = int((settings.budget - self._spent) / max(baseline.run.seconds, 1e-9))

        def needed() -> int:
            return blocks * (count + 1) + 2 * ((blocks << (looks - 1)) - blocks)

        while count and runs < needed():
            if looks > 1:
                looks -= 1
            elif count > 1:
                count -= 1
            elif blocks > _FEWEST_BLOCKS:
                blocks -= 1
            else:
                count = 0
        return blocks, count, looks

    def _classes(
        self, baseline: Candidate, winner: Finalist | None
    ) -> dict[str, tuple[float, float]]:
        """ns of an inference by operator, of ExecuTorch's plan and of the winner."""
        if winner is None:
            return {}
        sums = []
        for candidate in (baseline, winner.candidate):
            found: dict[str, list[float]] = defaultdict(list)
            for record in self.journal:
                is_final = record.purpose.startswith("final") and record.verdict == "right"
                if is_final and record.program == candidate.run.program:
                    for kind, ns in _by_class(self._join(record.purpose, record.program)).items():
                        found[kind].append(ns)
            sums.append({kind: float(np.median(times)) for kind, times in found.items()})
        kinds = sorted(sums[0].keys() | sums[1].keys())
        return {kind: (sums[0].get(kind, 0.0), sums[1].get(kind, 0.0)) for kind in kinds}

    def _keep_costs(self) -> None:
        """Adds the runs that computed what they should to the folder's cost database."""
        runs = [
            (
                Run(
                    self._name,
                    "unknown",
                    f"{purpose} {key[:16]}",
                    digest(self.journal.etdump(purpose, key).read_bytes()),
                    key,
                ),
                found,
            )
            for (purpose, key), found in self._joins.items()
            if (record := self.journal.of(purpose, key)) is not None and record.verdict == "right"
        ]
        with CostDatabase(self.journal.folder / COSTS) as costs:
            costs.add_all(runs)


def _by_class(found: Join) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for step in found.steps:
        sums[kind_of(step)] += step.sample.median
    return sums
