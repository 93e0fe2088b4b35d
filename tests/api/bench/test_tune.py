"""The benchmarks of tuning: a recorded device, and small nets on drawn ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from api.bench import tune
from api.bench.nets import small_net
from api.bench.profiles import RECORDED
from api.bench.tune_small import outcome_of_seed, small_tables
from api.cli import main
from planner.files.lowered import graphs_of
from planner.measured.calls import calls_of
from planner.pipelines.lowered import replan
from planner.tuning.corpus import read_corpus
from planner.tuning.simulation import RecordedTimes
from planner.tuning.tune import TuneSettings

SEEDS = range(9, 16)
"""Nets of which most have something to gain."""


@pytest.mark.slow
@pytest.mark.lowering
def test_a_device_is_tuned_and_the_row_says_how_well() -> None:
    recordings = read_corpus(RECORDED)["mv2_xs_int8"]
    runs = [recording.join().samples for recording in recordings]
    (start,) = (r for r in recordings if r.plan == "greedy")
    settings = TuneSettings(rounds=1, variants=1, finalists=1, blocks=7, inferences=3)
    outcome = tune.outcome_of(start.program, RecordedTimes(runs, 3), 3, settings)
    assert 1 <= outcome.tuned <= outcome.executorch <= 1.1
    assert not outcome.is_slower and outcome.runs > 10
    cells = [cell.strip() for cell in tune._row("net", [outcome]).strip("|").split("|")]
    assert cells[0] == "net" and cells[1] == f"{outcome.executorch:.3f}, {outcome.executorch:.3f}"
    assert cells[7] == "0"


def test_small_nets_are_drawn_by_their_seed() -> None:
    nets = [small_net(seed) for seed in SEEDS]
    assert nets == [small_net(seed) for seed in SEEDS] and len(set(nets)) == len(nets)
    calls = [[call for g in graphs_of(net, "net") for call in calls_of(g)] for net in nets]
    assert all(5 <= sum(not call.is_transition for call in found) <= 40 for found in calls)
    # Laid out one after another, as a pass does that does not look ahead.
    repacks = [replan(net, "net").report.total for net in nets]
    assert sum(total.transitions < total.baseline_transitions for total in repacks) > len(nets) / 2


@pytest.mark.slow
def test_small_nets_come_near_to_their_best_plan_and_are_never_slower() -> None:
    outcomes = [outcome_of_seed(seed) for seed in SEEDS]
    assert not any(outcome.is_slower for outcome in outcomes)
    near = [outcome.tuned <= tune.CLOSE for outcome in outcomes]
    assert sum(near) >= 0.9 * len(near) > sum(o.executorch <= tune.CLOSE for o in outcomes)
    # Faults were met and named; where a plan crashes that has both, one of them may be.
    wrong, crash = (
        [named for o in outcomes if (named := getattr(o, name)) is not None]
        for name in ("wrong_is_named", "crash_is_named")
    )
    assert wrong and all(wrong) and sum(crash) > len(crash) / 2
    text = small_tables(outcomes)
    assert f"| {sum(near)} of {len(near)} | 0 |" in text
    assert f"| met wrong results; named the kernel | {len(wrong)}; {len(wrong)} |" in text


@pytest.mark.slow
def test_the_command_for_small_nets(tmp_path: Path) -> None:
    command = ["bench", "tune", "--small", "--devices", "1", "--seed", "4"]
    ran = CliRunner().invoke(main, [*command, "-o", str(tmp_path / "table.md")])
    assert ran.exit_code == 0
    assert "| tuned |" in (tmp_path / "table.md").read_text()
    refused = CliRunner().invoke(main, [*command, str(tmp_path)])
    assert refused.exit_code == 2 and "leave out DIR" in refused.output
