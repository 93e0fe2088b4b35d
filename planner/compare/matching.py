"""Two programs side by side: whether they are the same, and which values match."""

from __future__ import annotations

from math import isnan
from typing import Final

from planner.errors import InputError
from planner.kernels.registry import CLONE
from planner.vkgraph.reader import ContractedGraph
from schema import VkTensor
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
)

_LONGEST_QUOTE: Final = 100
_CLONE_HINT: Final = (
    " (a clone of the program's own that changes a representation looks like a repack)"
)


@frozen
class Matching:
    """The matching values of two programs, by id: ``a[n]`` matches ``b[n]``.

    They are tensors and symbolic integers, in the order in which operators name them. Operators
    match by their order.
    """

    a: tuple[int, ...]
    b: tuple[int, ...]


def match(a: ContractedGraph, a_name: str, b: ContractedGraph, b_name: str) -> Matching:
    """Matches two programs without their transitions; ``a_name`` and ``b_name`` name the files.

    Raises ``InputError`` for different programs, naming the first operator that differs.
    """
    first, second = _Program(a_name, a), _Program(b_name, b)
    _Walk(first, second).run()
    return Matching(tuple(first.numbers), tuple(second.numbers))


class _Program:
    """One of the two programs; ``numbers`` are the walk's numbers, by value id."""

    def __init__(self, file: str, contracted: ContractedGraph) -> None:
        self.file, self.graph = file, contracted.written
        self.positions = contracted.positions
        self.numbers: dict[int, int] = {}

    def add(self, value_id: int) -> None:
        """Gives a value the next number."""
        self.numbers[value_id] = len(self.numbers)


class _Walk:
    """Walks through two programs in parallel, operator by operator, and numbers their tensors.

    It ignores ids, the order of values, representations, the contents of constants, and whether a
    number is an integer: ExecuTorch's builder takes 1, 1.0 and True for the same value.
    """

    def __init__(self, a: _Program, b: _Program) -> None:
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
        places = a.positions, b.positions
        for x, y, at, there in zip(a.graph.chain, b.graph.chain, *places, strict=False):
            if x.name != y.name:
                hint = _CLONE_HINT if CLONE in (x.name, y.name) else ""
                raise _different(
                    f"operator {at} of {a.file} is {_quoted(x.name)} "
                    f"but operator {there} of {b.file} is {_quoted(y.name)}{hint}"
                )
            operator = f"{_quoted(x.name)} (operator {at} of {a.file}, {there} of {b.file})"
            self._count(f"the number of arguments of {operator}", len(x.args), len(y.args))
            for index, (a_id, b_id) in enumerate(zip(x.args, y.args, strict=True)):
                is_output = index == len(x.args) - 1
                what = "the output" if is_output else f"argument {index}"
                self._match(a_id, b_id, f"{what} of {operator}")
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
        """Whether two values match; two values that are both new match from now on."""
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
    """The part of a value that must be the same in both programs."""
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
    """The text in Python's notation, which shows control characters, cut to fit in a line."""
    return _cut(repr(content))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"
