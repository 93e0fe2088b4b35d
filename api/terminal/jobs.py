"""Jobs on a terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import inf, isinf
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from api.client.difference import Comparison
from api.terminal.figures import cost, ratio

_NO_DEVICE = "no device"
_ENDS = {"done": "green", "failed": "red", "cancelled": "yellow"}


def jobs_table(jobs: Iterable[Mapping[str, Any]]) -> Table:
    """A row for each job."""
    table = Table("job", "name", "created")
    for state in ("items", "waiting", "queued", "running", *_ENDS):
        table.add_column(state, justify="right")
    for job in jobs:
        counts = job["counts"]
        active = (counts[state] for state in ("waiting", "queued", "running", *_ENDS))
        created = job["created"][:19].replace("T", " ")
        table.add_row(job["id"], escape(job["name"]), created, str(job["total"]), *map(str, active))
    return table


def results_table(items: Iterable[Mapping[str, Any]]) -> Table:
    """A row for each item of a job: what its objective costs, and its repacks alone."""
    table = Table("input", "options", "state")
    for column in ("before", "after", "ratio", "repacks before", "repacks after"):
        table.add_column(column, justify="right")
    table.add_column("proof or reason")
    for item in items:
        result = item["result"]
        row = [escape(item["input"]), escape(_options(item["options"])), item["state"]]
        if result is None:
            table.add_row(*row, *[""] * 5, escape(item["error"] or ""))
            continue
        unit = result["unit"]
        table.add_row(
            *row,
            cost(result["baseline_objective_cost"], unit),
            cost(result["objective_cost"], unit),
            ratio(result["objective_ratio"]),
            cost(result["baseline_repack_cost"], unit),
            cost(result["repack_cost"], unit),
            result["status"],
        )
    return table


def gains_table(items: Iterable[Mapping[str, Any]]) -> Table:
    """What each device gains: a row for each input, and a column for each device.

    The gain is the cost of the layouts that it had over that of the plan; the best of its options.
    """
    gains: dict[str, dict[str, float]] = defaultdict(dict)
    devices: dict[str, None] = {}
    for item in items:
        device = item["options"].get("device") or _NO_DEVICE
        devices[device] = None
        result = item["result"]
        if result is not None:
            gain, of_input = result["objective_ratio"], gains[item["input"]]
            of_input[device] = max(of_input.get(device, 0.0), inf if gain is None else gain)
    table = Table("input", title="gain by device, predicted")
    for device in devices:
        table.add_column(escape(device), justify="right")
    for name, found in gains.items():
        table.add_row(escape(name), *(_gain(found.get(device)) for device in devices))
    return table


def _gain(gain: float | None) -> str:
    return "–" if gain is None else ratio(None if isinf(gain) else gain)


def comparison_table(comparison: Comparison, percent: float) -> Table:
    """A row for each model that is in two jobs; those that cost more by so much are red.

    The change is that of the objective; the repacks, which may be a part of it, stand beside it.
    """
    table = Table("input", "options", title="cost by the objective")
    for column in ("before", "after", "change", "repacks before", "repacks after"):
        table.add_column(column, justify="right")
    for change in comparison.changes:
        both = change.before, change.after
        objectives = (_cost(None if c is None else c.objective, change.unit) for c in both)
        repacks = (_cost(None if c is None else c.repack, change.unit) for c in both)
        table.add_row(
            escape(change.cell.input),
            escape(_options(change.cell.options)),
            *objectives,
            "" if change.percent is None else f"{change.percent:+.2f} %",
            *repacks,
            style="red" if change.is_regression(percent) else None,
        )
    for which, cells in (("first", comparison.removed), ("second", comparison.added)):
        for cell in cells:
            # Two profiles of one name differ in their content.
            content = f"{_options(cell.options)} (profile {cell.options['profile_hash'][:8]})"
            table.add_row(escape(cell.input), escape(content), f"only in the {which} job")
    return table


def watch_job(job: Mapping[str, Any], changes: Iterable[Mapping[str, Any]]) -> bool:
    """Shows a job's progress until its end; returns whether everything was done."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bars = {
            state: progress.add_task(f"[{colour}]{state}", total=job["total"])
            for state, colour in {**_ENDS, "running": "blue"}.items()
        }
        counts = job["counts"]
        for change in changes:
            counts = change["counts"]
            for state, bar in bars.items():
                progress.update(bar, completed=counts[state])
    console.print(
        f"{escape(job['name'])}: " + ", ".join(f"{counts[state]} {state}" for state in _ENDS),
        highlight=False,
    )
    is_whole: bool = counts["done"] == job["total"]
    return is_whole


def _cost(value: float | None, unit: str) -> str:
    return "no plan" if value is None else cost(value, unit)


def _options(options: Mapping[str, Any]) -> str:
    """Options in a few words."""
    device = options.get("device")
    words = [device or options["profile"], options["objective"]]
    if options["texture_limits"]:
        words.append("textures " + ",".join(map(str, options["texture_limits"])))
    if options["buffer_limit"]:
        words.append(f"buffers < {options['buffer_limit']}")
    words += [name + "=false" * (not on) for name, on in options.get("compile_options", {}).items()]
    if options.get("runtime"):
        words.append(f"ExecuTorch {options['runtime']}")
    if options["without_layouts"]:
        words.append("without " + ",".join(options["without_layouts"]))
    return " ".join(words)
