"""``layout-planner check``: its table, its JSON, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli import main
from tests.planner.pipelines.test_runtimes import embedding, softmax
from tests.planner.verify.sketches import BUF_W, TEX_H, TEX_W


def check(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    path = tmp_path / "embedding.bin"
    path.write_bytes(embedding(TEX_H))
    return path


@pytest.fixture
def right(tmp_path: Path) -> Path:
    path = tmp_path / "softmax.bin"
    path.write_bytes(softmax(BUF_W))
    return path


def test_nothing_wrong(right: Path) -> None:
    done = check(right)
    assert done.exit_code == 0
    assert done.output.startswith(
        "softmax.bin: 2 operators, for ExecuTorch 1.5: nothing wrong is known\n"
        "layouts taken by ExecuTorch 1.3, 1.4, 1.5"
    )


def test_what_is_wrong_is_listed(wrong: Path, right: Path) -> None:
    done = check(wrong)
    assert done.exit_code == 1
    assert "1 finding" in done.output
    assert "operator 0 (aten.embedding.default)" in done.output
    assert "wrong values in texture:HEIGHT_PACKED" in done.output
    old = check(right, "--runtime", "1.2", "--gpu", "Adreno (TM) 740")
    assert old.exit_code == 1
    assert "for ExecuTorch 1.2 on Adreno (TM) 740: 2 findings" in old.output


def test_what_was_planned_for_webgpu_is_checked_for_it(right: Path, tmp_path: Path) -> None:
    web = tmp_path / "web.bin"
    plan = CliRunner().invoke(main, ["plan", str(right), "--target", "webgpu", "-o", str(web)])
    assert plan.exit_code == 0
    assert "for the WebGPU runtime of ExecuTorch 1.5" in " ".join(plan.output.split())
    done = check(web)
    assert done.exit_code == 0
    assert done.output.startswith(
        "web.bin: 2 operators, for the WebGPU runtime of ExecuTorch 1.5: nothing wrong is known\n"
        "operators taken by ExecuTorch 1.5"
    )
    assert "it was planned for WebGPU" in check(web, "--target", "vulkan").output
    show = CliRunner().invoke(main, ["show", str(web)])
    assert show.output.startswith("web.bin: VkGraph, 1 Vulkan delegate, planned for WebGPU")
    again = CliRunner().invoke(main, ["plan", str(web)])
    assert again.exit_code == 2
    assert "name what to plan it for (--target webgpu or --target vulkan)" in again.output


def test_json(wrong: Path) -> None:
    done = check(wrong, "--json")
    assert done.exit_code == 1
    (finding,) = json.loads(done.output)["findings"]
    assert finding["kind"] == "fault"
    assert finding["delegate"] == 0


def test_rows_of_a_users_own(tmp_path: Path) -> None:
    program, rows = tmp_path / "softmax.bin", tmp_path / "rows.json"
    program.write_bytes(softmax(TEX_W))
    row = {"operators": ["aten._softmax.default"], "representations": ["texture:WIDTH_PACKED"]}
    rows.write_text(json.dumps([{**row, "effect": "unstable", "source": "my phone"}]))
    done = check(program, "--avoid", rows)
    assert done.exit_code == 1
    assert "unstable in texture:WIDTH_PACKED" in done.output
    assert "my phone" in done.output
    planned = CliRunner().invoke(
        main, ["plan", str(program), "-o", str(tmp_path / "new"), "--avoid", str(rows)]
    )
    assert planned.exit_code == 0, planned.output
    assert "mended: delegate 0, operator 2 (aten._softmax.default)" in " ".join(
        planned.output.split()
    )
    assert check(tmp_path / "new", "--avoid", rows).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "Voodoo"], "unknown GPU 'Voodoo': name one by"),
        (["--runtime", "2"], "unknown runtime '2': use one of 1.1"),
    ],
)
def test_wrong_options(right: Path, arguments: list[str], message: str) -> None:
    done = check(right, *arguments)
    assert done.exit_code == 2
    assert message in done.output
