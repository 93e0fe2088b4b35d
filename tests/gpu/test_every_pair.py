"""Every conversion that a plan can contain, byte for byte against the reference."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from gpu.convert import QuantParams
from gpu.kernel import Step
from gpu.placement import Placement
from gpu.shader import shader
from planner.ir.representation import TensorRepr
from tests.gpu.cases import Machine, places, random_values, types_of

# Whole units in every dimension, ragged ones in every dimension, and a row.
SHAPES = ((2, 8, 4, 12), (2, 6, 3, 9), (13,))
KINDS: tuple[tuple[Step, int], ...] = (
    ("repack", 4),
    ("repack", 2),
    ("repack", 1),
    ("quantize", 4),
    ("quantize", 2),
    ("dequantize", 4),
    ("dequantize", 2),
)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize(
    ("step", "size", "source"),
    [(step, size, r) for step, size in KINDS for r in places(step, size)[0]],
    ids=str,
)
def test_every_pair(
    machine: Machine, shape: tuple[int, ...], step: Step, size: int, source: TensorRepr
) -> None:
    parameters = None if step == "repack" else QuantParams(0.37, -11)
    sizes = types_of(step, size)
    values = random_values(np.random.default_rng(7), shape, step, sizes[0], parameters)
    for target in places(step, size)[1]:
        machine.check(
            values,
            Placement(shape, source, sizes[0]),
            Placement(shape, target, sizes[1]),
            step,
            parameters,
        )


@pytest.mark.parametrize(("step", "size"), [("quantize", 4), ("dequantize", 2)])
def test_cubes(machine: Machine, monkeypatch: pytest.MonkeyPatch, step: Step, size: int) -> None:
    """Where bricks are cubes, of many as of few."""
    shape, parameters, sizes = (2, 8, 4, 12), QuantParams(0.37, -11), types_of(step, size)
    values = random_values(np.random.default_rng(7), shape, step, sizes[0], parameters)
    codes = []
    for few in (0, 2**15):
        monkeypatch.setattr("gpu.shader._FEW_CUBES", few)
        shader.cache_clear()
        for given, wanted in product(*places(step, size)):
            source, target = Placement(shape, given, sizes[0]), Placement(shape, wanted, sizes[1])
            if len({source.packed_dim, target.packed_dim}) == 2:
                machine.check(values, source, target, step, parameters)
                codes.append(shader(source, target, step).code)
    shader.cache_clear()
    half = len(codes) // 2
    others = sum(a != b for a, b in zip(codes[:half], codes[half:], strict=True))
    assert others == 6
