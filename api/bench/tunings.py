"""What tunings on a device came to, by their folders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from api.terminal.markdown import head, print_and_write, row
from planner.tuning.result import BASELINE, LEAST_COST, Ended, read_ended

_HEADINGS: Final = (
    *("model", "ExecuTorch's, ms", "repacks", "tuned: repacks", "faster, GPU", "faster, all"),
    *("predicted", "least repack cost, one run", "plans", "rounds", "device's time, s"),
)


def tunings(folders: Sequence[Path], output: Path | None) -> None:
    """Prints a table of tunings as Markdown, for each device.

    Raises ``InputError`` for a folder that has no tuning that ended.
    """
    by_device: dict[str, list[Ended]] = defaultdict(list)
    for folder in folders:
        ended = read_ended(folder)
        by_device[ended.device].append(ended)
    lines: list[str] = []
    for device, found in by_device.items():
        lines += [f"## {device}", "", *head(_HEADINGS)]
        lines += [_row(ended) for ended in found]
        lines += ["", *_avoided(found)]
    print_and_write("\n".join(lines).rstrip() + "\n", output)


def _row(ended: Ended) -> str:
    report = ended.document
    plans = {plan["name"]: plan for plan in report["plans"]}
    baseline = plans[BASELINE]
    # Of several that were not proven faster, the one that came nearest.
    best = max(
        report["finalists"],
        key=lambda f: (f["name"] == report["winner"], f["gain"]["median"]),
        default=None,
    )
    won = report["winner"] != BASELINE
    least_cost = plans.get(LEAST_COST)
    return row(
        [
            ended.model,
            f"{baseline['ns'] / 1e6:.3f}",
            str(baseline["transitions"]),
            str(plans[report["winner"]]["transitions"]) if won else "ExecuTorch's plan stays",
            "" if best is None else _interval(best["gain"]),
            "" if best is None or best["wall_gain"] is None else _interval(best["wall_gain"]),
            "" if best is None else f"{best['predicted_gain']:.3f}",
            f"{baseline['ns'] / least_cost['ns']:.3f}" if least_cost and least_cost["ns"] else "",
            str(len(plans)),
            str(len(report["rounds"])),
            f"{report['device_seconds']:.0f}",
        ]
    )


def _interval(gain: Mapping[str, Any]) -> str:
    high = "∞" if gain["high"] is None else f"{gain['high']:.3f}"
    return f"{gain['median']:.3f} ({gain['low']:.3f} to {high})"


def _avoided(found: Sequence[Ended]) -> Iterator[str]:
    for ended in found:
        for fault in ended.document["avoided"]:
            where = ", ".join((*fault["operands"], *fault["representations"]))
            yield (
                f"- {ended.model}: {', '.join(fault['operators'])} ({where}) is avoided: "
                f"{fault['effect']}, {fault['seen']}"
            )
