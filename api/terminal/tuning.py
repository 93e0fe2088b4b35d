"""How a tuning goes, and what came of it, on a terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from api.terminal.figures import cost
from planner.tuning.result import BASELINE, Candidate, Round, Tuned
from planner.tuning.statistics import Gain

_CLASSES = 8


class LiveTuning:
    """A table of the plans measured so far, that grows; a line each where there is no terminal."""

    def __init__(self, console: Console) -> None:
        """To be used as a context manager."""
        self._console, self._table = console, _plans()
        self._stage = ""
        self._live = Live(self._shown(), console=console, transient=True)

    def __enter__(self) -> LiveTuning:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def stage(self, text: str) -> None:
        """What is done now."""
        self._stage = text
        if self._console.is_terminal:
            self._live.update(self._shown())
        else:
            self._console.print(escape(text))

    def measured(self, candidate: Candidate, baseline: Candidate | None) -> None:
        """A plan that was measured, and ExecuTorch's."""
        cells = _cells(candidate, baseline)
        self._table.add_row(*cells)
        if self._console.is_terminal:
            self._live.update(self._shown())
        else:
            self._console.print("  " + ", ".join(cell for cell in cells if cell))

    def learned(self, found: Round) -> None:
        """A round that ended: the report at the end has it."""

    def warn(self, text: str) -> None:
        """Something to know that is not of the tuning itself."""
        self._console.print(escape(text))

    def _shown(self) -> RenderableType:
        return Group(self._table, Text(self._stage))


def tuned_report(tuned: Tuned) -> Group:
    """The plans measured, the last comparison, and where the time went."""
    plans = _plans()
    baseline = tuned.candidates[0]
    for candidate in tuned.candidates:
        plans.add_row(*_cells(candidate, baseline if candidate is not baseline else None))
    parts: list[RenderableType] = [plans]
    if tuned.finalists:
        parts.append(_finalists(tuned))
    if tuned.classes:
        parts.append(_classes(tuned))
    parts += [Text(line) for line in _lines(tuned)]
    return Group(*parts)


def _plans() -> Table:
    table = Table(title="measured plans")
    table.add_column("plan")
    for heading in ("repacks", "predicted", "measured", "× ExecuTorch's"):
        table.add_column(heading, justify="right")
    table.add_column("outputs")
    return table


def _cells(candidate: Candidate, baseline: Candidate | None) -> list[str]:
    run = candidate.run
    predicted = "" if candidate.predicted is None else cost(candidate.predicted, "ns")
    outputs = f"{run.verdict}, off by {run.error:.2g}" if run.verdict == "wrong" else run.verdict
    if run.said:
        outputs = run.said
    measured = cost(run.ns, "ns") if run.ns else "–"
    ratio = f"{baseline.run.ns / run.ns:.3f}" if baseline is not None and run.ns else ""
    cells = (candidate.name, str(candidate.transitions), predicted, measured, ratio, outputs)
    return [escape(cell) for cell in cells]


def _finalists(tuned: Tuned) -> Table:
    table = Table(title=f"against {BASELINE}, in turn")
    table.add_column("plan")
    for heading in ("faster, GPU", "faster, all", "predicted"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for finalist in sorted(tuned.finalists, key=lambda f: -f.gain.median):
        table.add_row(
            escape(finalist.candidate.name),
            gain_text(finalist.gain),
            "–" if finalist.wall is None else gain_text(finalist.wall),
            f"{finalist.predicted:.3f}",
            "the winner"
            if finalist is tuned.winner
            else "faster"
            if finalist.is_faster
            else "not proven faster",
        )
    return table


def gain_text(gain: Gain) -> str:
    """A gain and its interval, as in ``1.042 (1.038 to 1.047)``."""
    if gain.low == 0:
        return f"{gain.median:.3f} (too few runs)"
    return f"{gain.median:.3f} ({gain.low:.3f} to {gain.high:.3f})"


def _classes(tuned: Tuned) -> Table:
    table = Table(title="where the time went")
    table.add_column("operator")
    for heading in ("ExecuTorch's", "the winner's", "gained"):
        table.add_column(heading, justify="right")
    by_gain = sorted(tuned.classes.items(), key=lambda item: -abs(item[1][0] - item[1][1]))
    for kind, (before, after) in by_gain[:_CLASSES]:
        sign = "−" if after > before else ""
        table.add_row(
            escape(kind),
            cost(before, "ns"),
            cost(after, "ns"),
            sign + cost(abs(before - after), "ns"),
        )
    return table


def _lines(tuned: Tuned) -> list[str]:
    if tuned.winner is None:
        lines = [f"No plan was proven faster: the program keeps {BASELINE}."]
    else:
        winner = tuned.winner
        lines = [
            f"{winner.candidate.name} is {gain_text(winner.gain)} times as fast as {BASELINE}."
        ]
    if tuned.baseline_error is not None:
        lines.append(
            f"{BASELINE} is off by {tuned.baseline_error:.2g} of the largest value from eager."
        )
    if tuned.outputs_are_zeros:
        lines.append(
            "All outputs are 0 for these inputs: that those of another plan are the same says "
            "nothing. Give others (--input)."
        )
    lines += [
        f"round {r.number}: {r.measured} plans, {r.new_calls} calls measured for the first time, "
        f"at best {cost(r.least, 'ns')} by all that is known"
        for r in tuned.rounds
    ]
    if tuned.avoided:
        operators = ", ".join(dict.fromkeys(row["operators"][0] for row in tuned.avoided))
        lines.append(f"Avoided on this device from now on: {operators} (avoid.json).")
    lines.append(f"The device was busy for {tuned.seconds:.0f} s; it ended because {tuned.ended}.")
    return lines
