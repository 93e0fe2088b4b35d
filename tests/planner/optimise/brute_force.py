"""Small random graphs, and their plans by trying everything."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from planner.costs.model import CostModel, PricedOperand
from planner.costs.standins import CONV2D
from planner.errors import NoRepresentationError
from planner.ir.graph import LayoutGraph, Layouts, Operator, Tensor, TensorArg, TensorListArg
from planner.ir.representation import LABELS, REPRS, TensorRepr, TensorRepSet, compatible
from planner.kernels.limits import Limits
from planner.kernels.rep_sets import op_rep_sets
from planner.kernels.restrictions import Restriction, parse_forbid, parse_pin
from planner.optimise.plan import LayoutPlan, plan_graph
from schema import VkDataType, VkMemoryLayout
from solver import Status, solve, solve_whole

FLOAT, INT8 = VkDataType.FLOAT32, VkDataType.INT8
SHAPES = ((1, 8, 4, 4), (1, 3, 5, 6), (2, 8))
QUANTIZE = "quantized_decomposed.quantize_per_tensor.default"
DEQUANTIZE = "quantized_decomposed.dequantize_per_tensor.default"
FLOAT_OPERATORS = (
    "aten.add.Tensor",
    "aten.relu.default",
    "aten.linear.default",
    "aten.avg_pool2d.default",
    "aten.native_layer_norm.default",
    "aten.cat.default",
    "aten.view_copy.default",
    QUANTIZE,
)
INT8_OPERATORS = (
    "et_vk.q8ta_add.default",
    "et_vk.q8ta_relu.default",
    "et_vk.q8ta_conv2d.default",
    "et_vk.q8ta_conv2d_pw.default",
    "et_vk.q8ta_linear.default",
    "aten.view_copy.default",
    DEQUANTIZE,
)


@st.composite
def graphs(draw: st.DrawFn) -> LayoutGraph:
    """A few operators of the registry on tensors of few shapes, wired at random."""
    tensors: list[Tensor] = []
    operators: list[Operator] = []

    def add(dtype: VkDataType, shape: tuple[int, ...]) -> int:
        tensors.append(Tensor(f"t{len(tensors)}", shape, dtype))
        return len(tensors) - 1

    inputs = [add(FLOAT, draw(st.sampled_from(SHAPES))) for _ in range(draw(st.integers(1, 2)))]
    for _ in range(draw(st.integers(1, 4))):
        source = draw(st.sampled_from([t for t, x in enumerate(tensors) if not x.constant]))
        dtype, shape = tensors[source].dtype, tensors[source].shape
        name = draw(st.sampled_from(FLOAT_OPERATORS if dtype == FLOAT else INT8_OPERATORS))
        args: list[Any] = [TensorArg(source)]
        same = [t for t, x in enumerate(tensors) if x.dtype == dtype and not x.constant]
        if name.endswith(("add.Tensor", "q8ta_add.default")):
            args.append(TensorArg(draw(st.sampled_from(same))))
        if name == "aten.cat.default":
            args = [TensorListArg((source, draw(st.sampled_from(same))))]
        if name == "aten.linear.default":
            tensors.append(Tensor(f"w{len(tensors)}", (4, 8), FLOAT, constant=True))
            args.append(TensorArg(len(tensors) - 1))
        out = {QUANTIZE: INT8, DEQUANTIZE: FLOAT}.get(name, dtype)
        if name == "aten.view_copy.default":
            shape = draw(st.sampled_from(SHAPES))
        made = tuple(add(out, shape) for _ in range(3 if "layer_norm" in name else 1))
        operators.append(Operator(name, tuple(args), made))
    return LayoutGraph("random", tuple(tensors), tuple(operators), tuple(inputs), ())


@st.composite
def layouts(draw: st.DrawFn, graph: LayoutGraph) -> Layouts:
    """Representations of a graph's tensors, whether operators take them or not; no repacks."""
    floats = [r for r in REPRS if not r.is_packed_int8]
    return Layouts([draw(st.sampled_from([None, *floats])) for _ in graph.tensors], ())


@st.composite
def restrictions(draw: st.DrawFn, graph: LayoutGraph) -> tuple[Restriction, ...]:
    """A few restrictions of what a graph has, of every kind."""
    types = [operator.name for operator in graph.operators]
    names = st.sampled_from(
        [
            *(str(number) for number in range(len(types))),
            *(f"{name}@{side}0" for name in types for side in ("argument", "output")),
            *types,
            *(name[: name.rindex(".")] for name in types),
            *(tensor.name for tensor in graph.tensors if not tensor.constant),
            *("input", "input@0"),
        ]
    )
    wanted = st.sampled_from(
        [
            *("texture", "buffer", "WIDTH_PACKED", "texture:CHANNELS_PACKED"),
            *("buffer:HEIGHT_PACKED", "4W4C", "buffer:4C1W"),
        ]
    )
    pins = st.builds(lambda name, text: parse_pin(f"{name}={text}"), names, wanted)
    forbids = st.builds(lambda name, text: parse_forbid(f"{name}:{text}"), names, wanted)
    everywhere = st.builds(parse_forbid, wanted)
    return tuple(draw(st.lists(pins | forbids | everywhere, min_size=1, max_size=3)))


def allowed(tensor: Tensor, representation: TensorRepr) -> bool:
    return tensor.dtype == INT8 or not representation.is_packed_int8


class BruteForce:
    """Tries every representation for every operand, and adds up costs from the definitions."""

    def __init__(
        self, graph: LayoutGraph, limits: Limits, costs: CostModel, given: Layouts
    ) -> None:
        self.graph, self.costs, self.given = graph, costs, given
        self.restrictions = limits.restrictions
        self.domains: list[list[TensorRepr]] = []
        self.rules: list[tuple[int, ...]] = []
        self.slots: list[tuple[int, bool, tuple[int, ...]]] = []
        self.operands: list[list[int]] = []
        self.places: list[int] = []
        for index, op in enumerate(graph.operators):
            sets = op_rep_sets(op, graph.tensors, limits.texture)
            assert sets is not None
            args, outs = [], []
            for position, members in op.tensor_args():
                if (accepts := sets.args[position]) and not graph.tensors[members[0]].constant:
                    args.append(self.slot(index, False, position, members, accepts, limits))
            for j, t in enumerate(op.outputs):
                made = sets.outs[j]
                assert made is not None
                outs.append(self.slot(index, True, j, (t,), made, limits))
            if sets.sync_args:
                self.rules.append(tuple(args))
            if sets.sync_outs:
                self.rules.append(tuple(outs))
            if sets.sync_primary_io:
                self.rules.append((args[0], outs[0]))
            self.operands.append(args + outs)

    def slot(
        self,
        operator: int,
        is_output: bool,
        place: int,
        members: tuple[int, ...],
        accepts: TensorRepSet,
        limits: Limits,
    ) -> int:
        self.places.append(place)
        self.slots.append((operator, is_output, members))
        self.domains.append(
            [
                r
                for r in accepts
                if r.memory_layout not in limits.excluded_layouts
                and all(allowed(self.graph.tensors[t], r) for t in members)
                and all(
                    r in rule.allowed
                    for rule in self.restrictions
                    if self.is_meant(rule, operator, is_output, place, members)
                )
            ]
        )
        return len(self.domains) - 1

    def is_meant(
        self,
        rule: Restriction,
        operator: int,
        is_output: bool,
        place: int,
        members: tuple[int, ...],
    ) -> bool:
        target = rule.target
        if target is None:
            return True
        if target.kind in ("operator", "type"):
            if target.side is not None and (target.side == "output") != is_output:
                return False
            if target.index is not None and target.index != place:
                return False
            name = self.graph.operators[operator].name
            return target.name in (str(operator), name, name[: name.rindex(".")])
        return (is_output or rule.flag == "forbid") and any(
            t in self.tensors(rule) for t in members
        )

    def tensors(self, rule: Restriction) -> list[int]:
        target = rule.target
        if target is None:
            return [*range(len(self.graph.tensors))]
        if target.kind == "input":
            listed = [*self.graph.inputs]
            return listed if target.index is None else [listed[target.index]]
        return [t for t, x in enumerate(self.graph.tensors) if x.name == target.name]

    def made(self, t: int) -> list[TensorRepr]:
        """What restrictions leave to a tensor that no operator makes."""
        about = [rule for rule in self.restrictions if t in self.tensors(rule)]
        return [r for r in REPRS if all(r in rule.allowed for rule in about)]

    def combinations(self) -> int:
        total = 1
        for domain in self.domains:
            total *= max(1, len(domain))
        return total

    def valid(self) -> Iterator[tuple[TensorRepr, ...]]:
        for choice in itertools.product(*self.domains):
            if all(
                compatible(choice[a], choice[b])
                for rule in self.rules
                for a, b in itertools.combinations(rule, 2)
            ):
                yield choice

    def departs(self, t: int, representation: TensorRepr) -> bool:
        """Whether a tensor's representation is another one than the one preferred."""
        layout, given = representation.memory_layout, self.given.made[t]
        if self.graph.tensors[t].dtype == INT8:
            preferred = (VkMemoryLayout.PACKED_INT8_4C1W, VkMemoryLayout.PACKED_INT8_CONV2D)
            return representation.is_buffer and layout not in preferred
        return representation.is_buffer if given is None else representation != given

    def cost(self, choice: tuple[TensorRepr, ...]) -> tuple[int, int, int] | None:
        """Cost, transitions and departures; None if a copy or CONV2D is not possible.

        Departures are counted where there is a choice.
        """
        total = count = 0
        departures = sum(
            self.departs(members[0], chosen)
            for (_, _, members), domain, chosen in zip(
                self.slots, self.domains, choice, strict=True
            )
            if len(domain) > 1
        )
        for index, slots in enumerate(self.operands):
            operands = []
            for s in slots:
                _, is_output, members = self.slots[s]
                label = LABELS[choice[s]]
                operands.append(PricedOperand(is_output, self.places[s], members, (label,)))
            for _, table in self.costs.operator(
                self.graph.operators[index], self.graph.tensors, operands
            ):
                total += int(table.sum())
        for t, tensor in enumerate(self.graph.tensors):
            readers = [s for s, (_, out, m) in enumerate(self.slots) if not out and t in m]
            makers = [s for s, (_, out, m) in enumerate(self.slots) if out and t in m]
            wanted = {choice[s] for s in readers}
            # What comes from outside may come as any of them could read it.
            free = {r for s in readers for r in self.domains[s]}
            is_restricted = not makers and not free <= {*self.made(t)}
            if is_restricted:
                alike = [
                    r for r in self.made(t) if r.is_packed_int8 == next(iter(free)).is_packed_int8
                ]
                free = free & {*alike} or {*alike} - {CONV2D}
                if not free:
                    return None
            sources: set[TensorRepr | None] = {choice[s] for s in makers} or {*free} or {None}
            convs = [s for s in readers if "conv2d." in self.graph.operators[self.slots[s][0]].name]
            on_tensor = wanted | {choice[s] for s in makers}
            if not convs and any(
                r.memory_layout == VkMemoryLayout.PACKED_INT8_CONV2D for r in on_tensor
            ):
                return None
            best: tuple[int, int, int] | None = None
            for source in sources:
                copies = [r for r in wanted if r != source]
                if source and any(r.is_packed_int8 != source.is_packed_int8 for r in copies):
                    continue
                prices = self.costs.transition(tensor.shape, tensor.dtype)
                price = sum(int(prices[LABELS[source], LABELS[r]]) for r in copies if source)
                # A tensor that comes from outside has a choice of its own, if several read it.
                has_choice = not makers and (len(readers) > 1 or is_restricted) and len(free) > 1
                departs = source is not None and has_choice and self.departs(t, source)
                found = price, len(copies), int(departs)
                best = min(best or found, found)
            if best is None:
                return None
            total, count = total + best[0], count + best[1]
            departures += best[2]
        return total, count, departures


def optimal_plan(
    graph: LayoutGraph,
    costs: CostModel,
    excluded: tuple[VkMemoryLayout, ...] = (),
    given: Layouts | None = None,
    restrictions: tuple[Restriction, ...] = (),
) -> LayoutPlan | None:
    """The plan of a graph, after showing that no other is better; None where there is none."""
    limits = Limits(excluded_layouts=frozenset(excluded), restrictions=restrictions)
    given = given or Layouts([None] * len(graph.tensors), ())
    brute = BruteForce(graph, limits, costs, given)
    assume(brute.combinations() <= 20_000)
    best = min((c for choice in brute.valid() if (c := brute.cost(choice))), default=None)
    try:
        plan = plan_graph(graph, limits, costs, given)
    except NoRepresentationError:
        assert best is None
        return None
    assert best is not None and best[:2] == (plan.cost, len(plan.transitions))
    # The nearest of equal plans, of which another one is taken where less is alive at once.
    nearest = solve(plan.layout.problem)
    chosen = {
        (slot.operator, slot.is_output, slot.index): REPRS[nearest.assignment[slot.variable]]
        for slot in plan.layout.slots
    }
    places = zip(brute.slots, brute.places, strict=True)
    choice = tuple(chosen[operator, is_output, i] for (operator, is_output, _), i in places)
    assert brute.cost(choice) == best
    assert plan.status is Status.OPTIMAL and plan.bound == plan.cost
    whole = solve_whole(plan.layout.problem)
    assert whole.status is Status.OPTIMAL and whole.cost == nearest.cost == plan.solution.bound
    return plan
