"""What the terminal shows of files: all that is in them, and nothing that they could do to it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from api.terminal.console import visible
from api.terminal.files import diff_table, show_table
from planner.compare.layouts import compare
from planner.costs.profile_file import load_profile
from planner.files.listing import describe
from schema import (
    DelegatePlan,
    Figures,
    PlannedProgram,
    Status,
    TensorPlan,
    VkDataType,
    VkGraph,
    VkMemoryLayout,
    VkStorageType,
    VkTensor,
    plan,
    vkgraph,
)
from schema.vkgraph import Double, Int, IntList, Null, OperatorCall, String, Value, VkBytes

TEXTURE, BUFFER = VkStorageType.TEXTURE_3D, VkStorageType.BUFFER
WIDTH, CHANNELS = VkMemoryLayout.TENSOR_WIDTH_PACKED, VkMemoryLayout.TENSOR_CHANNELS_PACKED
HOSTILE = "[bold red]x[/] \x1b[31mred\x07\u202e\n:smile:"


def tensor(storage: VkStorageType, layout: VkMemoryLayout) -> VkTensor:
    return VkTensor(VkDataType.FLOAT32, (1, 64, 56, 56), storage_type=storage, memory_layout=layout)


def graph(*values: Value, name: str = "aten.custom", repacks: bool = True) -> VkGraph:
    """A repack of an input (or none), then one operator with these arguments besides."""
    first = 4
    source = 2 if repacks else 0
    chain = [OperatorCall(0, "aten.clone.default", (0, 1, 2))] if repacks else []
    extra = tuple(range(first, first + len(values)))
    return VkGraph(
        version="0",
        chain=(*chain, OperatorCall(1, name, (source, *extra, 3))),
        values=(
            tensor(TEXTURE, CHANNELS),
            Null(),
            tensor(BUFFER, WIDTH),
            tensor(BUFFER, WIDTH) if repacks else tensor(TEXTURE, CHANNELS),
            *values,
        ),
        input_ids=(0,),
        output_ids=(3,),
        constants=(VkBytes(0, 16),),
    )


def planned(*, name: str = "", source: str = "m.pt2", delegates: int = 1) -> bytes:
    """A planned program with these texts in it."""
    figures = Figures(3e6, 3e6, 3e6, Status.OPTIMAL, 1, 6e6, 6e6, 2)
    data = vkgraph.encode(graph())
    delegate = DelegatePlan(0, name, data, (TensorPlan(3, name, BUFFER, WIDTH),), (), figures)
    return plan.encode(
        PlannedProgram(
            planner_version="1",
            source_name=source,
            source_sha256="",
            profile_name=name,
            profile_hash="",
            cost_unit="bytes",
            objective="repack",
            texture_limits=(1, 2, 3),
            excluded_layouts=(),
            delegates=(delegate,) * delegates,
            total=figures,
        )
    )


def printed(renderables: Iterable[RenderableType], *, color: bool = False, width: int = 160) -> str:
    file = io.StringIO()
    system: Any = "truecolor" if color else None
    Console(file=file, width=width, force_terminal=color, color_system=system).print(*renderables)
    return file.getvalue()


def shown(data: bytes | VkGraph, name: str = "m.pte", width: int = 160) -> str:
    data = vkgraph.encode(data) if isinstance(data, VkGraph) else data
    return printed(show_table(describe(data, name)), width=width)


def differing(a: VkGraph | bytes, b: VkGraph | bytes) -> str:
    first, second = (vkgraph.encode(x) if isinstance(x, VkGraph) else x for x in (a, b))
    return printed(diff_table(compare(first, "a", second, "b", load_profile("bytes"))))


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def test_every_operator_has_its_line() -> None:
    weight = VkTensor(VkDataType.FLOAT16, (8, 3), constant_id=0)
    text = shown(graph(weight, Int(3), IntList((1, 2)), Double(0.25), String("none"), Null()))
    assert text.startswith("m.pte: VkGraph, 1 Vulkan delegate\n")
    repack, operator, second, third = text.split("─ \n")[1].splitlines()[:4]
    made, copy = "v0 1×64×56×56 f32 texture:CHANNELS", "v2 1×64×56×56 f32 buffer:WIDTH"
    out = "v3 1×64×56×56 f32 buffer:WIDTH"
    assert cells(repack) == ["0", "⇄ repack", made, copy]
    assert cells(operator) == ["1", "aten.custom", copy, out]
    assert cells(second) == ["v4 8×3 f16 constant"]
    assert cells(third) == ['3, [1, 2], 0.25, "none", –']
    assert "2 operators, of them 1 repacks" in text
    assert "2 buffer:WIDTH, 1 texture:CHANNELS, 1 constants" in text
    assert f"inputs: {made}\noutputs: {out}\n" in text


def test_repacks_are_marked_without_colour() -> None:
    text = shown(graph())
    assert "⇄ repack" in text and "aten.clone.default" not in text
    assert "⇄" not in shown(graph(repacks=False))


def test_a_plan_says_where_it_is_from_and_what_it_came_to() -> None:
    text = shown(planned(name="relu_7", delegates=2), "m.plan")
    assert "m.plan: planned program, 2 Vulkan delegates" in text
    assert "planned from m.pt2 with profile relu_7, objective repack" in text
    figures = "repack cost 3.000 MB (1 repacks), before planning 6.000 MB (2); optimal"
    assert text.count(figures) == 3
    assert "v3 relu_7 1×64×56×56 f32 buffer:WIDTH" in text


def test_long_lists_and_texts_are_cut() -> None:
    text = shown(graph(IntList(tuple(range(100_000))), String("x" * 100_000)))
    assert len(text) < 5000
    assert "14, 15, … (100000)]" in text
    assert "x…" in text.replace("\n", "")


@pytest.mark.parametrize("width", [20, 40, 80])
def test_narrow_terminals_lose_nothing(width: int) -> None:
    text = "".join(re.split(r"\s+", shown(graph(), width=width)))
    assert "2operators" in text


def test_a_thousand_operators_are_all_shown() -> None:
    count = 1000
    value = tensor(BUFFER, WIDTH)
    chain = tuple(OperatorCall(i, "aten.custom", (i, i + 1)) for i in range(count))
    text = shown(VkGraph("0", chain, (value,) * (count + 1), (0,), (count,)))
    rows = [cells(line) for line in text.splitlines() if "aten.custom" in line]
    assert [row[0] for row in rows] == [str(i) for i in range(count)]


def test_texts_from_a_file_are_harmless() -> None:
    data = planned(name=HOSTILE, source=HOSTILE)
    named = vkgraph.encode(graph(String(HOSTILE), name="[bold]aten.x[/bold]"))
    other = vkgraph.encode(graph(String(HOSTILE), name="[bold]aten.x[/bold]", repacks=False))
    profile = replace(load_profile("bytes"), name=HOSTILE)
    for renderables in (
        show_table(describe(data, HOSTILE)),
        show_table(describe(named, HOSTILE)),
        diff_table(compare(named, HOSTILE, other, HOSTILE, profile)),
        diff_table(compare(data, HOSTILE, vkgraph.encode(graph(repacks=False)), "b", profile)),
    ):
        plain = printed(renderables, width=1000)
        assert "[bold red]x[/] \\x1b[31mred\\x07\\u202e\\n:smile:" in plain
        assert not set("\x1b\x07\u202e") & set(plain)
        assert "\x1b[31mred" not in printed(renderables, color=True, width=1000)
    assert "[bold]aten.x[/bold]" in shown(named)


@given(st.text())
def test_visible_texts_stay_on_their_line(text: str) -> None:
    assert visible(text).isprintable()
    if text.isprintable() and len(text) <= 200:
        assert visible(text) == text


def test_a_difference_is_a_table_of_what_changed() -> None:
    text = differing(graph(), graph(repacks=False))
    assert "delegates that differ: 1 of 1" in text
    (figures,) = [cells(line) for line in text.splitlines() if "1 → 0" in line]
    assert figures[:5] == ["delegate 0", "1 → 0", "1.606 MB", "0.000 MB", "∞"]
    tensors, repacks = text.split("tensors made differently: 1\n")[1].split("repacks only in A")
    assert ["v3", "v3", "1×64×56×56 f32", "buffer:WIDTH", "texture:CHANNELS"] in [
        cells(line) for line in tensors.splitlines()
    ]
    assert " (-): 1, only in B (+): 0, in both: 0" in repacks
    reader = "1 aten.custom"
    layouts = ("texture:CHANNELS", "buffer:WIDTH")
    row = ["- A", "v0", "1×64×56×56 f32", *layouts, reader, "1.606 MB"]
    assert row in [cells(line) for line in repacks.splitlines()]
    assert "+ B" in differing(graph(repacks=False), graph())


def test_no_difference_is_said() -> None:
    text = differing(graph(), planned())
    assert "no difference" in text
    assert "only in" not in text and "made differently" not in text


def test_totals_of_several_delegates() -> None:
    data = planned(name="d", delegates=2)
    rows = [cells(line) for line in differing(data, data).splitlines()]
    assert [row[1] for row in rows if row[0] in ("d", "total")] == ["1 → 1", "1 → 1", "2 → 2"]
