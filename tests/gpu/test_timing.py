"""What is measured: timers, the bench, and the calibration of a profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu import calibrate as calibration
from gpu.bench import INT8S, Bench, Conversion, arena_bytes, conversions, parse_shape, run
from gpu.calibrate import calibrate
from gpu.convert import Converter
from gpu.device import Gpu
from gpu.errors import DeviceLostError, GpuError
from gpu.fitting import Samples, fit, predict
from gpu.placement import CONTIGUOUS, Placement
from gpu.probes import SWEEPS, pairs, references
from gpu.sweep import SCALARS, read_shader, write_shader
from gpu.tensor import GpuTensor
from gpu.timing import BufferCopy, Dispatches, Timer, Work
from planner.costs.profile_file import parse_profile
from planner.errors import OptionError
from planner.ir.representation import REPRS, TensorRepr
from schema import VkMemoryLayout

SHAPE = (1, 6, 5, 9)


def test_times_are_of_each_work_and_grow_with_the_bytes(gpu: Gpu) -> None:
    converter, timer = Converter(gpu), Timer(gpu)
    small, large = (Placement((n,), CONTIGUOUS, 4) for n in (2**10, 2**22))
    works: list[Work] = []
    for placement in (small, large):
        source, target = GpuTensor(gpu, placement), GpuTensor(gpu, placement)
        works += [
            Dispatches(converter.prepare(source, target)),
            BufferCopy(source, target, placement.bytes),
        ]
    times = timer.times(works, repeats=5, count=2)
    assert times.shape == (4, 5)
    assert (times > 0).all()
    shader_small, copy_small, shader_large, copy_large = np.median(times, axis=1)
    # 4,096 times the bytes: any order but this one would be a mix-up of works.
    assert shader_large > shader_small
    assert copy_large > copy_small


def test_more_rounds_than_the_queries_hold(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu.timing._MOST_QUERIES", 8)
    placement = Placement((64,), CONTIGUOUS, 4)
    tensors = GpuTensor(gpu, placement), GpuTensor(gpu, placement)
    work = Dispatches(Converter(gpu).prepare(*tensors))
    assert Timer(gpu).times([work, work], repeats=5).shape == (2, 5)


def test_no_timestamps(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gpu, "has_timestamps", False)
    with pytest.raises(GpuError, match="no timestamp queries"):
        Timer(gpu)


def test_the_bench_times_every_conversion_that_a_plan_can_contain(gpu: Gpu) -> None:
    wanted = list(conversions())
    transitions = {(c.source, c.target) for c in wanted if c.step == "repack"}
    for source in REPRS:
        for target in REPRS:
            layouts = {source.memory_layout, target.memory_layout}
            is_resolved = VkMemoryLayout.PACKED_INT8_CONV2D not in layouts
            if source != target and is_resolved and source.is_packed_int8 == target.is_packed_int8:
                assert (source, target) in transitions
    assert {(c.source, c.target) for c in wanted if c.step == "quantize"} == {
        (c.target, c.source) for c in wanted if c.step == "dequantize"
    }
    timings = run(gpu, [SHAPE], wanted[::7], repeats=2)
    assert [t.conversion for t in timings] == wanted[::7]
    assert all(t.ns > 0 and t.copy_ns > 0 and t.ratio > 0 for t in timings)
    assert timings[0].moved == sum(p.bytes for p in wanted[0].placements(SHAPE))


def test_kinds_of_conversions() -> None:
    texture, buffer = REPRS[0], REPRS[3]
    assert Conversion("repack", texture, buffer, 4, 4).kind == "repack, same order"
    assert Conversion("repack", texture, REPRS[4], 4, 4).kind == "repack, transposing"
    assert Conversion("repack", CONTIGUOUS, INT8S[0], 1, 1).kind == "staging"
    assert Conversion("quantize", texture, INT8S[0], 4, 1).kind == "quantize"


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,0", "1,2,3,x", "1,2,3,4,5"])
def test_no_shape(text: str) -> None:
    with pytest.raises(OptionError, match="N,C,H,W"):
        parse_shape(text)


@pytest.mark.parametrize("representation", REPRS, ids=str)
@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (1, 8, 4, 12)])
def test_sweeps_touch_every_byte(
    gpu: Gpu, representation: TensorRepr, shape: tuple[int, ...]
) -> None:
    placement = Placement(shape, representation, 1 if representation.is_packed_int8 else 4)
    tensor, scalars, converter = GpuTensor(gpu, placement), GpuTensor(gpu, SCALARS), Converter(gpu)
    scalars.write(np.full(16, 0xA5, np.uint8))
    converter.run(converter.prepare_shader(write_shader(placement), scalars, tensor))
    written = tensor.read()
    count = np.prod(shape) * placement.element_bytes
    # All elements are written; what is left is padding, which is cleared.
    assert np.count_nonzero(written == 0xA5) == count
    assert np.count_nonzero(written) == count

    # The read sweep tells what it read when the words fold to its constant: one odd word does it.
    tensor.write(np.zeros(placement.bytes, np.uint8))
    scalars.write(np.zeros(16, np.uint8))
    read = converter.prepare_shader(read_shader(placement), tensor, scalars)
    converter.run(read)
    assert not scalars.read().any()
    last = np.zeros(placement.bytes, np.uint8)
    last[-4:] = np.array([0x9E3779B9], np.uint32).view(np.uint8)
    tensor.write(last)
    scalars.write(np.full(16, 0xFF, np.uint8))
    converter.run(read)
    assert not (scalars.read() == 0xFF).all()


def test_images_and_buffers_of_a_bench_hold_numbers(gpu: Gpu) -> None:
    placements = [Placement(SHAPE, r, 4) for r in REPRS[:6]]
    bench = Bench(gpu, arena_bytes((p, p) for p in placements))
    for placement in placements:
        assert np.unique(bench._tensor(placement, 0).read()).size > 8
    bench.close()


def test_a_curve_meets_the_samples_it_is_fitted_to() -> None:
    size = np.logspace(3, 7, 15)
    true = 2_000 + size * 0.01
    curve = fit(Samples(size, true))
    assert [x for x, _ in curve] == sorted({x for x, _ in curve})
    np.testing.assert_allclose(predict(curve, size), true, rtol=0.05)
    # Level below, and straight on above.
    assert predict(curve, np.array([1.0]))[0] == curve[0][1]
    assert predict(curve, np.array([1e9]))[0] == pytest.approx(1e7, rel=0.05)


def test_a_profile_is_measured_fitted_and_read_back(gpu: Gpu) -> None:
    steps: list[int] = []
    made = calibrate(gpu, "mine", 2, lambda what, done, total: steps.append(done), SWEEPS["trial"])
    assert steps == [0, 1, 2, 3]
    profile = made.profile
    assert parse_profile(profile.to_json(), "here") == profile
    assert profile.origin == "measured"
    assert profile.unit == "ns"
    assert set(profile.transition.curves) == {f"{a}>{b}" for (a, b), _ in pairs()}
    assert profile.measured is not None
    assert profile.measured.adapter == gpu.info.name[:100]
    assert profile.measured.fit["held_out"] == len(list(pairs()))
    assert profile.measured.fit["median_error"] == pytest.approx(made.median_error, abs=1e-3)
    assert profile.access is not None
    assert all(rate > 0 for rate in (*profile.access.read.values(), *profile.access.write.values()))


def test_a_device_that_gives_wrong_bytes_is_not_measured(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*args: Any) -> Any:
        right = references(*args)
        right["repack", Placement((1, 4, 4, 4), INT8S[1], 1)][-1] ^= 1
        return right

    monkeypatch.setattr(calibration, "references", wrong)
    with pytest.raises(GpuError, match=r"wrong bytes for buffer:\S+>buffer:4W4C of shape \[1, 4"):
        calibrate(gpu, "mine", 1, sweep=SWEEPS["trial"])


def test_a_failed_calibration_leaves_nothing(
    gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from api.cli import main

    calls = 0

    def measure(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise DeviceLostError("the device was lost")
        return real(*args)

    real = calibration._measure
    monkeypatch.setattr(calibration, "_measure", measure)
    path = tmp_path / "profile.json"
    result = CliRunner().invoke(main, ["calibrate", "-o", str(path), "--repeats", "1"])
    assert result.exit_code == 2
    assert "the device was lost" in result.output
    assert list(tmp_path.iterdir()) == []
