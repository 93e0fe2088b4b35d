"""The parts that all shaders share: bindings, conversions, and the grid of workgroups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from gpu.access import Memory
from gpu.errors import GpuError
from gpu.placement import Extents, Placement

Step = Literal["repack", "quantize", "dequantize"]
"""The change of elements on their way: none (bits move), or one of their type."""

THREADS: Final = 256
"""Invocations in a workgroup."""

MOST_GROUPS: Final = 65535
"""Workgroups in one dimension of a dispatch that every adapter takes."""


@dataclass(frozen=True, slots=True)
class Shader:
    """A compute shader and its dispatch; its code needs ``gpu.library`` before it.

    Binding 0 is the source, binding 1 the target; with ``has_parameters`` binding 2 is a uniform of
    two float32: 1/scale (to quantize) or scale (to dequantize), and the zero point.
    """

    code: str
    groups: tuple[int, int, int]
    has_parameters: bool


class Kernel(ABC):
    """The common base of all kinds of shader."""

    by_word: bool

    def __init__(self, source: Placement, target: Placement, step: Step) -> None:
        self.source = Memory(source, "source", 0, by_word=self.by_word)
        self.target = Memory(target, "result", 1, by_word=self.by_word)
        self.step = step
        self.extents: Extents = source.extents

    @abstractmethod
    def lines(self) -> Iterator[str]:
        """The body of the shader, in which ``workgroup`` and ``thread`` are defined."""

    def declarations(self) -> Iterator[str]:
        """Declarations besides the bindings."""
        yield from ()

    @property
    def threads(self) -> int:
        """Invocations in a workgroup."""
        return THREADS

    @property
    @abstractmethod
    def groups(self) -> int:
        """The number of workgroups that the shader needs."""

    def shader(self) -> Shader:
        """The complete shader; raises ``GpuError`` for too many workgroups."""
        grid = _dispatch(self.groups)
        has_parameters = self.step != "repack"
        factor, zero_point = "factor: f32", "zero_point: f32"
        code = [
            self.source.declaration(),
            self.target.declaration(),
            f"struct Parameters {{ {factor}, {zero_point} }};",
            "@group(0) @binding(2) var<uniform> params: Parameters;"
            if has_parameters
            else "const params = Parameters(1.0, 0.0);",
            *self.declarations(),
            f"@compute @workgroup_size({self.threads})",
            "fn main(@builtin(workgroup_id) group: vec3<u32>,",
            "        @builtin(local_invocation_index) thread: u32) {",
            f"  let workgroup = group.x + group.y * {grid[0]}u;",
            f"  if (workgroup >= {self.groups}u) {{ return; }}",
            *("  " + line for line in self.lines()),
            "}",
        ]
        return Shader("\n".join(code) + "\n", grid, has_parameters)

    def decode(self, name: str, dims: list[tuple[str, int]]) -> Iterator[str]:
        """Splits a linear index into coordinates, the first one fastest."""
        rest = name
        for k, (axis, count) in enumerate(dims):
            if k == len(dims) - 1:
                yield f"let {axis} = {rest};"
            elif count == 1:
                yield f"let {axis} = 0u;"
            else:
                yield f"let {axis} = {rest} % {count}u;"
                yield f"let {name}{k} = {rest} / {count}u;"
                rest = f"{name}{k}"


def _dispatch(groups: int) -> tuple[int, int, int]:
    """A grid of at least ``groups`` workgroups, with sides that every adapter takes."""
    x = min(groups, MOST_GROUPS)
    y = -(-groups // x)
    if y > MOST_GROUPS:
        raise GpuError(
            f"{groups} workgroups are more than one dispatch takes: use a smaller tensor"
        )
    return x, y, 1
