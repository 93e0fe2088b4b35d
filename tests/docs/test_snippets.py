"""Every snippet of the documentation is run, page by page, in a folder with prepared inputs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner

from api.cli import main
from api.client.connection import TOKEN
from planner.costs.profile_file import parse_profile
from planner.kernels.faults import parse_faults
from tests.api.graphs import graph
from tests.api.serving import Server
from tests.docs.blocks import PAGES, Block, blocks_of
from tests.docs.commands import NOT_RUN, PARSED, SMALLER, commands_of, starts
from tests.paths import ROOT
from tests.recorded import recorded

_SERVER: Final = "http://127.0.0.1:8000"
_PLANNER: Final = "layout-planner "
_RECORDED: Final = {
    "model.pte": "greedy.pte",
    "run.etdump": "greedy.etdump",
    "old.pte": "random0.pte",
    "old.etdump": "random0.etdump",
    "new.pte": "planned.pte",
    "new.etdump": "planned.etdump",
}
_EXAMPLE: Final = re.compile(r"\b(?:exported|model|example_inputs)\b(?!\.)")
_JOBS: Final = re.compile(r"\b(?:JOB|OLD|NEW)\b")


def _pages_with_code() -> list[Path]:
    return [page for page in PAGES if blocks_of(page)]


@pytest.fixture
def folder(
    request: pytest.FixtureRequest,
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with the inputs that a page names, and the files that it shows."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    for name, file in _RECORDED.items():
        if name in text:
            (tmp_path / name).write_bytes(recorded("mv2_xs_int8", file))
    if "model.pt2" in text or "models/" in text:
        pt2: bytes = request.getfixturevalue("pt2")
        (tmp_path / "model.pt2").write_bytes(pt2)
        for name in ("models", "more"):
            (tmp_path / name).mkdir()
        (tmp_path / "models" / "net.pt2").write_bytes(pt2)
        (tmp_path / "more" / "old.pte").write_bytes(recorded("mv2_xs_int8", "random0.pte"))
    else:
        (tmp_path / "models").mkdir()
    (tmp_path / "models" / "chain.vkgraph").write_bytes(graph(8))
    if "mine.json" in text:
        (tmp_path / "mine.json").write_bytes(
            (ROOT / "planner/costs/profiles/default.json").read_bytes()
        )
    for block in blocks_of(page):
        if block.title:
            (tmp_path / block.title).write_text(block.text)
    return tmp_path


@pytest.mark.lowering
@pytest.mark.parametrize("page", _pages_with_code(), ids=lambda page: page.stem)
def test_a_page_runs(page: Path, folder: Path, request: pytest.FixtureRequest) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        match block.language:
            case "python":
                _run_python(block, namespace, request)
            case "sh":
                for command in block.commands:
                    _run_command(command, block.place, folder, request)
            case "json":
                _check_json(block)
            case "toml":
                tomllib.loads(block.text)
            case "text" | "mermaid" | "":
                pass
            case language:
                pytest.fail(f"{block.place}: blocks of {language!r} are not tested")


def _run_python(block: Block, namespace: dict[str, Any], request: pytest.FixtureRequest) -> None:
    if (
        re.search(r"\b(exported|model|example_inputs)\b", block.text)
        and "exported" not in namespace
    ):
        namespace |= request.getfixturevalue("example")
    text = _at_server(block.text, request)
    code = compile(text, block.place, "exec", dont_inherit=True)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, namespace)


def _run_command(command: str, place: str, folder: Path, request: pytest.FixtureRequest) -> None:
    if command.startswith("export "):
        name = command.removeprefix("export ").partition("=")[0]
        assert name in variables(), f"{place}: no command reads {name}"
    elif command.startswith(_PLANNER):
        _run_planner(command.removeprefix(_PLANNER), place, request)
    elif command.startswith("curl "):
        (folder / ".curlrc").write_text("fail\n")
        ended = subprocess.run(
            ["bash", "-c", _at_server(command, request)],
            env=os.environ | {"CURL_HOME": str(folder)},
            capture_output=True,
            check=False,
        )
        assert ended.returncode == 0, (place, command, ended.stderr)
    else:
        assert starts(command, NOT_RUN), f"{place}: {command!r} is neither run nor listed"
        _check_not_run(command, place)


def _run_planner(command: str, place: str, request: pytest.FixtureRequest) -> None:
    if starts(command, PARSED):
        parse(shlex.split(command))
        return
    command = _at_server(command, request)
    env: dict[str, str] = {"COLUMNS": "200"}
    if command.startswith("jobs "):
        server: Server = request.getfixturevalue("server")
        env["LAYOUT_PLANNER_SERVER"] = str(server.client.base_url)
        if _JOBS.search(command):
            command = _JOBS.sub(request.getfixturevalue("job"), command)
    if prefix := starts(command, SMALLER):
        command += f" {SMALLER[prefix]}"
    ended = CliRunner().invoke(main, shlex.split(command), env=env)
    assert ended.exit_code == 0, (place, command, ended.output, ended.exception)
    if prefix:
        written = Path(command.split(" -o ")[1].split()[0])
        assert written.stat().st_size > 0
        written.write_bytes(request.getfixturevalue("pt2"))


def _check_not_run(command: str, place: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets, f"{place}: there is no target {words[1]}"
    for word in words:
        if word.startswith(("tests/", "docker/")):
            assert (ROOT / word).exists(), f"{place}: there is no {word}"


def _check_json(block: Block) -> None:
    document = json.loads(block.text)
    if isinstance(document, list):
        assert parse_faults(block.text, block.place).rows
    elif document.get("format") == "layout-planner-profile":
        parse_profile(block.text, block.place)


def _at_server(text: str, request: pytest.FixtureRequest) -> str:
    if _SERVER not in text:
        return text
    server: Server = request.getfixturevalue("server")
    return text.replace(_SERVER, str(server.client.base_url).rstrip("/"))


def parse(words: list[str]) -> None:
    """Shows that a command of ``layout-planner`` takes these arguments, without running it."""
    command: click.Command = main
    context: click.Context | None = None
    name = "layout-planner"
    while isinstance(command, click.Group):
        context = command.make_context(name, list(words), parent=context, resilient_parsing=True)
        name, command, words = _next(command, context, words)
    command.make_context(name, list(words), parent=context)


def _next(
    group: click.Group, context: click.Context, words: list[str]
) -> tuple[str, click.Command, list[str]]:
    name, command, rest = group.resolve_command(context, words)
    assert command is not None and name is not None
    return name, command, rest


def variables() -> set[str]:
    """The environment variables that commands and the client read."""
    found = {TOKEN}
    groups: list[click.Command] = [main]
    while groups:
        command = groups.pop()
        if isinstance(command, click.Group):
            groups += commands_of(command).values()
        for option in command.params:
            if isinstance(option.envvar, str):
                found.add(option.envvar)
    return found


def test_every_line_with_curl_is_one_that_is_run() -> None:
    for page in PAGES:
        shown = re.findall(r"^\W*curl ", page.read_text(), re.MULTILINE)
        run = [c for b in blocks_of(page) if b.language == "sh" for c in b.commands]
        assert len(shown) == sum(command.startswith("curl ") for command in run), page


def test_what_is_not_run_is_there() -> None:
    commands = [
        command
        for page in PAGES
        for b in blocks_of(page)
        if b.language == "sh"
        for command in b.commands
    ]
    ours = [c.removeprefix(_PLANNER) for c in commands if c.startswith(_PLANNER)]
    assert {starts(c, PARSED) for c in ours} - {None} == set(PARSED)
    assert {starts(c, SMALLER) for c in ours} - {None} == set(SMALLER)
    others = [c for c in commands if not c.startswith((_PLANNER, "export ", "curl "))]
    assert {starts(c, NOT_RUN) for c in others} == set(NOT_RUN)
