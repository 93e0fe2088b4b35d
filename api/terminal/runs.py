"""What two runs of a program took, step by step: for the terminal, and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from api.terminal.console import paragraph, visible
from api.terminal.figures import ratio
from planner.compare.comparison import ComparedStep, Comparison, ProfiledRun, StepTime, Total
from planner.ir.representation import TensorRepr
from planner.measured.calls import Operands
from schema import CostOrigin

_MARKS: Final = {
    CostOrigin.MEASURED: "",
    CostOrigin.INTERPOLATED: "~",
    CostOrigin.ESTIMATED: "≈",
    CostOrigin.MODELLED: "?",
}
_LEGEND: Final = (
    "at: place in the chain of A → B, after the delegate's number where there are many. tex: "
    "texture, buf: buffer; W, H, C: packed along width, height, channels; inputs → outputs.",
    "Predictions: measured; one standard error up, ~ interpolated from other shapes, ≈ estimated "
    "from other representations; ? by the profile.",
)
_PACKED: Final = {"WIDTH_PACKED": "W", "HEIGHT_PACKED": "H", "CHANNELS_PACKED": "C"}
_STORED: Final = {"texture": "tex", "buffer": "buf"}
_NONE: Final = "–"
_SAME: Final = "same"
_MARKUP: Final = re.compile(r"[\\|`*<>\[\]]|(?<![^\W_])_|_(?![^\W_])")
_FEWEST_PER_MILLE: Final = 5
"""Runs whose speeds differ by less are called equally fast."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """A table: the first ``texts`` columns are texts, all others numbers."""

    headings: tuple[str, ...]
    texts: int
    rows: list[tuple[str, ...]]

    def rich(self, styles: Sequence[str | None] = ()) -> Table:
        """For the terminal, with a style for each row."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for index, heading in enumerate(self.headings):
            is_text = index < self.texts
            table.add_column(
                heading,
                justify="left" if is_text else "right",
                overflow="fold",
                no_wrap=not is_text,
            )
        for row, style in zip(self.rows, styles or [None] * len(self.rows), strict=True):
            table.add_row(*map(Text, row), style=style)
        return table

    def markdown(self) -> Iterator[str]:
        """As lines of Markdown."""
        yield _line(self.headings)
        yield _line(["---"] * self.texts + ["---:"] * (len(self.headings) - self.texts))
        yield from map(_line, self.rows)


def comparison_tables(comparison: Comparison, limit: int) -> list[RenderableType]:
    """The largest changes, operators by name, totals, and last what they say.

    ``limit`` is how many changes are shown; 0 shows every step.
    """
    shown: list[RenderableType] = [paragraph(*_about(comparison))]
    steps = _largest(comparison, limit)
    if steps:
        styles = ["dim" if step.is_alike else None for step in steps]
        shown += [_steps(comparison, steps).rich(styles), paragraph(*_caption(comparison, steps))]
    return [
        *shown,
        _groups(comparison).rich(),
        _totals(comparison).rich(),
        paragraph(*verdict(comparison)),
    ]


def comparison_markdown(comparison: Comparison, limit: int) -> str:
    """As ``comparison_tables``, with what they say first."""
    parts = [
        [f"- {_escaped(line)}" for line in (*_about(comparison), *verdict(comparison))],
        [*_totals(comparison).markdown()],
        [*_groups(comparison).markdown()],
    ]
    steps = _largest(comparison, limit)
    if steps:
        parts += [[*_steps(comparison, steps).markdown()], [*_caption(comparison, steps)]]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def verdict(comparison: Comparison) -> list[str]:
    """What a comparison says, in sentences: what B gained, and how much of it may be noise."""
    total, alike, other = comparison.everything, comparison.alike, comparison.other
    predicted = ", ".join(
        f"{part:.0%} {name}" for name, part in comparison.origins("b").items() if part >= 0.005
    )
    lines = ["A and B are the same run."] if comparison.a.join == comparison.b.join else []
    return [
        *lines,
        f"A took {_ms(total.a_measured)} ms and B {_ms(total.b_measured)} ms: "
        f"{_signed(total.change)} ms, A / B {ratio(total.ratio)}.",
        f"Of it {_signed(other.change)} ms are in steps whose representations changed, or that "
        f"only one run has; {_signed(alike.change)} ms in {alike.a_steps} steps that both ran "
        "alike.",
        *_speed(comparison),
        f"Predicted for B: {_ms(total.b_predicted)} ms ({predicted or 'nothing'}), A / B "
        f"{ratio(total.predicted_ratio)}; by {visible(comparison.costs)}.",
    ]


def _speed(comparison: Comparison) -> Iterator[str]:
    speed, at_speed = comparison.speed, comparison.b_at_speed_of_a
    if speed is None or at_speed is None:
        yield (
            "The runs have no call in common: whether the device was as fast in both is not known."
        )
        return
    alike = f"calls that both made alike ({speed.share:.0%} of A's time), each counted once"
    if abs(speed.b_over_a - 1) * 1000 < _FEWEST_PER_MILLE:
        yield f"B's run was as fast as A's as a whole, by {alike}."
        return
    than = "less" if speed.b_over_a < 1 else "more"
    yield (
        f"B's run took {abs(speed.b_over_a - 1):.1%} {than} time as a whole, by {alike}: that is "
        f"the device rather than the layouts. At A's speed B would have taken {_ms(at_speed)} ms, "
        f"A / B {ratio(comparison.ratio_at_one_speed)}."
    )


def _about(comparison: Comparison) -> list[str]:
    def line(side: str, run: ProfiledRun) -> str:
        return f"{side}: {visible(run.name)}, a run of {visible(run.program.name)}"

    return [line("A", comparison.a), line("B", comparison.b)]


def _largest(comparison: Comparison, limit: int) -> tuple[ComparedStep, ...]:
    if limit == 0:
        return comparison.steps
    return tuple(step for step in comparison.steps[:limit] if step.change)


def _steps(comparison: Comparison, steps: Iterable[ComparedStep]) -> _Rows:
    are_many = len(comparison.a.program.delegates) > 1
    headings = ("step", "at", "makes", "A", "B", "A, ms", "B, ms", "change", "predicted A", "B")
    return _Rows(headings, 5, [_step(step, are_many) for step in steps])


def _step(step: ComparedStep, are_many: bool) -> tuple[str, ...]:
    return (
        step_name(step),
        place(step, are_many),
        _made(step),
        "" if step.a is None else layouts(step.a.operands),
        _after(step),
        *(_NONE if time is None else _ms(time.measured) for time in (step.a, step.b)),
        _signed(step.change),
        *(_prediction(time) for time in (step.a, step.b)),
    )


def step_name(step: ComparedStep) -> str:
    """The operator; a transition by who reads it."""
    if step.kind == "staging":
        return "inputs and outputs"
    if step.kind == "operator":
        return visible(step.operator)
    readers = [visible(name) for name in dict.fromkeys(step.readers)]
    more = f" +{len(readers) - 1}" if len(readers) > 1 else ""
    return f"⇄ repack for {readers[0] if readers else 'an output'}{more}"


def place(step: ComparedStep, are_many: bool) -> str:
    """Where in the chain of A and of B; with the delegate where there are many."""
    delegate = f"{step.delegate}: " if are_many else ""
    if step.kind == "staging":
        return delegate.removesuffix(" ")
    a, b = (_NONE if time is None else str(time.position) for time in (step.a, step.b))
    return f"{delegate}{a}" if a == b else f"{delegate}{a} → {b}"


def _made(step: ComparedStep) -> str:
    name = [] if step.name is None else [visible(step.name)]
    if step.dtype is None:
        return " ".join(name)
    shape = "×".join(map(str, step.shape)) or "scalar"
    return " ".join([*name, shape, step.dtype.name.lower()])


def _after(step: ComparedStep) -> str:
    if step.b is None:
        return ""
    return _SAME if step.is_alike else layouts(step.b.operands)


def layouts(operands: Operands) -> str:
    """Operands in short, ``tex:W, buf:C → tex:W``; one name where all are alike."""
    inputs = [_short(r) for where, r in operands if not where.startswith("o")]
    outputs = [_short(r) for where, r in operands if where.startswith("o")]
    if len({*inputs, *outputs}) == 1:
        return (inputs or outputs)[0]
    return " → ".join(_counted(names) for names in (inputs, outputs) if names) or _NONE


def _counted(names: Sequence[str]) -> str:
    runs = [(name, len(list(run))) for name, run in groupby(names)]
    return ", ".join(name if n == 1 else f"{name} ×{n}" for name, n in runs)


def _short(representation: TensorRepr) -> str:
    storage, layout = str(representation).split(":")
    return f"{_STORED[storage]}:{_PACKED.get(layout, layout)}"


def _prediction(time: StepTime | None) -> str:
    return _NONE if time is None else f"{_MARKS[time.origin]}{_ms(time.predicted)}"


def _caption(comparison: Comparison, steps: Sequence[ComparedStep]) -> list[str]:
    if len(steps) == len(comparison.steps):
        return [*_LEGEND]
    count = f"The {len(steps)} largest changes of {len(comparison.steps)} steps (--limit)."
    return [count, *_LEGEND]


def _groups(comparison: Comparison) -> _Rows:
    change = comparison.everything.change
    rows = [
        (
            group_name(group.name),
            *_counts(group.total),
            *_times(group.total),
            f"{group.total.change / change:.1%}" if change else _NONE,
            _signed(group.other.change),
        )
        for group in comparison.groups
    ]
    headings = (
        "operator",
        "steps",
        "A, ms",
        "B, ms",
        "change",
        "A / B",
        "share",
        "of it by layouts",
    )
    return _Rows(headings, 1, rows)


def group_name(name: str) -> str:
    """What steps of one name are called."""
    return {"transition": "⇄ repacks", "staging": "inputs and outputs"}.get(name, visible(name))


def _totals(comparison: Comparison) -> _Rows:
    totals = {
        "everything": comparison.everything,
        "operators": comparison.of_kind("operator"),
        "⇄ repacks": comparison.of_kind("transition"),
        "inputs and outputs": comparison.of_kind("staging"),
        "in the same representations": comparison.alike,
        "in others, or in one run only": comparison.other,
    }
    rows = [
        (
            name,
            *_counts(total),
            *_times(total),
            _ms(total.a_predicted),
            _ms(total.b_predicted),
            ratio(total.predicted_ratio),
        )
        for name, total in totals.items()
    ]
    if any(comparison.unknown):
        a, b = comparison.unknown
        unknown = ("of no operator", _NONE, *_times(Total(0, 0, a, b, 0, 0)), *[_NONE] * 3)
        rows.insert(4, unknown)
    headings = ("steps", "A, ms", "B, ms", "change", "A / B", "predicted A", "B", "A / B")
    return _Rows(("total", *headings), 1, rows)


def _counts(total: Total) -> tuple[str]:
    a, b = total.a_steps, total.b_steps
    return (str(a) if a == b else f"{a} → {b}",)


def _times(total: Total) -> tuple[str, ...]:
    times = _ms(total.a_measured), _ms(total.b_measured), _signed(total.change)
    return *times, ratio(total.ratio)


def _ms(ns: float) -> str:
    return f"{ns / 1e6:,.3f}"


def _signed(ns: float) -> str:
    return f"{ns / 1e6:+,.3f}" if round(ns / 1e6, 3) else "0.000"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_escaped, cells)) + " |"


def _escaped(text: str) -> str:
    """A text as Markdown that shows it as it is."""
    return _MARKUP.sub(r"\\\g<0>", text)
