"""A small part of an infeasible problem that is infeasible by itself, for error messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from solver.problem import Agree, CostTable, Factor, Problem, SharedCopies

Feasible = Callable[[Problem], bool]


def smallest_conflict(
    problem: Problem, factors: Sequence[int], feasible: Feasible
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The variables and factors of a conflict from which no factor can be left out.

    ``factors`` are known to contradict each other. Halves are tried first, so that a conflict of k
    factors out of n takes about k log n calls of ``feasible``.
    """

    def works(some: list[int]) -> bool:
        return feasible(_part(problem, some))

    def shrink(background: list[int], changed: bool, candidates: list[int]) -> list[int]:
        if changed and not works(background):
            return []
        if len(candidates) == 1:
            return candidates
        half = len(candidates) // 2
        first, second = candidates[:half], candidates[half:]
        needed = shrink(background + first, True, second)
        return shrink(background + needed, bool(needed), first) + needed

    smallest = sorted(shrink([], False, list(factors)))
    variables = sorted({v for number in smallest for v in scope_of(problem.factors[number])})
    return tuple(variables), tuple(smallest)


def behind(problem: Problem, root: Sequence[int], factors: Iterable[int]) -> tuple[int, ...]:
    """These factors, and every Agree that took part in the classes of their variables."""
    all_of = set(factors)
    classes = {root[v] for number in all_of for v in scope_of(problem.factors[number])}
    for number, factor in enumerate(problem.factors):
        if isinstance(factor, Agree) and root[factor.scope[0]] in classes:
            all_of.add(number)
    return tuple(sorted(all_of))


def scope_of(factor: Factor) -> tuple[int, ...]:
    """The variables that a factor ranges over."""
    if isinstance(factor, SharedCopies):
        return (factor.source, *factor.users)
    return factor.scope


def _part(problem: Problem, numbers: list[int]) -> Problem:
    """The problem that has only these factors, and the variables that they range over."""
    factors = [problem.factors[number] for number in numbers]
    new: dict[int, int] = {}
    for factor in factors:
        for v in scope_of(factor):
            new.setdefault(v, len(new))
    renamed: list[Factor] = []
    for factor in factors:
        if isinstance(factor, CostTable):
            renamed.append(CostTable(tuple(new[v] for v in factor.scope), factor.costs))
        elif isinstance(factor, SharedCopies):
            users = tuple(new[u] for u in factor.users)
            renamed.append(SharedCopies(new[factor.source], users, factor.prices))
        else:
            renamed.append(Agree(tuple(new[v] for v in factor.scope), factor.classes))
    variables = tuple(problem.variables[v] for v in new)
    return Problem(problem.labels, problem.levels, variables, tuple(renamed))
