"""What a comparison of two runs shows: all that changed, and nothing that files could do to it."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from rich.console import Console

from api.cli import main
from api.terminal.picture import check_picture, draw
from api.terminal.runs import comparison_markdown, comparison_tables, layouts, verdict
from planner.compare.comparison import ComparedStep, Comparison, ProfiledRun, Speed, StepTime
from planner.errors import OptionError
from planner.files.kinds import FileKind
from planner.files.listing import Listing
from planner.ir.representation import TensorRepr
from planner.measured.join import Join
from schema import CostOrigin, VkDataType, VkMemoryLayout, VkStorageType
from tests.paths import PROFILES

TEX_C = TensorRepr(VkStorageType.TEXTURE_3D, VkMemoryLayout.TENSOR_CHANNELS_PACKED)
BUF_W = TensorRepr(VkStorageType.BUFFER, VkMemoryLayout.TENSOR_WIDTH_PACKED)
Q_4W4C = TensorRepr(VkStorageType.BUFFER, VkMemoryLayout.PACKED_INT8_4W4C)
HOSTILE = "[bold]a|b*c*[/] $x^2$ \x1b[31m\n_d_"


def time(
    ms: float, made: TensorRepr = TEX_C, origin: CostOrigin = CostOrigin.MEASURED, position: int = 3
) -> StepTime:
    """A step that takes so long, and was predicted to take twice that."""
    return StepTime(position, 7, (("0", TEX_C), ("o0", made)), ms * 1e6, 2e6 * ms, origin)


def step(a: StepTime | None, b: StepTime | None, operator: str = "aten.add.Tensor") -> ComparedStep:
    kind = "operator" if a and b else "transition"
    readers = () if a and b else ("aten.bmm.default", "aten.mul.Tensor")
    return ComparedStep(
        kind,  # type: ignore[arg-type]
        *(0, operator, None, (1, 64, 56, 56), VkDataType.FLOAT32, readers, a, b),
    )


def comparison(*steps: ComparedStep, name: str = "a.etdump") -> Comparison:
    a, b = (
        ProfiledRun(n, Listing(f"{n}.pte", FileKind.LOWERED, ()), Join((), unknown))
        for n, unknown in ((name, 0.0), ("b.etdump", 1.0))
    )
    return Comparison(a, b, "run A", steps, (0.0, 0.0), Speed(0.9, 0.5))


CHANGED = step(time(10), time(4, BUF_W, CostOrigin.ESTIMATED, position=5))
ALIKE = step(time(5, position=8), time(4.5, position=9), "aten.relu.default")
ONLY_B = step(None, time(0.25, BUF_W, CostOrigin.MODELLED))


def shown(found: Comparison, limit: int = 0) -> str:
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        for part in comparison_tables(found, limit):
            console.print(part)
    return capture.get()


def lines_with(text: str, part: str) -> list[str]:
    """Lines that have this part, with one space between words."""
    return [" ".join(line.split()) for line in text.splitlines() if part in line]


def test_steps_show_times_representations_and_predictions() -> None:
    text = shown(comparison(CHANGED, ALIKE, ONLY_B))
    (row, _) = lines_with(text, "aten.add.Tensor")
    assert row == (
        "aten.add.Tensor 3 → 5 1×64×56×56 float32 tex:C tex:C → buf:W "
        "10.000 4.000 -6.000 20.000 ≈8.000"
    )
    (row, _) = lines_with(text, "aten.relu.default")
    assert row.endswith("tex:C same 5.000 4.500 -0.500 10.000 9.000")
    (row,) = lines_with(text, "⇄ repack for aten.bmm.default +1")
    assert row.endswith("tex:C → buf:W – 0.250 +0.250 – ?0.500")
    (row,) = lines_with(text, "in others, or in one run only")
    assert row.endswith("1 → 2 10.000 4.250 -5.750 2.35× 20.000 8.500 2.35×")


def test_the_limit_keeps_the_largest_changes() -> None:
    found = comparison(CHANGED, ALIKE, ONLY_B)
    assert "The 1 largest changes of 3 steps" in shown(found, 1)
    assert "⇄ repack for" not in shown(found, 2)
    assert "largest" not in shown(found, 0)
    still = comparison(step(time(1), time(1)))
    assert "1×64×56×56" in shown(still, 0)
    assert "1×64×56×56" not in shown(still, 30)


def test_the_verdict_tells_noise_from_gain() -> None:
    found = comparison(CHANGED, ALIKE, ONLY_B)
    text = " ".join(verdict(found))
    assert "A took 15.000 ms and B 8.750 ms: -6.250 ms, A / B 1.71×." in text
    assert "Of it -5.750 ms are in steps whose representations changed" in text
    assert "-0.500 ms in 1 steps that both ran alike" in text
    assert "B's run took 10.0% less time as a whole" in text
    assert "At A's speed B would have taken 9.722 ms, A / B 1.54×." in text
    assert "(51% measured, 46% estimated, 3% modelled)" in text
    slower = replace(found, speed=Speed(1.04, 0.5))
    assert "B's run took 4.0% more time as a whole" in " ".join(verdict(slower))
    alike = replace(found, speed=Speed(1.001, 0.5))
    assert "B's run was as fast as A's as a whole" in " ".join(verdict(alike))
    assert "no call in common" in " ".join(verdict(replace(found, speed=None)))
    assert verdict(replace(found, b=found.a))[0] == "A and B are the same run."


def test_representations_in_short() -> None:
    assert layouts((("0", TEX_C), ("1", TEX_C), ("o0", TEX_C))) == "tex:C"
    assert layouts((("0", TEX_C), ("1", TEX_C), ("o0", Q_4W4C))) == "tex:C ×2 → buf:4W4C"
    assert layouts((("0", TEX_C), ("1", BUF_W), ("o0", BUF_W))) == "tex:C, buf:W → buf:W"
    assert layouts((("o0", TEX_C), ("o1", BUF_W))) == "tex:C, buf:W"
    assert layouts(()) == "–"


def test_texts_of_files_stay_texts() -> None:
    found = comparison(step(time(2), time(1), HOSTILE), name=HOSTILE)
    assert "[bold]a|b*c*[/]" in shown(found)
    text = comparison_markdown(found, 0)
    for part in (shown(found), text):
        assert "\x1b" not in part
    assert r"\[bold\]a\|b\*c\*\[/\]" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    for line in tables:
        assert line.replace(r"\|", "").count("|") in (9, 10, 11)
    draw(found, Path("x.svg"))


def test_markdown_keeps_names_readable() -> None:
    text = comparison_markdown(comparison(CHANGED, ALIKE), 1)
    assert text.startswith("- A: a.etdump, a run of a.etdump.pte\n- B: ")
    assert (
        "| aten.add.Tensor | 3 → 5 | 1×64×56×56 float32 | tex:C | tex:C → buf:W | 10.000 |" in text
    )
    assert "| aten.relu.default | 1 | 5.000 | 4.500 | -0.500 | 1.11× | 7.7% | 0.000 |" in text
    assert "The 1 largest changes of 2 steps" in text
    named = comparison(step(time(2), time(1), "aten.native_layer_norm.default"))
    assert "aten.native_layer_norm.default" in comparison_markdown(named, 0)


@pytest.mark.slow
def test_pictures_are_the_same_every_time() -> None:
    found = comparison(CHANGED, ALIKE, ONLY_B)
    svg = draw(found, Path("x.svg"))
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert draw(found, Path("other.SVG")) == svg
    assert draw(comparison(CHANGED), Path("x.svg")) != svg
    assert draw(found, Path("x.png")).startswith(b"\x89PNG")
    # Nothing to draw is drawn, too.
    assert draw(comparison(step(time(1), time(1))), Path("x.png")).startswith(b"\x89PNG")


def test_other_kinds_of_pictures_are_refused() -> None:
    check_picture(None)
    with pytest.raises(OptionError, match=r"cannot draw x\.pdf: end its name in \.svg or \.png"):
        check_picture(Path("x.pdf"))


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    for name in ("a.etdump", "b.etdump", "a.pte", "b.pte"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
    a, b, graph_a, graph_b = (str(tmp_path / n) for n in ("a.etdump", "b.etdump", "a.pte", "b.pte"))
    good = [a, b, "--graphs", graph_a, graph_b]
    for arguments, text in (
        ([a, b], "Missing option '--graphs'"),
        ([a, b, "--graphs", graph_a], "'--graphs' requires 2 arguments"),
        (good, "a.pte has no layouts that can be read"),
        ([*good, "--device", "x"], "ships with the planner (lavapipe, nvidia-h100)"),
        ([*good, "--costs", str(tmp_path / "none")], "there is no cost database"),
        ([*good, "--picture", "x.gif"], "cannot draw x.gif"),
        ([*good, "-o", str(tmp_path / "none" / "x.md")], "its directory does not exist"),
        ([a, b, "--graphs", graph_a, str(tmp_path / "none")], "cannot read"),
    ):
        result = CliRunner().invoke(main, ["compare", *arguments])
        assert result.exit_code == 2, result.output
        assert text in result.output
        assert len(result.output.splitlines()) == 1


@pytest.mark.lowering
def test_the_command(tmp_path: Path) -> None:
    for kind in ("etdump", "vkgraph"):
        data = lzma.decompress((PROFILES / f"mv2_xs_int8_greedy.{kind}.xz").read_bytes())
        (tmp_path / kind).write_bytes(data)
    run, graph = (str(tmp_path / kind) for kind in ("etdump", "vkgraph"))
    markdown, picture = tmp_path / "x.md", tmp_path / "x.svg"
    command = ["compare", run, run, "--graphs", graph, graph]
    result = CliRunner().invoke(main, [*command, "--json", "-o", str(markdown)])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert len(found["steps"]) == 259
    assert found["totals"]["everything"]["ratio"] == 1
    assert "A and B are the same run" in markdown.read_text()
    result = CliRunner().invoke(main, [*command, "--picture", str(picture)])
    assert result.exit_code == 0, result.output
    assert "et_vk.q8ta_conv2d_dw.default" in result.output
    assert picture.read_bytes().startswith(b"<?xml")
