"""float16 in shaders: exact, by whichever functions the device is given."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gpu.device import Gpu
from gpu.library import has_exact_halves, library, rounding_edges, run


def spoil(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    spoilt = values.copy()
    spoilt[1] ^= 1
    return spoilt


def test_integer_functions_are_exact(gpu: Gpu) -> None:
    halves = np.arange(2**16, dtype=np.uint16)
    floats = halves.view(np.float16).astype(np.float32)
    got = run(gpu, "integer", "from_halves", halves).view(np.float32)
    is_nan = np.isnan(floats)
    assert np.isnan(got[is_nan]).all()
    assert got[~is_nan].tobytes() == floats[~is_nan].tobytes()

    edges = rounding_edges()
    with np.errstate(over="ignore"):
        expected = edges.astype(np.float16)
    assert run(gpu, "integer", "to_halves", edges).tobytes() == expected.tobytes()


def test_rounding_edges_hold_ties_and_their_neighbours() -> None:
    edges = rounding_edges()
    bits = edges.view(np.uint32)
    assert edges.size % 4 == 0
    assert len(np.unique(bits)) > 2 * 4 * 31_000
    for value in (2.0**-25, 2.0**-24, 65519.996, 65520.0, np.inf, -1.00048828125):
        assert np.float32(value) in edges, value


@pytest.mark.parametrize("function", ["from_halves", "to_halves"])
def test_a_driver_that_rounds_otherwise_gets_integers(
    gpu: Gpu, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run

    def other(gpu: Gpu, variant: str, name: str, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        got = real(gpu, "integer", name, values)
        return spoil(got) if name == function else got

    monkeypatch.setattr(gpu, "has_exact_halves", None)
    monkeypatch.setattr("gpu.library.run", other)
    assert not has_exact_halves(gpu)
    assert "unpack2x16float" not in library(gpu)


def test_an_exact_driver_gets_its_own_functions(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    real = run
    monkeypatch.setattr(gpu, "has_exact_halves", None)
    monkeypatch.setattr("gpu.library.run", lambda g, variant, *rest: real(g, "integer", *rest))
    assert has_exact_halves(gpu)
    assert "unpack2x16float" in library(gpu)
