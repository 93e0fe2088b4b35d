"""A GPU through wgpu: how it is chosen, its limits, and its errors."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeVar

from gpu.errors import DeviceLostError, GpuError, OutOfMemoryError
from planner.errors import OptionError
from planner.extras import require

Backend = Literal["vulkan", "metal", "d3d12", "opengl"]
BACKENDS: Final[tuple[Backend, ...]] = ("vulkan", "metal", "d3d12", "opengl")
"""In the order in which they are tried if none is asked for."""

_WGPU_NAMES: Final = {"vulkan": "Vulkan", "metal": "Metal", "d3d12": "D3D12", "opengl": "OpenGL"}
_FEATURES: Final = ("timestamp-query", "timestamp-query-inside-encoders", "shader-f16")
_LIMITS: Final = (
    "max-buffer-size",
    "max-storage-buffer-binding-size",
    "max-texture-dimension-3d",
    "max-compute-workgroups-per-dimension",
    "max-compute-invocations-per-workgroup",
    "max-compute-workgroup-size-x",
    "max-compute-workgroup-storage-size",
)
_OUT_OF_MEMORY: Final = "not enough memory"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """A GPU and its driver; ``limits`` in bytes, texels or workgroups, by wgpu's names."""

    name: str
    backend: str
    kind: str
    driver: str
    features: tuple[str, ...]
    limits: dict[str, int]

    @property
    def is_software(self) -> bool:
        """Whether the driver runs on the CPU."""
        return self.kind == "CPU"

    @property
    def has_timestamps(self) -> bool:
        """Whether the adapter can time work."""
        return "timestamp-query" in self.features

    @property
    def has_f16(self) -> bool:
        """Whether shaders can use float16."""
        return "shader-f16" in self.features


class Gpu:
    """An open device. Use ``open_gpu`` to get one; as a context it is closed at the end."""

    def __init__(self, info: AdapterInfo, device: Any) -> None:
        self.info = info
        self.device = device
        self.queue = device.queue
        self.has_exact_halves: bool | None = None

    @property
    def has_timestamps(self) -> bool:
        """Whether the device can time passes."""
        return "timestamp-query" in self.device.features

    def limit(self, name: str) -> int:
        """A limit of the device, by wgpu's name for it."""
        return int(self.device.limits[name])

    def guarded(self, action: Callable[[], T]) -> T:
        """The action's result.

        Raises ``OutOfMemoryError``, ``DeviceLostError``, or another ``GpuError`` where the device
        or driver refuses.
        """
        import wgpu

        try:
            return action()
        except (wgpu.GPUError, RuntimeError) as error:
            text = _one_line(error)
            # wgpu-native reports most of both as validation errors, which differ only in text.
            is_memory = isinstance(error, wgpu.GPUOutOfMemoryError)
            if is_memory or _OUT_OF_MEMORY in text.lower():
                raise OutOfMemoryError(
                    f"{self.info.name} is out of memory: use smaller tensors or close other "
                    f"programs ({text})"
                ) from error
            if "device is lost" in text.lower() or "device lost" in text.lower():
                raise DeviceLostError(
                    f"{self.info.name} was lost (driver reset or crash): run the command again, "
                    f"with smaller tensors if it recurs ({text})"
                ) from error
            raise GpuError(f"{self.info.name}: {text}") from error

    def wait(self) -> None:
        """Waits until all submitted work is done; raises as ``guarded`` does."""
        self.guarded(self._wait)

    def _wait(self) -> None:
        import wgpu

        # The queue works in order: once this read is back, all work before it is done. (The queue's
        # own on_submitted_work_done fails in wgpu-py 0.32: its callback has the wrong type.)
        buffer = self.device.create_buffer(size=4, usage=wgpu.BufferUsage.COPY_SRC)
        self.queue.read_buffer(buffer)
        buffer.destroy()

    def close(self) -> None:
        """Releases the device."""
        self.device.destroy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _one_line(error: BaseException) -> str:
    """The messages of an error and its causes, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:400] if lines else type(error).__name__


def parse_backend(text: str | None) -> Backend | None:
    """The backend of this name, None for None; raises ``OptionError`` for an unknown name."""
    if text is None:
        return None
    for backend in BACKENDS:
        if text.lower() == backend:
            return backend
    raise OptionError(f"unknown backend {text!r}: use one of {', '.join(BACKENDS)}")


def open_gpu(backend: Backend | None = None, adapter: str | None = None) -> Gpu:
    """Opens the GPU that ``choose`` picks.

    Raises ``GpuError`` where there is none or it fails, ``MissingExtraError`` without wgpu.
    """
    found = _adapters()
    info, handle = found[choose([info for info, _ in found], backend, adapter)]
    import wgpu

    features = [f for f in _FEATURES if f in handle.features]
    limits = {name: handle.limits[name] for name in _LIMITS if name in handle.limits}
    try:
        device = handle.request_device_sync(required_features=features, required_limits=limits)
    except (wgpu.GPUError, RuntimeError) as error:
        raise GpuError(f"{info.name} refuses to open: {_one_line(error)}") from error
    return Gpu(info, device)


def choose(
    adapters: Sequence[AdapterInfo], backend: Backend | None = None, adapter: str | None = None
) -> int:
    """Index of the adapter to use: hardware first, and Vulkan first unless ``backend`` is given.

    ``adapter`` is a part of the wanted adapter's name. Raises ``GpuError`` where there is none,
    which names the adapters that exist, or the driver to install.
    """
    wanted = [
        (BACKENDS.index(name), info.is_software, index)
        for index, info in enumerate(adapters)
        for name in BACKENDS
        if info.backend == name and backend in (None, name)
        if adapter is None or adapter.lower() in info.name.lower()
    ]
    if not wanted:
        raise GpuError(_none_text(backend, adapter, adapters))
    return min(wanted)[2]


def list_adapters() -> list[AdapterInfo]:
    """Every adapter of this machine.

    Raises ``MissingExtraError`` without wgpu, ``GpuError`` where wgpu cannot be loaded.
    """
    return [info for info, _ in _adapters()]


def _adapters() -> list[tuple[AdapterInfo, Any]]:
    require("the GPU", "wgpu")
    try:
        import wgpu
    except (ImportError, OSError) as error:
        raise GpuError(f"wgpu cannot be loaded: {_one_line(error)}") from error
    # Without this, OpenGL drivers write errors to the terminal of a machine that has no desktop.
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    adapters = wgpu.gpu.enumerate_adapters_sync()
    return [(_info(adapter), adapter) for adapter in adapters]


def _info(adapter: Any) -> AdapterInfo:
    info = adapter.info
    names = {wgpu_name: name for name, wgpu_name in _WGPU_NAMES.items()}
    backend = info["backend_type"]
    return AdapterInfo(
        name=info["device"] or info["vendor"] or "unnamed adapter",
        backend=names.get(backend, backend.lower()),
        kind=info["adapter_type"],
        driver=" ".join(part for part in (info["vendor"], info["description"]) if part),
        features=tuple(sorted(adapter.features)),
        limits={name: int(adapter.limits[name]) for name in _LIMITS if name in adapter.limits},
    )


def _none_text(backend: str | None, adapter: str | None, found: Sequence[AdapterInfo]) -> str:
    asked = f" with backend {backend}" if backend else ""
    asked += f" whose name contains {adapter!r}" if adapter else ""
    if found:
        names = ", ".join(f"{info.name} ({info.backend})" for info in found)
        return f"there is no GPU{asked}: this machine has {names}"
    hint = (
        "install a driver, or Mesa's software one (Debian and Ubuntu: apt install "
        "mesa-vulkan-drivers libvulkan1)"
        if sys.platform.startswith("linux")
        else "install a Vulkan driver"
    )
    return f"there is no GPU{asked}: {hint}"
