"""Tunings of small random nets on drawn devices, by the thousand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.progress import track

from api.bench.nets import small_net
from api.bench.tune import BEHAVIOUR, CLOSE, Outcome, in_processes, outcome_of
from api.terminal.markdown import head, print_and_write, row
from planner.tuning.simulation import DrawnTimes

_WAYS: Final[tuple[tuple[str, Callable[[Outcome], float]], ...]] = (
    ("ExecuTorch's", lambda outcome: outcome.executorch),
    ("least repack cost", lambda outcome: outcome.least_cost),
    ("random search", lambda outcome: outcome.random),
    ("tuned", lambda outcome: outcome.tuned),
)
_HIGH: Final = 95


def tuning_small(devices: int, first_seed: int, output: Path | None) -> None:
    """Tunes a net on each of so many devices and prints Markdown; progress goes to stderr."""
    outcomes = track(
        in_processes(outcome_of_seed, range(first_seed, first_seed + devices)),
        "tuning",
        total=devices,
        console=Console(stderr=True),
        transient=True,
    )
    print_and_write(small_tables(list(outcomes)), output)


def outcome_of_seed(seed: int) -> Outcome:
    """What tuning the net of a seed comes to, on the device of that seed."""
    return outcome_of(small_net(seed), DrawnTimes(seed), seed, also_one_round=False)


def small_tables(outcomes: Sequence[Outcome]) -> str:
    """What tunings came to, as Markdown."""
    lines = [
        f"Small random nets, each on a device of its own whose times are drawn; {BEHAVIOUR}. True "
        "times over the least possible, and over ExecuTorch's. The random search measures as many "
        "plans as the tuning.",
        "",
        *head(
            [
                *("plan", "median", f"{_HIGH}th percentile", "worst", f"within {CLOSE - 1:.0%}"),
                *("slower than ExecuTorch's", "at worst"),
            ]
        ),
    ]
    lines += [_row(name, [way(o) for o in outcomes], outcomes) for name, way in _WAYS]
    far = sum(not o.least_cost_is_right for o in outcomes)
    lines += [
        "",
        *head(["of the tunings", ""]),
        row(["met wrong results; named the kernel", _named([o.wrong_is_named for o in outcomes])]),
        row(["met crashes; named the kernel", _named([o.crash_is_named for o in outcomes])]),
        row(["plan of the least repack cost is wrong or crashes", f"{far} of {len(outcomes)}"]),
        row(["device runs, median and most", _median_and_most([o.runs for o in outcomes])]),
        row(["rounds, median and most", _median_and_most([o.rounds for o in outcomes])]),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, ratios: Sequence[float], outcomes: Sequence[Outcome]) -> str:
    beside = [ratio / o.executorch for ratio, o in zip(ratios, outcomes, strict=True)]
    return row(
        [
            name,
            *(f"{np.percentile(ratios, q):.3f}" for q in (50, _HIGH, 100)),
            f"{sum(ratio <= CLOSE for ratio in ratios)} of {len(ratios)}",
            str(sum(ratio > 1 for ratio in beside)),
            f"{max(beside):.3f}",
        ]
    )


def _named(found: Sequence[bool | None]) -> str:
    met = [named for named in found if named is not None]
    return f"{len(met)}; {sum(met)}"


def _median_and_most(counts: Sequence[int]) -> str:
    return f"{np.median(counts):.0f}, {max(counts)}"
