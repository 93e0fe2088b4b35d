"""The results of solving: an assignment with its proof, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    """How much is known about an assignment."""

    OPTIMAL = "optimal"
    """No assignment costs less, at any level."""
    FEASIBLE = "feasible"
    """The assignment is valid; the bound limits how far it can be from the optimum."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """The size of a problem on its way through the solver, and the time that it took."""

    variables: int
    """Variables of the problem."""
    merged: int
    """Classes of variables that equalities merge."""
    nodes: int
    """Classes that are still free once the fixed ones are removed, and auxiliary variables."""
    width: int
    """The most neighbours that a node had when it was eliminated."""
    largest_table: int
    """Entries of the largest table that elimination made."""
    core: int
    """Nodes that were left to the search."""
    lanes: int
    """Machine numbers (floats or complex numbers) in a packed cost vector."""
    seconds: Mapping[str, float]
    """Wall-clock time by stage."""


@dataclass(frozen=True, slots=True)
class Solution:
    """An assignment of labels to variables, its cost and a lexicographic lower bound on any cost.

    When the status is OPTIMAL, the bound is the cost. Otherwise every level of the bound is
    meant lexicographically: the first level is a bound on its own, a later one only for
    assignments that meet the earlier ones exactly.
    """

    assignment: tuple[int, ...]
    cost: tuple[int, ...]
    bound: tuple[int, ...]
    status: Status
    statistics: Statistics


class InfeasibleError(Exception):
    """No assignment satisfies the problem.

    ``variables`` and ``factors`` index a part of the problem that already has no solution;
    both are empty if no such part smaller than the whole is known.
    """

    def __init__(self, variables: tuple[int, ...] = (), factors: tuple[int, ...] = ()) -> None:
        self.variables = variables
        self.factors = factors
        where = f": variables {variables} contradict factors {factors}" if variables else ""
        super().__init__(f"the problem has no solution{where}")


class NoSolutionFoundError(Exception):
    """The time ran out before a valid assignment was found; there may be one."""


class TooDenseError(Exception):
    """The problem is too densely connected for elimination to find what was asked for."""
