"""Solves a problem in one of the field's formats, or writes it in another.

    python -m solver solve FILE [--prove]
    python -m solver convert FILE OTHER

``solve`` prints the cost, its bound, and the value of each variable, by elimination first;
``--prove`` proves the optimum with the integer program, which shares nothing with it. It exits with
0 where the optimum is proven, 1 where there is no solution, 2 for a file that cannot be read, and 3
where a solution, or nothing, was found and nothing proven.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from solver.formats import SUFFIXES, read_problem, write_problem
from solver.ilp import solve_ilp
from solver.problem import ProblemError
from solver.solution import InfeasibleError, NoSolutionFoundError, Status
from solver.solve import solve

INFEASIBLE, WRONG, OPEN = 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m solver", description=_about())
    commands = parser.add_subparsers(dest="command", required=True)
    formats = ", ".join(SUFFIXES)
    solving = commands.add_parser("solve", help="print an optimum and its bound")
    solving.add_argument("file", type=Path, help=f"a problem: {formats}")
    solving.add_argument("--prove", action="store_true", help="prove it without elimination")
    solving.add_argument("--seconds", type=float, default=60.0, help="the longest search [60]")
    converting = commands.add_parser("convert", help="write a problem in another format")
    converting.add_argument("file", type=Path, help=f"a problem: {formats}")
    converting.add_argument("other", type=Path, help=f"the file to write: {formats}")
    asked = parser.parse_args(arguments)
    try:
        problem = read_problem(asked.file)
        if asked.command == "convert":
            write_problem(problem, asked.other)
            return 0
        if asked.prove:
            solution = solve_ilp(problem, search_seconds=asked.seconds)
        else:
            solution = solve(problem, time_limit=asked.seconds, search_seconds=asked.seconds)
    except (ProblemError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return WRONG
    except InfeasibleError as error:
        print(f"infeasible: {error}")
        return INFEASIBLE
    except NoSolutionFoundError as error:
        print(f"nothing found: {error}")
        return OPEN
    print(f"{solution.status.value}: cost {solution.cost[0]}, bound {solution.bound[0]}")
    print(*solution.assignment)
    return 0 if solution.status is Status.OPTIMAL else OPEN


def _about() -> str:
    return (__doc__ or "").partition("\n")[0]


if __name__ == "__main__":
    raise SystemExit(main())
