"""Whole tunings on made-up devices, whose best plan is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from api.bench.nets import small_net
from planner.errors import InputError, OptionError
from planner.files.lowered import graphs_of
from planner.ir.representation import REPRS, TensorRepr
from planner.kernels.faults import load_faults
from planner.kernels.registry import CLONE
from planner.measured.calls import calls_of
from planner.measured.costs import load_costs
from planner.measured.etdump import DelegateRun, Executions
from planner.pipelines.lowered import replan
from planner.tuning.device import Measurement
from planner.tuning.result import BASELINE, REPORT, Tuned
from planner.tuning.runners import RunFailedError
from planner.tuning.simulation import (
    Behaviour,
    DrawnTimes,
    SimulatedDevice,
    SimulatedRuns,
    kernels_of,
)
from planner.tuning.tune import COSTS, TuneSettings
from schema import VkMemoryLayout, VkStorageType
from tests.planner.tuning import devices
from tests.planner.tuning.devices import Interrupted, Watching, program, true_time, tuning

pytestmark = pytest.mark.slow

RELU = "aten.relu.default"


def used(data: bytes) -> set[str]:
    calls = (call for g in graphs_of(data, "graph") for call in calls_of(g))
    return {str(r) for call in calls if call.call.operator == RELU for _, r in call.operands}


@pytest.mark.parametrize("seed", range(4))
def test_it_comes_near_to_the_best_plan(tmp_path: Path, seed: int) -> None:
    tuned = devices.tuned(tmp_path / "t", seed, Behaviour(flaky=0.05, throttling=0.1))
    best, now = devices.least_time(seed), true_time(tuned.program, seed)
    assert now <= 1.02 * best < true_time(program(), seed)
    assert tuned.winner is not None
    gain = true_time(program(), seed) / now
    assert tuned.winner.gain.low <= 1.02 * gain and tuned.winner.gain.high >= gain / 1.02
    assert tuned.winner.predicted == pytest.approx(gain, rel=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_noise_alone_makes_no_winner(tmp_path: Path, seed: int) -> None:
    # The plan that is tuned is the best one already.
    best = devices.tuned(tmp_path / "first", 0, Behaviour()).program
    where = SimulatedRuns(devices.device(0, 0.2), Behaviour(), seed)
    tuned = tuning(tmp_path / "again", where, TuneSettings(seed=seed), data=best).result()
    assert tuned.winner is None and tuned.program == best


def fastest() -> str:
    """The representation that the best plan uses."""
    (found,) = {str(r) for r in REPRS if devices.weight(REPRS.index(r)) == 0} & {
        str(r) for r in REPRS if not r.is_packed_int8
    }
    return found


@pytest.mark.parametrize("kind", ["wrong", "crashing"])
def test_a_kernel_that_fails_is_named_and_avoided(tmp_path: Path, kind: str) -> None:
    (bad,) = (r for r in REPRS if str(r) == fastest())
    met = frozenset({(RELU, bad)})
    behaviour = Behaviour(wrong=met) if kind == "wrong" else Behaviour(crashing=met)
    tuned = devices.tuned(tmp_path / "t", 0, behaviour)
    assert str(bad) not in used(tuned.program)
    verdicts = {c.run.verdict for c in tuned.candidates}
    assert verdicts == {"right", "wrong" if kind == "wrong" else "crash"}
    named = {(row["operators"][0], row["representations"][0]) for row in tuned.avoided}
    assert named == {(RELU, str(bad))}
    # The rows are a table that plans take.
    rows = load_faults(tmp_path / "t" / "avoid.json")
    options = replace(devices.OPTIONS, avoid=rows)
    assert str(bad) not in used(replan(program(), "graph", options).data)
    assert len(rows.rows) == len(tuned.avoided)


@pytest.mark.parametrize("kind", ["wrong", "crashing"])
def test_a_repack_that_fails_is_in_no_plan(tmp_path: Path, kind: str) -> None:
    # Rows are about operators, so that no plan can avoid it as such.
    program, times = small_net(20), DrawnTimes(20)
    height = TensorRepr(VkStorageType.TEXTURE_3D, VkMemoryLayout.TENSOR_HEIGHT_PACKED)
    channels = TensorRepr(VkStorageType.TEXTURE_3D, VkMemoryLayout.TENSOR_CHANNELS_PACKED)
    repack = CLONE, channels, height
    met = frozenset({repack})
    behaviour = Behaviour(wrong=met) if kind == "wrong" else Behaviour(crashing=met)
    where = SimulatedRuns(SimulatedDevice(times, 0, 0.01, 0.01), behaviour, 0)
    tuned = tuning(tmp_path / "t", where, data=program).result()
    assert {"wrong" if kind == "wrong" else "crash"} < {c.run.verdict for c in tuned.candidates}
    calls = (call for g in graphs_of(tuned.program, "net") for call in calls_of(g))
    assert repack not in {kernel for call in calls for kernel in kernels_of(call)}
    assert tuned.winner is not None and tuned.winner.gain.low > 1.2


def failing(runs: set[int]) -> type[SimulatedRuns]:
    """A device that fails for no reason in some of its runs, by their number."""

    class Failing(SimulatedRuns):
        def execute(self, program: Path, inferences: int, seconds: float) -> Measurement:
            found = super().execute(program, inferences, seconds)
            if self.runs in runs:
                raise RunFailedError("crash", "the connection was lost")
            return found

    return Failing


def test_a_run_that_fails_by_chance_is_nobodys_fault(tmp_path: Path) -> None:
    runs = failing({2})(devices.device(0), Behaviour(), 0)
    tuned = tuning(tmp_path / "t", runs, TuneSettings(retries=0)).result()
    assert [c.run.verdict for c in tuned.candidates].count("crash") == 1
    assert tuned.avoided == () and tuned.winner is not None


def test_a_block_in_which_executorchs_plan_fails_does_not_count(tmp_path: Path) -> None:
    class Failing(SimulatedRuns):
        seen = 0

        def execute(self, program: Path, inferences: int, seconds: float) -> Measurement:
            found = super().execute(program, inferences, seconds)
            self.seen += program.read_bytes() == devices.program()
            if self.seen == 2:
                self.seen += 1
                raise RunFailedError("crash", "the connection was lost")
            return found

    runs = Failing(devices.device(0), Behaviour(), 0)
    tuned = tuning(tmp_path / "t", runs, TuneSettings(retries=0)).result()
    assert tuned.winner is not None and tuned.classes


def test_more_blocks_prove_what_few_do_not(tmp_path: Path) -> None:
    # The gain is a few times what a run differs from another.
    found = []
    for doublings in (0, 3):
        runs = SimulatedRuns(devices.device(0, 0.25), Behaviour(), 0)
        settings = TuneSettings(doublings=doublings)
        tuned = tuning(tmp_path / f"{doublings}", runs, settings).result()
        found.append((tuned.winner, runs.runs))
    (few, fewer), (proven, more) = found
    assert few is None and proven is not None
    assert more - fewer in (2 * 9, 2 * 27, 2 * 63)


def test_what_ends_in_the_midst_goes_on(tmp_path: Path) -> None:
    whole, parts = (SimulatedRuns(devices.device(1), Behaviour(), 1) for _ in range(2))
    expected = tuning(tmp_path / "whole", whole).result()
    while True:
        interrupted = Interrupted(parts, 5)
        try:
            found = tuning(tmp_path / "parts", interrupted).result()
        except KeyboardInterrupt:
            # What was learned is there.
            assert load_costs(tmp_path / "parts" / COSTS).times.model.drift
        else:
            break
    assert parts.runs == whole.runs > 20
    assert found.program == expected.program and found.rounds == expected.rounds
    gains = ([f.gain for f in tuned.finalists] for tuned in (found, expected))
    assert next(gains) == next(gains)
    report = json.loads((tmp_path / "parts" / REPORT).read_text())
    assert report["winner"] == (found.winner.candidate.name if found.winner else BASELINE)


def test_a_folder_of_another_tuning_is_refused(tmp_path: Path) -> None:
    runs = SimulatedRuns(devices.device(0), Behaviour(), 0)
    tuning(tmp_path / "t", runs)
    with pytest.raises(OptionError, match="a tuning with another seed"):
        tuning(tmp_path / "t", runs, TuneSettings(seed=1))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    with pytest.raises(OptionError, match="is not empty, and no tuning's"):
        tuning(tmp_path / "other", runs)


def test_a_budget_leaves_time_for_the_comparison(tmp_path: Path) -> None:
    # A clock that goes on by a second with each run.
    def budgeted(seconds: float) -> Tuned:
        runs = SimulatedRuns(devices.device(0), Behaviour(), 0)
        settings = TuneSettings(budget=seconds)
        folder = tmp_path / f"{seconds}"
        return tuning(folder, runs, settings, clock=lambda: float(runs.runs)).result()

    whole = budgeted(1000)
    assert len(whole.finalists) == 3 and whole.ended != "the device's time is used up"
    for seconds in (16, 17, 18, 19):
        tuned = budgeted(seconds)
        assert tuned.ended == "the device's time is used up"
        assert len(tuned.finalists) == 1 and tuned.seconds <= seconds
    assert tuned.winner is not None
    short = budgeted(10)
    assert short.winner is None and short.program == program() and short.seconds <= 10


def test_a_program_that_does_not_run(tmp_path: Path) -> None:
    calls = (call for g in graphs_of(program(), "graph") for call in calls_of(g))
    met = frozenset((call.call.operator, r) for call in calls for _, r in call.operands)
    runs = SimulatedRuns(devices.device(0), Behaviour(crashing=met), 0)
    with pytest.raises(InputError, match="does not run on made up as ExecuTorch lays it out: cra"):
        tuning(tmp_path / "t", runs).result()
    # Once the device is mended, the same command goes on.
    mended = SimulatedRuns(devices.device(0), Behaviour(), 0)
    assert tuning(tmp_path / "t", mended).result().winner is not None


def test_a_device_that_is_away_loses_nothing(tmp_path: Path) -> None:
    class Away(SimulatedRuns):
        def execute(self, program: Path, inferences: int, seconds: float) -> Measurement:
            if self.runs >= 3:
                raise RunFailedError("away", "no devices found")
            return super().execute(program, inferences, seconds)

    settings = TuneSettings(retries=0)
    with pytest.raises(InputError, match=r"made up is away: .*no devices found.*the same command"):
        tuning(tmp_path / "t", Away(devices.device(0), Behaviour(), 0), settings).result()
    runs = SimulatedRuns(devices.device(0), Behaviour(), 0)
    watching = Watching()
    tuned = tuning(tmp_path / "t", runs, settings, watching).result()
    assert tuned.winner is not None
    assert runs.runs == len(watching.candidates) - 3 + 9 * (1 + len(tuned.finalists))


@pytest.mark.parametrize("lacks", ["wall", "all"])
def test_times_that_a_runtime_does_not_give(tmp_path: Path, lacks: str) -> None:
    class Untimed(SimulatedRuns):
        def execute(self, program: Path, inferences: int, seconds: float) -> Measurement:
            found = super().execute(program, inferences, seconds)
            delegates = found.executions.delegates
            if lacks == "all":
                none = (0.0,) * inferences
                delegates = tuple(
                    DelegateRun(tuple(replace(d, ns=none) for d in run.dispatches))
                    for run in delegates
                )
            return replace(found, executions=Executions(delegates, ()))

    tune = tuning(tmp_path / "t", Untimed(devices.device(0), Behaviour(), 0))
    if lacks == "all":
        with pytest.raises(InputError, match="its dispatches took no time by the profile"):
            tune.result()
        return
    tuned = tune.result()
    assert tuned.winner is not None and tuned.winner.wall is None
    report = json.loads((tmp_path / "t" / REPORT).read_text())
    assert report["finalists"][0]["wall_gain"] is None
