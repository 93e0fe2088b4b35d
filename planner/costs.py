"""Prices for the solver: what a plan's choices cost, as integers.

A ``CostModel`` is all that the planner knows of cost. The one here reads a device profile; models
learned from measurements give tables over several operands of an operator together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from planner.graph import Operator, Tensor
from planner.physical import ELEMENT_BYTES, padded_elements
from planner.profile import DeviceProfile, rate
from planner.representation import REPRS
from schema import VkDataType

Objective = Literal["repack", "latency"]
Costs = NDArray[np.int64]


class CostModel(Protocol):
    """Prices transitions and operators, in integer steps of a profile's unit."""

    def transition(self, shape: tuple[int, ...], dtype: VkDataType) -> Costs:
        """Prices (labels, labels) of repacking a tensor from one representation to another."""

    def operator(
        self,
        operator: Operator,
        tensors: Sequence[Tensor],
        operands: Sequence[tuple[int, ...]],
        domains: Sequence[tuple[int, ...]],
        first_output: int,
    ) -> Iterable[tuple[tuple[int, ...], Costs]]:
        """Costs of an operator itself: (operands, table over their representations) each.

        ``operands[i]`` are the tensors of operand ``i`` and ``domains[i]`` the labels that it may
        take; operands from ``first_output`` on are outputs. A table has one axis for each operand
        that it names, in the order of that operand's domain.
        """


class ProfileCosts:
    """Costs from a device profile; accesses count only under the objective ``latency``."""

    def __init__(self, profile: DeviceProfile, objective: Objective) -> None:
        self.profile = profile
        self._counts_access = objective == "latency" and profile.access is not None
        self._transitions: dict[tuple[tuple[int, ...], VkDataType], Costs] = {}
        self._bytes: dict[tuple[tuple[int, ...], VkDataType], NDArray[np.float64]] = {}
        scale = profile.precision
        rates = profile.transition
        self._launch = rates.launch * scale
        self._read = np.array([rate(rates.read, r) for r in REPRS]) * scale
        self._write = np.array([rate(rates.write, r) for r in REPRS]) * scale
        if profile.access is not None:
            access = profile.access
            self._access_read = np.array([rate(access.read, r) for r in REPRS]) * scale
            self._access_write = np.array([rate(access.write, r) for r in REPRS]) * scale

    def _padded_bytes(self, shape: tuple[int, ...], dtype: VkDataType) -> NDArray[np.float64]:
        """Padded bytes for each label; 0 for a texture that the shape cannot have."""
        found = self._bytes.get((shape, dtype))
        if found is None:
            size = ELEMENT_BYTES[dtype]
            found = np.array(
                [
                    0 if not r.is_buffer and len(shape) > 4 else padded_elements(shape, r) * size
                    for r in REPRS
                ],
                dtype=np.float64,
            )
            self._bytes[shape, dtype] = found
        return found

    def transition(self, shape: tuple[int, ...], dtype: VkDataType) -> Costs:
        """Launch, plus bytes read from the source, plus bytes written to the target."""
        found = self._transitions.get((shape, dtype))
        if found is None:
            size = self._padded_bytes(shape, dtype)
            prices = self._launch + (self._read * size)[:, None] + (self._write * size)[None, :]
            found = np.rint(prices).astype(np.int64)
            np.fill_diagonal(found, 0)
            self._transitions[shape, dtype] = found
        return found

    def operator(
        self,
        operator: Operator,
        tensors: Sequence[Tensor],
        operands: Sequence[tuple[int, ...]],
        domains: Sequence[tuple[int, ...]],
        first_output: int,
    ) -> Iterable[tuple[tuple[int, ...], Costs]]:
        """One table for each operand: its bytes, at the rate of its representation."""
        if not self._counts_access:
            return
        for i, (members, domain) in enumerate(zip(operands, domains, strict=True)):
            rates = self._access_read if i < first_output else self._access_write
            labels = list(domain)
            total = sum(
                self._padded_bytes(tensors[t].shape, tensors[t].dtype)[labels] for t in members
            )
            yield (i,), np.rint(rates[labels] * total).astype(np.int64)
