"""The rules of a VkGraph that planning relies on, beyond its format."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from planner.errors import InputError
from planner.ir.physical import ELEMENT_BYTES, MAX_TEXTURE_DIMS
from planner.ir.representation import BY_PARTS, TensorRepr
from schema import VkDataType, VkGraph, VkMemoryLayout, VkStorageType, VkTensor
from schema.vkgraph import (
    BoolList,
    Double,
    DoubleList,
    Int,
    IntList,
    OperatorCall,
    String,
    Value,
    ValueList,
)

MAX_DIMS: Final = 64
MAX_ELEMENTS: Final = 2**32
"""Far beyond any device's memory, and few enough for prices to be added exactly."""

MAX_NAME: Final = 256
MAX_ARGUMENT_ITEMS: Final = 2**22
ITEMS_PER_VALUE: Final = 8
"""Most items in all arguments of all operators, or so many for each value where that is more:
arguments may share lists, so that a small file could demand any amount of work."""

MAX_LIST_TENSORS: Final = 2**17
"""Most tensors in all lists of tensors, each of which is work for the solver; or one for each value
where that is more."""

_UNPLANNED: Final = VkStorageType.DEFAULT_STORAGE, VkMemoryLayout.DEFAULT_LAYOUT
_NOWHERE: Final = 2**63 - 1
"""Stands for the position of an operator that there is not."""

_QUANTIZED_CONVOLUTIONS: Final = ("et_vk.q8ta_conv2d.default", "et_vk.q8ta_conv2d_dw.default")


def repr_of(tensor: VkTensor) -> TensorRepr | None:
    """The representation of a tensor; None for one left to the runtime."""
    return BY_PARTS.get((tensor.storage_type, tensor.memory_layout))


def repr_at_runtime(tensor: VkTensor) -> TensorRepr | None:
    """The representation of a tensor where the runtime chooses what is left to it.

    None for one that has another or an unknown one in part. Source: ``ComputeGraph.cpp``
    (``suggested_storage_type``, ``suggested_memory_layout``) of ExecuTorch 1.5, whose runtime
    chooses a texture, packed along channels where there are several.
    """
    storage, layout = tensor.storage_type, tensor.memory_layout
    if storage == VkStorageType.DEFAULT_STORAGE:
        storage = VkStorageType.TEXTURE_3D
    if layout == VkMemoryLayout.DEFAULT_LAYOUT:
        has_channels = len(tensor.dims) >= 3 and tensor.dims[-3] != 1
        layout = (
            VkMemoryLayout.TENSOR_CHANNELS_PACKED
            if has_channels
            else VkMemoryLayout.TENSOR_WIDTH_PACKED
        )
    return BY_PARTS.get((storage, layout))


def is_variable(value: Value) -> bool:
    """Whether a value is a tensor with a representation, and so not a constant."""
    return isinstance(value, VkTensor) and value.constant_id < 0


def members_of(graph: VkGraph, value_id: int) -> tuple[int, ...]:
    """The members of a list of values; for any other value, its own id."""
    value = graph.values[value_id]
    return value.items if isinstance(value, ValueList) else (value_id,)


def lists_of(graph: VkGraph) -> dict[int, tuple[int, ...]]:
    """The members of all lists of values."""
    return {i: value.items for i, value in enumerate(graph.values) if isinstance(value, ValueList)}


def place_of(name: str, graph: VkGraph, position: int) -> str:
    """An operator of a graph called ``name``, as messages name it."""
    prefix = f"{name}, " if name else ""
    return f"{prefix}operator {position} ({graph.chain[position].name})"


def check_wellformed(graph: VkGraph, name: str) -> None:
    """Shows that a graph is a valid program that runs from its first operator to its last.

    Every tensor can exist, and is made once and before it is read; lists hold no lists; names can
    be printed; and reading all arguments takes bounded time. Raises ``InputError`` naming the place
    in the graph called ``name``.
    """
    _Check(graph, name).run()


def warnings_of(graph: VkGraph) -> tuple[str, ...]:
    """What the runtime cannot load in a graph that is otherwise valid, one line each.

    ExecuTorch's builder shares equal scalars, so that an Int of 1 may be written as the Double 1.0;
    the runtime reads the groups of quantized convolutions as an Int when it loads a program.
    """
    calls = graph.calls
    is_asked = [name in _QUANTIZED_CONVOLUTIONS for name in calls.names]
    return tuple(
        f"{place_of('', graph, position)}: its groups are written as a Double, which ExecuTorch's "
        "runtime cannot load: lower the model again with this planner"
        for position, name in enumerate(calls.name)
        if is_asked[name] and isinstance(graph.values[calls[position].args[13]], Double)
    )


class _Check:
    def __init__(self, graph: VkGraph, name: str) -> None:
        self.graph, self.name = graph, name
        self.prefix = f"{name}, " if name else ""
        self.calls = graph.calls
        self.lists = lists_of(graph)
        self.is_variable = bytearray(is_variable(value) for value in graph.values)

    def run(self) -> None:
        # The checks after this one name operators and go through their arguments.
        self._check_names()
        self._check_amount()
        shown = set[object]()
        for value_id, value in enumerate(self.graph.values):
            if isinstance(value, VkTensor):
                kind = value.dims, value.datatype, value.storage_type, value.memory_layout
                is_constant = value.constant_id >= 0
                if (kind, is_constant) in shown:
                    continue
                shown.add((kind, is_constant))
            wrong = self._wrong_with(value)
            if wrong is not None:
                raise InputError(f"{self._user_of(value_id)}: {wrong}")
        makers = self._makers()
        for position in self._suspects(makers):
            self._check_operator(position, makers)
        self._check_interface(makers)

    def _check_names(self) -> None:
        for number, name in enumerate(self.calls.names):
            if not 0 < len(name) <= MAX_NAME or not (name.isascii() and name.isprintable()):
                position = self.calls.name.index(number)
                raise InputError(
                    f"{self.prefix}operator {position}: {name[:32]!a}, of {len(name)} characters, "
                    f"is not an operator's name, which has 1 to {MAX_NAME} ASCII characters"
                )

    def _check_amount(self) -> None:
        sizes = [_items(value) for value in self.graph.values]
        listed = [self._listed_tensors(value) for value in self.graph.values]
        there = len(sizes)
        for what, counts, limit in (
            ("arguments come to {} items", sizes, max(MAX_ARGUMENT_ITEMS, ITEMS_PER_VALUE * there)),
            ("lists come to {} tensors", listed, max(MAX_LIST_TENSORS, there)),
        ):
            amounts = np.cumsum(np.array(counts, np.int64)[np.asarray(self.calls.args)])
            over = int(np.searchsorted(amounts, limit, "right"))
            if over < len(amounts):
                position = bisect_right(self.calls.starts, over) - 1
                amount = amounts[self.calls.starts[position + 1] - 1]
                raise InputError(
                    f"{place_of(self.name, self.graph, position)}: up to here "
                    f"{what.format(amount)}, lists counted where they are named: at most "
                    f"{limit} can be planned"
                )

    def _listed_tensors(self, value: Value) -> int:
        items = value.items if isinstance(value, ValueList) else ()
        return sum(isinstance(self.graph.values[i], VkTensor) for i in items)

    def _user_of(self, value_id: int) -> str:
        """A value as messages name it: by the first operator that uses it, if any."""
        for position, call in enumerate(self.graph.chain):
            for argument, named in enumerate(call.args):
                if value_id == named or value_id in members_of(self.graph, named):
                    return f"{self._operand(position, argument)}, value {value_id}"
        return f"{self.prefix}value {value_id}"

    def _operand(self, position: int, argument: int) -> str:
        is_output = argument == len(self.graph.chain[position].args) - 1
        place = place_of(self.name, self.graph, position)
        return f"{place}, {'output' if is_output else f'argument {argument}'}"

    def _wrong_with(self, value: Value) -> str | None:
        if isinstance(value, ValueList):
            inner = (i for i in value.items if isinstance(self.graph.values[i], ValueList))
            found = next(inner, None)
            return None if found is None else f"a list cannot hold a list, but has value {found}"
        return _wrong_with_tensor(value) if isinstance(value, VkTensor) else None

    def _makers(self) -> NDArray[np.int64]:
        """The position of the operator that makes each tensor; -1 for inputs of the graph, and
        ``_NOWHERE`` for what none makes.

        What is made once may be written over by later operators: a program that was lowered with
        ``alias_buffer_mutations`` keeps its state so.
        """
        graph, starts = self.graph, np.asarray(self.calls.starts)
        makers = np.full(len(graph.values), _NOWHERE)
        makers[[*graph.input_ids]] = -1
        makes = np.flatnonzero(np.diff(starts))
        outputs = np.asarray(self.calls.args)[starts[makes + 1] - 1]
        is_plain = np.frombuffer(self.is_variable, np.bool_)[outputs]
        np.minimum.at(makers, outputs[is_plain], makes[is_plain])
        for position in makes[~is_plain].tolist():
            call = self.calls[position]
            made = call.args[-1]
            members = self.lists.get(made, (made,))
            tensors = [i for i in members if isinstance(graph.values[i], VkTensor)]
            here, wrong = set[int](), None
            if tensors and len(tensors) < len(members):
                wrong = "a list of tensors with other values among them"
            for value_id in tensors:
                if not self.is_variable[value_id]:
                    wrong = f"value {value_id} is a constant"
                elif value_id in here:
                    wrong = f"value {value_id} is made here already"
                here.add(value_id)
                makers[value_id] = min(makers[value_id], position)
            if wrong is not None:
                raise InputError(f"{self._operand(position, len(call.args) - 1)}: {wrong}")
        return makers

    def _made(self, maker: int, position: int) -> str:
        if maker < 0:
            return "an input of the graph"
        name = self.graph.chain[maker].name
        return "made here" if maker == position else f"made by operator {maker} ({name})"

    def _suspects(self, makers: NDArray[np.int64]) -> Iterator[int]:
        """The operators that read what is not made before, or that have more to be checked."""
        args, starts = np.asarray(self.calls.args), np.asarray(self.calls.starts)
        is_read = np.frombuffer(self.is_variable, np.bool_)[args]
        is_read[starts[1:][np.diff(starts) > 0] - 1] = False
        position = np.repeat(np.arange(len(self.calls)), np.diff(starts))
        is_list = np.zeros(len(self.graph.values), np.bool_)
        is_list[[*self.lists]] = True
        more = [name in _QUANTIZED_CONVOLUTIONS for name in self.calls.names]
        found = np.array(more, np.bool_)[np.asarray(self.calls.name)]
        found[position[is_list[args] | is_read & (makers[args] >= position)]] = True
        yield from np.flatnonzero(found).tolist()

    def _check_operator(self, position: int, makers: NDArray[np.int64]) -> None:
        call = self.calls[position]
        for argument, named in enumerate(call.args[:-1]):
            if not self.is_variable[named] and named not in self.lists:
                continue
            for value_id in self.lists.get(named, (named,)):
                if not self.is_variable[value_id]:
                    continue
                maker = int(makers[value_id])
                if maker >= position:
                    is_made = maker != _NOWHERE
                    made = self._made(maker, position) if is_made else "made nowhere"
                    place = self._operand(position, argument)
                    raise InputError(f"{place}: value {value_id} is read here, but it is {made}")
        if call.name in _QUANTIZED_CONVOLUTIONS:
            wrong = self._wrong_with_convolution(call)
            if wrong is not None:
                raise InputError(f"{place_of(self.name, self.graph, position)}: {wrong}")

    def _wrong_with_convolution(self, call: OperatorCall) -> str | None:
        """The reason why the runtime cannot replace PACKED_INT8_CONV2D; None if it can."""
        if len(call.args) != 16:
            return f"it has {len(call.args)} arguments with its output, not 16"
        for argument in (0, 15):
            tensor = self.graph.values[call.args[argument]]
            if not isinstance(tensor, VkTensor) or len(tensor.dims) < 3:
                return f"argument {argument} should be a tensor of at least 3 dimensions"
        groups = self.graph.values[call.args[13]]
        count = groups.double_val if isinstance(groups, Double) else None
        if isinstance(groups, Int):
            count = groups.int_val
        if count is None or count < 1 or count % 1:
            return f"argument 13, the number of groups, should be an Int of 1 or more, not {groups}"
        return None

    def _check_interface(self, makers: NDArray[np.int64]) -> None:
        graph = self.graph
        for what, ids in (("input", graph.input_ids), ("output", graph.output_ids)):
            for index, value_id in enumerate(ids):
                value = graph.values[value_id]
                wrong = None
                if isinstance(value, ValueList):
                    wrong = "a list"
                elif _is_constant(value):
                    wrong = "a constant"
                elif is_variable(value) and makers[value_id] == _NOWHERE:
                    wrong = "made nowhere"
                if wrong is not None:
                    place = f"{self.prefix}graph {what} {index}"
                    raise InputError(f"{place}: value {value_id} is {wrong}")


def _items(value: Value) -> int:
    match value:
        case ValueList(items) | IntList(items) | DoubleList(items) | BoolList(items):
            return 1 + len(items)
        case String(text):
            return 1 + len(text)
    return 1


def _is_constant(value: Value) -> bool:
    return isinstance(value, VkTensor) and value.constant_id >= 0


def _wrong_with_tensor(tensor: VkTensor) -> str | None:
    dims, dtype = tensor.dims, tensor.datatype
    if dtype not in ELEMENT_BYTES:
        return "a tensor without a data type"
    if len(dims) > MAX_DIMS:
        return f"a tensor of {len(dims)} dimensions: at most {MAX_DIMS} can be planned"
    # A size of 0 must not hide the others, which are padded and priced one by one.
    if prod(max(size, 1) for size in dims) > MAX_ELEMENTS:
        shape = "x".join(map(str, dims[:8])) + ("x..." if len(dims) > 8 else "")
        return f"a tensor of {shape} elements: at most {MAX_ELEMENTS} can be planned"
    parts = tensor.storage_type, tensor.memory_layout
    if parts == _UNPLANNED:
        return None
    given = f"{tensor.storage_type.name} with {tensor.memory_layout.name}"
    representation = BY_PARTS.get(parts)
    if representation is None:
        return f"{given} is not a representation of a tensor"
    if tensor.constant_id >= 0:
        return f"a constant has no representation, but this one has {given}"
    if representation.is_packed_int8 and dtype != VkDataType.INT8:
        return f"{given} is for INT8 elements, not for {dtype.name}"
    if not representation.is_buffer and len(dims) > MAX_TEXTURE_DIMS:
        return f"a texture cannot have {len(dims)} dimensions"
    return None
