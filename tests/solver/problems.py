"""Problems for the tests, and the brute force that they are checked against."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from solver import FORBIDDEN, Agree, CostTable, Problem, SharedCopies, Variable
from solver.problem import Factor

T = TypeVar("T", bound=np.generic)


def brute_force(problem: Problem) -> tuple[int, ...] | None:
    """Return the least cost of any assignment; None if every one is forbidden."""
    domains = [variable.domain for variable in problem.variables]
    costs = [problem.cost(assignment) for assignment in itertools.product(*domains)]
    return min((cost for cost in costs if cost is not None), default=None)


def entry(table: NDArray[T], at: Sequence[int]) -> NDArray[T]:
    """The cost vector of a table whose first axis runs over levels."""
    index: tuple[Any, ...] = (slice(None), *at)
    vector: NDArray[T] = table[index]
    return vector


def random_problem(
    random: Random, *, variables: int = 5, labels: int = 4, factors: int = 6, scale: int = 3
) -> Problem:
    """Mix all factors, with repeated users, users that are the source, and infeasible corners."""
    count, size, levels = (random.randint(1, most) for most in (variables, labels, 3))
    chosen = tuple(
        Variable(tuple(random.sample(range(size), random.randint(1, size)))) for _ in range(count)
    )
    prices = [_prices(random, levels, size, scale) for _ in range(2)]
    made: list[Factor] = []
    for _ in range(random.randint(0, factors)):
        kind = random.random()
        if kind < 0.4:
            scope = tuple(random.sample(range(count), min(count, random.randint(1, 3))))
            shape = (levels, *[len(chosen[v].domain) for v in scope])
            costs = _integers(random, shape, -scale, scale)
            costs[0][_coins(random, shape[1:], 0.15)] = FORBIDDEN
            made.append(CostTable(scope, costs))
        elif kind < 0.75:
            users = tuple(random.randrange(count) for _ in range(random.randint(1, 5)))
            made.append(SharedCopies(random.randrange(count), users, random.choice(prices)))
        else:
            scope = tuple(random.randrange(count) for _ in range(random.randint(1, 3)))
            injective = random.random() < 0.5
            classes = tuple(label if injective else random.randrange(3) for label in range(size))
            made.append(Agree(scope, classes))
    return Problem(size, levels, chosen, tuple(made))


def random_net(
    random: Random, operators: int, *, labels: int = 4, fan_out: int = 0, scale: int = 100
) -> Problem:
    """A chain of operators with residuals, like the problems of neural networks.

    Labels 2 and above share a class. The first tensor is also read by `fan_out` operators.
    """
    domains = [tuple(range(labels)), *[(a, b) for a in range(labels) for b in range(a)]]
    variables: list[Variable] = []
    made: list[Factor] = []
    classes = tuple(min(label, 2) for label in range(labels))
    prices = [_prices(random, 3, labels, scale) for _ in range(3)]

    def slot(domain: tuple[int, ...]) -> int:
        variables.append(Variable(domain))
        costs = _integers(random, (3, len(domain)), 0, scale)
        made.append(CostTable((len(variables) - 1,), costs))
        return len(variables) - 1

    readers: dict[int, list[int]] = {slot(domains[0]): []}
    tensors = [0]
    for number in range(operators):
        inputs = {tensors[-1], tensors[-min(len(tensors), random.randint(1, 4))]}
        if number < fan_out:
            inputs.add(0)
        domain = random.choice(domains[:1] * 6 + domains)
        slots = [slot(domain) for _ in inputs]
        for tensor, user in zip(sorted(inputs), slots, strict=True):
            readers[tensor].append(user)
        output = slot(domain)
        tensors.append(output)
        readers[output] = []
        if random.random() < 0.7:
            made.append(Agree((*slots, output), classes))
    for tensor, users in readers.items():
        if users:
            made.append(SharedCopies(tensor, tuple(users), random.choice(prices)))
    return Problem(labels, 3, tuple(variables), tuple(made))


def dense_problem(seed: int, variables: int, labels: int) -> Problem:
    """Random costs between all pairs: as hard as it gets for its size."""
    random = Random(seed)
    made: list[Factor] = [
        CostTable(pair, _integers(random, (1, labels, labels), 0, 1000))
        for pair in itertools.combinations(range(variables), 2)
    ]
    domain = Variable(tuple(range(labels)))
    return Problem(labels, 1, (domain,) * variables, tuple(made))


def _prices(random: Random, levels: int, labels: int, scale: int) -> NDArray[np.int64]:
    prices = _integers(random, (levels, labels, labels), 0, scale)
    if levels > 1:
        # Lexicographically positive is enough: a later level may be negative.
        prices[1][prices[0] > 0] *= random.choice((1, -1))
    prices[0][_coins(random, (labels, labels), 0.1)] = FORBIDDEN
    return prices


def _integers(random: Random, shape: tuple[int, ...], low: int, high: int) -> NDArray[np.int64]:
    numbers = [random.randint(low, high) for _ in range(int(np.prod(shape)))]
    return np.array(numbers, np.int64).reshape(shape)


def _coins(random: Random, shape: tuple[int, ...], chance: float) -> NDArray[np.bool_]:
    return np.array(
        [random.random() < chance for _ in range(int(np.prod(shape)))], np.bool_
    ).reshape(shape)
