"""Exact optimisation of label assignments: variables, factors, the optimum and its proof.

    from solver import Agree, CostTable, Problem, SharedCopies, Variable, solve

``solve`` reduces a problem and eliminates its variables one by one, exactly; only what is too
densely connected for that goes to CP-SAT. ``solve_whole`` asks CP-SAT alone, as a second opinion.
``marginals`` says of every variable and label what the best assignment with it costs.
"""

from solver.cpsat import solve_whole
from solver.marginals import Marginals, TooDenseError, marginals
from solver.problem import (
    FORBIDDEN,
    Agree,
    CostTable,
    Problem,
    ProblemError,
    SharedCopies,
    Variable,
)
from solver.solution import InfeasibleError, NoSolutionFoundError, Solution, Statistics, Status
from solver.solve import solve

__all__ = [
    "FORBIDDEN",
    "Agree",
    "CostTable",
    "InfeasibleError",
    "Marginals",
    "NoSolutionFoundError",
    "Problem",
    "ProblemError",
    "SharedCopies",
    "Solution",
    "Statistics",
    "Status",
    "TooDenseError",
    "Variable",
    "marginals",
    "solve",
    "solve_whole",
]
