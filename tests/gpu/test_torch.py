"""PyTorch as a second referee of quantization: of the reference, and so of the shaders."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed  # registers quantized_decomposed
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpu.convert import QuantParams
from gpu.placement import CONTIGUOUS, Placement
from gpu.reference import dequantize, quantize
from tests.gpu.cases import Machine, parameters, random_floats

OPS = torch.ops.quantized_decomposed
DTYPES = {np.float16: torch.float16, np.float32: torch.float32}
ALL_INT8 = np.arange(-128, 128).astype(np.int8)


def as_float32(params: QuantParams) -> QuantParams:
    """The parameters with the scale that a shader gets; PyTorch divides in float64 before."""
    scale = struct.unpack("<f", struct.pack("<f", params.scale))[0]
    return QuantParams(scale, params.zero_point)


def torch_quantize(values: NDArray[Any], params: QuantParams) -> NDArray[Any]:
    tensor = torch.from_numpy(values)
    arguments = (params.scale, params.zero_point, -128, 127, torch.int8)
    result: NDArray[Any] = OPS.quantize_per_tensor(tensor, *arguments).numpy()
    return result


def torch_dequantize(values: NDArray[np.int8], params: QuantParams, dtype: Any) -> NDArray[Any]:
    arguments = (params.scale, params.zero_point, -128, 127, torch.int8)
    tensor = torch.from_numpy(values)
    result = OPS.dequantize_per_tensor(tensor, *arguments, out_dtype=DTYPES[dtype])
    array: NDArray[Any] = result.numpy()
    return array


@pytest.mark.parametrize("size", [2, 4])
@settings(max_examples=100)
@given(params=parameters.map(as_float32), seed=st.integers(0, 1 << 32))
def test_quantize(size: int, params: QuantParams, seed: int) -> None:
    values = random_floats(np.random.default_rng(seed), (4096,), size, params)
    numbers = values[~np.isnan(values)]
    want = quantize(numbers, params)
    assert (torch_quantize(numbers, params) == want).all()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")  # deprecated
@settings(max_examples=100)
@given(params=parameters.map(as_float32), seed=st.integers(0, 1 << 32))
def test_quantized_tensors(params: QuantParams, seed: int) -> None:
    """``torch.quantize_per_tensor`` adds the zero point before it rounds: equal but for ties."""
    steps = np.random.default_rng(seed).uniform(-400, 400, 4096).astype(np.float32)
    steps = steps[np.abs(steps - np.floor(steps) - 0.5) > 1e-3]
    with np.errstate(over="ignore"):
        values = steps * np.float32(params.scale)
    tensor = torch.quantize_per_tensor(
        torch.from_numpy(values), params.scale, params.zero_point, torch.qint8
    )
    assert (tensor.int_repr().numpy() == quantize(values, params)).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@settings(max_examples=100)
@given(params=parameters.map(as_float32))
def test_dequantize(dtype: Any, params: QuantParams) -> None:
    want = torch_dequantize(ALL_INT8, params, dtype)
    got = dequantize(ALL_INT8, params, dtype)
    assert got.tobytes() == want.tobytes()


@settings(max_examples=40)
@given(params=parameters.map(as_float32), seed=st.integers(0, 1 << 32))
def test_the_gpu_agrees(machine: Machine, params: QuantParams, seed: int) -> None:
    values = random_floats(np.random.default_rng(seed), (4096,), 4, params)
    values[np.isnan(values)] = 0
    floats, int8s = (Placement(values.shape, CONTIGUOUS, size) for size in (4, 1))
    quantized = machine.convert(values, floats, int8s, "quantize", params).view(np.int8)
    assert (quantized == torch_quantize(values, params)).all()
    back = machine.convert(quantized, int8s, floats, "dequantize", params)
    assert back.tobytes() == torch_dequantize(quantized, params, np.float32).tobytes()
