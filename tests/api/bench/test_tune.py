"""The benchmark of tuning, on one simulated device."""

from __future__ import annotations

import pytest

from api.bench import tune
from api.bench.profiles import RECORDED
from planner.tuning.corpus import read_corpus
from planner.tuning.tune import TuneSettings


@pytest.mark.slow
@pytest.mark.lowering
def test_a_device_is_tuned_and_the_row_says_how_well() -> None:
    recordings = read_corpus(RECORDED)["mv2_xs_int8"]
    runs = [recording.join().samples for recording in recordings]
    (start,) = (r for r in recordings if r.plan == "greedy")
    settings = TuneSettings(rounds=1, variants=1, finalists=1, blocks=7, inferences=3)
    outcome = tune.outcome_of(start, runs, 3, settings)
    assert 1 <= outcome.tuned <= outcome.executorch <= 1.1
    assert not outcome.is_slower and outcome.runs > 10
    cells = [cell.strip() for cell in tune._row("net", [outcome]).strip("|").split("|")]
    assert cells[0] == "net" and cells[1] == f"{outcome.executorch:.3f}, {outcome.executorch:.3f}"
    assert cells[7] == "0"
