"""Problems in the field's formats: WCSP and CFN of toulbar2, UAI, and UAI with logarithms.

    from solver.formats import read_problem, write_problem

A format has one cost for each combination, so the levels of a problem are folded into one integer
that compares as they do. Shared copies become tables, or where those would be large a variable that
is 0 or 1 for each copy. What is read has one level, and tables alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from solver.formats import cfn, uai, wcsp
from solver.formats.network import Network, folded
from solver.problem import Problem, ProblemError

__all__ = ["SUFFIXES", "read_problem", "write_problem"]

_READ: Final[dict[str, Callable[[str], Network]]] = {
    ".wcsp": wcsp.read,
    ".cfn": cfn.read,
    ".uai": uai.read,
    ".lg": uai.read_logarithms,
}
_WRITE: Final[dict[str, Callable[[Network], str]]] = {
    ".wcsp": wcsp.write,
    ".cfn": cfn.write,
    ".uai": uai.write,
    ".lg": uai.write_logarithms,
}

SUFFIXES: Final = tuple(_READ)
"""What the names of files end in, in lower case."""


def read_problem(path: Path) -> Problem:
    """The problem of a file in the format that its name ends in.

    Raises ``ProblemError`` for a file that is not well formed, or uses what is not supported.
    """
    read = _READ[_format(path)]
    try:
        problem = read(path.read_text(encoding="utf-8")).problem()
        problem.validate()
    except (ProblemError, UnicodeDecodeError) as error:
        raise ProblemError(f"{path.name}: {error}") from None
    return problem


def write_problem(problem: Problem, path: Path, *, levels: int | None = None) -> tuple[int, ...]:
    """Writes a problem in the format that the file's name ends in.

    ``levels`` are the first levels that count; by default all do. Returns the factors by which
    they are folded into one: what a solver should find is the optimum's levels times these.

    Raises ``ProblemError`` where the levels do not fit into one integer of 53 bits, or the numbers
    not into the format.
    """
    write = _WRITE[_format(path)]
    network = folded(problem, levels)
    text = write(network)
    path.write_text(text, encoding="utf-8")
    return network.weights


def _format(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in _READ:
        raise ProblemError(f"{path.name}: its name has to end in one of {', '.join(SUFFIXES)}")
    return suffix
