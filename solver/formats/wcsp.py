"""toulbar2's WCSP format: integers from 0, and an upper bound that forbids.

Tables are raised to begin at 0, and the constant that this leaves must not be below 0: toulbar2
would pass over it. Source of the facts: toulbar2's documentation, "wcsp format".
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from solver.formats.network import Network, dense, raised
from solver.problem import FORBIDDEN, LIMIT, ProblemError


def read(text: str) -> Network:
    """The network of a file's text; raises ``ProblemError``."""
    tokens = _Tokens(text)
    _, count = tokens.word(), tokens.number()
    tokens.number()
    functions, top = tokens.number(), tokens.number()
    sizes = [tokens.number() for _ in range(count)]
    if any(size < 1 for size in sizes):
        raise ProblemError("a domain is empty or an interval, which is not supported")

    def cost() -> int:
        amount = tokens.number()
        return FORBIDDEN if amount >= top else _checked(amount)

    tables = []
    for _ in range(functions):
        arity = tokens.number()
        if arity < 0:
            raise ProblemError("functions that share their costs are not supported")
        scope = tuple(tokens.number() for _ in range(arity))
        if arity and tokens.peek() == "-1":
            raise ProblemError("global cost functions are not supported")
        costs = dense(sizes, scope, cost())
        for _ in range(tokens.number()):
            index = tuple(tokens.number() for _ in range(arity))
            if any(not 0 <= at < sizes[v] for at, v in zip(index, scope, strict=True)):
                raise ProblemError(f"a tuple {index} is not of the domains of {scope}")
            costs[index] = cost()
        tables.append((scope, costs))
    return Network(tuple(f"v{v}" for v in range(count)), tuple(sizes), tuple(tables))


def write(network: Network) -> str:
    """The text of a file; raises ``ProblemError`` where costs can be below 0."""
    found = raised(network)
    if found.constant < 0:
        raise ProblemError("the format has no costs below 0: write .cfn")
    count, top = len(found.tables) + 1, found.top
    lines = [f"problem {len(network.sizes)} {max(network.sizes)} {count} {top}"]
    lines += [" ".join(map(str, network.sizes)), f"0 {found.constant} 0"]
    for scope, costs in found.tables:
        (index,) = np.nonzero(costs.reshape(-1))
        lines.append(" ".join(map(str, (len(scope), *scope, 0, index.size))))
        for at, cost in zip(index.tolist(), costs.reshape(-1)[index].tolist(), strict=True):
            where = np.unravel_index(at, costs.shape)
            lines.append(" ".join(map(str, (*map(int, where), min(cost, top)))))
    return "\n".join(lines) + "\n"


def _checked(amount: int) -> int:
    if abs(amount) >= LIMIT:
        raise ProblemError(f"a cost of {amount} is too large")
    return amount


class _Tokens:
    """The words of a text, one after the other."""

    def __init__(self, text: str) -> None:
        self._words: Iterator[str] = iter(text.split())
        self._next: str | None = None

    def peek(self) -> str:
        """The next word, which stays the next."""
        if self._next is None:
            self._next = next(self._words, "")
        return self._next

    def word(self) -> str:
        """The next word."""
        found = self.peek()
        self._next = None
        if not found:
            raise ProblemError("it ends too early")
        return found

    def number(self) -> int:
        """The next word as an integer."""
        word = self.word()
        try:
            return int(word)
        except ValueError:
            raise ProblemError(f"{word!r} is not an integer") from None
