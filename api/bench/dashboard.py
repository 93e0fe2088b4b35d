"""How soon the dashboard's pages are painted, by how much there is to show."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert

from api.bench.background import serving
from api.bench.browser import chromium
from api.bench.replan import block, repeated
from api.planning.work import PlanWork, do_here
from api.store.files import PlanFiles
from api.store.plans import PlanStore, open_store, plan_id
from api.store.tables import Plan
from api.terminal.markdown import head, print_and_write, row
from planner.options import make_options
from planner.vkgraph.reader import read_vkgraph
from schema import VkGraph, vkgraph

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_FEW_PLANS: Final = 25
_FEW_OPERATORS: Final = 100
_MODELS: Final = 200
_OPTIONS: Final = make_options("default")
_SIZE: Final = {"width": 1440, "height": 900}

_PAGES: Final = ("page", "server, ms", "first paint, ms", "of the small one's")
_GRAPHS: Final = (
    *("page", "server, ms", "first paint, ms", "graph drawn, ms", "of the small one's"),
    *("drawn the very first time, ms", "before to after, ms"),
)

_TIMES: Final = """() => ({
  server: performance.getEntriesByType("navigation")[0].responseStart,
  paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
  drawn: performance.getEntriesByName("drawn")[0]?.startTime ?? 0,
})"""
_TURN: Final = """async () => {
  const start = performance.now();
  document.querySelector("[name=side][value=before]").click();
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - start;
}"""


@dataclass(frozen=True, slots=True)
class _Visit:
    """Milliseconds from the click on a page's address, in a browser that has never been there."""

    server: float
    paint: float
    drawn: float
    turn: float


def bench_dashboard(plans: int, operators: int, repeats: int, output: Path | None) -> None:
    """Prints Markdown tables: a page of many plans beside one of few, a large graph and a small.

    Times are medians of so many visits, each by a new browser profile with nothing kept. A graph's
    very first visit has the server lay it out, which it keeps. Raises ``OptionError`` without a
    browser.
    """
    with TemporaryDirectory(prefix="layout-planner-bench-") as folder, chromium() as browser:
        overview = _overview(browser, Path(folder), plans, repeats)
        graphs = _graphs(browser, Path(folder), operators, repeats)
        version = browser.version
    text = (
        f"Chromium {version} without a window and the server on the same machine; medians of "
        f"{repeats} visits of a new browser profile, at {_SIZE['width']}×{_SIZE['height']}. Plans "
        "are in SQLite.\n\n" + "\n".join(overview) + "\n\n" + "\n".join(graphs) + "\n"
    )
    print_and_write(text, output)


def _overview(browser: Browser, folder: Path, plans: int, repeats: int) -> list[str]:
    lines, first = list(head(_PAGES)), 0.0
    for count in (_FEW_PLANS, plans):
        data = folder / f"{count} plans"
        store = open_store(data)
        _fill(store, folder / f"of {count}", count)
        store.close()
        with serving(data) as service:
            visits = [_visit(browser, service.address) for _ in range(1 + repeats)][1:]
        paint = median(visit.paint for visit in visits)
        first = first or paint
        cells = [f"overview of {count:,} plans", _ms([v.server for v in visits])]
        lines.append(row([*cells, f"{paint:.0f}", f"{paint / first:.2f}"]))
    return lines


def _graphs(browser: Browser, folder: Path, operators: int, repeats: int) -> list[str]:
    data, unit = folder / "graphs", block()
    store = open_store(data)
    found = []
    own = len(read_vkgraph(unit).graph.operators)  # without repacks, which planning replaces
    for count in (_FEW_OPERATORS, operators):
        graph = repeated(unit, -(-count // own))
        found.append(_put(store, folder / f"{count} operators", graph, f"{count}.vkg"))
    store.close()
    lines, first = list(head(_GRAPHS)), 0.0
    with serving(data) as service:
        # The first of all visits starts what the server starts once.
        _visit(browser, f"{service.address}/upload")
        for plan in found:
            page = f"{service.address}/view/{plan.id}"
            once, *visits = [_visit(browser, page, is_graph=True) for _ in range(1 + repeats)]
            drawn = median(visit.drawn for visit in visits)
            first = first or drawn
            lines.append(
                row(
                    [
                        f"graph of {plan.operators:,} operators",
                        _ms([v.server for v in visits]),
                        _ms([v.paint for v in visits]),
                        f"{drawn:.0f}",
                        f"{drawn / first:.2f}",
                        f"{once.drawn:.0f}",
                        _ms([v.turn for v in visits]),
                    ]
                )
            )
    return lines


def _visit(browser: Browser, address: str, *, is_graph: bool = False) -> _Visit:
    size: Any = _SIZE
    context = browser.new_context(viewport=size)
    try:
        page = context.new_page()
        page.goto(address)
        if is_graph:
            page.wait_for_selector("#plan[aria-busy=false]")
        else:
            page.wait_for_load_state("networkidle")
        times = page.evaluate(_TIMES)
        return _Visit(**times, turn=page.evaluate(_TURN) if is_graph else 0.0)
    finally:
        context.close()


def _put(store: PlanStore, folder: Path, graph: VkGraph, name: str) -> Plan:
    """Plans a graph and keeps the plan."""
    folder.mkdir()
    data = vkgraph.encode(graph)
    source, files = folder / name, PlanFiles.within(folder)
    source.write_bytes(data)
    do_here(PlanWork(source, name, _OPTIONS, files))
    return store.put(plan_id(hashlib.sha256(data).hexdigest(), _OPTIONS), files, source, _OPTIONS)


def _fill(store: PlanStore, folder: Path, count: int) -> None:
    """Keeps so many plans: models that are planned night by night, with figures drawn at random."""
    plan = _put(store, folder, block(), "block.vkg")
    columns = [column.name for column in Plan.__table__.columns]
    like = {name: getattr(plan, name) for name in columns}
    chance, now = random.Random(count), datetime.now(UTC)
    rows = []
    for number in range(count - 1):
        model = number % min(count, _MODELS)
        ratio = chance.uniform(1, 3)
        cost = plan.repack_cost * chance.lognormvariate(0, 1)
        name = f"model_{model:03}.pt2"
        rows.append(
            like
            | {
                "id": hashlib.sha256(f"{number}".encode()).hexdigest()[:32],
                "created": now - timedelta(days=number // _MODELS, seconds=number),
                "source_name": name,
                "folded_name": name,
                "repack_cost": cost,
                "baseline_repack_cost": cost * ratio,
                "saved_cost": cost * (ratio - 1),
                "ratio": ratio,
            }
        )
    with store.database.writing() as session:
        session.execute(insert(Plan), rows)


def _ms(milliseconds: Sequence[float]) -> str:
    return f"{median(milliseconds):.0f}"
