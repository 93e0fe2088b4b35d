"""The changes of representation in a lowered or planned program: the steps that a replay runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Final

import numpy as np

from gpu.bench import Conversion
from gpu.convert import QuantParams
from gpu.errors import GpuError
from gpu.kernel import Step
from planner.costs.by_profile import ProfileCosts
from planner.costs.model import transition_price
from planner.costs.profile import DeviceProfile
from planner.costs.standins import stand_ins
from planner.errors import InputError, OptionError
from planner.files.kinds import FileKind
from planner.files.listing import ListedDelegate, read_listing
from planner.ir.graph import Tensor
from planner.ir.representation import LABELS, TensorRepr
from planner.vkgraph.wellformed import repr_of
from schema import DelegatePlan, VkDataType, VkTensor
from schema.vkgraph import Double, Int, OperatorCall

ELEMENTS: Final[Mapping[VkDataType, type[np.generic]]] = {
    VkDataType.BOOL: np.uint8,
    VkDataType.UINT8: np.uint8,
    VkDataType.INT8: np.int8,
    VkDataType.INT32: np.int32,
    VkDataType.INT64: np.int32,
    VkDataType.FLOAT16: np.float16,
    VkDataType.FLOAT32: np.float32,
    VkDataType.FLOAT64: np.float32,
}
"""The type of an element on the GPU: the runtime stores 64-bit types in 32 bits."""

_QUANTIZE: Final = "quantized_decomposed.quantize_per_tensor."
_DEQUANTIZE: Final = "quantized_decomposed.dequantize_per_tensor."
_FLOATS: Final = (VkDataType.FLOAT16, VkDataType.FLOAT32, VkDataType.FLOAT64)


@dataclass(frozen=True, slots=True)
class ReplayStep:
    """A conversion of a tensor in a program.

    ``source`` and ``output`` are value ids, ``position`` is the operator's in its chain; a repack
    of the baseline has none of them. ``predicted_ns`` is a repack's cost by a profile.
    """

    conversion: Conversion
    shape: tuple[int, ...]
    dtype: VkDataType
    output_dtype: VkDataType
    tensor: str = ""
    position: int | None = None
    source: int | None = None
    output: int | None = None
    parameters: QuantParams | None = None
    predicted_ns: float | None = None

    @property
    def step(self) -> Step:
        """The kind of step: repack, quantize or dequantize."""
        return self.conversion.step

    def __str__(self) -> str:
        shape = "×".join(map(str, self.shape)) or "scalar"
        where = f"{self.conversion.source} → {self.conversion.target}"
        return f"{self.step} {shape} {self.dtype.name}, {where}"


@dataclass(frozen=True, slots=True)
class SkippedOperator:
    """An operator that changes a representation but cannot be replayed, and why."""

    position: int
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReplayDelegate:
    """Steps in the order of the graph; ``baseline`` is None where it is not known."""

    name: str
    steps: tuple[ReplayStep, ...]
    baseline: tuple[ReplayStep, ...] | None
    skipped: tuple[SkippedOperator, ...]


@dataclass(frozen=True, slots=True)
class ReplayProgram:
    """A program to replay; ``profile`` is the name of the profile that predicts, if any."""

    name: str
    kind: FileKind
    profile: str | None
    delegates: tuple[ReplayDelegate, ...]


def read_steps(data: bytes, name: str, profile: DeviceProfile | None = None) -> ReplayProgram:
    """Reads the steps of a planned program, a ``.pte``, a VkGraph, or a Vulkan delegate's blob.

    Predictions come from ``profile``; without one, from the costs in a planned program if they are
    in ns. Only a planned program has a baseline.

    The runtime turns ``PACKED_INT8_CONV2D`` into 4C1W or 4C when it loads a program (source:
    ``runtime/ResolveLayouts.cpp``). Here it becomes 4C1W, or 4C next to 4C1W itself, in the plan
    and in the baseline.

    Raises ``InputError`` for damaged bytes and ``OptionError`` for a profile that is not in ns.
    """
    if profile is not None and profile.unit != "ns":
        raise OptionError(
            f"profile {profile.name} is in {profile.unit}, but a replay measures ns: use a "
            "profile in ns"
        )
    listing = read_listing(data, name)
    program = listing.program
    prices = _Prices(profile, program is not None and program.cost_unit == "ns")
    predicts = profile.name if profile is not None else None
    if program is not None and profile is None and prices.are_claimed:
        predicts = program.profile_name
    return ReplayProgram(
        name=name,
        kind=listing.kind,
        profile=predicts,
        delegates=tuple(_Reader(delegate, prices).read() for delegate in listing.delegates),
    )


class _Prices:
    """Predictions: a profile's, else the plan's own costs if they are in ns."""

    def __init__(self, profile: DeviceProfile | None, are_claimed: bool) -> None:
        self._costs = None if profile is None else ProfileCosts(profile, "repack")
        self.are_claimed = are_claimed

    def of(
        self, tensor: VkTensor, source: TensorRepr, target: TensorRepr, claimed: float | None
    ) -> float | None:
        """The predicted time of a repack in ns; None if unknown."""
        if self._costs is not None:
            made = Tensor("", tensor.dims, tensor.datatype)
            price = transition_price(self._costs, made, source, target)
            return self._costs.profile.in_units(price.cost)
        is_said = self.are_claimed and claimed is not None and isfinite(claimed)
        return claimed if is_said else None


class _SkipError(Exception):
    """An operator that cannot be replayed."""


class _Reader:
    """Reads one delegate."""

    def __init__(self, delegate: ListedDelegate, prices: _Prices) -> None:
        self.delegate, self.graph, self.prices = delegate, delegate.graph, prices

    def read(self) -> ReplayDelegate:
        """The steps in the order of the chain."""
        plan = self.delegate.plan
        claims = {t.operator_index: t.cost for t in plan.transitions} if plan else {}
        repacks = {t.position for t in self.delegate.contracted.transitions}
        steps, skipped = [], []
        for position, call in enumerate(self.graph.chain):
            kind = _kind(call, position in repacks)
            if kind is None:
                continue
            try:
                steps.append(self._step(kind, position, call, claims.get(position)))
            except _SkipError as error:
                skipped.append(SkippedOperator(position, call.name, str(error)))
        baseline = None if plan is None else self._baseline(plan)
        return ReplayDelegate(self.delegate.name, tuple(steps), baseline, tuple(skipped))

    def _step(
        self, kind: Step, position: int, call: OperatorCall, claimed: float | None
    ) -> ReplayStep:
        if len(call.args) < 3:
            raise _SkipError("it has too few arguments")
        source, output = self._tensor(call.args[0]), self._tensor(call.args[-1])
        made, target = repr_of(source), repr_of(output)
        if made is None or target is None:
            raise _SkipError("its tensors have no representations of their own")
        if source.dims != output.dims:
            raise _SkipError("its tensors differ in shape")
        if 0 in source.dims:
            raise _SkipError("its tensor has no elements")
        parameters = predicted = None
        if kind == "repack":
            predicted = self.prices.of(source, made, target, claimed)
        else:
            floats, int8 = (source, output) if kind == "quantize" else (output, source)
            if floats.datatype not in _FLOATS or int8.datatype != VkDataType.INT8:
                raise _SkipError("it is not between floats and int8")
            if call.name.endswith(".tensor"):
                raise _SkipError("its scale is a tensor, which the file does not hold")
            parameters = self._parameters(call)
        value_id = call.args[0]
        return ReplayStep(
            conversion=_conversion(kind, made, target, source.datatype, output.datatype),
            shape=source.dims,
            dtype=source.datatype,
            output_dtype=output.datatype,
            tensor=self.delegate.names.get(value_id, f"v{value_id}"),
            position=position,
            source=value_id,
            output=call.args[-1],
            parameters=parameters,
            predicted_ns=predicted,
        )

    def _tensor(self, value_id: int) -> VkTensor:
        value = self.graph.values[value_id]
        if not isinstance(value, VkTensor):
            raise _SkipError(f"value {value_id} is not a tensor")
        return value

    def _parameters(self, call: OperatorCall) -> QuantParams:
        scale, zero_point = (self._number(value_id) for value_id in call.args[1:3])
        try:
            return QuantParams(scale, int(zero_point))
        except GpuError as error:
            raise _SkipError(str(error)) from error

    def _number(self, value_id: int) -> float:
        # ExecuTorch's builder shares equal scalars: a scale of 1.0 may be written as an Int.
        match self.graph.values[value_id]:
            case Double(number) | Int(number) if isfinite(number):
                return number
        raise _SkipError("its scale or zero point is not a finite number")

    def _baseline(self, plan: DelegatePlan) -> tuple[ReplayStep, ...] | None:
        if len(plan.baseline_repacks) != plan.figures.baseline_transitions:
            return None  # an older release did not write them
        steps = []
        for index, repack in enumerate(plan.baseline_repacks):
            made = TensorRepr(repack.from_storage, repack.from_layout)
            target = TensorRepr(repack.to_storage, repack.to_layout)
            if made not in LABELS or target not in LABELS or repack.datatype not in ELEMENTS:
                raise InputError(
                    f"{self.delegate.name} is damaged: repack {index} of its baseline has an "
                    "unknown representation or type"
                )
            if 0 in repack.sizes:
                continue
            tensor = VkTensor(repack.datatype, repack.sizes)
            steps.append(
                ReplayStep(
                    conversion=_conversion(
                        "repack", made, target, tensor.datatype, tensor.datatype
                    ),
                    shape=tensor.dims,
                    dtype=tensor.datatype,
                    output_dtype=tensor.datatype,
                    predicted_ns=self.prices.of(tensor, made, target, repack.cost),
                )
            )
        return tuple(steps)


def _kind(call: OperatorCall, is_repack: bool) -> Step | None:
    if is_repack:
        return "repack"
    if call.name.startswith(_QUANTIZE):
        return "quantize"
    return "dequantize" if call.name.startswith(_DEQUANTIZE) else None


def _conversion(
    step: Step, source: TensorRepr, target: TensorRepr, dtype: VkDataType, output: VkDataType
) -> Conversion:
    """The conversion, with layouts that the runtime leaves in memory."""
    source, target = stand_ins(source, target)
    sizes = (np.dtype(ELEMENTS[d]).itemsize for d in (dtype, output))
    return Conversion(step, source, target, *sizes)
