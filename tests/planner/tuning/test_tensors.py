"""Inputs and outputs of programs, as files, and how far outputs may be from those expected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planner.errors import InputError, OptionError
from planner.tuning.tensors import (
    TensorType,
    are_zeros,
    check_inputs,
    compare,
    read_outputs,
    seeded_inputs,
    signature_of,
)
from tests.recorded import recorded

FLOATS, WHOLE = TensorType("float32", (2, 3)), TensorType("int64", (4,))


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1.0, 1e30])
def test_the_tolerance_is_relative_however_small_outputs_are(scale: float) -> None:
    wanted = (scale * np.array([1.0, -2.0, 0.5])).astype(np.float32)
    assert compare([wanted], [wanted * np.float32(1.001)]).is_within
    for wrong in (-wanted, 0 * wanted, wanted[::-1], wanted * np.float32(1.1)):
        assert not compare([wanted], [wrong]).is_within


def test_outputs_of_zeros_are_known() -> None:
    zeros = np.zeros(3, np.float32)
    assert are_zeros([zeros, zeros[:0]])
    assert not are_zeros([zeros, np.ones(1)])
    assert compare([zeros], [zeros]).is_within
    assert not compare([zeros], [zeros + 1]).is_within


@pytest.mark.parametrize(
    ("dtype", "error", "is_within"),
    [
        ("float32", 1e-3, True),
        ("float32", 3e-3, False),
        ("float16", 1e-2, True),
        ("float16", 4e-2, False),
        ("int8", 1, False),
        ("int64", 1, False),
        ("bool", 1, False),
    ],
)
def test_each_type_has_its_tolerance(dtype: str, error: float, is_within: bool) -> None:
    wanted = np.array([[0, 4], [-1, 2]]).astype(dtype)
    assert compare([wanted], [wanted]).is_within
    seen = wanted.copy().astype(float)
    seen[0, 0] += 4 * error if dtype.startswith("float") else error
    found = compare([wanted], [seen.astype(dtype)])
    assert found.is_within is is_within
    if dtype.startswith("float"):
        assert found.error == pytest.approx(error, rel=0.05)


def test_what_is_not_finite_has_to_be_found_so() -> None:
    wanted = np.array([1.0, np.nan, np.inf, -np.inf], np.float32)
    assert compare([wanted], [wanted]).is_within
    for seen in ([1.0, 0.0, np.inf, -np.inf], [1.0, np.nan, -np.inf, -np.inf]):
        assert not compare([wanted], [np.array(seen, np.float32)]).is_within
    assert compare([np.ones(1)], [np.array([np.nan])]).error == float("inf")


def test_other_numbers_of_elements_and_outputs_are_wrong() -> None:
    assert not compare([np.ones(2)], [np.ones(3)]).is_within
    assert not compare([np.ones(2)], []).is_within
    assert compare([np.ones(0)], [np.ones(0)]).is_within


def test_inputs_are_drawn_by_their_seed() -> None:
    first, again, other = (seeded_inputs([FLOATS, WHOLE], seed) for seed in (1, 1, 2))
    assert [a.dtype.name for a in first] == ["float32", "int64"]
    assert [a.shape for a in first] == [(2, 3), (4,)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_inputs_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(24))
    check_inputs([FLOATS], [path])
    with pytest.raises(OptionError, match="the program has 2 inputs, not 1"):
        check_inputs([FLOATS, WHOLE], [path])
    with pytest.raises(OptionError, match=r"input 0 is int64 4, 32 bytes, but .*x.bin has 24"):
        check_inputs([WHOLE], [path])
    with pytest.raises(OptionError, match=r"cannot read .*nothing: No such file"):
        check_inputs([WHOLE], [tmp_path / "nothing"])


def test_outputs_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "out-0.bin").write_bytes(np.arange(6, dtype=np.float32).tobytes())
    (found,) = read_outputs(tmp_path / "out", [FLOATS])
    assert found.tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(InputError, match=r"the runner wrote no output 1 \(int64 4\)"):
        read_outputs(tmp_path / "out", [FLOATS, WHOLE])


@pytest.mark.lowering
def test_a_programs_signature_is_read_by_executorch() -> None:
    found = signature_of(recorded("mv2_xs_int8", "greedy.pte"), "greedy.pte")
    assert [t.dtype for t in (*found.inputs, *found.outputs)] == ["float32"] * 2
    assert found.inputs[0].shape[:2] == (1, 3)
    with pytest.raises(InputError, match="ExecuTorch cannot read the inputs and outputs of x"):
        signature_of(b"\x00\x00\x00\x00ET12" + bytes(64), "x")
