"""The command line, as a user types it."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from api.cli import main
from planner.costs.profile_file import load_profile
from schema import (
    VkDataType,
    VkGraph,
    VkMemoryLayout,
    VkStorageType,
    VkTensor,
    plan,
    vkgraph,
)
from schema.vkgraph import OperatorCall, String

LOWERED = Path(__file__).parents[2] / "programs" / "by_executorch_1.4.1.pte"
SPARE = (
    "torch ortools highspy httpx pydantic flatbuffers rich.progress rich._emoji_codes "
    "numpy.ma numpy.random numpy.fft numpy.polynomial"
)


def run(*args: object) -> Result:
    """Runs the command in this process; a bug's exception is not hidden."""
    result = CliRunner().invoke(main, [str(a) for a in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def failure(*args: object) -> str:
    """What a command that should be refused says; it exits with 2 after one line."""
    result = run(*args)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, conv: bytes) -> Path:
    """A small .pt2 file."""
    path = tmp_path_factory.mktemp("source") / "tiny.pt2"
    path.write_bytes(conv)
    return path


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['layout-planner', '--help']\n"
        "from api.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'executorch', 'wgpu', 'ortools', 'fastapi', 'numpy', 'pydantic'}\n"
        "sys.exit(not heavy.isdisjoint(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == 0 and b"Usage:" in done.stdout


def test_a_lowered_program_is_planned_on_one_thread_without_what_it_does_not_need() -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from api.cli import main\n"
        f"main(['plan', {str(LOWERED)!r}], standalone_mode=False)\n"
        "status = Path('/proc/self/status').read_text()\n"
        "assert status.split('Threads:')[1].split()[0] == '1', status\n"
        "assert 'OPENBLAS_NUM_THREADS' not in os.environ\n"
        f"spare = set({SPARE!r}.split())\n"
        "assert spare.isdisjoint(sys.modules), spare & set(sys.modules)\n"
    )
    unset = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, env=unset)
    assert done.returncode == 0, done.stderr.decode()


def test_plan_writes_what_was_asked_for(source: Path, tmp_path: Path) -> None:
    out, pte, report = tmp_path / "x.plan", tmp_path / "x.pte", tmp_path / "x.json"
    result = run("plan", source, "-o", out, "--pte", pte, "--report", report, "--profile", "bytes")
    assert result.exit_code == 0
    for text in ("tiny.pt2", "delegate 0", "total", "optimal", "lowering", "ExecuTorch"):
        assert text in result.stdout
    document = json.loads(report.read_text())
    keys = {
        "repack_cost",
        "baseline_repack_cost",
        "transitions",
        "baseline_transitions",
        "status",
        "bound",
        "plan_seconds",
        "baseline_seconds",
    }
    assert all(keys <= figures.keys() for figures in (document["total"], *document["delegates"]))
    program = plan.decode(out.read_bytes())
    assert program.total.repack_cost == document["total"]["repack_cost"]
    assert program.profile_hash == load_profile("bytes").digest
    assert all(d.graph in pte.read_bytes() for d in program.delegates)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.json", "x.plan", "x.pte"]


def test_latency_counts_accesses(source: Path, tmp_path: Path) -> None:
    report = tmp_path / "x.json"
    result = run("plan", source, "--report", report, "--objective", "latency")
    total = json.loads(report.read_text())["total"]
    assert result.exit_code == 0 and "time of operators and repacks" in result.stdout
    assert total["objective_cost"] > total["repack_cost"]
    assert total["bound"] == total["objective_cost"] <= total["baseline_objective_cost"]


def test_a_profile_of_ones_own(source: Path, tmp_path: Path) -> None:
    profile = json.loads(load_profile("default").to_json()) | {"name": "my phone"}
    path = tmp_path / "phone.json"
    path.write_text(json.dumps(profile))
    result = run("plan", source, "--profile", path)
    assert result.exit_code == 0 and "my phone" in result.stdout


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "invalid JSON"),
        ("{}", "format is missing"),
        ('{"format": "layout-planner-profile", "version": 3}', "version should be 1 or 2"),
    ],
)
def test_a_profile_that_is_none(source: Path, tmp_path: Path, content: str, text: str) -> None:
    path = tmp_path / "phone.json"
    path.write_text(content)
    message = failure("plan", source, "--profile", path)
    assert f"{path} is not a valid device profile" in message and text in message


def test_options_that_are_wrong(source: Path, tmp_path: Path) -> None:
    assert "unknown profile 'phone': use one of bytes, default, h200, lavapipe" in failure(
        "plan", source, "--profile", "phone"
    )
    assert "unknown objective 'speed': use repack or latency" in failure(
        "plan", source, "--objective", "speed"
    )
    assert "texture limits '1,2' are not three" in failure(
        "plan", source, "--texture-limits", "1,2"
    )
    assert "unknown layout '5W': use one of TENSOR_WIDTH_PACKED" in failure(
        "plan", source, "--without-layout", "5W"
    )
    assert "--pin 'x' does not say what to pin to what" in failure("plan", source, "--pin", "x")
    assert "--forbid: 'all' is not a representation" in failure("plan", source, "--forbid", "all")
    assert "its directory does not exist" in failure("plan", source, "-o", tmp_path / "a" / "b")
    assert "unknown model 'gpt': use one of mobilenet_v2" in failure(
        "zoo", "gpt", "-o", tmp_path / "x.pt2"
    )
    assert "unknown model 'gpt'" in failure("bench", "models", "gpt")
    assert "unknown model 'gpt'" in failure("demo", "gpt")


def test_inputs_that_are_wrong(tmp_path: Path) -> None:
    missing, text, empty = (tmp_path / f"{name}.pt2" for name in ("none", "text", "empty"))
    text.write_text("hello")
    empty.touch()
    assert "cannot read" in failure("plan", missing)
    assert "text.pt2 is not a zip archive: hand in" in failure("plan", text)
    assert "empty.pt2 is empty: hand in" in failure("plan", empty)


@pytest.mark.parametrize("command", [["plan"], ["show"], ["diff", __file__]])
def test_a_directory_is_no_input(command: list[str], tmp_path: Path) -> None:
    message = failure(*command, tmp_path)
    assert "is a directory. See " in message and message.endswith(f"{command[0]} --help.\n")


def test_commands_that_are_wrong(source: Path) -> None:
    assert "Missing argument 'INPUT'. See" in failure("plan")
    assert "No such command 'pan'" in failure("pan")
    assert "No such option '--profil'" in failure("plan", source, "--profil", "bytes")
    assert "'many' is not a valid integer" in failure("plan", source, "--buffer-limit", "many")


def test_damaged_graphs_leave_what_is_there(tmp_path: Path) -> None:
    whole = vkgraph.encode(VkGraph("0", (), (String("x" * 100),), (), ()))
    damaged, out, report = (tmp_path / name for name in ("net.bin", "out.bin", "out.json"))
    out.write_bytes(b"what was there")
    for data in (
        whole[:-1],
        whole[: len(whole) // 2],
        whole[:8],
        struct.pack("<I", 2**32 - 1) + whole[4:],  # the root is far outside
        struct.pack("<I", 0) + whole[4:],  # and at itself
        struct.pack("<I4s", 0, b"VH00") + whole,
        struct.pack("<I4s", 0, b"ET12") + whole,
    ):
        damaged.write_bytes(data)
        for command in (["plan", "-o", out, "--report", report], ["show"], ["diff", damaged]):
            assert "net.bin" in failure(*command, damaged)
    assert out.read_bytes() == b"what was there"
    assert {path.name for path in tmp_path.iterdir()} == {"net.bin", "out.bin"}


def test_nothing_is_written_when_planning_fails(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.plan"
    out.write_bytes(b"what was there")
    limits = ("--texture-limits", "1,1,1", "--buffer-limit", "1")
    message = failure("plan", source, "-o", out, *limits)
    assert "raise the texture limits (--texture-limits" in message
    assert out.read_bytes() == b"what was there"
    assert [p.name for p in tmp_path.iterdir()] == ["x.plan"]


@pytest.mark.lowering
def test_bench_prints_a_row_for_each_model(tmp_path: Path) -> None:
    out = tmp_path / "models.md"
    result = run(
        *("bench", "models", "resnet50_int8", "--small", "--repeats", 2, "--cpsat", 4, "-o", out)
    )
    assert result.exit_code == 0
    heading, _, row = out.read_text().splitlines()
    assert "ExecuTorch's pass, ms" in heading
    assert row.startswith("| resnet50_int8 |") and "OPTIMAL" in row and "DIFFERENT" not in row


@pytest.mark.lowering
def test_demo_takes_a_model_through_the_service() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "demo", "unet", "--small"],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "POST http://127.0.0.1:" in done.stdout and "optimal" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r"dashboard: http://127\.0\.0\.1:\d+/view/[0-9a-f]{32}", last)


def test_a_lowered_program_is_planned_shown_and_compared(source: Path, tmp_path: Path) -> None:
    pte, again, out = tmp_path / "x.bin", tmp_path / "y.pte", tmp_path / "y.plan"
    assert run("plan", source, "--pte", pte).exit_code == 0
    result = run("plan", pte, "-o", again, "--plan", out)
    assert result.exit_code == 0 and "before" in result.stdout
    assert again.read_bytes() == pte.read_bytes()
    shown = run("show", again)
    assert shown.exit_code == 0 and "et_vk.conv_with_clamp.default" in shown.stdout
    document = json.loads(run("show", out, "--json").stdout)
    assert document["kind"] == "plan" and document["delegates"][0]["operators"]
    assert json.loads(run("diff", pte, out, "--json").stdout)["is_equal"]
    assert run("diff", pte, again, "--exit-code").exit_code == 0


def test_differences_can_be_an_exit_code(tmp_path: Path) -> None:
    tensor = VkTensor(VkDataType.FLOAT32, (1, 8, 4, 4))
    texture = replace(
        tensor,
        storage_type=VkStorageType.TEXTURE_3D,
        memory_layout=VkMemoryLayout.TENSOR_WIDTH_PACKED,
    )
    paths = []
    for i, made in enumerate((tensor, texture)):
        call = OperatorCall(0, "aten.relu.default", (0, 1))
        paths.append(tmp_path / f"{i}.vkgraph")
        paths[-1].write_bytes(vkgraph.encode(VkGraph("0", (call,), (made, made), (0,), (1,))))
    assert run("diff", *paths).exit_code == 0
    assert run("diff", *paths, "--exit-code").exit_code == 1


@pytest.mark.lowering
def test_bench_replan_prints_a_row_for_each_size(tmp_path: Path) -> None:
    out = tmp_path / "replan.md"
    assert run("bench", "replan", "--operators", 100, "-o", out).exit_code == 0
    heading, _, row = out.read_text().splitlines()
    assert "| check |" in heading and row.count("|") == heading.count("|")
