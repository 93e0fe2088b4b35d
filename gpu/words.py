"""Shaders that gather words."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from gpu.access import AXES, WORD_BYTES
from gpu.kernel import THREADS, Kernel
from gpu.placement import UNIT


class WordKernel(Kernel):
    """A shader whose invocations gather a word each of a buffer with unaligned rows."""

    by_word = True

    @property
    def _total(self) -> int:
        return -(-prod(self.extents) * self.target.placement.element_bytes // WORD_BYTES)

    @property
    def groups(self) -> int:
        """Workgroups, with an invocation for each word."""
        return -(-self._total // THREADS)

    def lines(self) -> Iterator[str]:
        """The body of the shader."""
        source, target = self.source.placement, self.target.placement
        size = target.element_bytes
        yield f"let index = workgroup * {THREADS}u + thread;"
        yield f"if (index >= {self._total}u) {{ return; }}"
        yield "var word = 0u;"
        per_word = WORD_BYTES // size
        yield f"for (var k = 0u; k < {per_word}u; k++) {{"
        yield f"  let element = index * {per_word}u + k;"
        yield f"  if (element >= {prod(self.extents)}u) {{ break; }}"
        fastest_first = [(AXES[d], self.extents[d]) for d in reversed(target.order)]
        yield from ("  " + line for line in self.decode("element", fastest_first))
        if source.is_texture:
            axis = AXES[source.packed_dim]
            yield f"  let brick_{axis} = {axis} / {UNIT}u;"
            part = f"{AXES[source.packed_dim]} % {UNIT}u"
            value = f"textureLoad(source, {self.source.texel((0, 0, 0))}, 0)[{part}]"
        else:
            value = self.source.load_element(0, (0, 0, 0))
        if self.step == "quantize":
            halves = source.element_bytes == 2
            value = f"from_half_elements(vec4<u32>({value}))" if halves else f"vec4<u32>({value})"
            value = f"(pack_quantized(quantize({value})) & 0xffu)"
        elif self.step == "dequantize":
            value = f"(to_halves(dequantize({value})).x & 0xffffu)"
        yield f"  word |= {value} << (k * {8 * size}u);"
        yield "}"
        yield "result[index] = word;"
