"""Our solver against others on the same problems: values, bounds, CPU time and memory."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from api.bench.instances import Instance, drawn, of_file, of_model
from api.bench.referees import PARTS, SLOWER, SOLVERS, Found, Run, run
from api.terminal.markdown import Printed, head, row
from planner.errors import OptionError

SECONDS: Final = (1.0, 5.0, 20.0)
QUICK_SECONDS: Final = (1.0,)

_OURS: Final = "ours"
_MARGIN: Final = 30.0
"""Seconds beyond its limit on the clock after which a process is ended."""

_COLUMNS: Final = ("problem", "seconds", "solver", "value", "bound", "gap", "CPU, s", "MB")


def racing(
    files: Sequence[Path],
    models: Sequence[str],
    seconds: Sequence[float],
    quick: bool,
    parts: bool,
    beside: Path | None,
    output: Path | None,
) -> None:
    """Prints what each solver finds of each problem, and then where another one is better.

    With ``files`` or ``models`` the problems are those of lowered programs and of models of the
    zoo, otherwise drawn ones. With ``parts`` our solver races against itself without one of its
    parts. Where ``beside`` is a table that this has written before, only ours is run again, beside
    what others found there. Raises ``OptionError`` for a model that is not there, or a table that
    lacks a run.
    """
    printed = Printed()
    printed.add(*head(_COLUMNS, 1))
    better: list[str] = []
    solvers = PARTS if parts else SOLVERS
    limits = sorted(seconds or (QUICK_SECONDS if quick else SECONDS))
    races: dict[float, list[dict[str, Run | None]]] = {limit: [] for limit in limits}
    before = None if beside is None else _Table(beside)
    for instance in _instances(files, models, quick):
        proven: dict[str, Run] = {}
        for limit in limits:
            runs: dict[str, Run | None] = {}
            for solver in solvers:
                if before is not None and solver != _OURS:
                    runs[solver] = before.run(solver, instance, limit)
                else:
                    runs[solver] = proven.get(solver) or _run(solver, instance, limit)
            races[limit].append(runs)
            proven |= {s: r for s, r in runs.items() if r is not None and r.found.is_proven}
            for solver, found in runs.items():
                printed.add(row([instance.name, f"{limit:g}", solver, *_cells(found)]))
            better += [f"- {instance.name}, {limit:g} s: {text}" for text in beaten(runs)]
    printed.add("", *summary(races), "")
    printed.add("Where another solver has a better value or bound at the same time:", "")
    printed.add(*(better or ["- nowhere"]))
    printed.write(output)


def _instances(files: Sequence[Path], models: Sequence[str], quick: bool) -> Iterator[Instance]:
    for file in files:
        yield from of_file(file)
    for model in models:
        yield from of_model(model)
    if not files and not models:
        yield from drawn(quick)


def _run(solver: str, instance: Instance, seconds: float) -> Run | None:
    """A run in a process of its own; None if it had to be ended."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            answer = pool.apply_async(run, (solver, instance.problem, seconds))
            return answer.get(SLOWER * seconds + _MARGIN)
        except multiprocessing.TimeoutError:
            return None


class _Table:
    """The runs of a table that was written before."""

    def __init__(self, file: Path) -> None:
        self._file = file
        lines = file.read_text().splitlines()
        rows = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines]
        self._rows = {tuple(cells[:3]): cells[3:] for cells in rows if len(cells) == len(_COLUMNS)}

    def run(self, solver: str, instance: Instance, seconds: float) -> Run | None:
        """What a solver found then; None if it had to be ended. Raises ``OptionError``."""
        cells = self._rows.get((instance.name, f"{seconds:g}", solver))
        if cells is None:
            raise OptionError(
                f"{self._file} has no run of {solver} for {seconds:g} s of {instance.name}: "
                f"measure all solvers anew, without --beside"
            )
        value, bound, _, cpu_seconds, megabytes = cells
        if not megabytes:
            return None
        found = Found(_read(value), _read(bound))
        return Run(found, float(cpu_seconds), float(megabytes))


def _read(number: str) -> int | None:
    return None if number == "none" else int(number.replace(",", ""))


def beaten(runs: Mapping[str, Run | None]) -> Iterator[str]:
    """What others found that is better than ours, and after how much CPU time."""
    ours = _found(runs[_OURS])
    for solver, other in runs.items():
        value, bound = _found(other).value, _found(other).bound
        if value is not None and (ours.value is None or value < ours.value):
            text = f"{solver} has the value {value:,}{_after(other)}"
            yield f"{text}, ours is {_number(ours.value)}{_after(runs[_OURS])}"
        if bound is not None and (ours.bound is None or bound > ours.bound):
            text = f"{solver} has the bound {bound:,}{_after(other)}"
            yield f"{text}, ours is {_number(ours.bound)}{_after(runs[_OURS])}"


def _after(run: Run | None) -> str:
    return "" if run is None else f" after {run.cpu_seconds:.2f} s"


def summary(races: Mapping[float, Sequence[Mapping[str, Run | None]]]) -> Iterator[str]:
    """A table of how many problems each solver proved, and of how many it had the best value.

    ``races`` are by seconds; a solver that others beat in no value has the best.
    """
    names = [
        name for limit in races for name in (f"proven, {limit:g} s", f"best value, {limit:g} s")
    ]
    yield from head(("solver", *names), 1)
    solvers = dict.fromkeys(solver for runs in races.values() for race in runs for solver in race)
    for solver in solvers:
        cells = [solver]
        for runs in races.values():
            found = [_found(race[solver]) for race in runs]
            proven = sum(each.is_proven for each in found)
            best = sum(map(_is_best, found, runs))
            cells += [f"{proven} of {len(runs)}", f"{best} of {len(runs)}"]
        yield row(cells)


def _is_best(found: Found, race: Mapping[str, Run | None]) -> bool:
    values = [value for run in race.values() if (value := _found(run).value) is not None]
    return found.value is not None and found.value == min(values)


def _found(run: Run | None) -> Found:
    return Found(None, None) if run is None else run.found


def _cells(run: Run | None) -> list[str]:
    if run is None:
        return ["", "", "", "does not end", ""]
    found = run.found
    gap = ""
    if found.value is not None and found.bound is not None:
        gap = "proven"
        if not found.is_proven:
            gap = f"{(found.value - found.bound) / max(1, abs(found.value)):.2%}"
    return [
        *(_number(found.value), _number(found.bound), gap),
        *(f"{run.cpu_seconds:.2f}", f"{run.megabytes:.0f}"),
    ]


def _number(number: int | None) -> str:
    return "none" if number is None else f"{number:,}"
