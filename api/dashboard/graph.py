"""A plan's graph as the page draws it: operators, tensors, and both sides' representations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from api.dashboard.drawing import NODE_HEIGHT, NODE_WIDTH, Drawing, draw
from planner.errors import InputError
from planner.frontends.vkgraph import ContractedGraph
from planner.listing import ListedDelegate, read_listing
from planner.matching import match
from planner.representation import LABELS, REPRS
from schema import VkTensor

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

    ``before`` is None where no file says how the program was laid out before.
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


def read_views(planned: bytes, lowered: bytes | None) -> tuple[GraphView, ...]:
    """Every delegate of a planned program, beside the lowered program that it was before, if any.

    Costs are those that the planned program has. Raises ``InputError`` for files that cannot be
    read, that are different programs, or that are too large to be drawn.
    """
    new = read_listing(planned, "the plan")
    if new.program is None:
        raise InputError("the plan is no planned program")
    before: Sequence[ListedDelegate | None] = [None] * len(new.delegates)
    if lowered is not None:
        before = read_listing(lowered, "the program before").delegates
    if len(before) != len(new.delegates):
        raise InputError("the program before has other delegates than the plan")
    unit = new.program.cost_unit
    pairs = zip(before, new.delegates, strict=True)
    return tuple(_view(index, unit, old, after) for index, (old, after) in enumerate(pairs))


def _view(index: int, unit: str, before: ListedDelegate | None, after: ListedDelegate) -> GraphView:
    assert after.plan is not None
    wiring = _Wiring(after.contracted)
    if len(wiring.names) > MOST_NODES:
        raise InputError(
            f"{after.name} is too large to be drawn: it has {len(wiring.names)} operators, inputs "
            f"and outputs, and up to {MOST_NODES} are"
        )
    drawing = draw(len(wiring.names), ((s, t) for s, t, _ in wiring.edges))
    planned = {t.operator_index: t.cost for t in after.plan.transitions}
    pairing = None if before is None else _Pairing(before, after)
    itself = {t: t for t in range(len(after.contracted.tensors))}
    return GraphView(
        delegate=index,
        name=after.name,
        unit=unit,
        node_width=NODE_WIDTH,
        node_height=NODE_HEIGHT,
        width=drawing.width,
        height=drawing.height,
        representations=tuple(str(representation) for representation in REPRS),
        nodes=_nodes(wiring, drawing, after),
        edges=_edges(wiring, drawing),
        tensors=_tensors(after, pairing.names if pairing else {}),
        before=None
        if pairing is None
        else _side(pairing.old, pairing.tensors, len(itself), wiring, pairing.costs),
        after=_side(
            after.contracted,
            itself,
            len(itself),
            wiring,
            [planned[t.position] for t in after.contracted.transitions],
        ),
    )


class _Pairing:
    """A delegate as it was lowered: its tensors as those of the plan, and its repacks' costs."""

    def __init__(self, before: ListedDelegate, after: ListedDelegate) -> None:
        assert after.plan is not None
        self.old, new = before.contracted, after.contracted
        matching = match(self.old, before.name, new, after.name)
        number = {value: t for t, value in enumerate(new.tensors)}
        old_number = {value: t for t, value in enumerate(self.old.tensors)}
        values = list(zip(matching.a, matching.b, strict=True))
        self.tensors = {
            old_number[a]: number[b] for a, b in values if a in old_number and b in number
        }
        self.names = {b: before.names[a] for a, b in values if a in before.names}
        self.costs = [repack.cost for repack in after.plan.baseline_repacks]
        if len(self.costs) != len(self.old.transitions):
            raise InputError(f"{before.name} was planned from another program")


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

    def _add(self, kind: NodeKind, tensor: int) -> int:
        self.names.append(kind)
        self.kinds.append(kind)
        self.first.append(tensor)
        return len(self.names) - 1


def _nodes(wiring: _Wiring, drawing: Drawing, after: ListedDelegate) -> tuple[NodeView, ...]:
    assert after.plan is not None
    by_position = {cost.operator_index: cost.cost for cost in after.plan.operator_costs}
    costs = [by_position.get(position) for position in after.contracted.positions]
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


def _tensors(after: ListedDelegate, others: Mapping[int, str]) -> tuple[TensorView, ...]:
    def view(value_id: int) -> TensorView:
        value = after.graph.values[value_id]
        assert isinstance(value, VkTensor)
        name = after.names.get(value_id) or others.get(value_id) or f"v{value_id}"
        shape = "×".join(map(str, value.dims)) or "scalar"
        return TensorView(name, shape, value.datatype.name.lower())

    return tuple(view(value_id) for value_id in after.contracted.tensors)


def _side(
    contracted: ContractedGraph,
    numbers: Mapping[int, int],
    tensors: int,
    wiring: _Wiring,
    costs: Sequence[float],
) -> SideView:
    """A side; ``numbers`` are the plan's of its tensors, ``costs`` those of its transitions."""
    labels: list[int | None] = [None] * tensors
    for mine, shared in numbers.items():
        made = contracted.made[mine]
        labels[shared] = None if made is None else LABELS[made]
    outputs = {wiring.first[n]: n for n, kind in enumerate(wiring.kinds) if kind == "output"}
    found = []
    for transition, cost in zip(contracted.transitions, costs, strict=True):
        users = tuple(sorted({user.operator for user in transition.users}))
        shared = numbers[transition.tensor]
        # A copy that no operator reads is what the graph hands out.
        readers = users or tuple(n for t, n in outputs.items() if t == shared)
        ends = LABELS[transition.source], LABELS[transition.target]
        found.append(TransitionView(shared, *ends, cost, readers))
    return SideView(tuple(labels), tuple(found))
