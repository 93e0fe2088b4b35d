"""The check of a lowered program: it finds what is wrong with a file, and nothing in right ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.errors import InputError, OptionError
from planner.ir.representation import TensorRepr
from planner.kernels.gpus import Gpu, find_gpu, known_gpus
from planner.kernels.releases import RELEASES, Runtime, parse_runtime
from planner.pipelines.checking import check_program
from planner.pipelines.lowered import replan
from schema import VkDataType, VkTensor, vkgraph
from tests.planner.pipelines.test_runtimes import IN_BUFFERS, embedding, softmax, unplanned
from tests.planner.verify.sketches import (
    BUF_W,
    Q_4C,
    Q_4C1W,
    Q_4H4W,
    Q_4W4C,
    TEX_C,
    TEX_H,
    TEX_W,
    Sketch,
)

INT8 = VkDataType.INT8


def kinds(data: bytes, runtime: str | None = None, gpu: Gpu | None = None) -> list[str]:
    found = check_program(data, "x", parse_runtime(runtime) if runtime else None, gpu)
    return [finding.kind for finding in found.findings]


def test_softmax_over_buffers_is_refused_before_1_3() -> None:
    data = softmax(BUF_W)
    assert kinds(data) == []
    found = check_program(data, "x", Runtime("1.2", "1.2"))
    assert found.taken_by == ("1.3", "1.4", "1.5")
    assert [(f.place, f.kind, f.text) for f in found.findings] == [
        (
            "operator 1 (aten._softmax.default)",
            "representation",
            f"ExecuTorch 1.2 does not take buffer:WIDTH_PACKED as {operand}, only "
            "{texture:WIDTH_PACKED, texture:HEIGHT_PACKED, texture:CHANNELS_PACKED}",
        )
        for operand in ("argument 0", "output 0")
    ]
    assert kinds(data, "1.2+") == ["representation"] * 2
    assert kinds(softmax(TEX_W), "1.1+") == []


def test_an_operator_of_a_later_release_is_named() -> None:
    data = softmax(TEX_W, new="aten.hardswish.default")
    (finding,) = check_program(data, "x", Runtime("1.2", "1.2")).findings
    assert finding.place == "operator 3 (aten.hardswish.default)"
    assert finding.text == "ExecuTorch 1.2 does not know it: 1.3 brought it"
    assert kinds(data) == []


@pytest.mark.parametrize(
    ("given", "wrong"), [(TEX_H, True), (TEX_W, False), (TEX_C, False), (BUF_W, False)]
)
def test_a_known_fault_is_found(given: TensorRepr, wrong: bool) -> None:
    data = embedding(given)
    assert kinds(data) == ["fault"] * wrong
    assert kinds(replan(data, "x").data) == []
    if wrong:
        (finding,) = check_program(data, "x").findings
        assert finding.text == "wrong values in texture:HEIGHT_PACKED"
        assert finding.source.startswith("https://")


@pytest.mark.parametrize(("keys", "wrong"), [(7, True), (8, False)])
def test_attention_over_buffers_needs_keys_by_fours(keys: int, wrong: bool) -> None:
    s = Sketch()
    q, k, v = (s.input((1, 2, n, 8), BUF_W) for n in (5, keys, keys))
    x = s.call("et_vk.sdpa.default", q, k, v, None, None, s.tensor((1, 2, 5, 8), BUF_W))
    data = vkgraph.encode(s.finish(x).after)
    assert kinds(data) == ["fault"] * wrong
    assert kinds(replan(data, "x").data) == []


def test_what_has_no_kernel_does_not_load() -> None:
    data = softmax(TEX_W, new="aten.logical_not.default")
    found = check_program(data, "x")
    assert found.unloadable == ("aten.logical_not.default",)
    assert [f.text for f in found.findings] == ["does not load in texture:WIDTH_PACKED"]
    assert check_program(embedding(TEX_H), "x").unloadable == ()


def test_images_and_buffers_beyond_a_gpu() -> None:
    gpu = Gpu("Small 1", "Small", 2048, 2**20, "its maker")
    s = Sketch()
    x = s.input((1, 4, 2, 9000), TEX_C)
    y = s.call("aten.relu.default", x, s.tensor((1, 4, 2, 9000), TEX_C))
    z = s.repack(y, BUF_W)
    w = s.call(IN_BUFFERS, z, s.tensor((1, 4, 2, 9000), BUF_W))
    data = vkgraph.encode(s.finish(w).after)
    assert kinds(data) == []
    assert kinds(data, gpu=gpu) == ["limit", "limit"]
    texts = [f.text for f in check_program(data, "x", gpu=gpu).findings]
    assert texts == ["an image of 9000x2x1 texels: Small holds 2048"] * 2
    least = replace(gpu, image_3d=16384, storage_buffer=4 * 4 * 2 * 9000 - 1)
    assert kinds(data, gpu=least) == ["limit", "limit"]
    (first, _) = check_program(data, "x", gpu=least).findings
    assert first.text == "a buffer of 288000 bytes: Small binds 287999"
    assert kinds(data, gpu=replace(least, storage_buffer=288000)) == []


def test_live_tensors_that_share_memory() -> None:
    graph = vkgraph.decode(softmax(TEX_W))
    tensors = [i for i, v in enumerate(graph.values) if isinstance(v, VkTensor)]
    values = tuple(
        replace(v, mem_obj_id=0) if i in tensors and isinstance(v, VkTensor) else v
        for i, v in enumerate(graph.values)
    )
    assert "memory" in kinds(vkgraph.encode(replace(graph, values=values)))


def test_kernels_that_do_not_get_the_layouts_they_work_with() -> None:
    s = Sketch()
    x = s.input((1, 8, 4, 4), Q_4C1W, INT8)
    y = s.call("et_vk.q8ta_relu.default", x, 1.0, 0, 1.0, 0, s.tensor((1, 8, 4, 4), Q_4H4W, INT8))
    (finding,) = check_program(vkgraph.encode(s.finish(y).after), "x").findings
    assert finding.kind == "resolution"
    assert "buffer:4H4W is not compatible with buffer:4C1W of argument 0" in finding.text


@pytest.mark.parametrize(
    ("datatype", "walk"),
    [(VkDataType.FLOAT32, (TEX_W, TEX_H, BUF_W, TEX_C)), (INT8, (Q_4H4W, Q_4C1W, Q_4C, Q_4W4C))],
)
def test_repacks_of_repacks(datatype: VkDataType, walk: tuple[TensorRepr, ...]) -> None:
    s = Sketch()
    first, *others = walk
    x = s.input((1, 8, 4, 4), first, datatype)
    for representation in others:
        made = s.tensor((1, 8, 4, 4), representation, datatype)
        x = s.call("aten.clone.default", x, None, made)
    assert kinds(vkgraph.encode(s.finish(x).after), "1.3+") == []


def test_a_program_without_layouts_is_taken_by_all() -> None:
    found = check_program(unplanned(softmax(BUF_W)), "x")
    assert found.taken_by == RELEASES
    assert found.findings == ()


def test_what_no_release_registers_is_listed() -> None:
    found = check_program(softmax(TEX_W, new="mine.mix.default"), "x")
    assert found.unknown == ("mine.mix.default",)
    assert found.findings == ()


def test_an_exported_program_is_refused() -> None:
    with pytest.raises(InputError, match=r"x\.pt2 is not a lowered program: hand in a \.pte"):
        check_program(b"PK\x03\x04", "x.pt2")


def test_gpus_are_found_by_part_of_their_name() -> None:
    assert known_gpus()
    for part, gpu in known_gpus():
        found = find_gpu(f"Maker {part.upper()} 1")
        assert found.name == f"Maker {part.upper()} 1"
        assert gpu.image_3d >= 256  # what Vulkan demands
        assert gpu.storage_buffer >= 2**27
        assert gpu.source.startswith("https://")
    with pytest.raises(OptionError, match="unknown GPU 'Voodoo': name one by"):
        find_gpu("Voodoo")
