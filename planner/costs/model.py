"""Prices for the solver: what a plan's choices cost, as integers.

A ``CostModel`` is all that the planner knows of cost, and a ``CostSource`` all that it knows of
where costs come from. Device profiles (``planner.costs.by_profile``) and measured times
(``planner.measured.costs``) are sources.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from planner.costs.profile import DeviceProfile
from planner.ir.graph import Operator, Tensor
from planner.ir.representation import LABELS, TensorRepr
from schema import CostOrigin, VkDataType

Objective = Literal["repack", "latency"]
Costs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PricedOperand:
    """Argument ``index`` of an operator, or output ``index``, and the labels that it may take.

    ``tensors`` are those of the graph that it is made of.
    """

    is_output: bool
    index: int
    tensors: tuple[int, ...]
    domain: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Price:
    """A cost in integer steps of a profile's unit, and where it comes from."""

    cost: int
    origin: CostOrigin


class CostModel(Protocol):
    """Prices transitions and operators, in integer steps of a profile's unit."""

    def transition(self, shape: tuple[int, ...], dtype: VkDataType) -> Costs:
        """Prices (labels, labels) of repacking a tensor from one representation to another."""

    def transition_origin(
        self, shape: tuple[int, ...], dtype: VkDataType, source: int, target: int
    ) -> CostOrigin:
        """Where the price of one transition comes from, by its labels."""

    def operator(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> Iterable[tuple[tuple[int, ...], Costs]]:
        """Costs of an operator itself: (operands, table over their representations) each.

        ``operands`` are those that have a choice. A table has one axis for each operand that it
        names, by its place among them, in the order of that operand's domain. None come where the
        objective does not count operators.
        """

    def operator_origin(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> CostOrigin:
        """Where an operator's cost comes from, for operands with one label each."""


class CostSource(Protocol):
    """Where costs come from."""

    @property
    def name(self) -> str:
        """What to call it in a report."""

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all that it says."""

    @property
    def profile(self) -> DeviceProfile:
        """The profile in whose unit it counts, and that prices what nothing else is known of."""

    def model(self, objective: Objective) -> CostModel:
        """Prices under an objective; raises ``OptionError`` where it has none."""


def transition_price(
    costs: CostModel, tensor: Tensor, source: TensorRepr, target: TensorRepr
) -> Price:
    """The price of repacking a tensor from one representation to another."""
    labels = LABELS[source], LABELS[target]
    cost = int(costs.transition(tensor.shape, tensor.dtype)[labels])
    return Price(cost, costs.transition_origin(tensor.shape, tensor.dtype, *labels))
