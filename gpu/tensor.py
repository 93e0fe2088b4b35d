"""Tensors in GPU memory: storage buffers or 3D images, by their placement."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpu.device import Gpu
from gpu.errors import GpuError
from gpu.placement import TEXEL_FORMATS, UNIT, Placement

_BINDING_ALIGNMENT: Final = 16
_ROW_ALIGNMENT: Final = 256
"""Alignment, in bytes, of an image's rows in the buffer through which it is read back."""

Bytes = NDArray[np.uint8]


class GpuTensor:
    """A tensor on a GPU. Its memory holds zeros at first."""

    def __init__(self, gpu: Gpu, placement: Placement, memory: Any = None) -> None:
        """Allocates memory, or takes the start of ``memory``, an existing buffer.

        Raises ``GpuError`` where the tensor exceeds a limit of the device or its memory.
        """
        check_limits(gpu, placement)
        self.gpu = gpu
        self.placement = placement
        self._is_borrowed = memory is not None
        self._memory: Any = gpu.guarded(self._allocate) if memory is None else memory
        self.binding: Any = (
            self.memory.create_view()
            if placement.is_texture
            else {"buffer": self.memory, "offset": 0, "size": bound_bytes(placement)}
        )

    @property
    def memory(self) -> Any:
        """The buffer or image; raises ``ValueError`` once the tensor is freed."""
        self.check()
        return self._memory

    def check(self) -> None:
        """Raises ``ValueError`` once the tensor is freed.

        wgpu aborts the process when commands use freed memory.
        """
        if self._memory is None:
            raise ValueError("the tensor was freed")

    def _allocate(self) -> Any:
        import wgpu

        placement, device = self.placement, self.gpu.device
        if not placement.is_texture:
            return create_buffer(self.gpu, bound_bytes(placement))
        return device.create_texture(
            size=placement.image_extents,
            dimension="3d",
            format=TEXEL_FORMATS[placement.element_bytes],
            usage=wgpu.TextureUsage.STORAGE_BINDING
            | wgpu.TextureUsage.TEXTURE_BINDING
            | wgpu.TextureUsage.COPY_SRC
            | wgpu.TextureUsage.COPY_DST,
        )

    def write(self, data: Bytes) -> None:
        """Fills the memory, padding included; takes exactly ``placement.bytes`` bytes."""
        if data.nbytes != self.placement.bytes:
            raise ValueError(f"{data.nbytes} bytes given, {self.placement.bytes} expected")
        queue = self.gpu.queue
        if not self.placement.is_texture:
            padded = np.zeros(bound_bytes(self.placement), np.uint8)
            padded[: data.nbytes] = data
            self.gpu.guarded(lambda: queue.write_buffer(self.memory, 0, padded))
            return
        x, y, _ = self.placement.image_extents
        layout = {
            "offset": 0,
            "bytes_per_row": x * UNIT * self.placement.element_bytes,
            "rows_per_image": y,
        }
        destination = {"texture": self.memory}
        extents = self.placement.image_extents
        self.gpu.guarded(
            lambda: queue.write_texture(destination, np.ascontiguousarray(data), layout, extents)
        )

    def read(self) -> Bytes:
        """The ``placement.bytes`` bytes of the memory, padding included."""
        if not self.placement.is_texture:
            size = bound_bytes(self.placement)
            memory = self.gpu.guarded(lambda: self.gpu.queue.read_buffer(self.memory, 0, size))
            return np.frombuffer(memory, np.uint8)[: self.placement.bytes].copy()
        return self.gpu.guarded(self._read_image)

    def _read_image(self) -> Bytes:
        import wgpu

        x, y, z = self.placement.image_extents
        row = x * UNIT * self.placement.element_bytes
        stride = -(-row // _ROW_ALIGNMENT) * _ROW_ALIGNMENT
        usage = wgpu.BufferUsage.COPY_DST | wgpu.BufferUsage.COPY_SRC
        staging = self.gpu.device.create_buffer(size=stride * y * z, usage=usage)
        encoder = self.gpu.device.create_command_encoder()
        encoder.copy_texture_to_buffer(
            {"texture": self.memory},
            {"buffer": staging, "offset": 0, "bytes_per_row": stride, "rows_per_image": y},
            (x, y, z),
        )
        self.gpu.queue.submit([encoder.finish()])
        rows = np.frombuffer(self.gpu.queue.read_buffer(staging), np.uint8)
        staging.destroy()
        return rows.reshape(z, y, stride)[:, :, :row].reshape(-1).copy()

    def free(self) -> None:
        """Frees the memory if the tensor allocated it; the tensor cannot be used afterwards."""
        if self._memory is not None and not self._is_borrowed:
            self._memory.destroy()
        self._memory = None


def bound_bytes(placement: Placement) -> int:
    """Bytes of a placement's buffer when it is bound: whole vectors of four words."""
    return -(-placement.bytes // _BINDING_ALIGNMENT) * _BINDING_ALIGNMENT


def create_buffer(gpu: Gpu, size: int) -> Any:
    """A buffer of ``size`` bytes that shaders and copies can read and write."""
    import wgpu

    usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
    return gpu.device.create_buffer(size=size, usage=usage)


def check_limits(gpu: Gpu, placement: Placement) -> None:
    """Raises ``GpuError`` naming the limit of the device that the tensor exceeds."""
    what = f"a tensor of shape {list(placement.shape)} as {placement.representation}"
    if placement.is_texture:
        most = gpu.limit("max-texture-dimension-3d")
        if max(placement.image_extents) > most:
            extents = " x ".join(map(str, placement.image_extents))
            raise GpuError(
                f"{what} is an image of {extents} texels, and {gpu.info.name} takes at most {most} "
                "on a side: use a buffer"
            )
    else:
        most = min(gpu.limit("max-storage-buffer-binding-size"), gpu.limit("max-buffer-size"))
        if placement.bytes > most - _BINDING_ALIGNMENT:
            raise GpuError(
                f"{what} takes {placement.bytes} bytes, and {gpu.info.name} binds at most {most}: "
                "use a smaller tensor"
            )


def check_writable(tensor: GpuTensor) -> None:
    """Raises ``GpuError`` where shaders cannot write all of the tensor.

    wgpu's OpenGL backend binds only the first layer of a 3D image; writes to other layers are lost.
    """
    placement, info = tensor.placement, tensor.gpu.info
    if placement.is_texture and info.backend == "opengl" and placement.image_extents[2] > 1:
        raise GpuError(
            f"{info.name} writes only the first layer of a 3D image through OpenGL: use a GPU "
            "with a Vulkan driver, or a buffer"
        )
