"""The cost of each step of a graph in its representations: operators and transitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from planner.costs.model import CostModel, Price, PricedOperand, transition_price
from planner.costs.profile import DeviceProfile
from planner.ir.graph import Operator
from planner.ir.representation import LABELS, TensorRepr
from planner.measured.calls import GraphCall, Place, calls_in
from planner.vkgraph.reader import ContractedGraph, read_vkgraph
from schema import CostOrigin, VkGraph
from schema.frozen import frozen


@frozen
class PricedCall:
    """A call of a graph and its cost, in integer steps of the cost model's unit.

    The cost is 0 where the cost model has none.
    """

    call: GraphCall
    cost: int
    origin: CostOrigin


def price_graph(graph: VkGraph, costs: CostModel, name: str = "") -> tuple[PricedCall, ...]:
    """Prices the calls of a graph whose representations are chosen, in the order of its chain.

    Raises ``InputError`` for a malformed graph.
    """
    return price_contracted(graph, read_vkgraph(graph, name), costs)


def price_contracted(
    graph: VkGraph, source: ContractedGraph, costs: CostModel
) -> tuple[PricedCall, ...]:
    """Prices the calls of a graph that was already read as ``source``."""
    return tuple(_priced(graph, source, costs))


def priced_total(graphs: Iterable[VkGraph], costs: CostModel, profile: DeviceProfile) -> float:
    """What all calls of a program's graphs cost together, in the profile's unit."""
    return profile.in_units(sum(p.cost for graph in graphs for p in price_graph(graph, costs)))


def _priced(graph: VkGraph, source: ContractedGraph, costs: CostModel) -> Iterator[PricedCall]:
    tensors = source.graph.tensors
    operators = dict(zip(source.positions, source.graph.operators, strict=True))
    transitions = {t.position: t for t in source.transitions}
    for call in calls_in(graph, source):
        transition = transitions.get(call.position)
        if transition is not None:
            tensor = tensors[transition.tensor]
            price = transition_price(costs, tensor, transition.source, transition.target)
        else:
            operator = operators[call.position]
            operands = [_operand(operator, where, r) for where, r in call.operands]
            tables = costs.operator(operator, tensors, operands)
            cost = sum(int(table.sum()) for _, table in tables)
            price = Price(cost, costs.operator_origin(operator, tensors, operands))
        yield PricedCall(call, price.cost, price.origin)


def _operand(operator: Operator, where: Place, representation: TensorRepr) -> PricedOperand:
    is_output, index = where.startswith("o"), int(where.removeprefix("o"))
    members = (operator.outputs[index],) if is_output else dict(operator.tensor_args())[index]
    return PricedOperand(is_output, index, members, (LABELS[representation],))
