"""Costs from a device profile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from planner.costs.model import CostModel, Costs, Objective, PricedOperand
from planner.costs.profile import DeviceProfile, TransitionRates, rate
from planner.ir.graph import Operator, Tensor
from planner.ir.physical import ELEMENT_BYTES, padded_elements
from planner.ir.representation import REPRS
from schema import CostOrigin, VkDataType
from schema.frozen import frozen


@frozen
class _Curves:
    """All curves of a profile: labels (curves,) and knots (curves, knots), padded after the last.

    A knot's slope is that of the line that begins there.
    """

    source: NDArray[np.intp]
    target: NDArray[np.intp]
    bytes: NDArray[np.float64]
    costs: NDArray[np.float64]
    slopes: NDArray[np.float64]

    @classmethod
    def of(cls, rates: TransitionRates) -> _Curves | None:
        """The curves of these rates; None if they have none."""
        if not rates.curves:
            return None
        curves = {
            (i, j): curve
            for i, source in enumerate(REPRS)
            for j, target in enumerate(REPRS)
            if i != j and (curve := rates.curve(source, target)) is not None
        }
        knots = max(map(len, curves.values()))
        bytes_ = np.full((len(curves), knots), np.inf)
        costs, slopes = np.zeros((2, len(curves), knots))
        for row, curve in enumerate(curves.values()):
            x, y = np.array(curve).T
            bytes_[row, : len(x)] = x
            costs[row, : len(x)] = y
            slopes[row, : len(x) - 1] = np.diff(y) / np.diff(x)
            slopes[row, len(x) - 1] = max(0.0, slopes[row, len(x) - 2])
        source, target = np.array(list(curves)).T
        return cls(source, target, bytes_, costs, slopes)

    def at(self, moved: NDArray[np.float64]) -> NDArray[np.float64]:
        """The costs (curves,) of moving ``moved`` bytes (curves,) each."""
        moved = np.maximum(moved, self.bytes[:, 0])
        row = np.arange(len(moved))
        knot = (self.bytes <= moved[:, None]).sum(axis=1) - 1
        past = moved - self.bytes[row, knot]
        found: NDArray[np.float64] = self.costs[row, knot] + self.slopes[row, knot] * past
        return found


class ProfileCosts:
    """A cost model from a device profile; accesses count only under the objective ``latency``."""

    def __init__(self, profile: DeviceProfile, objective: Objective) -> None:
        self.profile = profile
        self._counts_access = objective == "latency" and profile.access is not None
        self._transitions: dict[tuple[tuple[int, ...], VkDataType], Costs] = {}
        self._bytes: dict[tuple[tuple[int, ...], VkDataType], NDArray[np.float64]] = {}
        self._accesses: dict[object, Costs] = {}
        scale = profile.precision
        rates = profile.transition
        self._launch = rates.launch * scale
        self._read = np.array([rate(rates.read, r) for r in REPRS]) * scale
        self._write = np.array([rate(rates.write, r) for r in REPRS]) * scale
        self._curves = _Curves.of(rates)
        if profile.access is not None:
            access = profile.access
            self._access_read = np.array([rate(access.read, r) for r in REPRS]) * scale
            self._access_write = np.array([rate(access.write, r) for r in REPRS]) * scale

    def _padded_bytes(self, shape: tuple[int, ...], dtype: VkDataType) -> NDArray[np.float64]:
        """Padded bytes (labels,); 0 for textures that the shape cannot have."""
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
        """Prices (labels, labels): the pair's curve, else launch, bytes read and bytes written."""
        found = self._transitions.get((shape, dtype))
        if found is None:
            size = self._padded_bytes(shape, dtype)
            prices = self._launch + (self._read * size)[:, None] + (self._write * size)[None, :]
            curves = self._curves
            if curves is not None:
                moved = size[curves.source] + size[curves.target]
                prices[curves.source, curves.target] = curves.at(moved) * self.profile.precision
            found = np.rint(prices).astype(np.int64)
            np.fill_diagonal(found, 0)
            self._transitions[shape, dtype] = found
        return found

    def transition_origin(
        self, shape: tuple[int, ...], dtype: VkDataType, source: int, target: int
    ) -> CostOrigin:
        """``MODELLED``: the profile prices every transition."""
        return CostOrigin.MODELLED

    def operator(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> Iterable[tuple[tuple[int, ...], Costs]]:
        """One table for each operand: its bytes times the rate of each representation.

        Equal operands have one array.
        """
        if not self._counts_access:
            return
        for i, operand in enumerate(operands):
            kinds = tuple([(tensors[t].shape, tensors[t].dtype) for t in operand.tensors])
            key = operand.is_output, operand.domain, kinds
            if key not in self._accesses:
                rates = self._access_write if operand.is_output else self._access_read
                labels = list(operand.domain)
                total = sum(self._padded_bytes(*kind)[labels] for kind in kinds)
                self._accesses[key] = np.rint(rates[labels] * total).astype(np.int64)
            yield (i,), self._accesses[key]

    def operator_origin(
        self, operator: Operator, tensors: Sequence[Tensor], operands: Sequence[PricedOperand]
    ) -> CostOrigin:
        """``MODELLED``: the profile prices every operator."""
        return CostOrigin.MODELLED


@frozen
class ProfileSource:
    """A cost source that is a device profile alone."""

    profile: DeviceProfile

    @property
    def name(self) -> str:
        """The profile's name."""
        return self.profile.name

    @property
    def digest(self) -> str:
        """The profile's SHA-256, in hexadecimal."""
        return self.profile.digest

    def model(self, objective: Objective) -> CostModel:
        """The profile's prices under an objective."""
        return ProfileCosts(self.profile, objective)
