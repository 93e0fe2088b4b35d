"""Pictures of the dashboard: what it shows of real models, which are planned first."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import click

from api.bench import zoo
from api.bench.background import serving
from api.bench.browser import chromium
from api.client.client import Client
from api.client.manifest import Submission
from planner.errors import PlannerError
from planner.files.whole import write_whole

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MODELS: Final = ("convnext_t", "cvt_13", "mobilevit_s", "segformer_b0_int8", "swin_t", "vit_b")
_OPTIONS: Final = {"profiles": ["bytes", "default"], "objectives": ["repack", "latency"]}
_SHOWN: Final = "swin_t.pt2"
_DEVICE: Final = "nvidia-h100"
_LEARNING_MS: Final = 120_000
"""How long it may take to find out how well a device is known."""

_WIDE: Final = (1280, 860)
_FLAT: Final = (1280, 560)
_PHONE: Final = (390, 844)


@dataclass(frozen=True, slots=True)
class _Picture:
    """A page, and how it is looked at; ``top`` is what is scrolled to."""

    name: str
    path: str
    size: tuple[int, int] = _WIDE
    theme: str = "light"
    ready: str = "main"
    top: str | None = None


def screenshots(folder: Path, models: Sequence[str], size: zoo.Size) -> None:
    """Plans models of the zoo as a job, and writes pictures of what the dashboard shows of it.

    Raises ``OptionError`` for a model that is not there, and without a browser.
    """
    zoo.chosen(models)
    folder.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="layout-planner-") as work, chromium() as browser:
        sources = {f"{n}.pt2": _export(n, Path(work), size) for n in models or MODELS}
        with serving(Path(work) / "data", "--workers", "2") as service:
            client = Client(service.address)
            job_id = client.submit(Submission("nightly", sources, _OPTIONS))
            for job in client.follow(job_id):
                counts = ", ".join(f"{n} {state}" for state, n in job["counts"].items() if n)
                click.echo(f"planning: {counts}")
            for picture in _pictures(client, job_id):
                path = folder / f"{picture.name}.png"
                write_whole(path, _take(browser, service.address, picture))
                click.echo(f"{path}: {path.stat().st_size:,} bytes")


def _export(name: str, folder: Path, size: zoo.Size) -> Path:
    source = folder / f"{name}.pt2"
    command = ["-m", "api.cli", "zoo", name, "-o", str(source)]
    if size == "small":
        command.append("--small")
    # In a process of its own: what one model leaves in memory is not the next one's.
    if subprocess.run([sys.executable, *command], check=False).returncode:
        raise PlannerError(f"cannot export {name}")
    return source


def _pictures(client: Client, job_id: str) -> list[_Picture]:
    items = client.results(job_id)
    plans = [(item["input"], found) for item in items if (found := item["plan_id"]) is not None]
    shown = next((found for name, found in plans if name == _SHOWN), plans[0][1])
    traded = max((found for _, found in plans), key=lambda found: _corners(client, found))
    plan = f"/view/{shown}"
    drawn = "#plan[aria-busy=false]"
    # Of most models no plan has less for more, so that there is no chart.
    charts = _Picture("tradeoffs", f"/view/{traded}", ready=drawn, top="section:has(.tradeoff)")
    return [
        _Picture("overview", "/?sort=saved_cost"),
        _Picture("plan", plan, ready=drawn),
        *((charts,) if _corners(client, traded) else ()),
        _Picture("graph", f"{plan}?side=before&node=40", ready=drawn, top="#plan"),
        _Picture("job", f"/job/{job_id}", _FLAT, ready="#models tr"),
        _Picture("device", f"/device/{_DEVICE}", ready="#fit[aria-busy=false]"),
        _Picture("phone", f"{plan}?node=40", _PHONE, "dark", drawn, top="#plan"),
    ]


def _corners(client: Client, plan_id: str) -> int:
    """How many points the charts of a plan's trade-offs have."""
    counts = (len(outline.corners) for outline in client.tradeoffs(plan_id).outlines)
    return sum(count for count in counts if count > 1)


def _take(browser: Browser, address: str, picture: _Picture) -> bytes:
    """The picture as a PNG."""
    width, height = picture.size
    size: Any = {"width": width, "height": height}
    scheme: Any = picture.theme
    context = browser.new_context(base_url=address, viewport=size, color_scheme=scheme)
    try:
        page = context.new_page()
        page.goto(picture.path)
        page.wait_for_selector(picture.ready, timeout=_LEARNING_MS)
        page.wait_for_load_state("networkidle")
        _scroll(page, picture.top)
        return page.screenshot()
    finally:
        context.close()


def _scroll(page: Page, top: str | None) -> None:
    if top is not None:
        page.evaluate("(at) => document.querySelector(at).scrollIntoView()", top)
    # Two frames: one to scroll, one to draw what came into view.
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 200)))")
