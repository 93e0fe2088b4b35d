"""Prices for the solver: the costs of a plan's choices, as integers.

The planner knows costs only through a ``CostModel``, and their origin only through a
``CostSource``. Device profiles (``planner.costs.by_profile``) and measured times
(``planner.measured.costs``) are sources.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from planner.costs.profile import DeviceProfile
from planner.ir.graph import Operator, Tensor
from planner.ir.representation import LABELS, REPRS, TensorRepr
from schema import CostOrigin, VkDataType
from schema.frozen import frozen

Objective = Literal["repack", "latency"]
Costs = NDArray[np.int64]


def ratio(before: float, after: float) -> float | None:
    """How many times as much ``before`` is, to 4 decimal places; None where only ``after`` is 0."""
    if not after:
        return None if before else 1.0
    return round(before / after, 4)


@frozen
class PricedOperand:
    """Argument or output ``index`` of an operator, and the labels that it may take.

    ``tensors`` are its tensors, by their index in the graph.
    """

    is_output: bool
    index: int
    tensors: tuple[int, ...]
    domain: tuple[int, ...]


@frozen
class Price:
    """A cost in integer steps of a profile's unit, and where it comes from."""

    cost: int
    origin: CostOrigin


class CostModel(Protocol):
    """Prices of transitions and operators, in integer steps of a profile's unit."""

    def transition(self, shape: tuple[int, ...], dtype: VkDataType) -> Costs:
        """Prices (labels, labels) of repacking a tensor from one representation to another."""

    def transition_origin(
        self, shape: tuple[int, ...], dtype: VkDataType, source: int, target: int
    ) -> CostOrigin:
        """The origin of a transition's price, for labels ``source`` and ``target``."""

    def operator(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> Iterable[tuple[tuple[int, ...], Costs]]:
        """The costs of an operator itself, as pairs of operand positions and a table of steps.

        ``operands`` are those that have a choice; positions refer to them. A table has one axis for
        each of its positions, in the order of that operand's domain. There are no tables if the
        objective does not count operators. Operators that are alike (``LayoutGraph.alike``) cost
        the same: unless the model has ``FreeTransitions``, only the first of them is asked for.
        """

    def operator_origin(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> CostOrigin:
        """The origin of an operator's cost, for operands with one label each."""


@runtime_checkable
class UncertainCosts(Protocol):
    """Prices that are known within a range: twice their standard error on either side."""

    def transition_range(self, shape: tuple[int, ...], dtype: VkDataType) -> tuple[Costs, Costs]:
        """The least and the most that transitions may cost, as ``CostModel.transition``."""

    def operator_range(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> Iterable[tuple[Costs, Costs]]:
        """The least and the most of each table of ``CostModel.operator``."""


class FreeTransitions:
    """The part of a ``CostModel`` that only chooses representations: repacks cost nothing.

    What an operator costs may depend on which one it is, even among those that are alike.
    """

    def transition(self, shape: tuple[int, ...], dtype: VkDataType) -> Costs:
        """Zeros (labels, labels)."""
        return np.zeros((len(REPRS), len(REPRS)), np.int64)

    def transition_origin(
        self, shape: tuple[int, ...], dtype: VkDataType, source: int, target: int
    ) -> CostOrigin:
        """Always ``MODELLED``."""
        return CostOrigin.MODELLED

    def operator_origin(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> CostOrigin:
        """Always ``MODELLED``."""
        return CostOrigin.MODELLED


class CostSource(Protocol):
    """A source of costs: a device profile, or measured times completed by one."""

    @property
    def name(self) -> str:
        """The source's name in reports."""

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of everything that the prices depend on."""

    @property
    def profile(self) -> DeviceProfile:
        """The profile that gives the unit, and the price of everything that was not measured."""

    def model(self, objective: Objective) -> CostModel:
        """The prices under an objective; raises ``OptionError`` if the source has none for it."""


def transition_price(
    costs: CostModel, tensor: Tensor, source: TensorRepr, target: TensorRepr
) -> Price:
    """The price of repacking a tensor from one representation to another."""
    labels = LABELS[source], LABELS[target]
    cost = int(costs.transition(tensor.shape, tensor.dtype)[labels])
    return Price(cost, costs.transition_origin(tensor.shape, tensor.dtype, *labels))
