"""Shows that the written graph computes what the program computed, in one walk over both.

The graph alone does not always show which ``aten.clone`` is a transition, because a program may
have clones of its own. The plan claims which ones it added. Under that claim everything must match,
so that a wrong claim is found rather than believed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Final, TypeAlias

from planner.ir.representation import TensorRepr
from planner.verify.layouts import is_int8_layout
from planner.verify.program import Program, fail
from schema import VkDataType, VkGraph, VkTensor
from schema.frozen import frozen
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
    VkBytes,
)

CLONE: Final = "aten.clone.default"

_WRITTEN_ARGUMENTS: Final = {
    "adamw_step": (0, 1, 2),
    "sdpa_with_kv_cache": (3, 4),
    "update_cache": (1,),
}
"""The arguments that an operator writes into, by its name without namespace and overload."""

_STALE: Final = -1
_NONE: Final = -2

_PLAIN: Final = frozenset({Null, Int, Bool, IntList, BoolList, String})
"""Literals that are the same where they are equal."""

Place: TypeAlias = Callable[[], str]
"""Names a place for a message: few are needed."""


@dataclass(slots=True)
class Repack:
    """A transition in the written graph: the clone at ``index``, and its users.

    A user is the position of an operator in the chain and that of an argument.
    """

    index: int
    source: int
    output: int
    users: list[tuple[int, int]] = field(default_factory=list)


@frozen
class Matched:
    """What is alike in two programs.

    ``repacks`` are those that one has more, in order.
    """

    repacks: tuple[Repack, ...]
    _origin: Sequence[int]

    @property
    def origins(self) -> dict[int, int]:
        """The values of the other, by those of the one that hold them or copies of them.

        Copies are also those whose source was overwritten later.
        """
        found = {new: old for new, old in enumerate(self._origin) if old >= 0}
        return found | {repack.output: self._origin[repack.source] for repack in self.repacks}


def match_programs(before: VkGraph, after: Program, clones: Collection[int]) -> Matched:
    """Shows that ``after`` is ``before`` with repacks for the operators at positions ``clones``.

    Value ids, node ids and memory objects may differ. Raises ``VerificationError`` where the
    programs differ.
    """
    walk = _Walk(before, after)
    return Matched(walk.run(clones), walk.origin)


class _Walk:
    def __init__(self, before: VkGraph, after: Program) -> None:
        self.before = before
        self.program = after
        self.after = after.graph
        # By value of before: the value of after that matches it.
        self.made = [_NONE] * len(before.values)
        # By value of after: the value of before that it holds.
        self.origin = [_NONE] * len(self.after.values)
        self.repack_of: dict[int, Repack] = {}  # by output
        self.copies: dict[int, dict[TensorRepr, int]] = {}  # by value of before

    def run(self, clones: Collection[int]) -> tuple[Repack, ...]:
        before, after = self.before, self.after
        for what in ("version", "shaders", "storage_type_override", "memory_layout_override"):
            if getattr(before, what) != getattr(after, what):
                raise fail("the written graph", f"its {what} is not the program's")
        self._match_interface("input", before.input_ids, after.input_ids)
        expected = before.calls.rows()
        for index, (_, name, args) in enumerate(after.calls.rows()):
            if index in clones:
                self._repack(index, name, args)
                continue
            _, wanted, given = next(expected, (0, None, ()))
            if wanted != name:
                note = ", and it is not claimed as a transition" if name == CLONE else ""
                what = f"the program has {wanted or 'nothing'} in its place{note}"
                raise fail(self.program.place(index), what)
            self._match_call(index, name, given, args)
        for _, missing, _ in expected:
            raise fail(missing, "this operator of the program was not written")
        self._match_interface("output", before.output_ids, after.output_ids)
        for repack in self.repack_of.values():
            if not repack.users:
                raise fail(self.program.place(repack.index), "no operator reads this transition")
        return tuple(self.repack_of.values())

    def _match_interface(self, what: str, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        if len(before) != len(after):
            raise fail(f"the graph's {what}s", f"there are {len(after)}, not {len(before)}")
        for i, (old, new) in enumerate(zip(before, after, strict=True)):
            self._match(old, new, partial(_interface, what, i))

    def _match_call(
        self, index: int, name: str, old: tuple[int, ...], new: tuple[int, ...]
    ) -> None:
        if len(old) != len(new):
            place = self.program.place(index)
            raise fail(place, f"it has {len(new)} arguments, not {len(old)}")
        if not new:
            return
        written = _written_arguments(name)
        last = len(new) - 1
        made, origin = self.made, self.origin
        for position, (given, found) in enumerate(zip(old, new, strict=True)):
            if made[given] == found:
                # Matched before, and holding the same still.
                if origin[found] == given:
                    continue
            elif made[given] == _NONE and self._are_equal(given, found):
                continue
            is_read = position != last and position not in written
            where = partial(self._operand, index, position, last)
            self._match(given, found, where, (index, position) if is_read else None)
        for position in (*written, last):
            if position <= last:
                value = self.before.values[old[position]]
                members = value.items if isinstance(value, ValueList) else (old[position],)
                for member in members:
                    if member in self.copies:
                        self._forget_copies(member)

    def _operand(self, index: int, position: int, last: int) -> str:
        return self.program.place(index, "output" if position == last else f"argument {position}")

    def _are_equal(self, old: int, new: int) -> bool:
        """Whether two values are equal literals."""
        a, b = self.before.values[old], self.after.values[new]
        return type(a) in _PLAIN and type(a) is type(b) and a == b

    def _match(
        self, old: int, new: int, where: Place, reader: tuple[int, int] | None = None
    ) -> None:
        """Shows that two values match. Only a ``reader`` may have a repacked copy."""
        a, b = self.before.values[old], self.after.values[new]
        if type(a) is not type(b):
            raise fail(where(), f"it is a {type(b).__name__}, not a {type(a).__name__}")
        if isinstance(a, ValueList):
            assert isinstance(b, ValueList)
            if len(a.items) != len(b.items):
                raise fail(where(), f"the list has {len(b.items)} members, not {len(a.items)}")
            for i, (x, y) in enumerate(zip(a.items, b.items, strict=True)):
                if isinstance(self.after.values[y], ValueList):
                    raise fail(where(), "a list cannot hold a list")
                self._match(x, y, partial(_member, where, i), reader)
        elif isinstance(a, VkTensor):
            assert isinstance(b, VkTensor)
            if _type_of(a) != _type_of(b):
                raise fail(where(), f"it is a tensor {_described(b)}, not {_described(a)}")
            if _constant(self.before, a) != _constant(self.after, b):
                raise fail(where(), "it is not the program's constant")
            if a.constant_id < 0:
                self._match_identity(old, new, where, reader)
        elif not _is_same(a, b):
            raise fail(where(), f"it is {b}, not {a}")
        elif isinstance(a, SymInt):
            self._match_identity(old, new, where, None)

    def _match_identity(
        self, old: int, new: int, where: Place, reader: tuple[int, int] | None
    ) -> None:
        origin = self.origin[new]
        if origin == _NONE and self.made[old] == _NONE:
            self.made[old] = new
            self.origin[new] = old
        elif origin == _STALE:
            raise fail(where(), f"value {new} was copied before its source was overwritten")
        elif origin != old:
            raise fail(where(), f"value {new} is not what the program has here")
        elif self.made[old] != new:
            if reader is None:
                raise fail(where(), f"value {new} is a repacked copy, not the tensor itself")
            users = self.repack_of[new].users
            if users[-1:] != [reader]:
                users.append(reader)

    def _repack(self, index: int, name: str, args: tuple[int, ...]) -> None:
        place = self.program.place(index)
        if name != CLONE or len(args) != 3:
            raise fail(place, f"it is claimed as a transition, but is not an {CLONE}")
        source_id, memory_format, output_id = args
        source, output = self.after.values[source_id], self.after.values[output_id]
        if not isinstance(self.after.values[memory_format], Null):
            raise fail(place, "a transition must not change the memory format")
        if not isinstance(source, VkTensor) or not isinstance(output, VkTensor):
            raise fail(place, "a transition must copy a tensor to a tensor")
        if source.constant_id >= 0 or output.constant_id >= 0:
            raise fail(place, "a transition cannot have a constant: its operator prepacks it")
        origin = self.origin[source_id]
        if origin in (_STALE, _NONE):
            raise fail(place, f"value {source_id} does not hold a tensor of the program here")
        if self.made[origin] != source_id:
            raise fail(place, "a transition reads a tensor where it was made, not another copy")
        if self.origin[output_id] != _NONE:
            raise fail(place, f"value {output_id} is already in use")
        if _type_of(source) != _type_of(output):
            raise fail(place, f"it copies a tensor {_described(source)} to {_described(output)}")
        self._check_target(place, origin, source, source_id, output_id)
        self.origin[output_id] = origin
        self.repack_of[output_id] = Repack(index, source_id, output_id)

    def _check_target(
        self, place: str, origin: int, source: VkTensor, source_id: int, output_id: int
    ) -> None:
        from_repr = self.program.representations.get(source_id)
        to_repr = self.program.representations.get(output_id)
        if from_repr is None or to_repr is None:
            raise fail(place, "a transition needs a representation at both ends")
        if from_repr == to_repr:
            raise fail(place, f"source and target are both {from_repr}")
        if source.datatype == VkDataType.INT8 and is_int8_layout(from_repr) != is_int8_layout(
            to_repr
        ):
            raise fail(place, f"no clone takes int8 elements from {from_repr} to {to_repr}")
        if self.copies.setdefault(origin, {}).setdefault(to_repr, output_id) != output_id:
            raise fail(place, f"another transition copies the same tensor to {to_repr}")

    def _forget_copies(self, old: int) -> None:
        """Marks the copies of an overwritten tensor, which hold its old contents."""
        for output_id in self.copies.pop(old, {}).values():
            self.origin[output_id] = _STALE


def _member(where: Place, index: int) -> str:
    return f"{where()}, member {index}"


def _interface(what: str, index: int) -> str:
    return f"graph {what} {index}"


@cache
def _written_arguments(name: str) -> tuple[int, ...]:
    for part in name.split("."):
        if part in _WRITTEN_ARGUMENTS:
            return _WRITTEN_ARGUMENTS[part]
    return ()


def _is_same(a: Value, b: Value) -> bool:
    """Whether two literals are equal to the bit; all NaNs are equal."""
    if isinstance(a, (Double, DoubleList)):
        return repr(a) == repr(b)
    return a == b


def _type_of(tensor: VkTensor) -> tuple[tuple[int, ...], VkDataType, VkDataType]:
    return tensor.dims, tensor.datatype, tensor.staging_datatype


def _described(tensor: VkTensor) -> str:
    return f"{tensor.dims} of {tensor.datatype.name} (staged as {tensor.staging_datatype.name})"


def _constant(graph: VkGraph, tensor: VkTensor) -> VkBytes | None:
    return graph.constants[tensor.constant_id] if tensor.constant_id >= 0 else None
