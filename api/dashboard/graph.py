"""A plan's graph as the page draws it: operators, tensors, and both sides' representations."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from api.dashboard.drawing import NODE_HEIGHT, NODE_WIDTH, Drawing, draw
from planner.errors import InputError
from planner.files.listing import ListedDelegate, read_listing
from planner.ir.representation import LABELS, REPRS, TensorRepr
from planner.vkgraph.reader import ContractedGraph
from schema import DelegatePlan, VkMemoryLayout, VkStorageType, VkTensor

NodeKind = Literal["operator", "input", "output"]

MOST_NODES: Final = 20_000
"""A graph with more is not drawn: nobody could read it, and a browser would not bear it."""


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor; ``name`` is what the file knows it by, or its number."""

    name: str
    shape: str
    dtype: str


@dataclass(frozen=True, slots=True)
class NodeView:
    """An operator, or an input or output of the graph; ``tensor`` is the first that it makes.

    ``cost`` is what a planned operator itself costs, where the objective counts that.
    """

    name: str
    kind: NodeKind
    x: float
    y: float
    tensor: int | None
    cost: float | None


@dataclass(frozen=True, slots=True)
class EdgeView:
    """That ``target`` reads ``tensor``, which ``source`` makes; ``layers`` is how far it goes."""

    source: int
    target: int
    tensor: int
    layers: int
    is_folded: bool


@dataclass(frozen=True, slots=True)
class TransitionView:
    """A repack of a tensor, and the nodes that read the copy; the cost is in the plan's unit."""

    tensor: int
    source: int
    target: int
    cost: float
    users: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SideView:
    """Representations by tensor, as indices of ``GraphView.representations``; None where unset."""

    representations: tuple[int | None, ...]
    transitions: tuple[TransitionView, ...]


@dataclass(frozen=True, slots=True)
class GraphView:
    """A delegate before and after planning. Operators and tensors are the same on both sides.

    ``before`` is None where the plan does not say how the program was laid out before, as those of
    older releases do not.
    """

    delegate: int
    name: str
    unit: str
    node_width: int
    node_height: int
    width: float
    height: float
    representations: tuple[str, ...]
    nodes: tuple[NodeView, ...]
    edges: tuple[EdgeView, ...]
    tensors: tuple[TensorView, ...]
    before: SideView | None
    after: SideView


def read_views(planned: bytes) -> tuple[GraphView, ...]:
    """Every delegate of a planned program, with the plan that it is compared with.

    Raises ``InputError`` for bytes that are no planned program, or too large a one to be drawn.
    """
    listing = read_listing(planned, "the plan")
    if listing.program is None:
        raise InputError("the plan is no planned program")
    unit = listing.program.cost_unit
    return tuple(_view(index, unit, found) for index, found in enumerate(listing.delegates))


def _view(index: int, unit: str, listed: ListedDelegate) -> GraphView:
    assert listed.plan is not None
    wiring = _Wiring(listed.contracted)
    if len(wiring.names) > MOST_NODES:
        raise InputError(
            f"{listed.name} is too large to be drawn: it has {len(wiring.names)} operators, inputs "
            f"and outputs, and up to {MOST_NODES} are"
        )
    drawing = draw(len(wiring.names), ((s, t) for s, t, _ in wiring.edges))
    return GraphView(
        delegate=index,
        name=listed.name,
        unit=unit,
        node_width=NODE_WIDTH,
        node_height=NODE_HEIGHT,
        width=drawing.width,
        height=drawing.height,
        representations=tuple(str(representation) for representation in REPRS),
        nodes=_nodes(wiring, drawing, listed),
        edges=_edges(wiring, drawing),
        tensors=_tensors(listed),
        before=_before(wiring, listed.contracted, listed.plan),
        after=_after(wiring, listed.contracted, listed.plan),
    )


class _Wiring:
    """The nodes of a graph, operators first, and its edges as (source, target, tensor)."""

    def __init__(self, contracted: ContractedGraph) -> None:
        graph = contracted.graph
        self.names = [operator.name for operator in graph.operators]
        self.kinds: list[NodeKind] = ["operator"] * len(self.names)
        self.first: list[int | None] = [
            next(iter(operator.outputs), None) for operator in graph.operators
        ]
        maker = {t: n for n, operator in enumerate(graph.operators) for t in operator.outputs}
        for tensor in graph.inputs:
            if tensor not in maker:
                maker[tensor] = self._add("input", tensor)
        edges = [
            (maker[t], n, t)
            for n, operator in enumerate(graph.operators)
            for _, tensors in operator.tensor_args()
            for t in tensors
            if t in maker and maker[t] != n
        ]
        edges += [(maker[t], self._add("output", t), t) for t in graph.outputs if t in maker]
        self.edges = sorted(set(edges))

    def readers(self, tensor: int, operators: Collection[int]) -> tuple[int, ...]:
        """Those that read a copy of a tensor: one that no operator reads is what comes out."""
        if operators:
            return tuple(sorted(operators))
        nodes = enumerate(zip(self.kinds, self.first, strict=True))
        return tuple(n for n, (kind, t) in nodes if kind == "output" and t == tensor)

    def _add(self, kind: NodeKind, tensor: int) -> int:
        self.names.append(kind)
        self.kinds.append(kind)
        self.first.append(tensor)
        return len(self.names) - 1


def _nodes(wiring: _Wiring, drawing: Drawing, listed: ListedDelegate) -> tuple[NodeView, ...]:
    assert listed.plan is not None
    by_position = {cost.operator_index: cost.cost for cost in listed.plan.operator_costs}
    costs = [by_position.get(position) for position in listed.contracted.positions]
    others = [None] * (len(wiring.names) - len(costs))
    return tuple(
        NodeView(name, kind, round(x, 1), round(y, 1), tensor, cost)
        for name, kind, (x, y), tensor, cost in zip(
            wiring.names,
            wiring.kinds,
            drawing.positions,
            wiring.first,
            [*costs, *others],
            strict=True,
        )
    )


def _edges(wiring: _Wiring, drawing: Drawing) -> tuple[EdgeView, ...]:
    layers, columns = drawing.layers, drawing.columns
    return tuple(
        EdgeView(s, t, tensor, abs(layers[t] - layers[s]), columns[s] != columns[t])
        for s, t, tensor in wiring.edges
    )


def _tensors(listed: ListedDelegate) -> tuple[TensorView, ...]:
    def view(value_id: int) -> TensorView:
        value = listed.graph.values[value_id]
        assert isinstance(value, VkTensor)
        name = listed.names.get(value_id) or f"v{value_id}"
        shape = "×".join(map(str, value.dims)) or "scalar"
        return TensorView(name, shape, value.datatype.name.lower())

    return tuple(view(value_id) for value_id in listed.contracted.tensors)


def _after(wiring: _Wiring, contracted: ContractedGraph, plan: DelegatePlan) -> SideView:
    costs = {t.operator_index: t.cost for t in plan.transitions}
    return SideView(
        tuple(None if made is None else LABELS[made] for made in contracted.made),
        tuple(
            TransitionView(
                t.tensor,
                LABELS[t.source],
                LABELS[t.target],
                costs[t.position],
                wiring.readers(t.tensor, {user.operator for user in t.users}),
            )
            for t in contracted.transitions
        ),
    )


def _before(wiring: _Wiring, contracted: ContractedGraph, plan: DelegatePlan) -> SideView | None:
    if not plan.baseline_tensors:
        return None
    tensor_of = {value_id: t for t, value_id in enumerate(contracted.tensors)}
    operator_at = {position: n for n, position in enumerate(contracted.positions)}
    made: list[int | None] = [None] * len(tensor_of)
    try:
        for claim in plan.baseline_tensors:
            made[tensor_of[claim.value_id]] = _label(claim.storage_type, claim.memory_layout)
        found = []
        for repack in plan.baseline_repacks:
            tensor = tensor_of[repack.source]
            users = {operator_at[user.operator_index] for user in repack.users}
            source = _label(repack.from_storage, repack.from_layout)
            target = _label(repack.to_storage, repack.to_layout)
            readers = wiring.readers(tensor, users)
            found.append(TransitionView(tensor, source, target, repack.cost, readers))
    except KeyError as error:
        raise InputError(f"{plan.name} is damaged: it is compared with another graph") from error
    return SideView(tuple(made), tuple(found))


def _label(storage: VkStorageType, layout: VkMemoryLayout) -> int:
    return LABELS[TensorRepr(storage, layout)]
