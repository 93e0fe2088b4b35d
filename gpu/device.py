"""A GPU through wgpu: which one, what it can do, and how it fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from gpu.errors import DeviceLostError, GpuError, OutOfMemoryError
from planner.errors import OptionError

Backend = Literal["vulkan", "metal", "d3d12", "opengl"]
BACKENDS: Final[tuple[Backend, ...]] = ("vulkan", "metal", "d3d12", "opengl")
"""In the order in which they are tried where none is asked for."""

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
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """Which GPU and driver; ``limits`` in bytes, texels or workgroups, by wgpu's names."""

    name: str
    backend: str
    kind: str
    driver: str
    features: tuple[str, ...]
    limits: dict[str, int]

    @property
    def is_software(self) -> bool:
        """Whether a CPU does the work."""
        return self.kind == "CPU"


class Gpu:
    """An open device. Use ``open_gpu`` to get one."""

    def __init__(self, info: AdapterInfo, device: Any) -> None:
        self.info = info
        self.device = device
        self.queue = device.queue

    @property
    def has_timestamps(self) -> bool:
        """Whether the device tells when a pass began and ended."""
        return "timestamp-query" in self.device.features

    def limit(self, name: str) -> int:
        """A limit of the device, by wgpu's name."""
        return int(self.device.limits[name])

    def guarded(self, action: Callable[[], T]) -> T:
        """The action's result; raises ``GpuError`` for what the device or driver refuses."""
        import wgpu

        try:
            return action()
        except wgpu.GPUOutOfMemoryError as error:
            raise OutOfMemoryError(
                f"{self.info.name} is out of memory: use smaller tensors or close other programs "
                f"({_first_line(error)})"
            ) from error
        except (wgpu.GPUError, RuntimeError) as error:
            text = _first_line(error)
            if "lost" in text.lower():
                raise DeviceLostError(
                    f"{self.info.name} was lost (driver reset or crash): run the command again, "
                    f"with smaller tensors if it recurs ({text})"
                ) from error
            raise GpuError(f"{self.info.name}: {text}") from error

    def wait(self) -> None:
        """Waits until all that was submitted is done."""
        self.guarded(self.queue.on_submitted_work_done_sync)

    def close(self) -> None:
        """Gives the device back."""
        self.device.destroy()


def _first_line(error: BaseException) -> str:
    """What happened: the innermost line of wgpu's chain of causes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:400] if lines else type(error).__name__


def parse_backend(text: str | None) -> Backend | None:
    """The backend of this name; raises ``OptionError``."""
    if text is None:
        return None
    for backend in BACKENDS:
        if text.lower() == backend:
            return backend
    raise OptionError(f"unknown backend {text!r}: use one of {', '.join(BACKENDS)}")


def open_gpu(backend: Backend | None = None, adapter: str | None = None) -> Gpu:
    """Opens a GPU: Vulkan's first where no backend is asked for, hardware before software.

    ``adapter`` is a part of the wanted adapter's name. Raises ``GpuError`` where there is none, and
    says what to install.
    """
    found = _adapters()
    wanted = [
        (info, handle)
        for name in BACKENDS
        for info, handle in found
        if info.backend == name and backend in (None, name)
    ]
    if adapter is not None:
        wanted = [pair for pair in wanted if adapter.lower() in pair[0].name.lower()]
    if not wanted:
        raise GpuError(_none_text(backend, adapter, [info for info, _ in found]))
    # A stable sort: backends stay in order among the adapters of one kind.
    info, handle = min(
        wanted, key=lambda pair: (BACKENDS.index(_backend(pair[0])), pair[0].is_software)
    )
    import wgpu

    features = [f for f in _FEATURES if f in handle.features]
    limits = {name: handle.limits[name] for name in _LIMITS if name in handle.limits}
    try:
        device = handle.request_device_sync(required_features=features, required_limits=limits)
    except (wgpu.GPUError, RuntimeError) as error:
        raise GpuError(f"{info.name} refuses to open: {_first_line(error)}") from error
    return Gpu(info, device)


def _backend(info: AdapterInfo) -> Backend:
    return next(name for name in BACKENDS if name == info.backend)


def list_adapters() -> list[AdapterInfo]:
    """Every adapter of this machine; raises ``GpuError`` where wgpu itself does not work."""
    return [info for info, _ in _adapters()]


def _adapters() -> list[tuple[AdapterInfo, Any]]:
    try:
        import wgpu
    except (ImportError, OSError) as error:
        raise GpuError(f"wgpu cannot be loaded: {_first_line(error)}") from error
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
