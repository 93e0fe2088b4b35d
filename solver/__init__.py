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
``least_within`` keeps a limit; ``solve_ilp`` keeps several, and proves an optimum again without
reductions. ``contradiction`` finds conditions that cannot hold together.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
from solver.rows import equal_rows
from solver.solution import (
    InfeasibleError,
    NoSolutionFoundError,
    Solution,
    Statistics,
    Status,
    TooDenseError,
)
from solver.solve import optimum, solve

if TYPE_CHECKING:
    from solver.breakpoints import Steadiness, steadiness
    from solver.compact import Limit, level_limit
    from solver.cpsat import solve_whole
    from solver.fronts import Front, ParetoPoint, pareto
    from solver.hitting import Contradiction, contradiction
    from solver.hull import corners
    from solver.ilp import solve_ilp
    from solver.minmarginals import Marginals, marginals
    from solver.ranking import Ranked, ranked
    from solver.within import least_within

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
    "least_within",
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

_HOMES = {
    "Contradiction": "solver.hitting",
    "Front": "solver.fronts",
    "Limit": "solver.compact",
    "Marginals": "solver.minmarginals",
    "ParetoPoint": "solver.fronts",
    "Ranked": "solver.ranking",
    "Steadiness": "solver.breakpoints",
    "contradiction": "solver.hitting",
    "corners": "solver.hull",
    "least_within": "solver.within",
    "level_limit": "solver.compact",
    "marginals": "solver.minmarginals",
    "pareto": "solver.fronts",
    "ranked": "solver.ranking",
    "solve_ilp": "solver.ilp",
    "solve_whole": "solver.cpsat",
    "steadiness": "solver.breakpoints",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: solving needs few of the modules."""
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    found = getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
