"""The differences between two plans of the same program."""

from __future__ import annotations

from collections.abc import Hashable

from planner.compare.matching import match
from planner.errors import InputError
from planner.files.listing import ListedDelegate, read_listing
from schema.frozen import frozen


@frozen
class ChangedTensor:
    """A tensor with different representations in the plans; None leaves it to the runtime."""

    name: str
    a: str | None
    b: str | None


@frozen
class LoneTransition:
    """A transition in only one of the plans; its cost is in that plan's unit."""

    tensor: str
    source: str
    target: str
    readers: tuple[str, ...]
    cost: float


@frozen
class DelegateChange:
    """The differences in a delegate; transitions of one plan only come most expensive first."""

    name: str
    tensors: tuple[ChangedTensor, ...]
    only_in_a: tuple[LoneTransition, ...]
    only_in_b: tuple[LoneTransition, ...]
    in_both: int


def compare_plans(a: bytes, b: bytes) -> tuple[DelegateChange, ...]:
    """The differences by delegate; raises ``InputError`` for plans of different programs."""
    first, second = read_listing(a, "plan A").delegates, read_listing(b, "plan B").delegates
    if len(first) != len(second):
        raise InputError("these are plans of different programs: one has more delegates")
    return tuple(_compare(*pair) for pair in zip(first, second, strict=True))


def _compare(a: ListedDelegate, b: ListedDelegate) -> DelegateChange:
    matching = match(a.contracted, f"{a.name} of A", b.contracted, f"{b.name} of B")
    side_a, side_b = _Side(a, matching.a), _Side(b, matching.b)
    names = [
        a.names.get(x) or b.names.get(y) or f"v{x}"
        for x, y in zip(matching.a, matching.b, strict=True)
    ]
    tensors = tuple(
        ChangedTensor(name, side_a.made.get(n), side_b.made.get(n))
        for n, name in enumerate(names)
        if side_a.made.get(n) != side_b.made.get(n)
    )
    in_a, in_b = side_a.transitions(names), side_b.transitions(names)
    return DelegateChange(
        a.name,
        tensors,
        _lone(in_a, in_b),
        _lone(in_b, in_a),
        len(in_a.keys() & in_b.keys()),
    )


def _lone(
    these: dict[Hashable, LoneTransition], those: dict[Hashable, LoneTransition]
) -> tuple[LoneTransition, ...]:
    found = [transition for key, transition in these.items() if key not in those]
    return tuple(sorted(found, key=lambda transition: -transition.cost))


class _Side:
    """A plan's delegate, with values numbered as in the other one."""

    def __init__(self, delegate: ListedDelegate, values: tuple[int, ...]) -> None:
        self.delegate = delegate
        number = {value: n for n, value in enumerate(values)}
        contracted = delegate.contracted
        self.numbers = {
            t: number[value] for t, value in enumerate(contracted.tensors) if value in number
        }
        self.made = {
            n: str(made)
            for t, n in self.numbers.items()
            if (made := contracted.made[t]) is not None
        }

    def transitions(self, names: list[str]) -> dict[Hashable, LoneTransition]:
        """The transitions by a key that is the same on both sides."""
        assert self.delegate.plan is not None
        costs = {t.operator_index: t.cost for t in self.delegate.plan.transitions}
        operators = self.delegate.contracted.graph.operators
        found: dict[Hashable, LoneTransition] = {}
        for t in self.delegate.contracted.transitions:
            n = self.numbers[t.tensor]
            readers = tuple(operators[i].name for i in sorted({user.operator for user in t.users}))
            found[n, t.source, t.target, frozenset(t.users)] = LoneTransition(
                names[n], str(t.source), str(t.target), readers, costs[t.position]
            )
        return found
