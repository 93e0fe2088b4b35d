"""What the documentation says of itself and of the code is so: links, paths, commands, figures."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import click
import pytest

from api.cli import main
from tests.api.serving import Server
from tests.docs.blocks import PAGES, blocks_of, prose, spans_of
from tests.docs.commands import commands_of
from tests.docs.test_snippets import variables
from tests.paths import ROOT

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FOLDERS = "api|benchmarks|docker|docs|examples|gpu|planner|schema|solver|tests"
_PATH = re.compile(rf"^(?:{_FOLDERS})/[\w./-]*$")


def _ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link} is not there"
        if anchor:
            assert anchor in _anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_files_that_are_named_are_there(page: Path) -> None:
    for span in spans_of(page):
        if _PATH.match(span):
            assert (ROOT / span).exists(), f"there is no {span}"


@pytest.mark.parametrize("page", PAGES, ids=_ids)
def test_commands_that_are_named_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for span in spans_of(page):
        words = span.split()
        if words[0] == "make" and len(words) > 1:
            assert words[1] in targets, f"there is no target {words[1]}"
        if words[0] == "layout-planner":
            _check_command(words[1:])
    for name in re.findall(r"LAYOUT_PLANNER_[A-Z_]+", page.read_text()):
        assert name in variables(), f"no command reads {name}"


def _check_command(words: list[str]) -> None:
    command: click.Command = main
    rest = list(words)
    while rest and isinstance(command, click.Group) and not rest[0].startswith("-"):
        name = rest.pop(0)
        commands = commands_of(command)
        assert name in commands, f"there is no command {name!r} in {words}"
        command = commands[name]
    with click.Context(command, help_option_names=["-h", "--help"]) as context:
        options = {o for parameter in command.get_params(context) for o in parameter.opts}
    for word in rest:
        if word.startswith("-"):
            assert word in options, f"{word} is not an option: {words}"


def test_the_options_of_plan_are_all_explained() -> None:
    plan = commands_of(main)["plan"]
    options = {o for parameter in plan.params for o in parameter.opts if o.startswith("--")}
    page = (ROOT / "docs" / "planning.md").read_text()
    assert not {o for o in options - {"--output"} if f"`{o}" not in page}


def test_the_routes_of_the_service_are_all_explained(server: Server) -> None:
    served = {
        f"{method.upper()} {re.sub(r'{.*?}', '{id}', path)}"
        for path, methods in server.get("/openapi.json")["paths"].items()
        for method in methods
    }
    spans = spans_of(ROOT / "docs" / "http.md")
    explained = {
        re.sub(r"{.*?}", "{id}", span)
        for span in spans
        if re.match(r"(?:GET|HEAD|POST|PUT|DELETE) /[a-z]", span)
    }
    assert explained - {"GET /openapi.json"} == served


def test_figures_are_those_of_the_run() -> None:
    """The tables of models agree with the run that they are from."""
    run = _table(ROOT / "benchmarks" / "models.md", "model")
    page = _table(ROOT / "docs" / "benchmarks.md", "model")
    assert len(run) == len(page)
    for measured, shown in zip(run, page, strict=True):
        *figures, proof, baseline, ours, runtime = shown[1:]
        assert figures == measured[5:8], shown
        assert (proof == "optimal") == (measured[8] == "OPTIMAL"), shown
        assert [baseline, ours] == [f"{float(ms):.0f} ms" for ms in measured[9:11]], shown
        assert re.findall(r"`(.+?)`", runtime) == [n for n in measured[12].split(", ") if n], shown
    quoted = _table(ROOT / "README.md", "model")
    assert len(quoted) == 5
    # The README shows what a runtime loads.
    assert all([*row, "loads"] in page for row in quoted)


def test_the_seconds_of_lowering_are_those_of_the_run() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert (ROOT / "benchmarks" / "lowering.md").read_text() in page


def test_the_table_of_plans_for_webgpu_is_that_of_the_run() -> None:
    run = (ROOT / "benchmarks" / "webgpu.md").read_text()
    assert run in (ROOT / "docs" / "webgpu.md").read_text()
    for row in _table(ROOT / "benchmarks" / "webgpu.md", "model"):
        assert row[5:8] == ["0", "OPTIMAL", "the same optimum"], row


def _table(page: Path, heading: str) -> list[list[str]]:
    """The rows of the table whose first column has a heading."""
    lines = page.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = takewhile(lambda line: line.startswith("|"), lines[first + 2 :])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_style_is_plain() -> None:
    """Turns of phrase that readers stumbled over."""
    forbidden = re.compile(r"in the place of|no oftener|some times|\b(?:some|no)body\b|, too[.,;:]")
    for page in PAGES:
        assert not forbidden.findall(" ".join(prose(page).split())), page


def test_the_site_builds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    ended = subprocess.run(
        [*command, "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "site" / "index.html").is_file()
    page = (tmp_path / "site" / "planning.html").read_text()
    assert not re.findall(r'(?:src|rel="stylesheet" href)="https?://', page)


def test_blocks_are_of_languages_that_are_tested() -> None:
    languages = {block.language for page in PAGES for block in blocks_of(page)}
    assert languages <= {"python", "sh", "json", "toml", "text", "mermaid", ""}


def test_the_map_of_kernels_is_the_one_that_was_measured() -> None:
    page = (ROOT / "docs" / "kernels.md").read_text()
    shown = page.split("<!-- map: from benchmarks/kernels.md -->\n")[1].split("<!-- end")[0]
    assert shown in (ROOT / "benchmarks" / "kernels.md").read_text()
