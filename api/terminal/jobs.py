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
from planner.kernels.releases import TARGET_NAMES

_NO_DEVICE = "no device"
_ENDS = {"done": "green", "failed": "red", "cancelled": "yellow"}
_UNPROVEN = "◐"
_LEGEND = f"{_UNPROVEN} not proven: another plan may cost less"


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
    items = list(items)
    results = [item["result"] for item in items if item["result"] is not None]
    table = Table(
        "input", "options", "state", caption=_legend(each["is_proven"] for each in results)
    )
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
            _marked(ratio(result["objective_ratio"]), is_proven=result["is_proven"]),
            cost(result["baseline_repack_cost"], unit),
            cost(result["repack_cost"], unit),
            "optimal"
            if result["is_proven"]
            else f"feasible, at least {cost(result['bound'], unit)}",
        )
    return table


def gains_table(items: Iterable[Mapping[str, Any]]) -> Table:
    """What each device gains: a row for each input, and a column for each device.

    The gain is the cost of the layouts that it had over that of the plan; the best of its options.
    """
    gains: dict[str, dict[str, tuple[float, bool]]] = defaultdict(dict)
    devices: dict[str, None] = {}
    for item in items:
        device = item["options"].get("device") or _NO_DEVICE
        devices[device] = None
        result = item["result"]
        if result is not None:
            gain, of_input = result["objective_ratio"], gains[item["input"]]
            found = inf if gain is None else gain, result["is_proven"]
            of_input[device] = max(of_input.get(device, (0.0, True)), found)
    proven = (is_proven for found in gains.values() for _, is_proven in found.values())
    table = Table("input", title="gain by device, predicted", caption=_legend(proven))
    for device in devices:
        table.add_column(escape(device), justify="right")
    for name, of_input in gains.items():
        table.add_row(escape(name), *(_gain(of_input.get(device)) for device in devices))
    return table


def _gain(gain: tuple[float, bool] | None) -> str:
    if gain is None:
        return "–"
    times, is_proven = gain
    return _marked(ratio(None if isinf(times) else times), is_proven=is_proven)


def _marked(text: str, *, is_proven: bool) -> str:
    """A figure of a plan, with a mark if it is not proven."""
    return text if is_proven else f"{_UNPROVEN} {text}"


def _legend(proven: Iterable[bool]) -> str | None:
    """What the mark means, where there is one."""
    return None if all(proven) else _LEGEND


def comparison_table(comparison: Comparison, percent: float) -> Table:
    """A row for each model that is in two jobs; those that cost more by so much are red.

    The change is that of the objective; the repacks, which may be a part of it, stand beside it.
    """
    costs = (c for change in comparison.changes for c in (change.before, change.after))
    legend = _legend(c is None or c.is_proven for c in costs)
    table = Table("input", "options", title="cost by the objective", caption=legend)
    for column in ("before", "after", "change", "repacks before", "repacks after"):
        table.add_column(column, justify="right")
    for change in comparison.changes:
        both = change.before, change.after
        objectives = (
            "no plan"
            if c is None
            else _marked(cost(c.objective, change.unit), is_proven=c.is_proven)
            for c in both
        )
        repacks = ("no plan" if c is None else cost(c.repack, change.unit) for c in both)
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
    if options.get("target"):
        words.append(f"for {TARGET_NAMES[options['target']]}")
    if options["without_layouts"]:
        words.append("without " + ",".join(options["without_layouts"]))
    words += options.get("limits", ())
    return " ".join(words)
