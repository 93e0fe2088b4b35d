"""What the GPU cannot do is refused in one line, and never by the end of the process."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gpu import device
from gpu.convert import Converter, QuantParams
from gpu.device import Backend, Gpu, choose, list_adapters, open_gpu, parse_backend
from gpu.errors import DeviceLostError, GpuError, OutOfMemoryError
from gpu.kernel import Step
from gpu.placement import CONTIGUOUS, Placement
from gpu.shader import shader
from gpu.tensor import GpuTensor
from gpu.timing import BufferCopy, Dispatches, Timer
from planner.errors import MissingExtraError, OptionError
from planner.ir.representation import FLOAT_LAYOUTS, QUANTIZED_LAYOUTS, TensorRepr
from schema import VkStorageType

BUFFER, TEXTURE = VkStorageType.BUFFER, VkStorageType.TEXTURE_3D
TEXTURES = [TensorRepr(TEXTURE, layout) for layout in FLOAT_LAYOUTS]
INT8 = TensorRepr(BUFFER, QUANTIZED_LAYOUTS[0])


@pytest.mark.parametrize(
    ("shape", "representation", "size", "text"),
    [
        ((2, 0, 3), CONTIGUOUS, 4, r"shape \[2, 0, 3\] has no elements"),
        ((1, 1, 1, 1, 2), TEXTURES[0], 4, "5 dimensions .* texture:WIDTH_PACKED: at most 4"),
        ((1,) * 9, CONTIGUOUS, 4, "9 dimensions .* buffer:WIDTH_PACKED: at most 8"),
        ((4,), CONTIGUOUS, 8, "8 bytes have no GPU format: use 1, 2 or 4"),
        ((4,), CONTIGUOUS, 3, "3 bytes have no GPU format"),
        ((4,), INT8, 4, "buffer:4C1W holds elements of one byte"),
    ],
)
def test_placements(
    shape: tuple[int, ...], representation: TensorRepr, size: int, text: str
) -> None:
    with pytest.raises(GpuError, match=text):
        Placement(shape, representation, size)


@pytest.mark.parametrize(
    ("step", "source", "target", "text"),
    [
        ("repack", 4, 2, "cannot repack elements of 4 bytes to elements of 2"),
        ("quantize", 1, 1, "cannot quantize elements of 1 bytes"),
        ("quantize", 4, 4, "cannot quantize elements of 4 bytes to elements of 4"),
        ("dequantize", 4, 1, "cannot dequantize elements of 4 bytes"),
        ("dequantize", 1, 1, "cannot dequantize elements of 1 bytes"),
    ],
)
def test_element_sizes(step: Step, source: int, target: int, text: str) -> None:
    with pytest.raises(GpuError, match=text):
        shader(Placement((4,), CONTIGUOUS, source), Placement((4,), CONTIGUOUS, target), step)


def test_shapes() -> None:
    with pytest.raises(GpuError, match=r"shapes differ: \[2, 3\] and \[3, 2\]"):
        shader(Placement((2, 3), CONTIGUOUS, 4), Placement((3, 2), CONTIGUOUS, 4))


@pytest.mark.parametrize("scale", [0.0, -1.0, 2.0**-126, 2.0**126, math.inf, math.nan])
def test_scales(scale: float) -> None:
    with pytest.raises(GpuError, match="is not between 2"):
        QuantParams(scale, 0)


@pytest.mark.parametrize("zero_point", [-129, 128])
def test_zero_points(zero_point: int) -> None:
    with pytest.raises(GpuError, match="is not from -128 to 127"):
        QuantParams(1.0, zero_point)


def test_missing_parameters(gpu: Gpu) -> None:
    tensors = [GpuTensor(gpu, Placement((4,), CONTIGUOUS, size)) for size in (4, 1)]
    with pytest.raises(GpuError, match="cannot quantize without a scale and a zero point"):
        Converter(gpu).prepare(tensors[0], tensors[1], "quantize")


def test_images_beyond_the_limit(gpu: Gpu) -> None:
    most = gpu.limit("max-texture-dimension-3d")
    for representation, shape in zip(
        TEXTURES, [(4 * most + 1,), (4 * most + 1, 1), (4 * most + 1, 1, 1)], strict=True
    ):
        with pytest.raises(GpuError, match=f"{most + 1} .*texels, and .* at most {most} on a side"):
            GpuTensor(gpu, Placement(shape, representation, 4))
    GpuTensor(gpu, Placement((4 * most,), TEXTURES[0], 1)).free()


def test_buffers_beyond_the_limit(gpu: Gpu) -> None:
    most = gpu.limit("max-storage-buffer-binding-size")
    with pytest.raises(GpuError, match=f"takes {most} bytes, and .* binds at most {most}"):
        GpuTensor(gpu, Placement((most // 4,), CONTIGUOUS, 4))


def test_bytes_of_another_size(gpu: Gpu) -> None:
    with pytest.raises(ValueError, match="3 bytes given, 16 expected"):
        GpuTensor(gpu, Placement((4,), CONTIGUOUS, 4)).write(np.zeros(3, np.uint8))


def test_invalid_shaders_are_errors(gpu: Gpu) -> None:
    with pytest.raises(GpuError, match="wgpuDeviceCreateShaderModule"):
        gpu.guarded(lambda: gpu.device.create_shader_module(code="fn main() { let x: u32 = 1.5; }"))


def test_memory_that_there_is_not(gpu: Gpu) -> None:
    """The driver refuses one image of 4096 x 4096 x 4096 texels, and works on."""
    import wgpu

    most = gpu.limit("max-texture-dimension-3d")
    with pytest.raises(OutOfMemoryError, match="is out of memory: use smaller tensors"):
        gpu.guarded(
            lambda: gpu.device.create_texture(
                size=(most, most, most),
                dimension="3d",
                format="rgba32uint",
                usage=wgpu.TextureUsage.STORAGE_BINDING,
            )
        )
    GpuTensor(gpu, Placement((4,), CONTIGUOUS, 4)).free()


def test_both_kinds_of_memory_errors(gpu: Gpu) -> None:
    import wgpu

    def fail() -> None:
        raise wgpu.GPUOutOfMemoryError("no room")

    with pytest.raises(OutOfMemoryError, match="no room"):
        gpu.guarded(fail)


def test_other_bugs_are_not_hidden(gpu: Gpu) -> None:
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        gpu.guarded(fail)


@pytest.mark.gpu
def test_lost_devices() -> None:
    """Whatever is asked of a device that is gone, the process goes on."""
    lost = open_gpu()
    buffer, image = (GpuTensor(lost, Placement((4, 8, 8), r, 4)) for r in (CONTIGUOUS, TEXTURES[2]))
    data = np.zeros(1024, np.uint8)
    converter = Converter(lost)
    dispatch = converter.prepare(buffer, image)
    timer = Timer(lost) if lost.has_timestamps else None
    lost.close()
    uses: list[Any] = [
        buffer.read,
        image.read,
        lambda: buffer.write(data),
        lambda: image.write(data),
        lambda: converter.prepare(buffer, image),
        lambda: converter.prepare(image, buffer),
        lambda: converter.run(dispatch),
        lambda: GpuTensor(lost, buffer.placement),
        lambda: GpuTensor(lost, image.placement),
        lost.wait,
    ]
    if timer is not None:
        uses.append(lambda: timer.times([Dispatches(dispatch)], 1))
    for use in uses:
        with pytest.raises(DeviceLostError, match=r"was lost .* run the command again"):
            use()
    lost.close()


def test_a_device_is_given_back_at_the_end_of_its_context(gpu: Gpu) -> None:
    with open_gpu() as other:
        other.wait()
    with pytest.raises(DeviceLostError):
        other.wait()


def test_freed_tensors(gpu: Gpu) -> None:
    """wgpu aborts the process over commands that use freed memory; so none get there."""
    placements = [Placement((4, 8, 8), r, 4) for r in (CONTIGUOUS, TEXTURES[2])]
    converter = Converter(gpu)
    source, target = (GpuTensor(gpu, placement) for placement in placements)
    dispatch = converter.prepare(source, target)
    copy = BufferCopy(source, GpuTensor(gpu, placements[0]), 1024)
    uses: list[Any] = []
    for tensor in (source, target):
        tensor.free()
        tensor.free()
        uses += [tensor.read, partial(tensor.write, np.zeros(1024, np.uint8))]
        uses.append(partial(converter.run, dispatch))
        if gpu.has_timestamps:
            uses.append(partial(Timer(gpu).times, [copy], 1))
        for use in uses:
            with pytest.raises(ValueError, match="the tensor was freed"):
                use()
    with pytest.raises(GpuError, match="destroyed"):
        converter.prepare(source, target)


def test_images_through_opengl(gpu: Gpu) -> None:
    """wgpu's OpenGL backend would leave all layers but the first as they are."""
    through_opengl = Gpu(replace(gpu.info, backend="opengl"), gpu.device)
    deep, flat = (Placement((channels, 8, 8), TEXTURES[2], 4) for channels in (5, 4))
    for placement in (deep, flat):
        source = GpuTensor(through_opengl, Placement(placement.shape, CONTIGUOUS, 4))
        image = GpuTensor(through_opengl, placement)
        converter = Converter(through_opengl)
        converter.prepare(image, source)
        if placement == flat:
            converter.prepare(source, image)
        else:
            with pytest.raises(GpuError, match="only the first layer of a 3D image through OpenGL"):
                converter.prepare(source, image)


def test_tensors_of_another_device(gpu: Gpu) -> None:
    other = open_gpu()
    placement = Placement((4,), CONTIGUOUS, 4)
    with pytest.raises(GpuError, match="doesn't match"):
        Converter(gpu).prepare(GpuTensor(other, placement), GpuTensor(gpu, placement))
    other.close()


def test_waiting(gpu: Gpu) -> None:
    tensor = GpuTensor(gpu, Placement((4,), CONTIGUOUS, 4))
    tensor.write(np.ones(16, np.uint8))
    gpu.wait()
    tensor.free()


def test_devices_without_timestamps(gpu: Gpu) -> None:
    bare = SimpleNamespace(features=(), queue=None)
    with pytest.raises(GpuError, match="has no timestamp queries: it cannot be measured"):
        Timer(Gpu(gpu.info, bare))


@pytest.mark.parametrize(
    ("backend", "adapter", "asked"),
    [
        (None, "Voodoo 2", "whose name contains 'Voodoo 2'"),
        ("metal", None, "with backend metal"),
        ("vulkan", "Voodoo", "with backend vulkan whose name contains 'Voodoo'"),
    ],
)
def test_adapters_that_there_are_not(
    gpu: Gpu, backend: Backend | None, adapter: str | None, asked: str
) -> None:
    with pytest.raises(GpuError) as caught:
        open_gpu(backend, adapter)
    text = str(caught.value)
    assert text.startswith(f"there is no GPU {asked}: this machine has ")
    assert f"{gpu.info.name} ({gpu.info.backend})" in text


def test_no_adapter_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_adapters", list)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(GpuError) as caught:
        open_gpu()
    assert str(caught.value) == (
        "there is no GPU: install a driver, or Mesa's software one (Debian and Ubuntu: apt install "
        "mesa-vulkan-drivers libvulkan1)"
    )
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(GpuError, match="there is no GPU with backend vulkan: install a Vulkan"):
        open_gpu("vulkan")


def test_wgpu_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wgpu", None)
    with pytest.raises(MissingExtraError, match="the GPU needs wgpu"):
        list_adapters()


def test_wgpu_that_does_not_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "wgpu.py").write_text("raise OSError('libwgpu_native.so: no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wgpu", raising=False)
    with pytest.raises(GpuError, match="wgpu cannot be loaded: libwgpu_native"):
        list_adapters()


def test_devices_that_refuse_to_open(monkeypatch: pytest.MonkeyPatch, gpu: Gpu) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("Request device failed (3):\n  not today")

    adapter = SimpleNamespace(features=(), limits={}, request_device_sync=refuse)
    monkeypatch.setattr(device, "_adapters", lambda: [(gpu.info, adapter)])
    with pytest.raises(GpuError, match=r"refuses to open: Request device failed \(3\): not today"):
        open_gpu()


def test_the_choice_of_an_adapter(gpu: Gpu) -> None:
    """Vulkan before the others, hardware before software, and what is asked for before all."""

    def named(name: str, backend: str, kind: str) -> Any:
        return replace(gpu.info, name=name, backend=backend, kind=kind)

    machine = [
        named("Cool GL", "opengl", "DiscreteGPU"),
        named("llvmpipe", "vulkan", "CPU"),
        named("Cool", "vulkan", "DiscreteGPU"),
        named("Cooler", "vulkan", "IntegratedGPU"),
        named("strange", "null", "Unknown"),
    ]
    assert choose(machine) == 2
    assert choose(machine[:2]) == 1
    assert choose(machine, "opengl") == 0
    assert choose(machine, None, "LLVM") == 1
    assert choose(machine, None, "cooler") == 3
    assert choose(machine, "opengl", "cool") == 0
    with pytest.raises(GpuError, match=r"there is no GPU: this machine has strange \(null\)"):
        choose(machine[4:])
    with pytest.raises(GpuError, match="there is no GPU with backend opengl whose name"):
        choose(machine, "opengl", "llvmpipe")


def test_backends() -> None:
    assert parse_backend("Vulkan") == "vulkan" and parse_backend(None) is None
    with pytest.raises(OptionError, match="unknown backend 'cuda': use one of vulkan, metal"):
        parse_backend("cuda")
