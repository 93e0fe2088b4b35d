"""The UAI format: a Markov network with a potential for each combination, or its logarithm.

A potential is ``exp(-cost / PRECISION)``, and 0 where the combination is forbidden. Rounding the
logarithm gives each integer back, as long as the potential fits into a float. With logarithms
(``.LG``) costs are written as they are, with the other sign, and integers stay integers; if any of
them is not whole, all are multiplied by PRECISION and rounded. What is forbidden has a logarithm
that is very small, not infinite, which other readers take for the end of the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from solver.formats.network import Network, dense
from solver.problem import FORBIDDEN, LIMIT, Costs, ProblemError

PRECISION = 10**6
"""Costs in one unit of a natural logarithm."""

_LARGEST = 700 * PRECISION
"""The exponential of more than this does not fit into a float."""


def read(text: str) -> Network:
    """The network of a file with potentials; raises ``ProblemError``."""

    def costs(numbers: list[float]) -> list[float]:
        if any(number < 0 for number in numbers):
            raise ProblemError("a potential is below 0")
        return [-math.log(n) * PRECISION if n > 0 else math.inf for n in numbers]

    return _read(text, costs)


def read_logarithms(text: str) -> Network:
    """The network of a file with logarithms; raises ``ProblemError``."""

    def costs(numbers: list[float]) -> list[float]:
        return [math.inf if number <= -FORBIDDEN else -number for number in numbers]

    return _read(text, costs, PRECISION)


def write(network: Network) -> str:
    """The text of a file with potentials; raises ``ProblemError`` where they would be 0."""
    for _, costs in network.tables:
        if int(np.abs(costs[costs < FORBIDDEN]).max(initial=0)) > _LARGEST:
            raise ProblemError(
                f"costs of more than {_LARGEST} have no potential: write logarithms (.LG)"
            )
    return _write(network, lambda cost: repr(math.exp(-cost / PRECISION)), "0")


def write_logarithms(network: Network) -> str:
    """The text of a file with logarithms."""
    return _write(network, lambda cost: str(-cost), "-1e300")


def _read(text: str, costs_of: Callable[[list[float]], list[float]], scale: int = 1) -> Network:
    words = text.split()
    if not words or words[0] not in ("MARKOV", "BAYES"):
        raise ProblemError("it does not begin with MARKOV or BAYES")
    at = 1

    def whole() -> int:
        nonlocal at
        if at >= len(words):
            raise ProblemError("it ends too early")
        at += 1
        try:
            return int(words[at - 1])
        except ValueError:
            raise ProblemError(f"{words[at - 1]!r} is not an integer") from None

    sizes = [whole() for _ in range(whole())]
    if any(size < 1 for size in sizes):
        raise ProblemError("a domain is empty")
    scopes = [tuple(whole() for _ in range(whole())) for _ in range(whole())]
    found: list[tuple[tuple[int, ...], Costs, list[float]]] = []
    for scope in scopes:
        empty, count = dense(sizes, scope, 0), whole()
        numbers = words[at : at + count]
        if count != empty.size or len(numbers) < count:
            raise ProblemError(f"a table over {scope} has {len(numbers)} of {empty.size} numbers")
        at += count
        try:
            found.append((scope, empty, costs_of([float(number) for number in numbers])))
        except ValueError as error:
            raise ProblemError(f"a table over {scope} is wrong: {error}") from None
    finite = [cost for _, _, costs in found for cost in costs if cost != math.inf]
    if not all(map(math.isfinite, finite)):
        raise ProblemError("a number is not finite")
    factor = 1 if all(cost.is_integer() for cost in finite) else scale
    if any(abs(cost) * factor >= LIMIT for cost in finite):
        raise ProblemError("its costs are too large")
    tables = []
    for scope, empty, costs in found:
        rounded = [FORBIDDEN if cost == math.inf else round(cost * factor) for cost in costs]
        tables.append((scope, np.array(rounded, np.int64).reshape(empty.shape)))
    return Network(tuple(f"v{v}" for v in range(len(sizes))), tuple(sizes), tuple(tables))


def _write(network: Network, number: Callable[[int], str], forbidden: str) -> str:
    lines = ["MARKOV", str(len(network.sizes)), " ".join(map(str, network.sizes))]
    lines.append(str(len(network.tables)))
    lines += [" ".join(map(str, (len(scope), *scope))) for scope, _ in network.tables]
    for _, costs in network.tables:
        entries = costs.reshape(-1).tolist()
        lines += ["", str(len(entries))]
        lines.append(" ".join(forbidden if c >= FORBIDDEN else number(c) for c in entries))
    return "\n".join(lines) + "\n"
