"""ExecuTorch's builder of the VkGraph, and its dataclasses, in our terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from schema import VkDataType, VkGraph, VkMemoryLayout, VkStorageType, VkTensor, vkgraph
from schema.vkgraph import NAMED_DATA, OperatorCall, Value, VkBytes

_TENSOR_ENUMS: Final = {
    "datatype": VkDataType,
    "staging_datatype": VkDataType,
    "storage_type": VkStorageType,
    "memory_layout": VkMemoryLayout,
}


def as_schema(graph: Any, constants: Sequence[Any]) -> VkGraph:
    """ExecuTorch's dataclasses of a VkGraph as ours, with its constants filled in."""
    return VkGraph(
        version=graph.version,
        chain=tuple(OperatorCall(c.node_id, c.name, tuple(c.args)) for c in graph.chain),
        values=tuple(_value_as_schema(v.value) for v in graph.values),
        input_ids=tuple(graph.input_ids),
        output_ids=tuple(graph.output_ids),
        constants=tuple(
            VkBytes(0, 0) if c is None else VkBytes(NAMED_DATA, c[1], c[0]) for c in constants
        ),
    )


def flatbuffer_of(graph: Any) -> bytes:
    """The flatbuffer of ExecuTorch's dataclasses, written without another program's help."""
    constants = tuple(VkBytes(c.offset, c.length, c.named_key) for c in graph.constants)
    return vkgraph.encode(replace(as_schema(graph, ()), constants=constants))


def tensor_names(builder: Any) -> dict[int, str]:
    """What the exported program calls the values that ExecuTorch's builder wrote."""
    return {value_id: node.name for node, value_id in builder.node_to_value_ids.items()}


def _value_as_schema(value: Any) -> Value:
    kind: Any = getattr(vkgraph, type(value).__name__)
    fields = {name: getattr(value, name) for name in kind.__dataclass_fields__}
    if kind is VkTensor:
        for name, enumeration in _TENSOR_ENUMS.items():
            fields[name] = enumeration(int(fields[name]))
    made: Value = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
    return made
