"""Benchmarks, each against the alternative in the same run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from api.bench import zoo
from api.terminal.figures import cost, ratio
from api.terminal.markdown import Printed, head, row
from planner.options import PlanOptions
from planner.pipelines.checking import check_program
from planner.pipelines.exported import plan_exported
from planner.pipelines.lowered import Planned
from planner.result.report import Report
from solver import NoSolutionFoundError, Status, solve_whole

_HEADINGS = (
    "model",
    "delegates",
    "operators",
    "width",
    "transitions",
    "ExecuTorch",
    "ours",
    "ratio",
    "status",
    "ExecuTorch's pass, ms",
    "planning, ms",
    "times faster",
    "lacking in the runtime",
)
_CPSAT_HEADINGS = ("CP-SAT alone, s", "CP-SAT's optimum")


@dataclass(frozen=True, slots=True)
class _CpSat:
    """What CP-SAT made of a whole program's problems without our reductions."""

    seconds: float
    proven: int
    of: int
    agrees: bool

    def cells(self) -> tuple[str, str]:
        """The row's cells."""
        if self.proven < self.of:
            return f"{self.seconds:.1f}", f"{self.proven} of {self.of} proven"
        return f"{self.seconds:.1f}", "the same" if self.agrees else "DIFFERENT"


def models(
    names: Sequence[str],
    size: zoo.Size,
    options: PlanOptions,
    repeats: int,
    cpsat_seconds: float | None,
    output: Path | None,
) -> None:
    """Plans models of the zoo and prints a Markdown table, a row as soon as it is known.

    Raises ``OptionError`` for a model that is not there.
    """
    chosen = zoo.chosen(names)
    headings = _HEADINGS + (_CPSAT_HEADINGS if cpsat_seconds else ())
    printed = Printed()
    printed.add(*head(headings, len(headings)))
    for name in chosen:
        planned = plan_exported(zoo.save(name, size), name, options, repeats=repeats)
        lacking = ", ".join(check_program(planned.data, name).unloadable)
        cells = (*_figures(name, planned.report), lacking)
        if cpsat_seconds:
            cells += _by_cpsat(planned, cpsat_seconds).cells()
        printed.add(row(cells))
    printed.write(output)


def _figures(name: str, report: Report) -> tuple[str, ...]:
    total, unit = report.total, report.unit
    return (
        name,
        str(len(report.delegates)),
        str(total.operators),
        str(total.width),
        f"{total.baseline_transitions} → {total.transitions}",
        cost(total.baseline_objective_cost, unit),
        cost(total.objective_cost, unit),
        ratio(total.objective_ratio),
        total.status,
        f"{total.baseline_seconds * 1e3:.1f}",
        f"{total.plan_seconds * 1e3:.1f}",
        f"{total.baseline_seconds / total.plan_seconds:.1f}",
    )


def _by_cpsat(planned: Planned, seconds: float) -> _CpSat:
    start, proven, agrees = perf_counter(), 0, True
    for delegate in planned.delegates:
        try:
            solution = solve_whole(delegate.layout_plan.layout.problem, time_limit=seconds)
        except NoSolutionFoundError:
            continue
        if solution.status is Status.OPTIMAL:
            proven += 1
            agrees &= solution.cost == delegate.layout_plan.solution.cost
    return _CpSat(perf_counter() - start, proven, len(planned.delegates), agrees)
