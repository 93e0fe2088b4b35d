"""What changed between two files: representations, transitions, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, Final

from planner.costs import ProfileCosts
from planner.errors import InputError
from planner.frontends.vkgraph import PresentTransition
from planner.listing import ListedDelegate, Listing, read_listing, representation
from planner.plan import Operand
from planner.profile import DeviceProfile
from planner.registry import CLONE
from planner.representation import LABELS, TensorRepr
from schema import VkTensor, vkgraph
from schema.vkgraph import (
    Bool,
    BoolList,
    Double,
    DoubleList,
    Int,
    IntList,
    Null,
    String,
    SymInt,
    Value,
    ValueList,
)

_LONGEST_QUOTE: Final = 100
_CLONE_HINT: Final = (
    " (a clone of the program's own cannot be told from a repack where it changes representation)"
)


def compare(a: bytes, a_name: str, b: bytes, b_name: str, profile: DeviceProfile) -> dict[str, Any]:
    """What changed from file A to file B, as a JSON document; their kinds may differ.

    Costs are in the profile's ``unit``, memory in bytes; ``ratio`` is A's repack cost over B's,
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
        # Delegates that are alike are one blob in a .pte, but each on its own in a plan.
        a, b = _distinct(a), _distinct(b)
    if len(a) != len(b):
        raise InputError(
            "these are different programs: the number of distinct Vulkan delegates is "
            f"{len(a)} in {first.name} but {len(b)} in {second.name}"
        )
    return list(zip(a, b, strict=True))


def _distinct(delegates: Sequence[ListedDelegate]) -> tuple[ListedDelegate, ...]:
    return tuple({vkgraph.encode(delegate.graph): delegate for delegate in delegates}.values())


@dataclass(frozen=True, slots=True)
class _Repack:
    """A transition, the value that it copies, and its cost in integer steps."""

    present: PresentTransition
    source: int
    cost: int


_Key = tuple[int, TensorRepr, TensorRepr, frozenset[Operand]]


class _Side:
    """A delegate in one of the files.

    ``numbers`` are numbers of tensors, by value id, that the walk gives to those of both sides;
    ``values`` are value ids by number.
    """

    def __init__(self, file: str, delegate: ListedDelegate, costs: ProfileCosts) -> None:
        self.file, self.delegate = file, delegate
        self.graph = delegate.contracted.written
        self.numbers: dict[int, int] = {}
        self.values: list[int] = []
        self.repacks = [self._repack(t, costs) for t in delegate.contracted.transitions]
        self.repack_cost = sum(repack.cost for repack in self.repacks)

    def _repack(self, transition: PresentTransition, costs: ProfileCosts) -> _Repack:
        contracted = self.delegate.contracted
        tensor = contracted.graph.tensors[transition.tensor]
        prices = costs.transition(tensor.shape, tensor.dtype)
        return _Repack(
            transition,
            contracted.tensors[transition.tensor],
            int(prices[LABELS[transition.source], LABELS[transition.target]]),
        )

    def add(self, value_id: int) -> None:
        """Gives a tensor the next number."""
        self.numbers[value_id] = len(self.values)
        self.values.append(value_id)

    def keyed(self) -> dict[_Key, _Repack]:
        """The repacks, by what they are in terms that both sides share."""
        return {self._key(repack.source, repack.present): repack for repack in self.repacks}

    def _key(self, source: int, present: PresentTransition) -> _Key:
        return self.numbers[source], present.source, present.target, frozenset(present.users)

    def name(self, value_id: int, other: _Side) -> str | None:
        """A tensor's name, in this file or else in the other."""
        number = self.numbers.get(value_id)
        theirs = None if number is None else other.delegate.names.get(other.values[number])
        return self.delegate.names.get(value_id, theirs)


class _Difference:
    """Two delegates of the same program, A and B; raises ``InputError`` for different ones."""

    def __init__(self, a: _Side, b: _Side) -> None:
        self.a, self.b = a, b
        _Walk(a, b).run()
        self.representations = [
            entry
            for value_ids in zip(a.values, b.values, strict=True)
            if (entry := self._representation(*value_ids)) is not None
        ]
        mine, theirs = a.keyed(), b.keyed()
        self.only_in_a = [repack for key, repack in mine.items() if key not in theirs]
        self.only_in_b = [repack for key, repack in theirs.items() if key not in mine]
        self.in_both = [(repack, theirs[key]) for key, repack in mine.items() if key in theirs]

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
        "ratio": round(before / after, 4) if after else (None if before else 1.0),
    }


def _side_figures(sides: Sequence[_Side], cost: int, profile: DeviceProfile) -> dict[str, Any]:
    return {
        "transitions": sum(len(side.repacks) for side in sides),
        "repack_cost": profile.in_units(cost),
        "memory_bytes": sum(side.delegate.memory_bytes for side in sides),
    }


class _Walk:
    """Goes through two programs in step, operator by operator, and numbers their tensors.

    Ids and the order of values mean nothing, nor do representations, constants' contents, or
    whether a number is an integer: ExecuTorch's builder takes 1, 1.0 and True for the same value.
    """

    def __init__(self, a: _Side, b: _Side) -> None:
        self.a, self.b = a, b

    def run(self) -> None:
        self._operators()
        for what in ("input", "output"):
            ids = [getattr(side.graph, f"{what}_ids") for side in (self.a, self.b)]
            self._count(f"the number of {what}s", len(ids[0]), len(ids[1]))
            for index, (x, y) in enumerate(zip(*ids, strict=True)):
                self._match(x, y, f"{what} {index} of the graph")
        constants = (len(side.graph.constants) for side in (self.a, self.b))
        self._count("the number of constants", *constants)

    def _operators(self) -> None:
        a, b = self.a, self.b
        places = [side.delegate.contracted.positions for side in (a, b)]
        for x, y, at, there in zip(a.graph.chain, b.graph.chain, *places, strict=False):
            if x.name != y.name:
                hint = _CLONE_HINT if CLONE in (x.name, y.name) else ""
                raise _different(
                    f"operator {at} of {a.file} is {_quoted(x.name)} "
                    f"but operator {there} of {b.file} is {_quoted(y.name)}{hint}"
                )
            operator = f"{_quoted(x.name)} (operator {at} of {a.file}, {there} of {b.file})"
            self._count(f"the number of arguments of {operator}", len(x.args), len(y.args))
            for index, (mine, theirs) in enumerate(zip(x.args, y.args, strict=True)):
                is_output = index == len(x.args) - 1
                what = "the output" if is_output else f"argument {index}"
                self._match(mine, theirs, f"{what} of {operator}")
        common = min(len(a.graph.chain), len(b.graph.chain))
        for side, other, positions in ((a, b, places[0]), (b, a, places[1])):
            if len(side.graph.chain) > common:
                raise _different(
                    f"operator {positions[common]} of {side.file}, "
                    f"{_quoted(side.graph.chain[common].name)}, has no counterpart in {other.file}"
                )

    def _match(self, a_id: int, b_id: int, place: str) -> None:
        x, y = self.a.graph.values[a_id], self.b.graph.values[b_id]
        if isinstance(x, ValueList) and isinstance(y, ValueList):
            self._count(f"the length of {place}", len(x.items), len(y.items))
            for index, (i, j) in enumerate(zip(x.items, y.items, strict=True)):
                self._match(i, j, f"member {index} of {place}")
        elif _content(x) != _content(y):
            raise self._mismatch(place, _described(x), _described(y))
        elif isinstance(x, VkTensor | SymInt) and not self._same(a_id, b_id):
            raise self._mismatch(place, f"v{a_id}", f"another value, v{b_id},")

    def _same(self, a_id: int, b_id: int) -> bool:
        """Whether two values stand for each other, as two that are new here do from now on."""
        x, y = self.a.numbers.get(a_id), self.b.numbers.get(b_id)
        if x is None and y is None:
            self.a.add(a_id)
            self.b.add(b_id)
            return True
        return x == y

    def _count(self, what: str, a: int, b: int) -> None:
        if a != b:
            raise self._mismatch(what, str(a), str(b))

    def _mismatch(self, place: str, x: str, y: str) -> InputError:
        return _different(f"{place} is {x} in {self.a.file} but {y} in {self.b.file}")


def _different(what: str) -> InputError:
    return InputError(f"these are different programs: {what}")


_NAN: Final = object()


def _content(value: Value) -> object:
    """What of a value must be the same in both programs."""
    match value:
        case VkTensor(datatype, dims, constant_id):
            return datatype, dims, constant_id >= 0
        case Int(number) | Double(number) | Bool(number):
            return _number(number)
        case IntList(items) | DoubleList(items) | BoolList(items):
            return [_number(item) for item in items]
        case String(text):
            return text
        case Null():
            return None
        case SymInt() | ValueList():
            return type(value)


def _number(value: float) -> object:
    return _NAN if isnan(value) else value


def _described(value: Value) -> str:
    match value:
        case VkTensor(datatype, dims, constant_id):
            shape = "×".join(map(str, dims)) or "scalar"
            return _cut(f"a {shape} {datatype.name.lower()} ") + (
                "constant" if constant_id >= 0 else "tensor"
            )
        case Int(content) | Double(content) | Bool(content) | String(content):
            return _quoted(content)
        case IntList(items) | DoubleList(items) | BoolList(items):
            return _quoted(list(items))
        case Null():
            return "not given"
        case SymInt():
            return "a symbolic integer"
        case ValueList():
            return "a list of values"


def _quoted(content: object) -> str:
    """As Python writes it, which shows control characters; not beyond what one line bears."""
    return _cut(repr(content))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"
