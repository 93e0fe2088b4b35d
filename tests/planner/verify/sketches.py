"""Small programs and right plans of them, written by hand, for the tests of the checker.

Claims are priced with the planner's own sizes and sets, which the checker must not use: that the
two agree is part of what the tests show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from planner.costs.by_profile import ProfileSource
from planner.costs.profile import DeviceProfile, rate
from planner.costs.profile_file import load_profile
from planner.ir.graph import Argument, Operator, Tensor, TensorArg, TensorListArg
from planner.ir.physical import padded_bytes
from planner.ir.representation import TensorRepr
from planner.kernels.limits import Limits
from planner.kernels.rep_sets import op_rep_sets
from planner.verify import verify_delegate
from schema import (
    CostOrigin,
    DelegatePlan,
    Figures,
    OperatorCost,
    Status,
    TensorPlan,
    Transition,
    TransitionUser,
    VkDataType,
    VkGraph,
    VkMemoryLayout,
    VkStorageType,
    VkTensor,
)
from schema.vkgraph import (
    NAMED_DATA,
    Bool,
    Double,
    Int,
    IntList,
    Null,
    OperatorCall,
    String,
    SymInt,
    Value,
    ValueList,
    VkBytes,
    encode,
)

TEXTURE, BUFFER = VkStorageType.TEXTURE_3D, VkStorageType.BUFFER
TEX_W = TensorRepr(TEXTURE, VkMemoryLayout.TENSOR_WIDTH_PACKED)
TEX_H = TensorRepr(TEXTURE, VkMemoryLayout.TENSOR_HEIGHT_PACKED)
TEX_C = TensorRepr(TEXTURE, VkMemoryLayout.TENSOR_CHANNELS_PACKED)
BUF_W = TensorRepr(BUFFER, VkMemoryLayout.TENSOR_WIDTH_PACKED)
BUF_H = TensorRepr(BUFFER, VkMemoryLayout.TENSOR_HEIGHT_PACKED)
BUF_C = TensorRepr(BUFFER, VkMemoryLayout.TENSOR_CHANNELS_PACKED)
Q_4W4C = TensorRepr(BUFFER, VkMemoryLayout.PACKED_INT8_4W4C)
Q_4H4W = TensorRepr(BUFFER, VkMemoryLayout.PACKED_INT8_4H4W)
Q_4W = TensorRepr(BUFFER, VkMemoryLayout.PACKED_INT8_4W)
Q_4C = TensorRepr(BUFFER, VkMemoryLayout.PACKED_INT8_4C)
Q_4C1W = TensorRepr(BUFFER, VkMemoryLayout.PACKED_INT8_4C1W)
Q_CONV2D = TensorRepr(BUFFER, VkMemoryLayout.PACKED_INT8_CONV2D)
UNPLANNED = TensorRepr(VkStorageType.DEFAULT_STORAGE, VkMemoryLayout.DEFAULT_LAYOUT)

CLONE: Final = "aten.clone.default"
LIMITS: Final = (16384, 16384, 2048)
Objective = Literal["repack", "latency"]


@dataclass(frozen=True)
class Handle:
    """A value of the program: its id in both graphs. A repacked copy shares the id in the first."""

    before: int
    after: int


@dataclass(frozen=True)
class Case:
    """A plan that was written, and what it is checked against."""

    before: VkGraph
    after: VkGraph
    plan: DelegatePlan
    profile: DeviceProfile
    objective: Objective
    limits: tuple[int, int, int] = LIMITS
    excluded: frozenset[VkMemoryLayout] = frozenset()

    def verify(self, graph: bytes | None = None) -> None:
        """Checks the plan, with the written graph or with these bytes in its place."""
        verify_delegate(
            replace(self.plan, graph=encode(self.after) if graph is None else graph),
            self.before,
            costs=ProfileSource(self.profile),
            objective=self.objective,
            limits=Limits(self.limits, self.excluded),
        )

    def arg(self, name: str, position: int, nth: int = 0) -> int:
        """Value id of an argument of the nth operator of a name; -1 is its output."""
        return self.after.chain[self.index(name, nth)].args[position]

    def index(self, name: str, nth: int = 0) -> int:
        """Position in the written chain of the nth operator of a name."""
        return [i for i, call in enumerate(self.after.chain) if call.name == name][nth]

    def value(self, value_id: int, value: Value) -> Case:
        """With another value in the written graph."""
        values = list(self.after.values)
        values[value_id] = value
        return replace(self, after=replace(self.after, values=tuple(values)))

    def tensor(self, value_id: int, **changes: Any) -> Case:
        """With a changed tensor in the written graph."""
        old = self.after.values[value_id]
        assert isinstance(old, VkTensor)
        return self.value(value_id, replace(old, **changes))

    def laid_out(self, value_id: int, representation: TensorRepr) -> Case:
        """With another representation of one written tensor, and right claims."""
        changed = self.tensor(
            value_id,
            storage_type=representation.storage_type,
            memory_layout=representation.memory_layout,
        )
        return changed.reclaimed()

    def reclaimed(self, repacks: Sequence[tuple[int, int, int]] | None = None) -> Case:
        """With right claims for the written graph.

        ``repacks`` are source, output and position of the transitions, if they are not those
        that are claimed.
        """
        if repacks is None:
            repacks = [(t.source, t.output, t.operator_index) for t in self.plan.transitions]
        after, profile = self.after, self.profile
        transitions = tuple(_transition(after, *repack, profile) for repack in repacks)
        accesses: tuple[OperatorCost, ...] = ()
        if self.objective == "latency":
            accesses = _access_costs(after, {index for _, _, index in repacks}, profile)
        repack_cost = sum(t.cost for t in transitions)
        cost = round(repack_cost + sum(access.cost for access in accesses), 3)
        count = len(transitions)
        return self.claimed(
            tensors=tuple(
                TensorPlan(i, f"t{i}", value.storage_type, value.memory_layout)
                for i, value in enumerate(after.values)
                if isinstance(value, VkTensor) and repr_of(value) != UNPLANNED
            ),
            transitions=transitions,
            figures=Figures(repack_cost, cost, cost, Status.OPTIMAL, count, 0, 0, 0),
            operator_costs=accesses,
        )

    def call(self, index: int, position: int, value_id: int) -> Case:
        """With another argument of one written operator."""
        chain = list(self.after.chain)
        args = list(chain[index].args)
        args[position] = value_id
        chain[index] = chain[index]._replace(args=tuple(args))
        return self.chained(*chain)

    def chained(self, *chain: OperatorCall) -> Case:
        """With another written chain."""
        return replace(self, after=replace(self.after, chain=tuple(chain)))

    def written(self, **changes: Any) -> Case:
        """With changes of the written graph."""
        return replace(self, after=replace(self.after, **changes))

    def claimed(self, **changes: Any) -> Case:
        """With changes of the plan's claims."""
        return replace(self, plan=replace(self.plan, **changes))

    def figures(self, **changes: Any) -> Case:
        """With changes of the claimed figures."""
        return self.claimed(figures=replace(self.plan.figures, **changes))

    def transition(self, nth: int = 0, **changes: Any) -> Case:
        """With changes of one claimed transition."""
        transitions = list(self.plan.transitions)
        transitions[nth] = replace(transitions[nth], **changes)
        return self.claimed(transitions=tuple(transitions))


class Sketch:
    """Writes a program and a plan of it, side by side."""

    def __init__(self) -> None:
        self.before: list[Value] = []
        self.after: list[Value] = []
        self.before_chain: list[OperatorCall] = []
        self.after_chain: list[OperatorCall] = []
        self.inputs: list[Handle] = []
        self.constants: list[VkBytes] = []
        self.repacks: list[tuple[Handle, Handle, int]] = []

    def tensor(
        self,
        dims: Sequence[int],
        representation: TensorRepr = UNPLANNED,
        dtype: VkDataType = VkDataType.FLOAT32,
        constant_id: int = -1,
    ) -> Handle:
        tensor = VkTensor(dtype, tuple(dims), constant_id, staging_datatype=dtype)
        self.before.append(tensor)
        # In the written graph ids run differently: a value that nobody uses comes first.
        if not self.after:
            self.after.append(Null())
        self.after.append(
            replace(
                tensor,
                storage_type=representation.storage_type,
                memory_layout=representation.memory_layout,
                mem_obj_id=len(self.after),
            )
        )
        return Handle(len(self.before) - 1, len(self.after) - 1)

    def input(
        self,
        dims: Sequence[int],
        representation: TensorRepr,
        dtype: VkDataType = VkDataType.FLOAT32,
    ) -> Handle:
        handle = self.tensor(dims, representation, dtype)
        self.inputs.append(handle)
        return handle

    def constant(
        self, dims: Sequence[int], dtype: VkDataType = VkDataType.FLOAT32, key: str = ""
    ) -> Handle:
        self.constants.append(VkBytes(NAMED_DATA, 16, key or f"weight{len(self.constants)}"))
        return self.tensor(dims, dtype=dtype, constant_id=len(self.constants) - 1)

    def value(self, value: Value) -> Handle:
        self.before.append(value)
        self.after.append(value)
        return Handle(len(self.before) - 1, len(self.after) - 1)

    def symint(self) -> Handle:
        return self.value(SymInt(0))

    def argument(self, arg: object) -> Handle:
        match arg:
            case Handle():
                return arg
            case None:
                return self.value(Null())
            case bool():
                return self.value(Bool(arg))
            case int():
                return self.value(Int(arg))
            case float():
                return self.value(Double(arg))
            case str():
                return self.value(String(arg))
            case tuple():
                members = [self.argument(member) for member in arg]
                self.before.append(ValueList(tuple(m.before for m in members)))
                self.after.append(ValueList(tuple(m.after for m in members)))
                return Handle(len(self.before) - 1, len(self.after) - 1)
            case list():
                return self.value(IntList(tuple(arg)))
        raise TypeError(arg)

    def call(self, name: str, *args: object) -> Handle:
        """Calls an operator; the last of ``args`` is its output. Returns that."""
        handles = [self.argument(arg) for arg in args]
        node = len(self.before_chain)
        self.before_chain.append(OperatorCall(node, name, tuple(h.before for h in handles)))
        self.after_chain.append(OperatorCall(node + 100, name, tuple(h.after for h in handles)))
        return handles[-1]

    def repack(self, source: Handle, target: TensorRepr) -> Handle:
        """Adds a transition to the written graph."""
        tensor = self.after[source.after]
        assert isinstance(tensor, VkTensor)
        self.after.append(Null())
        self.after.append(
            replace(
                tensor,
                storage_type=target.storage_type,
                memory_layout=target.memory_layout,
                mem_obj_id=len(self.after),
            )
        )
        copy = Handle(source.before, len(self.after) - 1)
        self.repacks.append((source, copy, len(self.after_chain)))
        self.after_chain.append(OperatorCall(0, CLONE, (source.after, copy.after - 1, copy.after)))
        return copy

    def finish(
        self, *outputs: Handle, objective: Objective = "latency", profile: str = "default"
    ) -> Case:
        def graph(values: list[Value], chain: list[OperatorCall], side: str) -> VkGraph:
            return VkGraph(
                version="0",
                chain=tuple(chain),
                values=tuple(values),
                input_ids=tuple(getattr(h, side) for h in self.inputs),
                output_ids=tuple(getattr(h, side) for h in outputs),
                constants=tuple(self.constants),
            )

        before = graph(self.before, self.before_chain, "before")
        after = graph(self.after, self.after_chain, "after")
        empty = Figures(0, 0, 0, Status.OPTIMAL, 0, 0, 0, 0)
        plan = DelegatePlan(0, "delegate", b"", (), (), empty)
        case = Case(before, after, plan, _profile(profile), objective)
        return case.reclaimed(
            [(source.after, copy.after, index) for source, copy, index in self.repacks]
        )


def repr_of(tensor: VkTensor) -> TensorRepr:
    return TensorRepr(tensor.storage_type, tensor.memory_layout)


def _profile(name: str) -> DeviceProfile:
    """A built-in profile in which the launch of a repack takes 10 us, if it counts ns."""
    profile = load_profile(name)
    if profile.unit != "ns":
        return profile
    return replace(profile, transition=replace(profile.transition, launch=10_000.0))


def _transition(
    graph: VkGraph, source_id: int, output_id: int, index: int, profile: DeviceProfile
) -> Transition:
    source, output = graph.values[source_id], graph.values[output_id]
    assert isinstance(source, VkTensor)
    assert isinstance(output, VkTensor)
    read, written = repr_of(source), repr_of(output)
    cost = (
        profile.transition.launch
        + rate(profile.transition.read, read) * padded_bytes(source.dims, source.datatype, read)
        + rate(profile.transition.write, written)
        * padded_bytes(source.dims, source.datatype, written)
    )
    users = []
    for i, call in enumerate(graph.chain):
        for position, value_id in enumerate(call.args):
            value = graph.values[value_id]
            members = value.items if isinstance(value, ValueList) else (value_id,)
            if i != index and output_id in members:
                users.append(TransitionUser(i, call.name, position))
    return Transition(
        source_id,
        output_id,
        index,
        source.storage_type,
        source.memory_layout,
        output.storage_type,
        output.memory_layout,
        round(cost, 3),
        tuple(users),
    )


def as_operators(graph: VkGraph) -> tuple[list[tuple[int, Operator]], tuple[Tensor, ...]]:
    """Operators that make tensors, with their positions, and all tensors by value id."""
    tensors = tuple(
        Tensor(f"v{i}", v.dims, v.datatype, v.constant_id >= 0)
        if isinstance(v, VkTensor)
        else Tensor("none", (), VkDataType.UNSET)
        for i, v in enumerate(graph.values)
    )

    def argument(value_id: int) -> Argument:
        match graph.values[value_id]:
            case VkTensor():
                return TensorArg(value_id)
            case ValueList(items):
                return TensorListArg(
                    tuple(m if isinstance(graph.values[m], VkTensor) else None for m in items)
                )
            case Int(number):
                return number
            case Bool(truth):
                return truth
            case IntList(numbers):
                return numbers
            case _:
                return None

    found = []
    for index, call in enumerate(graph.chain):
        made = graph.values[call.args[-1]]
        outputs = made.items if isinstance(made, ValueList) else call.args[-1:]
        if isinstance(graph.values[outputs[0]], VkTensor):
            args = tuple(map(argument, call.args[:-1]))
            found.append((index, Operator(call.name, args, outputs)))
    return found, tensors


def _access_costs(
    graph: VkGraph, repacks: set[int], profile: DeviceProfile
) -> tuple[OperatorCost, ...]:
    """What operators read and write, by the planner's own rep sets."""
    if profile.access is None:
        return ()
    operators, tensors = as_operators(graph)

    def price(rates: Mapping[str, float], members: Sequence[int]) -> float:
        tensor = graph.values[members[0]]
        assert isinstance(tensor, VkTensor)
        size = sum(
            padded_bytes(tensors[m].shape, tensors[m].dtype, repr_of(tensor)) for m in members
        )
        return round(rate(rates, repr_of(tensor)) * size, 3)

    costs = []
    for index, operator in operators:
        sets = None if index in repacks else op_rep_sets(operator, tensors, LIMITS)
        if sets is None:
            continue
        total = 0.0
        for position, members in operator.tensor_args():
            if sets.args[position] is not None and not any(tensors[m].constant for m in members):
                total += price(profile.access.read, members)
        total += sum(price(profile.access.write, (out,)) for out in operator.outputs)
        costs.append(OperatorCost(index, round(total, 3), CostOrigin.MODELLED))
    return tuple(costs)


# Programs.


def convolution(sketch: Sketch, source: Handle, out: Handle) -> Handle:
    weight, bias = sketch.constant((8, 8, 3, 3)), sketch.constant((8,))
    ones, zeros = [1, 1], [0, 0]
    return sketch.call(
        "aten.convolution.default", source, weight, bias, ones, ones, ones, False, zeros, 1, out
    )


def quantized_convolution(
    sketch: Sketch, kind: str, source: Handle, out: Handle, groups: int | Handle = 1
) -> Handle:
    channels = 8
    weight = sketch.constant((channels, 72), VkDataType.INT8)
    sums, scales = sketch.constant((channels,), VkDataType.INT32), sketch.constant((channels,))
    return sketch.call(
        f"et_vk.{kind}.default",
        *(source, 0.5, 3, weight, sums, scales, 0.25, -1, None),
        *([3, 3], [1, 1], [1, 1], [1, 1], groups, "relu", out),
    )


def float_chain() -> Case:
    """Convolution, sum and linear, with one transition."""
    s = Sketch()
    x = s.input((1, 8, 6, 10), TEX_C)
    y = convolution(s, x, s.tensor((1, 8, 6, 10), TEX_C))
    z = s.call("aten.add.Tensor", y, x, 1, s.tensor((1, 8, 6, 10), TEX_C))
    copy = s.repack(z, TEX_W)
    weight, bias = s.constant((4, 10)), s.constant((4,))
    out = s.call("aten.linear.default", copy, weight, bias, s.tensor((1, 8, 6, 4), TEX_W))
    return s.finish(out)


def shared_copy(objective: Objective = "repack") -> Case:
    """One transition with two users, one of which reads it twice; another one to a buffer."""
    s = Sketch()
    x = s.input((1, 8, 6, 10), TEX_C)
    y = convolution(s, x, s.tensor((1, 8, 6, 10), TEX_C))
    copy = s.repack(y, TEX_W)
    a = s.call("aten.mul.Tensor", copy, copy, s.tensor((1, 8, 6, 10), TEX_W))
    buffer = s.repack(y, BUF_W)
    b = s.call("aten.relu.default", buffer, s.tensor((1, 8, 6, 10), BUF_W))
    weight = s.constant((4, 10))
    c = s.call("aten.linear.default", copy, weight, None, s.tensor((1, 8, 6, 4), TEX_W))
    return s.finish(a, b, c, y, objective=objective, profile="bytes")


def concatenation() -> Case:
    """A list of tensors, one of them a copy that is in it twice."""
    s = Sketch()
    x = s.input((1, 8, 6, 10), TEX_C)
    y = convolution(s, x, s.tensor((1, 8, 6, 10), TEX_C))
    z = s.call("aten.relu.default", s.input((1, 8, 6, 10), BUF_W), s.tensor((1, 8, 6, 10), BUF_W))
    copy = s.repack(z, TEX_C)
    out = s.call("aten.cat.default", (copy, y, copy), 1, s.tensor((1, 24, 6, 10), TEX_C))
    return s.finish(out, z)


def quantized() -> Case:
    """Quantize, three kinds of convolution, a residual sum, linear, dequantize."""
    s = Sketch()
    shape = (1, 8, 12, 12)
    x = s.input(shape, TEX_C)
    q = s.call(
        "quantized_decomposed.quantize_per_tensor.default",
        *(x, 0.5, 3, -128, 127, None, s.tensor(shape, Q_CONV2D, VkDataType.INT8)),
    )
    a = quantized_convolution(s, "q8ta_conv2d", q, s.tensor(shape, Q_CONV2D, VkDataType.INT8))
    b = quantized_convolution(s, "q8ta_conv2d_dw", a, s.tensor(shape, Q_4W4C, VkDataType.INT8), 8)
    c = quantized_convolution(s, "q8ta_conv2d_pw", b, s.tensor(shape, Q_4C1W, VkDataType.INT8))
    d = s.call(
        "et_vk.q8ta_add.default",
        *(a, c, 0.5, 3, 0.5, 3, 0.5, 3, 1.0, s.tensor(shape, Q_4C1W, VkDataType.INT8)),
    )
    narrow = s.repack(d, Q_4H4W)
    weight, sums = s.constant((4, 12), VkDataType.INT8), s.constant((4,), VkDataType.INT32)
    e = s.call(
        "et_vk.q8ta_linear.default",
        *(narrow, 0.5, 3, weight, sums, s.constant((4,)), 0.25, 0, None, "none"),
        s.tensor((1, 8, 12, 4), Q_4H4W, VkDataType.INT8),
    )
    out = s.call(
        "quantized_decomposed.dequantize_per_tensor.default",
        *(e, 0.25, 0, -128, 127, None, s.tensor((1, 8, 12, 4), BUF_W)),
    )
    return s.finish(out)


def into_convolution() -> Case:
    """A quantized convolution that reads a copy."""
    s = Sketch()
    shape = (1, 8, 12, 12)
    q = s.input(shape, Q_4W, VkDataType.INT8)
    r = s.call("et_vk.q8ta_relu.default", q, 0.5, 3, 0.5, 3, s.tensor(shape, Q_4W, VkDataType.INT8))
    copy = s.repack(r, Q_CONV2D)
    out = quantized_convolution(s, "q8ta_conv2d", copy, s.tensor(shape, Q_4W4C, VkDataType.INT8))
    return s.finish(out, r)


def group_norm() -> Case:
    """Three outputs in a list, each with a set of its own."""
    s = Sketch()
    x = s.input((1, 8, 6, 6), TEX_C)
    weight = s.call("et_vk.prepack.default", s.constant((8,)), s.tensor((8,), TEX_C))
    bias = s.call("et_vk.prepack.default", s.constant((8,)), s.tensor((8,), TEX_C))
    outs = (s.tensor((1, 8, 6, 6), TEX_C), s.tensor((1, 2), BUF_W), s.tensor((1, 2), BUF_W))
    s.call("aten.native_group_norm.default", x, weight, bias, 1, 8, 36, 2, 1e-5, outs)
    copy = s.repack(outs[1], TEX_W)
    out = s.call("aten.sum.dim_IntList", copy, [1], True, None, s.tensor((1, 1), TEX_W))
    return s.finish(outs[0], out, outs[2])


def prepacked() -> Case:
    """A prepacked constant, and a look-up in a weight that its operator prepacks."""
    s = Sketch()
    indices = s.input((1, 12), BUF_W, VkDataType.INT32)
    table = s.constant((100, 16))
    x = s.call(
        "aten.embedding.default", table, indices, -1, False, False, s.tensor((1, 12, 16), BUF_W)
    )
    bias = s.call("et_vk.prepack.default", s.constant((16,)), s.tensor((16,), TEX_H))
    copy = s.repack(bias, BUF_W)
    out = s.call("aten.add.Tensor", x, copy, 1, s.tensor((1, 12, 16), BUF_W))
    return s.finish(out)


def symbolic() -> Case:
    """Sizes that are known at run time, in a list and as an argument."""
    s = Sketch()
    x = s.input((4, 8), BUF_W)
    rows, columns = s.symint(), s.symint()
    s.call("sym_size.int", x, 0, rows)
    s.call("sym_size.int", x, 1, columns)
    total = s.call("mul", rows, columns, s.symint())
    copy = s.repack(x, BUF_H)
    y = s.call("aten.view_copy.default", copy, (columns, rows, 1), s.tensor((8, 4, 1), BUF_H))
    nothing = (None,) * 4
    z = s.call("aten.full.default", (total, 2), 1.5, *nothing, s.tensor((32, 2), TEX_W))
    return s.finish(y, z, total, objective="repack")


def own_clones() -> Case:
    """Clones of the program next to transitions, which only the claims tell apart."""
    s = Sketch()
    shape = (1, 8, 4, 4)
    x = s.input(shape, Q_4W4C, VkDataType.INT8)
    copy = s.repack(x, Q_4C1W)
    y = s.call(CLONE, copy, None, s.tensor(shape, Q_4C1W, VkDataType.INT8))
    z = s.call(CLONE, x, None, s.tensor(shape, Q_4C1W, VkDataType.INT8))
    other = s.repack(z, Q_4W4C)
    out = s.call(CLONE, other, None, s.tensor(shape, Q_4W4C, VkDataType.INT8))
    return s.finish(y, out)


def cache() -> Case:
    """A buffer that is overwritten, with copies of what it was and what it becomes."""
    s = Sketch()
    state = s.input((1, 4, 2, 8), BUF_W)
    step = s.input((1, 1, 2, 8), BUF_W)
    old = s.repack(state, TEX_H)
    y = s.call("aten.relu.default", old, s.tensor((1, 4, 2, 8), TEX_H))
    s.call("llama.update_cache.default", step, state, s.symint(), s.tensor((1,), BUF_W))
    new = s.repack(state, TEX_H)
    z = s.call("aten.relu.default", new, s.tensor((1, 4, 2, 8), TEX_H))
    flat = s.repack(z, BUF_W)
    s.call("aten.add.Tensor", flat, step, 1, state)
    return s.finish(y, z, state)


EXAMPLES: Final[dict[str, Callable[[], Case]]] = {
    "float_chain": float_chain,
    "shared_copy": shared_copy,
    "concatenation": concatenation,
    "quantized": quantized,
    "into_convolution": into_convolution,
    "group_norm": group_norm,
    "prepacked": prepacked,
    "symbolic": symbolic,
    "own_clones": own_clones,
    "cache": cache,
}
