"""The differences between two files: representations, transitions, costs and memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.compare.matching import match
from planner.costs.by_profile import ProfileCosts
from planner.costs.model import ratio, transition_price
from planner.costs.profile import DeviceProfile
from planner.errors import InputError
from planner.files.listing import ListedDelegate, Listing, read_listing, representation
from planner.ir.graph import Operand
from planner.ir.representation import TensorRepr
from planner.vkgraph.reader import PresentTransition
from schema import VkTensor, vkgraph
from schema.frozen import frozen


def compare(a: bytes, a_name: str, b: bytes, b_name: str, profile: DeviceProfile) -> dict[str, Any]:
    """The changes from file A to file B, as a JSON document; the files may be of different kinds.

    Costs are in the profile's ``unit``, memory in bytes. ``ratio`` is A's repack cost over B's,
    None where only B's is 0. Files are equal if representations, transitions and memory are.
    Raises ``InputError`` for files that cannot be read, and for two different programs, naming
    the first operator that differs.
    """
    first, second = read_listing(a, a_name), read_listing(b, b_name)
    costs = ProfileCosts(profile, "repack")
    found = [
        _Difference(_Side(first.name, x, costs), _Side(second.name, y, costs))
        for x, y in _pairs(first, second)
    ]
    return {
        "a": {"name": first.name, "kind": first.kind},
        "b": {"name": second.name, "kind": second.kind},
        "profile": {"name": profile.name, "hash": profile.digest},
        "unit": profile.unit,
        "is_equal": all(difference.is_equal for difference in found),
        "total": _figures([d.a for d in found], [d.b for d in found], profile),
        "delegates": [
            {"index": index, **difference.describe(profile)}
            for index, difference in enumerate(found)
        ],
    }


def _pairs(first: Listing, second: Listing) -> list[tuple[ListedDelegate, ListedDelegate]]:
    a, b = first.delegates, second.delegates
    if len(a) != len(b):
        # Equal delegates share one blob in a .pte, but not in a plan.
        a, b = _distinct(a), _distinct(b)
    if len(a) != len(b):
        raise InputError(
            "these are different programs: the number of distinct Vulkan delegates is "
            f"{len(a)} in {first.name} but {len(b)} in {second.name}"
        )
    return list(zip(a, b, strict=True))


def _distinct(delegates: Sequence[ListedDelegate]) -> tuple[ListedDelegate, ...]:
    return tuple({vkgraph.encode(delegate.graph): delegate for delegate in delegates}.values())


@frozen
class _Repack:
    """A transition, the value that it copies, and its cost in integer steps."""

    present: PresentTransition
    source: int
    cost: int


_Key = tuple[int, TensorRepr, TensorRepr, frozenset[Operand]]


class _Side:
    """A delegate in one of the files.

    ``values`` are its values that match those of the other side, in the same order; ``numbers`` are
    their positions in that order.
    """

    def __init__(self, file: str, delegate: ListedDelegate, costs: ProfileCosts) -> None:
        self.file, self.delegate = file, delegate
        self.graph = delegate.contracted.written
        self.values: tuple[int, ...] = ()
        self.numbers: dict[int, int] = {}
        self.repacks = [self._repack(t, costs) for t in delegate.contracted.transitions]
        self.repack_cost = sum(repack.cost for repack in self.repacks)

    def _repack(self, transition: PresentTransition, costs: ProfileCosts) -> _Repack:
        contracted = self.delegate.contracted
        tensor = contracted.graph.tensors[transition.tensor]
        price = transition_price(costs, tensor, transition.source, transition.target)
        return _Repack(transition, contracted.tensors[transition.tensor], price.cost)

    def number(self, values: tuple[int, ...]) -> None:
        """Numbers the values that match those of the other side."""
        self.values = values
        self.numbers = {value_id: number for number, value_id in enumerate(values)}

    def keyed(self) -> dict[_Key, _Repack]:
        """The repacks by a key that is the same on both sides."""
        return {self._key(repack.source, repack.present): repack for repack in self.repacks}

    def _key(self, source: int, present: PresentTransition) -> _Key:
        return self.numbers[source], present.source, present.target, frozenset(present.users)

    def name(self, value_id: int, other: _Side) -> str | None:
        """A tensor's name in this file, else in the other one."""
        number = self.numbers.get(value_id)
        other_name = None if number is None else other.delegate.names.get(other.values[number])
        return self.delegate.names.get(value_id, other_name)


class _Difference:
    """Two delegates of the same program, A and B; raises ``InputError`` for different ones."""

    def __init__(self, a: _Side, b: _Side) -> None:
        self.a, self.b = a, b
        matching = match(a.delegate.contracted, a.file, b.delegate.contracted, b.file)
        a.number(matching.a)
        b.number(matching.b)
        self.representations = [
            entry
            for value_ids in zip(a.values, b.values, strict=True)
            if (entry := self._representation(*value_ids)) is not None
        ]
        in_a, in_b = a.keyed(), b.keyed()
        self.only_in_a = [repack for key, repack in in_a.items() if key not in in_b]
        self.only_in_b = [repack for key, repack in in_b.items() if key not in in_a]
        self.in_both = [(repack, in_b[key]) for key, repack in in_a.items() if key in in_b]

    @property
    def is_equal(self) -> bool:
        return (
            not (self.representations or self.only_in_a or self.only_in_b)
            and self.a.delegate.memory_bytes == self.b.delegate.memory_bytes
        )

    def describe(self, profile: DeviceProfile) -> dict[str, Any]:
        def transition(side: _Side, repack: _Repack) -> dict[str, Any]:
            other = self.b if side is self.a else self.a
            return _transition(side, other, repack, profile)

        return {
            "name": self.a.delegate.name,
            "is_equal": self.is_equal,
            **_figures([self.a], [self.b], profile),
            "representations": self.representations,
            "only_in_a": [transition(self.a, repack) for repack in self.only_in_a],
            "only_in_b": [transition(self.b, repack) for repack in self.only_in_b],
            "in_both": [
                {"a": transition(self.a, x), "b": transition(self.b, y)} for x, y in self.in_both
            ],
        }

    def _representation(self, a_id: int, b_id: int) -> dict[str, Any] | None:
        before, after = self.a.graph.values[a_id], self.b.graph.values[b_id]
        if not (isinstance(before, VkTensor) and isinstance(after, VkTensor)):
            return None
        if representation(before) == representation(after):
            return None
        return {
            "tensor": self.a.name(a_id, self.b),
            "a_value_id": a_id,
            "b_value_id": b_id,
            "dims": list(before.dims),
            "dtype": before.datatype.name.lower(),
            "from": representation(before),
            "to": representation(after),
        }


def _transition(
    side: _Side, other: _Side, repack: _Repack, profile: DeviceProfile
) -> dict[str, Any]:
    contracted, present = side.delegate.contracted, repack.present
    tensor = contracted.graph.tensors[present.tensor]

    def user(operand: Operand) -> dict[str, Any]:
        return {
            "operator_index": contracted.positions[operand.operator],
            "operator": contracted.graph.operators[operand.operator].name,
            "argument": operand.argument,
        }

    return {
        "tensor": side.name(repack.source, other),
        "source": repack.source,
        "output": present.copy,
        "operator_index": present.position,
        "dims": list(tensor.shape),
        "dtype": tensor.dtype.name.lower(),
        "from": str(present.source),
        "to": str(present.target),
        "cost": profile.in_units(repack.cost),
        "users": [user(operand) for operand in present.users],
    }


def _figures(a: Sequence[_Side], b: Sequence[_Side], profile: DeviceProfile) -> dict[str, Any]:
    before, after = (sum(side.repack_cost for side in sides) for sides in (a, b))
    return {
        "a": _side_figures(a, before, profile),
        "b": _side_figures(b, after, profile),
        "ratio": ratio(before, after),
    }


def _side_figures(sides: Sequence[_Side], cost: int, profile: DeviceProfile) -> dict[str, Any]:
    return {
        "transitions": sum(len(side.repacks) for side in sides),
        "repack_cost": profile.in_units(cost),
        "memory_bytes": sum(side.delegate.memory_bytes for side in sides),
    }
