"""``plan --server``: what it writes and prints is what planning here does."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from api.cli import main
from planner.costs.profile_file import load_profile
from planner.measured.device import load_device, save_device
from schema import join_delegate
from tests.api.graphs import graph
from tests.api.jobs.plant import wait
from tests.api.serving import Server, serving
from tests.recorded import recorded

# Where tests run in the background, their children are born deaf to SIGINT.
_INTERRUPTIBLE = """
import signal
from api.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
_OUTPUTS = {"-o": "out", "--plan": "out.plan", "--report": "out.json"}
_TIME = re.compile(r"[\d.]+ m?s\b|_seconds\": [\d.e-]+")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder / "data", f"sqlite:///{folder / 'db.sqlite'}", workers=0) as server:
        yield server


def _plan(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["plan", *map(str, arguments)], env={"COLUMNS": "200"})


def _there(server: Server, *arguments: object) -> Result:
    return _plan(*arguments, "--server", server.client.base_url)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A VkGraph."""
    path = tmp_path / "net.vkgraph"
    path.write_bytes(graph(8))
    return path


def _written(plan: Callable[..., Result], folder: Path, *arguments: object) -> dict[str, str]:
    """What is written and printed, without times."""
    folder.mkdir()
    paths = [word for o, name in _OUTPUTS.items() for word in (o, folder / name)]
    ended = plan(*arguments, *paths)
    assert ended.exit_code == 0, ended.output
    found = {
        path.name: path.read_bytes().hex() for path in folder.iterdir() if path.name != "out.json"
    }
    report = json.dumps(json.loads((folder / "out.json").read_text()))
    return found | {
        "report": _TIME.sub("", report),
        "table": " ".join(_TIME.sub("", ended.output).split()),
    }


def test_a_lowered_program_is_planned_there_as_here(server: Server, tmp_path: Path) -> None:
    source, mine = tmp_path / "mv2.pte", tmp_path / "mine.json"
    source.write_bytes(recorded("mv2_xs_int8", "random0.pte"))
    profile = json.loads(load_profile("default").to_json())
    mine.write_text(json.dumps(profile | {"name": "mine", "description": "my own"}))
    options = ("--profile", mine, "--objective", "latency", "--without-layout", "HEIGHT_PACKED")
    limits = ("--texture-limits", "4096,4096,2048", "--buffer-limit", 2**27, "--runtime", "1.3+")
    pins = ("--forbid", "HEIGHT_PACKED", "--pin", "et_vk.q8ta_add=buffer")
    ends = ("--input-layout", "texture", "--output-layout", "WIDTH_PACKED")
    with_pte = (source, *options, *limits, *pins, *ends, "--gpu", "Adreno (TM) 740")

    def there(*arguments: object) -> Result:
        return _there(server, *arguments)

    found = _written(there, tmp_path / "there", *with_pte, "--pte", tmp_path / "there.pte")
    assert found == _written(_plan, tmp_path / "here", *with_pte, "--pte", tmp_path / "here.pte")
    assert (tmp_path / "there.pte").read_bytes() == (tmp_path / "here.pte").read_bytes()


@pytest.mark.parametrize("is_blob", [False, True])
def test_a_graph_alone_comes_back_as_it_came(
    server: Server, net: Path, tmp_path: Path, is_blob: bool
) -> None:
    if is_blob:
        net.write_bytes(join_delegate(graph(8), b"constants"))

    def there(*arguments: object) -> Result:
        return _there(server, *arguments)

    options = (net, "--profile", "bytes", "--alternatives", 2)
    found = _written(there, tmp_path / "there", *options)
    assert found == _written(_plan, tmp_path / "here", *options)
    assert "the plans that come next" in found["table"]
    ended = _there(server, net, "--profile", "bytes", "--pte", tmp_path / "none.pte")
    assert ended.exit_code == 2 and "give the .pte that it is from" in ended.output
    assert not (tmp_path / "none.pte").exists()


def test_a_device_is_the_servers_or_a_file(server: Server, net: Path, tmp_path: Path) -> None:
    file = tmp_path / "phone.json.xz"
    save_device(load_device("lavapipe"), file)
    tables = [_there(server, net, "--device", device).output for device in ("lavapipe", file)]
    assert tables[0] == tables[1] and "lavapipe" in tables[0]
    assert server.client.post("/devices", json={"name": "mine"}).status_code == 201
    unknown = _there(server, net, "--device", "mine")
    assert unknown.exit_code == 2 and "device 'mine' has no runs yet" in unknown.output


def test_a_program_that_is_there_is_not_sent_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large.vkgraph").write_bytes(graph(11))
    sent: list[str] = []
    send = httpx.Client.send

    def noted(client: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        sent.append(f"{request.method} {request.url.path} {request.headers.get('content-length')}")
        return send(client, request, **options)

    monkeypatch.setattr(httpx.Client, "send", noted)
    for profile in ("bytes", "default"):
        ended = _there(server, tmp_path / "large.vkgraph", "--profile", profile)
        assert ended.exit_code == 0, ended.output
    posts = [line for line in sent if line.startswith("POST")]
    size = len(graph(11))
    assert posts == [f"POST /inputs {size}", "POST /plan 0", "POST /plan 0"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--costs", "x.sqlite"), "--costs cannot be sent to a server: name the server's device"),
        (("--avoid", "x.json"), "--avoid cannot be sent to a server: name the GPU"),
        (("--import", "x"), "--import cannot be sent to a server: lower the program here"),
        (("--trust-input",), "--trust-input cannot be sent to a server: lower the program here"),
        (("--objective", "speed"), "unknown objective 'speed'"),
        (("--profile", "none.json"), "none.json"),
        (("--device", "none.json"), "unknown device 'none.json'"),
        (("--device", "none"), "there is no device 'none'"),
        (("--buffer-limit", "0"), "buffer limit"),
    ],
)
def test_what_cannot_be_sent_or_is_wrong_is_named(
    server: Server, net: Path, tmp_path: Path, options: tuple[str, ...], named: str
) -> None:
    ended = _there(server, net, *options, "-o", tmp_path / "out")
    assert ended.exit_code == 2
    assert named in ended.output and len(ended.output.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_wrong_files_and_servers_that_are_away(server: Server, tmp_path: Path, net: Path) -> None:
    (tmp_path / "note.txt").write_text("no program")
    wrong = _there(server, tmp_path / "note.txt")
    assert wrong.exit_code == 2 and "note.txt" in wrong.output
    lost = _there(server, tmp_path / "none.pte")
    assert lost.exit_code == 2 and "cannot read" in lost.output
    away = _plan(net, "--server", "http://127.0.0.1:1")
    assert away.exit_code == 69 and "cannot reach the server" in away.output
    address = _plan(net, "--server", "127.0.0.1:8000")
    assert address.exit_code == 2 and "write http://host:8000" in address.output


def test_an_exported_program_needs_no_torch_here(
    server: Server, conv: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[str] = []

    @contextmanager
    def bar() -> Iterator[Callable[[str, object], None]]:
        yield lambda stage, delegate: stages.append(stage)

    monkeypatch.setattr("api.cli.planning.progress_bar", bar)
    for name in ("torch", "torchao", "executorch"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "net.pt2").write_bytes(conv)
    ended = _there(server, tmp_path / "net.pt2", "--force-fp16", "--pte", tmp_path / "net.pte")
    assert ended.exit_code == 0, ended.output
    assert (tmp_path / "net.pte").read_bytes()[4:8] == b"ET12"
    assert stages[0] == "sending the program"
    assert {"waiting", "loading", "lowering"} & set(stages)


def test_who_breaks_off_ends_the_plan_there(server: Server, conv: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(conv)
    command = [sys.executable, "-c", _INTERRUPTIBLE, "plan", "net.pt2", "--profile", "bytes"]
    process = subprocess.Popen(
        [*command, "-o", "out", "--server", str(server.client.base_url)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )

    def pending() -> str:
        text = server.client.get("/metrics").text
        (line,) = [x for x in text.splitlines() if x.startswith("layout_planner_plans_pending ")]
        return line.partition(" ")[2]

    wait(lambda: pending() == "1.0")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 1 and said.strip() == "Aborted!"
    wait(lambda: pending() == "0.0")
    names = [plan["name"] for plan in server.get("/plans?profile=bytes")["plans"]]
    assert "net.pt2" not in names
    assert not (tmp_path / "out").exists()
