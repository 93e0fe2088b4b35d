"""Exact optimisation of label assignments: variables, factors, the optimum and its proof.

    from solver import Agree, CostTable, Problem, SharedCopies, Variable, solve

``solve`` reduces a problem and eliminates its variables one by one, exactly; only what is too
densely connected for that is searched. ``solve_whole`` asks CP-SAT alone, as a second opinion.
``optimum`` finds only what the best assignment costs, sooner.
``ranked`` goes on where it ends: the second best assignment, the third, and so on.
``pareto`` trades the first level for another sum of factors, ``corners`` finds only the hull of
that, of several sums at once; ``steadiness`` says how far prices may
change before another assignment is better;
``marginals`` says of every variable and label what the best assignment with it costs;
``solve_ilp`` keeps limits, and proves an optimum again without reductions. ``contradiction``
finds conditions that cannot hold together.
"""

from solver.breakpoints import Steadiness, steadiness
from solver.compact import Limit, level_limit
from solver.corners import corners
from solver.cpsat import solve_whole
from solver.fronts import Front, ParetoPoint, pareto
from solver.hitting import Contradiction, contradiction
from solver.ilp import solve_ilp
from solver.marginals import Marginals, TooDenseError, marginals
from solver.problem import (
    FORBIDDEN,
    Agree,
    CostTable,
    Factor,
    Factors,
    Problem,
    ProblemError,
    SharedCopies,
    Stamp,
    Variable,
)
from solver.ranking import Ranked, ranked
from solver.rows import equal_rows
from solver.solution import InfeasibleError, NoSolutionFoundError, Solution, Statistics, Status
from solver.solve import optimum, solve

__all__ = [
    "FORBIDDEN",
    "Agree",
    "Contradiction",
    "CostTable",
    "Factor",
    "Factors",
    "Front",
    "InfeasibleError",
    "Limit",
    "Marginals",
    "NoSolutionFoundError",
    "ParetoPoint",
    "Problem",
    "ProblemError",
    "Ranked",
    "SharedCopies",
    "Solution",
    "Stamp",
    "Statistics",
    "Status",
    "Steadiness",
    "TooDenseError",
    "Variable",
    "contradiction",
    "corners",
    "equal_rows",
    "level_limit",
    "marginals",
    "optimum",
    "pareto",
    "ranked",
    "solve",
    "solve_ilp",
    "solve_whole",
    "steadiness",
]
