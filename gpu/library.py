"""The WGSL functions that all shaders use, in the variant that is exact on a device."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gpu.device import Gpu

_PROBE: Final = """
@group(0) @binding(0) var<storage, read> source: array<{source}>;
@group(0) @binding(1) var<storage, read_write> result: array<{result}>;
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
  if (id.x < arrayLength(&source)) {{ result[id.x] = {function}(source[id.x]); }}
}}
"""


def library(gpu: Gpu) -> str:
    """The functions for all shaders on this device, as WGSL.

    float16 is converted by WGSL's own functions if a probe of the device finds them exact, over
    every float16 and every float32 at which rounding changes. Otherwise it is converted with
    integers, in several times as many instructions.
    """
    return library_text("builtin" if has_exact_halves(gpu) else "integer")


def library_text(halves: Literal["builtin", "integer"]) -> str:
    """The functions for all shaders, in the variant that converts float16 so, as WGSL."""
    return _read("conversions") + _read(f"halves_{halves}")


def has_exact_halves(gpu: Gpu) -> bool:
    """Whether WGSL's conversions from and to float16 are exact, half to even, on this device."""
    if gpu.has_exact_halves is None:
        gpu.has_exact_halves = gpu.guarded(lambda: _probe(gpu))
    return gpu.has_exact_halves


def _probe(gpu: Gpu) -> bool:
    halves = np.arange(2**16, dtype=np.uint16)
    floats = halves.view(np.float16).astype(np.float32)
    got = run(gpu, "builtin", "from_halves", halves).view(np.float32)
    is_nan = np.isnan(floats)
    if not np.isnan(got[is_nan]).all() or not _is_equal(got[~is_nan], floats[~is_nan]):
        return False
    edges = rounding_edges()
    with np.errstate(over="ignore"):
        expected = edges.astype(np.float16)
    return _is_equal(run(gpu, "builtin", "to_halves", edges).view(np.float16), expected)


def rounding_edges() -> NDArray[np.float32]:
    """Each float16, the midpoint to the next one, and the float32 on either side of the midpoint.

    Infinities, and values that round to them, are included; the count is a multiple of four.
    """
    finite = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    next_up = np.append(finite[1:], np.float32(65536))
    middle = (finite + next_up) / 2
    far = np.array([65536, 1e6, 3e38, np.inf], np.float32)
    above, below = np.nextafter(middle, next_up), np.nextafter(middle, finite)
    positive: NDArray[np.float32] = np.concatenate([finite, middle, above, below, far])
    return np.concatenate([positive, -positive])


def run(gpu: Gpu, variant: str, function: str, values: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes that ``function`` of a variant of the library gives for values.

    ``from_halves`` takes the bits of float16, ``to_halves`` float32.
    """
    import wgpu

    words, floats = "vec2<u32>", "vec4<u32>"
    source, result = (words, floats) if function == "from_halves" else (floats, words)
    size = values.nbytes * 2 if function == "from_halves" else values.nbytes // 2
    code = _PROBE.format(source=source, result=result, function=function)
    # The file also has the functions that quantize, which need parameters.
    constants = "struct Parameters { factor: f32, zero_point: f32 };\n"
    constants += "const params = Parameters(1.0, 0.0);\n"
    device = gpu.device
    module = device.create_shader_module(
        code=constants + _read("conversions") + _read(f"halves_{variant}") + code
    )
    pipeline = device.create_compute_pipeline(
        layout="auto", compute={"module": module, "entry_point": "main"}
    )
    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC
    given = device.create_buffer_with_data(data=values, usage=usage)
    made = device.create_buffer(size=size, usage=usage)
    entries = [
        {"binding": k, "resource": {"buffer": buffer, "offset": 0, "size": buffer.size}}
        for k, buffer in enumerate((given, made))
    ]
    encoder = device.create_command_encoder()
    compute_pass = encoder.begin_compute_pass()
    compute_pass.set_pipeline(pipeline)
    layout = pipeline.get_bind_group_layout(0)
    compute_pass.set_bind_group(0, device.create_bind_group(layout=layout, entries=entries))
    compute_pass.dispatch_workgroups(-(-values.size // (4 * 256)))
    compute_pass.end()
    gpu.queue.submit([encoder.finish()])
    got = np.frombuffer(gpu.queue.read_buffer(made), np.uint8).copy()
    given.destroy()
    made.destroy()
    return got


def _is_equal(got: NDArray[Any], expected: NDArray[Any]) -> bool:
    return got.tobytes() == expected.tobytes()


@cache
def _read(name: str) -> str:
    return (Path(__file__).parent / "shaders" / f"{name}.wgsl").read_text("utf-8")
