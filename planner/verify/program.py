"""A decoded graph as ET-VK reads it: operators and their tensor operands."""

from __future__ import annotations

from collections.abc import Iterator

from planner.errors import VerificationError
from planner.ir.representation import TensorRepr
from schema import VkGraph, VkMemoryLayout, VkStorageType, VkTensor
from schema.vkgraph import OperatorCall, ValueList


class Program:
    """The written graph. A tensor is identified by its value id.

    ``representations`` has every tensor with a representation; constants never have one.
    """

    def __init__(self, graph: VkGraph) -> None:
        self.graph = graph
        self.representations: dict[int, TensorRepr] = {}
        for value_id, value in enumerate(graph.values):
            if isinstance(value, VkTensor):
                storage, layout = value.storage_type, value.memory_layout
                if (
                    storage != VkStorageType.DEFAULT_STORAGE
                    or layout != VkMemoryLayout.DEFAULT_LAYOUT
                ):
                    self.representations[value_id] = TensorRepr(storage, layout)

    @property
    def calls(self) -> tuple[OperatorCall, ...]:
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


def fail(place: str, rule: str) -> VerificationError:
    """The error for a broken rule, at a place that ``Program`` names."""
    return VerificationError(f"{place}: {rule}")
