"""Runs conversions on the GPU: quantize, dequantize and repack, one dispatch each."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gpu.device import Gpu
from gpu.errors import GpuError
from gpu.kernel import Shader, Step
from gpu.library import library
from gpu.shader import shader
from gpu.tensor import GpuTensor, check_writable

LEAST_SCALE: Final = 2.0**-125
MOST_SCALE: Final = 2.0**125
"""Scales in this range make no subnormal product that matters, so that drivers that flush
subnormals to zero give the same bits."""


@dataclass(frozen=True, slots=True)
class QuantParams:
    """Affine int8 quantization of a whole tensor: x = (q - zero_point) * scale."""

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        if not LEAST_SCALE <= self.scale <= MOST_SCALE:
            raise GpuError(f"scale {self.scale} is not between 2^-125 and 2^125")
        if not -128 <= self.zero_point <= 127:
            raise GpuError(f"zero point {self.zero_point} is not from -128 to 127")


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A conversion that is ready to run; it can be encoded into any number of compute passes."""

    pipeline: Any
    bindings: Any
    groups: tuple[int, int, int]
    source: GpuTensor
    target: GpuTensor

    def encode(self, compute_pass: Any) -> None:
        """Appends the dispatch to a compute pass; raises ``ValueError`` if a tensor was freed."""
        self.source.check()
        self.target.check()
        compute_pass.set_pipeline(self.pipeline)
        compute_pass.set_bind_group(0, self.bindings)
        compute_pass.dispatch_workgroups(*self.groups)


class Converter:
    """Makes dispatches, and keeps the compiled pipelines."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self._pipelines: dict[str, Any] = {}

    def prepare(
        self,
        source: GpuTensor,
        target: GpuTensor,
        step: Step = "repack",
        parameters: QuantParams | None = None,
    ) -> Dispatch:
        """The dispatch that converts ``source`` into ``target``.

        ``parameters`` are needed to quantize and dequantize. Raises ``GpuError`` for shapes or
        types that do not match, and where the driver refuses.
        """
        made = shader(source.placement, target.placement, step)
        if made.has_parameters and parameters is None:
            raise GpuError(f"cannot {step} without a scale and a zero point: pass parameters")
        return self.prepare_shader(made, source, target, step, parameters)

    def prepare_shader(
        self,
        made: Shader,
        source: GpuTensor,
        target: GpuTensor,
        step: Step = "repack",
        parameters: QuantParams | None = None,
    ) -> Dispatch:
        """The dispatch of a shader; raises ``GpuError`` where the driver refuses it."""
        return self.gpu.guarded(lambda: self._prepare(made, source, target, step, parameters))

    def _prepare(
        self,
        made: Shader,
        source: GpuTensor,
        target: GpuTensor,
        step: Step,
        parameters: QuantParams | None,
    ) -> Dispatch:
        import wgpu

        check_writable(target)
        device = self.gpu.device
        pipeline = self._pipelines.get(made.code)
        if pipeline is None:
            module = device.create_shader_module(code=library(self.gpu) + made.code)
            pipeline = device.create_compute_pipeline(
                layout="auto", compute={"module": module, "entry_point": "main"}
            )
            self._pipelines[made.code] = pipeline
        entries = [
            {"binding": 0, "resource": source.binding},
            {"binding": 1, "resource": target.binding},
        ]
        if parameters is not None and made.has_parameters:
            scale = np.float32(parameters.scale)
            factor = np.float32(1) / scale if step == "quantize" else scale
            data = struct.pack("<ff", factor, parameters.zero_point)
            uniform = device.create_buffer_with_data(data=data, usage=wgpu.BufferUsage.UNIFORM)
            resource = {"buffer": uniform, "offset": 0, "size": len(data)}
            entries.append({"binding": 2, "resource": resource})
        layout = pipeline.get_bind_group_layout(0)
        bindings = device.create_bind_group(layout=layout, entries=entries)
        return Dispatch(pipeline, bindings, made.groups, source, target)

    def run(self, *dispatches: Dispatch) -> None:
        """Submits dispatches in order, without waiting for them."""
        self.gpu.guarded(lambda: self._run(dispatches))

    def _run(self, dispatches: tuple[Dispatch, ...]) -> None:
        encoder = self.gpu.device.create_command_encoder()
        compute_pass = encoder.begin_compute_pass()
        for dispatch in dispatches:
            dispatch.encode(compute_pass)
        compute_pass.end()
        self.gpu.queue.submit([encoder.finish()])
