"""Every command that plans a program or asks about a plan, on every model of the zoo."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from api.bench import zoo
from api.bench.answers import programs
from api.bench.instances import OBJECTIVES
from api.terminal.markdown import Printed, head, row
from planner.errors import PlannerError

_HEADINGS: Final = (
    *("model", "objective", "plan", "alternatives", "fewer transitions", "less memory", "buffers"),
    *("explain", "opportunities", "pareto transitions", "pareto bytes", "pareto memory"),
    *("sensitivity", "verify --prove", "check", "show", "diff"),
)
_FAILED: Final = "failed", "too long"

_ANSWERS: Final = {"check": 1, "verify": 3}
"""Exit codes that are an answer: of findings, and of a proof that stays open."""

_NO_PLAN: Final = 2
"""The exit code where limits leave no plan."""


@dataclass(frozen=True, slots=True)
class _Command:
    """What to ask, and what of its JSON says that all of the answer is proven.

    ``is_limited`` is for limits that may leave no plan.
    """

    words: Sequence[object]
    is_proven: Callable[[Any], bool] = lambda found: True
    otherwise: str = "not proven"
    is_limited: bool = False


@dataclass(frozen=True, slots=True)
class _Files:
    """A program, and what is written of it."""

    program: Path

    @property
    def planned(self) -> Path:
        """The program with its new layouts."""
        return self.program.with_suffix(".planned")

    @property
    def plan(self) -> Path:
        """The planned program as a flatbuffer."""
        return self.program.with_suffix(".plan")

    @property
    def report(self) -> Path:
        """The report of the last plan, as JSON."""
        return self.program.with_suffix(".json")


def commands(
    files: Sequence[Path],
    models: Sequence[str],
    size: zoo.Size,
    seconds: float,
    output: Path | None,
    objectives: Sequence[str] = OBJECTIVES,
) -> None:
    """Runs every command on each program under the objectives; prints a row for each as it comes.

    Each command is a process of its own, and may take so many ``seconds``. Without ``files`` and
    ``models`` the programs are all models of the zoo. Raises ``OptionError`` for a model that is
    not there, and ``PlannerError`` at the end where a command failed or took longer.
    """
    failed: list[str] = []
    printed = Printed()
    printed.add(*head(_HEADINGS, 2))
    with TemporaryDirectory(prefix="layout-planner-") as work:
        for name, data in programs(files, models, size):
            program = _Files(Path(work) / name)
            program.program.write_bytes(data)
            for objective in objectives:
                cells = list(_cells(program, objective, seconds))
                printed.add(row([name, objective, *cells]))
                failed += [
                    f"{heading} of {name} under {objective}"
                    for heading, cell in zip(_HEADINGS[2:], cells, strict=True)
                    if cell.endswith(_FAILED)
                ]
    printed.add(
        "",
        "CPU seconds of each command as a process of its own, its start of about "
        f"{_taken(['--version'], seconds)[1]:.1f} s included. All that it says is proven where "
        "nothing else is said. Not exact: not to the last digit. No plan: none has fewer "
        "transitions than the plan, or less memory. Findings: what is known to fail, which no "
        "plan avoids. Buffers: all outputs are limited to them.",
    )
    printed.write(output)
    if failed:
        raise PlannerError(f"these did not end as they should: {', '.join(failed)}")


def _cells(files: _Files, objective: str, seconds: float) -> Iterator[str]:
    """What came of each command; where there is no plan, no others are asked."""
    asked = _all(files, objective)
    plan = _cell(next(asked), files, seconds)
    yield plan
    is_planned = not plan.endswith(_FAILED)
    yield from (_cell(command, files, seconds) if is_planned else "" for command in asked)


def _all(files: _Files, objective: str) -> Iterator[_Command]:
    """The commands in the order of the columns; the first writes what others read."""
    options = "--profile", "default", "--objective", objective
    program = files.program
    report = "--report", files.report
    planned = "plan", program, *options, *report
    files.report.unlink(missing_ok=True)
    yield _Command([*planned, "-o", files.planned, "--plan", files.plan], _is_optimal)
    # It is there as soon as the first has ended.
    total = json.loads(files.report.read_bytes())["total"] if files.report.exists() else {}
    yield _Command(
        [*planned, "--alternatives", 3],
        lambda found: _is_optimal(found) and all(d["alternatives"] for d in found["delegates"]),
    )
    fewer = max(total.get("transitions", 0) - 1, 0)
    yield _Command([*planned, "--max-transitions", fewer], _is_optimal, is_limited=True)
    less = max(total.get("peak_memory_bytes", 0) - 1, 0)
    yield _Command([*planned, "--max-peak-memory", less], _is_optimal, is_limited=True)
    yield _Command([*planned, "--output-layout", "buffer"], _is_optimal, is_limited=True)
    yield _Command(
        ["explain", program, *options, "--json"],
        lambda found: all(r["is_known"] for d in found["delegates"] for r in d["repacks"]),
    )
    yield _Command(
        ["opportunities", program, *options, "--json"],
        lambda found: all(
            p["is_known"] and all(o["is_exact"] for o in p["opportunities"])
            for p in found["programs"]
        ),
    )
    for criterion in ("transitions", "bytes", "memory"):
        yield _Command(
            ["pareto", program, *options, "--against", criterion, "--json"],
            lambda found: all(
                t["is_complete"] and all(p["is_proven"] for p in t["points"])
                for t in found["tradeoffs"]
            ),
        )
    yield _Command(
        ["sensitivity", program, *options, "--json"],
        lambda found: not found["unknown"] and all(p["is_exact"] for p in found["prices"]),
        "not exact",
    )
    yield _Command(
        ["verify", files.plan, "--prove", "--json"], lambda found: found["verdict"] == "proven"
    )
    yield _Command(
        ["check", files.planned, "--json"],
        lambda found: not (found["findings"] or found["unknown"] or found["unloadable"]),
        "findings",
    )
    yield _Command(["show", files.plan])
    yield _Command(["diff", program, files.planned, "--json"])


def _is_optimal(report: Any) -> bool:
    return all(delegate["status"] == "OPTIMAL" for delegate in report["delegates"])


def _cell(command: _Command, files: _Files, seconds: float) -> str:
    """What a command took, and what came of it, where that is not all proven."""
    done, taken = _taken(command.words, seconds)
    if done is None:
        return f"{taken:.1f} too long"
    if command.is_limited and done.returncode == _NO_PLAN and "no plan" in done.stderr:
        return f"{taken:.1f} no plan"
    if done.returncode not in (0, _ANSWERS.get(str(command.words[0]))):
        return f"{taken:.1f} failed"
    if "--json" in command.words:
        found = json.loads(done.stdout)
    else:
        found = json.loads(files.report.read_bytes())
    is_proven = command.is_proven(found)
    return f"{taken:.1f}" if is_proven else f"{taken:.1f} {command.otherwise}"


def _taken(
    words: Iterable[object], seconds: float
) -> tuple[subprocess.CompletedProcess[str] | None, float]:
    """What a command answers, None where it takes too long, and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-P", "-m", "api.cli", *map(str, words)]
    environment = os.environ | {"COLUMNS": "200"}
    done = None
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds, env=environment
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
