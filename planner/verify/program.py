"""A decoded graph as ET-VK reads it: operators and their tensor operands."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from planner.errors import VerificationError
from planner.ir.representation import TensorRepr
from schema import VkGraph, VkMemoryLayout, VkStorageType, VkTensor
from schema.vkgraph import OperatorCall, ValueList

_NONE_GIVEN: Final = VkStorageType.DEFAULT_STORAGE, VkMemoryLayout.DEFAULT_LAYOUT
_REPLACED: Final = VkMemoryLayout.PACKED_INT8_CONV2D

LEFT_OUT: Final = -1
"""Stands for an operator that is not asked about."""


class Representations(Mapping[int, TensorRepr]):
    """The representations of values by id, a byte for each: 0 for one that has none."""

    def __init__(self, values: int) -> None:
        self.kinds: list[TensorRepr] = []
        """Those that there are."""
        self._number_of: dict[TensorRepr, int] = {}
        self._numbers = bytearray(values)

    def add(self, value_id: int, representation: TensorRepr) -> None:
        """Gives a value a representation."""
        number = self._number_of.get(representation)
        if number is None:
            self.kinds.append(representation)
            number = self._number_of[representation] = len(self.kinds)
        self._numbers[value_id] = number

    def __getitem__(self, value_id: int) -> TensorRepr:
        number = self._numbers[value_id] if 0 <= value_id < len(self._numbers) else 0
        if not number:
            raise KeyError(value_id)
        return self.kinds[number - 1]

    def __contains__(self, value_id: object) -> bool:
        numbers = self._numbers
        return isinstance(value_id, int) and 0 <= value_id < len(numbers) and numbers[value_id] > 0

    def __iter__(self) -> Iterator[int]:
        return (value_id for value_id, number in enumerate(self._numbers) if number)

    def __len__(self) -> int:
        return len(self._numbers) - self._numbers.count(0)


class Program:
    """The written graph. A tensor is identified by its value id.

    ``representations`` has every tensor with a representation; constants never have one.
    """

    def __init__(self, graph: VkGraph) -> None:
        self.graph = graph
        self.representations = Representations(len(graph.values))
        known: dict[tuple[VkStorageType, VkMemoryLayout], TensorRepr] = {}
        for value_id, value in enumerate(graph.values):
            if isinstance(value, VkTensor):
                given = value.storage_type, value.memory_layout
                if given != _NONE_GIVEN:
                    if given not in known:
                        known[given] = TensorRepr(*given)
                    self.representations.add(value_id, known[given])

    @property
    def calls(self) -> Sequence[OperatorCall]:
        """The operators, in the order in which they run."""
        return self.graph.chain

    def tensor(self, value_id: int) -> VkTensor:
        """The tensor of an id, which must be a tensor's."""
        value = self.graph.values[value_id]
        assert isinstance(value, VkTensor)
        return value

    def is_variable(self, value_id: int) -> bool:
        """Whether a value exists and is a tensor, but not a constant."""
        values = self.graph.values
        value = values[value_id] if value_id < len(values) else None
        return isinstance(value, VkTensor) and value.constant_id < 0

    def is_constant(self, value_id: int) -> bool:
        """Whether a value is a weight, which operators prepack themselves."""
        return self.tensor(value_id).constant_id >= 0

    def tensors_of(self, value_id: int) -> tuple[int, ...]:
        """The tensors of a value: itself, or all members of a list of tensors."""
        value = self.graph.values[value_id]
        if isinstance(value, VkTensor):
            return (value_id,)
        if isinstance(value, ValueList) and all(
            isinstance(self.graph.values[member], VkTensor) for member in value.items
        ):
            return value.items
        return ()

    def arguments(self, call: OperatorCall) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Position and tensors of each argument made of tensors alone."""
        for position, value_id in enumerate(call.args[:-1]):
            members = self.tensors_of(value_id)
            if members:
                yield position, members

    def outputs(self, call: OperatorCall) -> tuple[int, ...]:
        """The tensors that an operator makes."""
        return self.tensors_of(call.args[-1]) if call.args else ()

    def place(self, index: int, operand: str = "") -> str:
        """An operator, and one of its operands, as messages name them."""
        place = f"operator {index} ({self.calls[index].name})"
        return f"{place}, {operand}" if operand else place

    def place_of(self, value_id: int) -> str:
        """A tensor as messages name it: by the operator that makes it, else its first reader."""
        for index, call in enumerate(self.calls):
            outputs = self.outputs(call)
            if value_id in outputs:
                return self.place(index, f"output {outputs.index(value_id)}")
        for index, call in enumerate(self.calls):
            for position, members in self.arguments(call):
                if value_id in members:
                    return self.place(index, f"argument {position}")
        return f"value {value_id}"


def alike_calls(program: Program, leave_out: Collection[int]) -> Sequence[int]:
    """For each operator, the first that no rule of operands tells from it; ``LEFT_OUT`` for some.

    These have the same name, equal literals, and tensors of the same sizes, types and
    representations in the same places; where one tensor is several operands, so it is in both.

    Where the runtime replaces layouts by those of neighbours, none is like another.
    """
    if any(r.memory_layout == _REPLACED for r in program.representations.kinds):
        return each_call(program, leave_out)
    kinds = _kinds(program)
    values = program.graph.values
    first: dict[tuple[object, ...], int] = {}
    found = array("i")
    for index, (_, name, args) in enumerate(program.graph.calls.rows()):
        if index in leave_out:
            found.append(LEFT_OUT)
            continue
        tensors = [i for i in args if isinstance(values[i], VkTensor)]
        lists = [i for i in args if isinstance(values[i], ValueList)]
        if lists:
            tensors += [member for i in lists for member in program.tensors_of(i)]
        key: tuple[object, ...] = (name, *[kinds[i] for i in args])
        if len(set(tensors)) < len(tensors):
            places = {value_id: place for place, value_id in enumerate(dict.fromkeys(tensors))}
            key = (*key, tuple([places[value_id] for value_id in tensors]))
        found.append(first.setdefault(key, index))
    return found


def each_call(program: Program, leave_out: Collection[int]) -> Sequence[int]:
    """Each operator as ``alike_calls`` has it, where none is like another."""
    return [LEFT_OUT if i in leave_out else i for i in range(len(program.calls))]


def _kinds(program: Program) -> list[int]:
    """A number for each value: the same for values that differ in nothing but their ids."""
    numbers: dict[object, int] = {}
    kinds: list[int] = []
    lists = []
    for value_id, value in enumerate(program.graph.values):
        key: object = value
        if isinstance(value, VkTensor):
            is_constant = value.constant_id >= 0
            layout = value.storage_type, value.memory_layout
            key = value.dims, value.datatype, is_constant, layout
        elif isinstance(value, ValueList):
            lists.append((value_id, value.items))
            key = None
        kinds.append(numbers.setdefault(key, len(numbers)))
    # Lists may name what comes after them.
    for value_id, items in lists:
        key = "list", tuple([kinds[item] for item in items])
        kinds[value_id] = numbers.setdefault(key, len(numbers))
    return kinds


def fail(place: str, rule: str) -> VerificationError:
    """The error for a broken rule, at a place that ``Program`` names."""
    return VerificationError(f"{place}: {rule}")
