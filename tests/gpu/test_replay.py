"""Programs whose repacks are run on the GPU again."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from api.cli import main
from api.terminal.replay import describe
from gpu import replay as module
from gpu.convert import QuantParams
from gpu.device import Gpu
from gpu.errors import GpuError
from gpu.kernel import Shader
from gpu.placement import Placement
from gpu.reference import pack, quantize
from gpu.replay import random_values, replay
from gpu.shader import shader
from gpu.steps import ELEMENTS, ReplayStep, read_steps
from planner.costs.profile_file import load_profile
from planner.errors import InputError, OptionError, VerificationError
from planner.ir.representation import TensorRepr
from planner.options import make_options
from planner.pipelines.lowered import replan
from schema import (
    PlannedProgram,
    VkDataType,
    VkGraph,
    VkMemoryLayout,
    VkStorageType,
    VkTensor,
    join_delegate,
    plan,
    vkgraph,
)
from schema.vkgraph import Double, Int, Null, OperatorCall, Value

FLOAT, INT8 = VkDataType.FLOAT32, VkDataType.INT8
TEX_W, TEX_H, TEX_C = (TensorRepr(VkStorageType.TEXTURE_3D, VkMemoryLayout(i)) for i in (0, 1, 2))
BUF_W, Q_4W4C, Q_4C1W, Q_4C, CONV2D = (
    TensorRepr(VkStorageType.BUFFER, VkMemoryLayout(i)) for i in (0, 3, 8, 6, 9)
)
CLONE, RELU = "aten.clone.default", "aten.relu.default"
FLIP, BMM = "aten.flip.default", "aten.bmm.default"  # these take channels, and width, alone
QUANTIZE = "quantized_decomposed.quantize_per_tensor.default"
DEQUANTIZE = "quantized_decomposed.dequantize_per_tensor.default"
SHAPE = (1, 6, 5, 9)
SCALE = Double(0.05)
PARAMETERS = QuantParams(0.05, 3)


class Sketch:
    """A graph under construction."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.chain: list[OperatorCall] = []

    def add(self, value: Value) -> int:
        self.values.append(value)
        return len(self.values) - 1

    def tensor(
        self, made: TensorRepr, dtype: VkDataType = FLOAT, shape: tuple[int, ...] = SHAPE
    ) -> int:
        storage, layout = made.storage_type, made.memory_layout
        return self.add(VkTensor(dtype, shape, -1, -1, storage, layout))

    def call(self, name: str, *args: int) -> int:
        self.chain.append(OperatorCall(len(self.chain), name, args))
        return args[-1]

    def clone(self, source: int, target: TensorRepr, dtype: VkDataType = FLOAT) -> int:
        value = self.values[source]
        assert isinstance(value, VkTensor)
        return self.call(CLONE, source, self.add(Null()), self.tensor(target, dtype, value.dims))

    def quantization(
        self, name: str, source: int, target: int, scale: Value, zero_point: int = 3
    ) -> int:
        numbers = [Int(zero_point), Int(-128), Int(127), Int(1)]
        return self.call(name, source, *map(self.add, (scale, *numbers)), target)

    def finish(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> bytes:
        values, chain = tuple(self.values), tuple(self.chain)
        return vkgraph.encode(VkGraph("0", chain, values, inputs, outputs))


def lowered(scale: Value = SCALE) -> bytes:
    """Operators with needless repacks between them, and one repack that there must be."""
    s = Sketch()
    x = s.tensor(TEX_C)
    flat = s.clone(x, BUF_W)
    q = s.quantization(QUANTIZE, flat, s.tensor(Q_4W4C, INT8), scale)
    packed = s.clone(q, Q_4C1W, INT8)
    y = s.quantization(DEQUANTIZE, packed, s.tensor(TEX_W), scale)
    high = s.clone(y, TEX_H)
    z = s.call(RELU, high, s.tensor(TEX_H))
    flipped = s.call(FLIP, s.clone(z, TEX_C), s.tensor(TEX_C))
    flat = s.clone(z, BUF_W)
    product = s.call(BMM, flat, flat, s.tensor(BUF_W))
    return s.finish((x,), (flipped, product))


def planned(profile: str = "default") -> PlannedProgram:
    """The sketch's plan; its baseline are the layouts above."""
    return replan(lowered(), "x", make_options(profile)).program


def with_repacks() -> bytes:
    """The plan with the repacks of the file still in its graph."""
    program = planned()
    (delegate,) = program.delegates
    graph = lowered()
    return plan.encode(replace(program, delegates=(replace(delegate, graph=graph),)))


REPACKS = (
    (TEX_C, BUF_W, FLOAT),
    (Q_4W4C, Q_4C1W, INT8),
    (TEX_W, TEX_H, FLOAT),
    (TEX_H, TEX_C, FLOAT),
    (TEX_H, BUF_W, FLOAT),
)


def repack_of(step: ReplayStep) -> tuple[TensorRepr, TensorRepr, VkDataType]:
    return step.conversion.source, step.conversion.target, step.dtype


def test_steps_are_in_the_order_of_the_graph() -> None:
    (delegate,) = read_steps(with_repacks(), "x").delegates
    assert [s.step for s in delegate.steps] == [
        *("repack", "quantize", "repack", "dequantize", "repack", "repack", "repack")
    ]
    assert [s.position for s in delegate.steps] == [0, 1, 2, 3, 4, 6, 8]
    assert tuple(repack_of(s) for s in delegate.steps if s.step == "repack") == REPACKS
    assert delegate.baseline is not None
    assert tuple(map(repack_of, delegate.baseline)) == REPACKS
    assert [s.parameters for s in delegate.steps if s.parameters] == [PARAMETERS] * 2
    assert not delegate.skipped


def test_totals_count_every_step(gpu: Gpu) -> None:
    program = planned()
    steps = read_steps(plan.encode(program), "x.plan")
    document = describe(replay(gpu, steps, repeats=2))
    total = document["total"]
    figures = program.total
    assert total["baseline"]["steps"] == figures.baseline_transitions == 5
    assert total["ours"]["steps"] == figures.transitions == 1
    assert total["quantization"]["steps"] == 2
    # The plan says itself what it predicts.
    assert document["profile"] == "default"
    assert total["ours"]["predicted_ns"] == pytest.approx(figures.repack_cost)
    assert total["baseline"]["predicted_ns"] == pytest.approx(figures.baseline_repack_cost)
    (delegate,) = document["delegates"]
    for key, listed in (("ours", "steps"), ("baseline", "baseline_steps")):
        repacks = [s for s in delegate[listed] if s["step"] == "repack"]
        measured = sum(s["measured_ns"] for s in repacks)
        assert total[key]["measured_ns"] == pytest.approx(measured, abs=1)
        assert all(s["measured_ns"] > 0 for s in repacks)
    for key, ratio in (("measured_ns", "ratio"), ("predicted_ns", "predicted_ratio")):
        assert total[ratio] == pytest.approx(total["baseline"][key] / total["ours"][key], 1e-3)
    assert total["predicted_ratio"] > 1


def test_equal_steps_are_measured_once(gpu: Gpu) -> None:
    replayed = replay(gpu, read_steps(with_repacks(), "x"), repeats=2)
    assert len(replayed.ns) == 7


def test_a_step_reads_what_the_one_before_it_made(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[ReplayStep, Any, Any]] = []
    compare = module._Checker._compare

    def record(self: Any, step: ReplayStep, values: Any, wanted: Any, place: str) -> None:
        compare(self, step, values, wanted, place)
        seen.append((step, values, wanted))

    monkeypatch.setattr(module._Checker, "_compare", record)
    replay(gpu, read_steps(lowered(), "x"), repeats=1, seed=5)
    first = seen[0][1]
    assert np.isnan(first).any() and np.isinf(first).any() and np.std(first[abs(first) < 9]) > 1
    for (step, _, made), (_, values, _) in pairwise(seen[:5]):
        assert made is values, str(step)
    assert seen[1][2].tobytes() == quantize(first, PARAMETERS).tobytes()
    # A program's operator lies between these two.
    assert seen[5][1] is not seen[4][2] and seen[5][1] is seen[6][1]
    again = module.random_values(np.random.default_rng([5, 0, 0]), SHAPE, FLOAT)
    assert again.tobytes() == first.tobytes()


def spoilt(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Spoils what shaders of one kind write to buffers."""

    def broken(source: Placement, target: Placement, wanted: Any = "repack") -> Shader:
        made = shader(source, target, wanted)
        if wanted != step or target.is_texture:
            return made
        code, count = re.subn(r"(result\[[^;]*\] = )([^;]+);", r"\1(\2) + 1u;", made.code)
        assert count
        return replace(made, code=code)

    monkeypatch.setattr("gpu.convert.shader", broken)


@pytest.mark.parametrize(
    ("step", "named"),
    [
        (
            "repack",
            r"delegate 0, operator 0, tensor v0: repack 1×6×5×9 FLOAT32, texture:CHANNELS_PACKED → "
            r"buffer:WIDTH_PACKED: \d+ of 270 elements are wrong, first \[0, 0, 0, 0\]: .* not ",
        ),
        ("quantize", r"delegate 0, operator 1, tensor v2: quantize 1×6×5×9 .* elements are wrong"),
    ],
)
def test_a_wrong_bit_is_an_error(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, step: str, named: str
) -> None:
    spoilt(monkeypatch, step)
    with pytest.raises(VerificationError, match=named):
        replay(gpu, read_steps(lowered(), "x"), repeats=1)


def test_a_wrong_bit_in_the_baseline_is_an_error(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    program = read_steps(plan.encode(planned()), "x")
    (delegate,) = program.delegates
    spoilt(monkeypatch, "repack")
    alone = replace(program, delegates=(replace(delegate, steps=()),))
    with pytest.raises(VerificationError, match=r"delegate 0, repack 0 of the baseline: repack"):
        replay(gpu, alone, repeats=1)


def test_padding_is_checked() -> None:
    target = Placement(SHAPE, Q_4C1W, 1)
    values = np.ones(SHAPE, np.int8)
    memory = pack(values, target)
    (padding,) = np.flatnonzero(memory == 0)[:1]
    memory[padding] = 9
    found = module._difference(memory, values, target)
    assert found == f"padding should be 0, but byte {padding} is 9"


def test_a_graph_alone_has_no_baseline(gpu: Gpu) -> None:
    for data in (lowered(), join_delegate(lowered(), b"")):
        document = describe(replay(gpu, read_steps(data, "x"), repeats=1))
        total = document["total"]
        assert total["ours"]["steps"] == 5 and total["baseline"] is None
        assert total["ours"]["predicted_ns"] is None and document["profile"] is None
        assert total["ratio"] is None


def test_predictions_are_of_the_profile_asked_for() -> None:
    program = planned("default")
    steps = read_steps(lowered(), "x", load_profile("default"))
    predicted = [s.predicted_ns for s in steps.delegates[0].steps if s.step == "repack"]
    assert predicted == [r.cost for r in program.delegates[0].baseline_repacks]
    # A plan that counts bytes predicts no time.
    in_bytes = read_steps(plan.encode(planned("bytes")), "x")
    assert in_bytes.profile is None
    assert all(s.predicted_ns is None for s in in_bytes.delegates[0].baseline or ())
    with pytest.raises(OptionError, match="profile bytes is in bytes"):
        read_steps(lowered(), "x", load_profile("bytes"))


def test_a_plan_of_an_older_release_has_no_baseline() -> None:
    program = planned()
    older = replace(program.delegates[0], baseline_repacks=())
    data = plan.encode(replace(program, delegates=(older,)))
    assert read_steps(data, "x").delegates[0].baseline is None


def test_a_damaged_baseline_is_named() -> None:
    program = planned()
    (delegate,) = program.delegates
    first, *rest = delegate.baseline_repacks
    wrong = replace(first, to_layout=VkMemoryLayout.DEFAULT_LAYOUT)
    damaged = replace(delegate, baseline_repacks=(wrong, *rest))
    data = plan.encode(replace(program, delegates=(damaged,)))
    with pytest.raises(InputError, match="delegate 0 is damaged: repack 0 of its baseline"):
        read_steps(data, "x")


@pytest.mark.parametrize(("other", "stand_in"), [(Q_4W4C, Q_4C1W), (Q_4C1W, Q_4C)])
def test_conv2d_stands_for_a_layout_in_memory(other: TensorRepr, stand_in: TensorRepr) -> None:
    s = Sketch()
    q = s.tensor(CONV2D, INT8)
    out = s.quantization(DEQUANTIZE, s.clone(q, other, INT8), s.tensor(TEX_C), Double(1.0))
    (delegate,) = read_steps(s.finish((q,), (out,)), "x").delegates
    assert repack_of(delegate.steps[0]) == (stand_in, other, INT8)


@pytest.mark.parametrize(
    ("scale", "reason"),
    [
        (Null(), "its scale or zero point is not a finite number"),
        (Double(float("inf")), "its scale or zero point is not a finite number"),
        (Double(0.0), r"scale 0.0 is not between 2\^-125 and 2\^125"),
    ],
)
def test_what_cannot_be_replayed_is_named(scale: Value, reason: str) -> None:
    (delegate,) = read_steps(lowered(scale), "x").delegates
    assert [s.position for s in delegate.skipped] == [1, 3]
    assert re.match(reason, delegate.skipped[0].reason)
    assert [s.step for s in delegate.steps] == ["repack"] * 5


def test_a_scale_of_one_may_be_written_as_an_integer(gpu: Gpu) -> None:
    steps = read_steps(lowered(Int(1)), "x")
    assert len(replay(gpu, steps, repeats=1).ns) == 7


def test_a_tensor_beyond_the_device_is_refused_at_once(gpu: Gpu) -> None:
    s = Sketch()
    x = s.tensor(TEX_H, shape=(1, 1, 1, 2**20))
    s.call(RELU, s.clone(x, TEX_C), y := s.tensor(TEX_C, shape=(1, 1, 1, 2**20)))
    with pytest.raises(GpuError, match="texels"):
        replay(gpu, read_steps(s.finish((x,), (y,)), "x"))


@pytest.mark.parametrize("dtype", [d for d in VkDataType if d != VkDataType.UNSET])
@pytest.mark.parametrize("shape", [(), (3, 0), (40, 60)])
def test_random_data_is_of_the_type(dtype: VkDataType, shape: tuple[int, ...]) -> None:
    values = random_values(np.random.default_rng(0), shape, dtype)
    assert values.shape == shape and values.dtype == ELEMENTS[dtype]
    if shape == (40, 60):
        assert len(np.unique(values)) > 2 or dtype == VkDataType.BOOL
        if values.dtype.kind == "f":
            negative_zero = (values == 0) & np.signbit(values)
            assert np.isnan(values).any() and np.isinf(values).any() and negative_zero.any()


def test_batches_have_every_step_once_and_hold_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH_BYTES", 2**20)
    (delegate,) = read_steps(lowered(), "x").delegates
    conversion = delegate.steps[0].conversion
    keys = [(conversion, (1, 4, n, 8)) for n in (4096, 1, 512, 9, 8192, 300, 10)]
    batches = list(module._batches(keys))
    assert sorted(key for batch in batches for key in batch) == sorted(keys)
    for batch in batches:
        sizes = [module._moved(key) for key in batch]
        assert len(batch) == 1 or sum(sizes) <= 2**20
        assert sizes[-1] <= 8 * max(sizes[0], 2**16)


@pytest.mark.gpu
def test_the_command_prints_tables_and_json(tmp_path: Path) -> None:
    path, report = tmp_path / "x.plan", tmp_path / "x.md"
    path.write_bytes(plan.encode(planned()))
    run = CliRunner().invoke(main, ["replay", str(path), "--repeats", "1", "-o", str(report)])
    assert run.exit_code == 0, run.output
    assert run.stdout == report.read_text()
    assert "| repacks before planning | 5 | " in run.stdout
    assert "Predictions are those of profile default." in run.stdout
    run = CliRunner().invoke(main, ["replay", str(path), "--repeats", "1", "--json"])
    document = json.loads(run.stdout)
    assert document["kind"] == "plan" and document["total"]["baseline"]["steps"] == 5
    assert document["repeats"] == 1 and document["adapter"]["name"]


@pytest.mark.gpu
def test_the_command_fails_on_a_wrong_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(lowered())
    spoilt(monkeypatch, "repack")
    run = CliRunner().invoke(main, ["replay", str(path), "-o", str(tmp_path / "x.md")])
    assert run.exit_code == 2
    assert run.stderr.startswith("Error: delegate 0, operator 0, tensor v0")
    assert not (tmp_path / "x.md").exists()


@pytest.fixture(scope="module")
def pte() -> bytes:
    """A program that ExecuTorch lowered by itself."""
    import torch
    from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner
    from executorch.exir import to_edge_transform_and_lower

    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(2), torch.nn.Linear(36, 5)
    ).eval()
    exported = torch.export.export(net, (torch.zeros(1, 3, 8, 8),))
    edge = to_edge_transform_and_lower(exported, partitioner=[VulkanPartitioner()])
    data: bytes = edge.to_executorch().buffer
    return data


@pytest.mark.lowering
def test_a_pte_is_replayed(gpu: Gpu, pte: bytes) -> None:
    document = describe(replay(gpu, read_steps(pte, "x.pte"), repeats=1))
    assert document["kind"] == "pte"
    assert document["total"]["ours"]["steps"] == len(document["delegates"][0]["steps"]) > 0
    again = replan(pte, "x.pte", make_options("default"))
    planned = describe(replay(gpu, read_steps(again.flatbuffer(), "x.plan"), repeats=1))
    assert planned["total"]["baseline"]["steps"] == document["total"]["ours"]["steps"]
