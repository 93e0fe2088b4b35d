"""Conversions of any shapes, values and parameters on the GPU, against the reference."""

from __future__ import annotations

from math import isqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpu.kernel
from gpu.convert import LEAST_SCALE, MOST_SCALE, QuantParams
from gpu.errors import GpuError
from gpu.kernel import Step
from gpu.placement import CONTIGUOUS, MOST_TEXTURE_DIMS, Placement
from gpu.shader import shader
from planner.ir.representation import REPRS, TensorRepr
from tests.gpu.cases import (
    FLOATS,
    SPECIAL,
    Machine,
    parameters,
    places,
    random_floats,
    random_values,
    shapes,
    types_of,
)

CASES: tuple[tuple[Step, int], ...] = (
    ("repack", 4),
    ("repack", 2),
    ("repack", 1),
    ("quantize", 4),
    ("quantize", 2),
    ("dequantize", 4),
    ("dequantize", 2),
)
BY_NAME = {str(r): r for r in REPRS}


@pytest.mark.parametrize(("step", "size"), CASES)
@settings(max_examples=50)
@given(data=st.data())
def test_any_shape(machine: Machine, step: Step, size: int, data: st.DataObject) -> None:
    sources, targets = places(step, size)
    source = data.draw(st.sampled_from(sources))
    target = data.draw(st.sampled_from(targets))
    most = 6 if source.is_buffer and target.is_buffer else MOST_TEXTURE_DIMS
    shape = data.draw(shapes(most))
    params = None if step == "repack" else data.draw(parameters)
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    sizes = types_of(step, size)
    values = random_values(rng, shape, step, sizes[0], params)
    machine.check(
        values, Placement(shape, source, sizes[0]), Placement(shape, target, sizes[1]), step, params
    )


@pytest.mark.parametrize("representation", REPRS, ids=str)
@settings(max_examples=10)
@given(data=st.data())
def test_staging(machine: Machine, representation: TensorRepr, data: st.DataObject) -> None:
    """What is uploaded comes back, through any representation."""
    size = 1 if representation.is_packed_int8 else data.draw(st.sampled_from([1, 2, 4]))
    shape = data.draw(shapes(MOST_TEXTURE_DIMS))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    values = random_values(rng, shape, "repack", size, None)
    staged, placed = Placement(shape, CONTIGUOUS, size), Placement(shape, representation, size)
    machine.check(values, staged, placed)
    machine.check(values, placed, staged)


# Each of these is one pipeline that sees many parameters: the values are what is tried.
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(
    ("floats", "int8"),
    [
        ("buffer:WIDTH_PACKED", "buffer:4W"),
        ("texture:CHANNELS_PACKED", "buffer:4C1W"),
        ("texture:WIDTH_PACKED", "buffer:4W4C"),
    ],
)
@settings(max_examples=40)
@given(params=parameters, seed=st.integers(0, 1 << 32))
def test_quantize_any_values(
    machine: Machine, floats: str, int8: str, size: int, params: QuantParams, seed: int
) -> None:
    shape = (8, 16, 31)
    values = random_floats(np.random.default_rng(seed), shape, size, params)
    source = Placement(shape, BY_NAME[floats], size)
    machine.check(values, source, Placement(shape, BY_NAME[int8], 1), "quantize", params)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(
    ("int8", "floats"),
    [("buffer:4C", "texture:CHANNELS_PACKED"), ("buffer:4H4W", "buffer:WIDTH_PACKED")],
)
@settings(max_examples=40)
@given(params=parameters)
def test_dequantize_any_parameters(
    machine: Machine, int8: str, floats: str, size: int, params: QuantParams
) -> None:
    shape = (8, 4, 11)
    values = np.resize(np.arange(-128, 128).astype(np.int8), shape)
    source = Placement(shape, BY_NAME[int8], 1)
    machine.check(values, source, Placement(shape, BY_NAME[floats], size), "dequantize", params)


@pytest.mark.parametrize("zero_point", [-128, -1, 0, 127])
@pytest.mark.parametrize("scale", [LEAST_SCALE, 2.0**-24, 0.1, 1.0, 257.0, MOST_SCALE])
def test_every_half(machine: Machine, scale: float, zero_point: int) -> None:
    """float16 has few values: all of them are quantized, and each int8 becomes what it should."""
    params = QuantParams(scale, zero_point)
    halves = np.arange(1 << 16).astype(np.uint16).view(np.float16).reshape(256, 256)
    wide = Placement((256, 256), CONTIGUOUS, 2)
    narrow = Placement((256, 256), BY_NAME["buffer:4W"], 1)
    machine.check(halves, wide, narrow, "quantize", params)
    int8s = np.arange(1 << 16).astype(np.int8).reshape(256, 256)
    machine.check(int8s, narrow, wide, "dequantize", params)


def test_ties_go_to_even(machine: Machine) -> None:
    ties = np.arange(-140, 140, dtype=np.float32) + np.float32(0.5)
    placed = [Placement(ties.shape, CONTIGUOUS, size) for size in (4, 1)]
    params = QuantParams(0.25, 3)
    machine.check(ties * np.float32(0.25), placed[0], placed[1], "quantize", params)
    got = machine.convert(ties * np.float32(0.25), placed[0], placed[1], "quantize", params)
    want = [min(max(round(float(tie)) + 3, -128), 127) for tie in ties]
    assert got.view(np.int8).tolist() == want


def test_special_values(machine: Machine) -> None:
    """NaN becomes 0 whatever the zero point is; infinities and what is too large are clamped."""
    values = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 1e-45, 3e38, -3e38], np.float32)
    placed = [Placement(values.shape, CONTIGUOUS, size) for size in (4, 1)]
    got = machine.convert(values, placed[0], placed[1], "quantize", QuantParams(1e-3, 5))
    assert got.view(np.int8).tolist() == [0, 0, 127, -128, 5, 5, 127, -128]


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("target", FLOATS, ids=str)
def test_a_repack_keeps_bits(machine: Machine, target: TensorRepr, size: int) -> None:
    """Neither NaNs nor subnormals are touched."""
    bits = np.array(SPECIAL[size], f"u{size}")
    values = np.resize(bits, (5, 3, bits.size))
    there = Placement(values.shape, target, size)
    for source in FLOATS:
        here = Placement(values.shape, source, size)
        machine.check(values, here, there)


# Larger than a tile and than a workgroup, with remainders in every dimension.
LARGE: tuple[tuple[Step, int, str, str], ...] = (
    ("repack", 4, "texture:CHANNELS_PACKED", "texture:WIDTH_PACKED"),
    ("repack", 4, "texture:HEIGHT_PACKED", "buffer:CHANNELS_PACKED"),
    ("repack", 4, "buffer:WIDTH_PACKED", "texture:CHANNELS_PACKED"),
    ("repack", 4, "buffer:WIDTH_PACKED", "buffer:CHANNELS_PACKED"),
    ("repack", 2, "texture:CHANNELS_PACKED", "buffer:WIDTH_PACKED"),
    ("repack", 2, "buffer:CHANNELS_PACKED", "texture:HEIGHT_PACKED"),
    ("repack", 1, "buffer:WIDTH_PACKED", "buffer:4W4C"),
    ("repack", 1, "buffer:4C1W", "buffer:4H4W"),
    ("repack", 1, "buffer:4H4W", "buffer:4C1W"),
    ("repack", 1, "buffer:4W4C", "buffer:4C1W"),
    ("quantize", 4, "texture:CHANNELS_PACKED", "buffer:4W4C"),
    ("quantize", 2, "buffer:WIDTH_PACKED", "buffer:4C1W"),
    ("dequantize", 4, "buffer:4C1W", "texture:WIDTH_PACKED"),
    ("dequantize", 2, "buffer:4W", "buffer:CHANNELS_PACKED"),
)
LARGE_IDS = [f"{step}{size}-{a}-{b}" for step, size, a, b in LARGE]


def check_case(
    machine: Machine, shape: tuple[int, ...], step: Step, size: int, source: str, target: str
) -> None:
    params = None if step == "repack" else QuantParams(0.02, 9)
    sizes = types_of(step, size)
    values = random_values(np.random.default_rng(1), shape, step, sizes[0], params)
    placed = [
        Placement(shape, BY_NAME[name], s) for name, s in zip((source, target), sizes, strict=True)
    ]
    machine.check(values, placed[0], placed[1], step, params)


@pytest.mark.parametrize("shape", [(1, 70, 37, 131), (2, 64, 32, 64)], ids=["ragged", "aligned"])
@pytest.mark.parametrize(("step", "size", "source", "target"), LARGE, ids=LARGE_IDS)
def test_many_tiles(
    machine: Machine, shape: tuple[int, ...], step: Step, size: int, source: str, target: str
) -> None:
    check_case(machine, shape, step, size, source, target)


@pytest.mark.parametrize(("step", "size", "source", "target"), LARGE, ids=LARGE_IDS)
def test_dispatches_of_two_dimensions(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    step: Step,
    size: int,
    source: str,
    target: str,
) -> None:
    """What an enormous tensor needs, tried on one that is not: few workgroups to a side."""
    shape = (1, 17, 30, 75)
    source_size, target_size = types_of(step, size)
    before = Placement(shape, BY_NAME[source], source_size)
    after = Placement(shape, BY_NAME[target], target_size)
    groups = shader(before, after, step).groups[0]
    side = isqrt(groups) + 1
    monkeypatch.setattr(gpu.kernel, "MOST_GROUPS", side)
    shader.cache_clear()
    try:
        x, y, z = shader(before, after, step).groups
        assert x == side < groups and 1 < y <= side and z == 1
        check_case(machine, shape, step, size, source, target)
        monkeypatch.setattr(gpu.kernel, "MOST_GROUPS", isqrt(groups - 1))
        shader.cache_clear()
        with pytest.raises(GpuError, match=f"{groups} workgroups are more than"):
            shader(before, after, step)
    finally:
        shader.cache_clear()


def test_more_workgroups_than_a_dimension_takes(machine: Machine) -> None:
    """65 MiB, in rows that do not start at words: a dispatch of 66,565 workgroups."""
    shape = (16385, 64, 65)
    rows, columns = (
        Placement(shape, BY_NAME[f"buffer:{n}_PACKED"], 1) for n in ("WIDTH", "HEIGHT")
    )
    assert shader(columns, rows).groups == (65535, 2, 1)
    values = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    machine.check(values, columns, rows)
