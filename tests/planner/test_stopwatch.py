"""The clocks of stages."""

from __future__ import annotations

import gc
from time import process_time

import pytest

from planner.stopwatch import collector_off, stage, stages


def _work(seconds: float) -> None:
    end = process_time() + seconds
    while process_time() < end:
        pass


def test_a_stage_inside_another_is_not_charged_to_it() -> None:
    before = process_time()
    with stages() as found, stage("outer"):
        _work(0.002)
        for _ in range(2):
            with stage("inner"):
                _work(0.01)
        _work(0.002)
    spent = process_time() - before
    assert found.seconds["inner"] >= 0.02
    assert found.seconds["outer"] >= 0.004
    assert sum(found.seconds.values()) <= spent


def test_a_stage_ends_where_an_error_leaves_it() -> None:
    with stages() as found, stage("outer"):
        with pytest.raises(ValueError, match="wrong"), stage("inner"):
            raise ValueError("wrong")
        inner = found.seconds["inner"]
        _work(0.001)
    assert found.seconds["inner"] == inner


def test_stages_outside_of_a_record_are_free() -> None:
    with stage("nothing"):
        pass
    with stages() as found:
        pass
    assert found.seconds == {}


def test_the_collector_comes_back_as_it_was() -> None:
    assert gc.isenabled()
    with collector_off():
        assert not gc.isenabled()
        with collector_off():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
