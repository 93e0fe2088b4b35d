"""The dashboard in Chromium, as somebody uses it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from drafts import put
from planned import lowered, put_planned
from playwright.sync_api import Browser, Page, expect, sync_playwright

from api.store.plans import open_store

# One browser and one server for all of them.
pytestmark = pytest.mark.xdist_group("chromium")

HOSTILE = "<img src=x onerror=alert(1)>.pte"
READY = "#plan[aria-busy=false]"
_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""
_DROP = """([bytes, name]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
}"""

Open = Callable[..., AbstractContextManager[Page]]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of its own, with some plans."""
    folder = tmp_path_factory.mktemp("browser")
    store = open_store(folder / "data")
    for n, cost in enumerate((50.0, 40.0, 60.0)):
        put(store, folder / f"net{n}", f"net {n}", "net.pt2", repack_cost=cost)
    for n in range(30):
        put(store, folder / f"other{n}", f"other {n}", f"other_{n:02}.pt2")
    put_planned(store, folder / "cvt")
    put_planned(store, folder / "hostile", HOSTILE)
    store.close()
    command = ("-m", "api.cli", "serve", "--port", "0", "--data-dir", str(folder / "data"))
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().removeprefix("Listening on ").strip()
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program is not None, "there is no chromium: 'make chromium' installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, address: str) -> Open:
    """Opens a page; at its end nothing may have gone wrong in it."""

    @contextmanager
    def visit(
        path: str, width: int = 1280, height: int = 900, theme: Any = "light", errors: int = 0
    ) -> Iterator[Page]:
        size: Any = {"width": width, "height": height}
        context = browser.new_context(base_url=address, viewport=size, color_scheme=theme)
        context.add_init_script(_WATCH)
        page = context.new_page()
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path)
        yield page
        page.wait_for_load_state("networkidle")
        assert page.evaluate("violations") == []
        assert len(said) == errors, said
        assert [url for url in asked if not url.startswith(f"{address}/")] == []
        context.close()

    return visit


def _plan_of(address: str, name: str) -> str:
    plans = httpx.get(f"{address}/plans", params={"name": name}).json()["plans"]
    return f"/view/{plans[0]['id']}"


def _check_accessible(page: Page) -> None:
    spec = find_spec("axe_playwright_python")
    assert spec is not None and spec.origin is not None
    # Through the debugger: the page's own policy would not let it in.
    page.evaluate(Path(spec.origin).with_name("axe.min.js").read_text("utf-8"))
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []


def _file(content: bytes, name: str) -> Any:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def test_the_overview_searches_sorts_and_pages(visit: Open) -> None:
    with visit("/") as page:
        rows = page.locator("tbody tr")
        expect(rows).to_have_count(25)
        page.get_by_role("link", name="Next").click()
        expect(rows).to_have_count(10)
        search = page.get_by_role("searchbox")
        search.fill("net")
        page.wait_for_url("**/?name=net")
        expect(rows).to_have_count(3)
        expect(search).to_be_focused()
        page.get_by_role("link", name="After").click()
        expect(page.locator("th[aria-sort=descending]")).to_contain_text("After")
        expect(rows.first).to_contain_text("60.0 B")
        page.get_by_label("Proof").select_option("feasible")
        expect(page.get_by_text("No plan matches")).to_be_visible()
        page.get_by_role("link", name="Clear").click()
        expect(rows).to_have_count(25)


def test_a_model_s_trend_marks_what_became_worse(visit: Open, address: str) -> None:
    with visit("/?model=net.pt2") as page:
        expect(page.locator("#trend-text")).to_have_text("3 plans; 1 regression:")
        expect(page.locator("#trend canvas")).to_be_visible()
        worse = httpx.get(f"{address}/trend?model=net.pt2").json()[0]["points"][2]["id"]
        expect(page.locator("#regressions a")).to_have_attribute("href", f"/view/{worse}")
    with visit(_plan_of(address, "cvt.pte")) as page:
        page.get_by_role("link", name="trend").click()
        expect(page.locator("#trend-text")).to_have_text("1 plans; no regression")


def test_the_graph_is_switched_searched_and_walked_by_keys(visit: Open, address: str) -> None:
    with visit(_plan_of(address, "cvt.pte")) as page:
        page.wait_for_selector(READY)
        rows = page.locator("#transitions tr")
        after = rows.count()
        page.get_by_text("Before", exact=True).first.click()
        expect(page).to_have_url(f"{address}{_plan_of(address, 'cvt.pte')}?side=before")
        assert rows.count() > after > 0

        page.get_by_role("searchbox").fill("layer_norm")
        expect(page.locator("#matches")).to_contain_text("found")
        found = int(page.locator("#matches").inner_text().split()[0])
        assert found > 0
        expect(page.locator("#operators tr")).to_have_count(min(found, 200))
        page.get_by_role("searchbox").press("Enter")
        expect(page.locator("#details h3")).to_contain_text("layer_norm")

        page.get_by_role("searchbox").fill("")
        graph = page.locator("#graph")
        graph.focus()
        graph.press("Escape")
        expect(page.locator("#details")).to_be_hidden()
        graph.press("n")
        first = page.locator("#details h3").inner_text()
        expect(page.locator("#spoken")).to_contain_text("1 inputs repacked")
        graph.press("n")
        expect(page.locator("#details h3")).not_to_have_text(first)
        graph.press("p")
        expect(page.locator("#details h3")).to_have_text(first)
        graph.press("ArrowDown")
        expect(page.locator("#details h3")).not_to_have_text(first)
        chosen = page.locator("#details h3").inner_text()
        deep = page.url
    # What is chosen is in the address.
    with visit(deep) as page:
        page.wait_for_selector(READY)
        expect(page.locator("#details h3")).to_have_text(chosen)
        assert page.get_by_label("Before").is_checked()


def test_a_click_on_an_operator_chooses_it(visit: Open, address: str) -> None:
    with visit(_plan_of(address, "cvt.pte") + "?node=30", height=1200) as page:
        page.wait_for_selector(READY)
        chosen = page.locator("#details h3").inner_text()
        assert chosen.startswith("30: ")
        page.locator("#graph").scroll_into_view_if_needed()
        box = page.locator("#graph").bounding_box()
        assert box is not None
        page.locator("#details .close").click()
        expect(page.locator("#details")).to_be_hidden()
        # The operator of the address is in the middle.
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        expect(page.locator("#details h3")).to_have_text(chosen)


def test_another_delegate_is_drawn_on_demand(visit: Open, address: str) -> None:
    with visit(_plan_of(address, "cvt.pte")) as page:
        page.wait_for_selector(READY)
        many = page.locator("#operators tr").count()
        page.get_by_label("Delegate").select_option("1")
        page.wait_for_url("**delegate=1")
        page.wait_for_selector(READY)
        expect(page.locator("#operators tr")).not_to_have_count(many)


def test_an_uploaded_program_ends_on_its_plan(visit: Open, conv: bytes) -> None:
    with visit("/upload") as page:
        page.locator("#file").set_input_files(_file(conv, "<b>conv.pt2"))
        page.get_by_role("button", name="Plan").click()
        expect(page.locator("#said")).to_contain_text("planning <b>conv.pt2")
        page.wait_for_url("**/view/*", timeout=120_000)
        expect(page.locator("h1")).to_have_text("<b>conv.pt2")
        page.wait_for_selector(READY)
        expect(page.get_by_text("has no layouts before")).to_be_visible()
        assert page.locator("[name=side]").count() == 0
        expect(page.locator("#operators")).to_contain_text("conv")
        _check_accessible(page)
        with page.expect_download() as download:
            page.get_by_role("link", name=".pte").click()
        assert download.value.path().read_bytes()[4:8] == b"ET12"


def test_a_dropped_program_is_planned_with_the_options_of_the_form(
    visit: Open, address: str
) -> None:
    with visit("/upload") as page:
        page.get_by_label("Profile").select_option("bytes")
        expect(page.locator("#profile-text")).to_contain_text("bytes")
        page.get_by_label("Objective").select_option("latency")
        page.get_by_label("Texture limits").fill("2048,2048,1024")
        page.get_by_text("Layouts that the plan must not use").click()
        page.get_by_label("HEIGHT_PACKED").check()
        page.evaluate(_DROP, [list(lowered()), "dropped.pte"])
        page.wait_for_url("**/view/*", timeout=120_000)
        (plan,) = httpx.get(f"{address}/plans", params={"name": "dropped"}).json()["plans"]
        assert page.url.endswith(plan["id"])
        assert (plan["profile"], plan["objective"]) == ("bytes", "latency")
        assert plan["texture_limits"] == [2048, 2048, 1024]
        assert plan["excluded_layouts"] == ["TENSOR_HEIGHT_PACKED"]


def test_what_cannot_be_planned_is_said_in_words(visit: Open) -> None:
    with visit("/upload", errors=2) as page:
        page.locator("#file").set_input_files(_file(b"hello", "notes.txt"))
        page.get_by_role("button", name="Plan").click()
        expect(page.get_by_role("alert")).to_contain_text("notes.txt is not a zip archive: hand in")
        expect(page.locator("#state")).to_be_hidden()
        page.get_by_label("Buffer limit").fill("0")
        page.get_by_role("button", name="Plan").click()
        expect(page.get_by_role("alert")).to_contain_text("buffer limit")
        _check_accessible(page)


def test_planning_can_be_stopped(visit: Open, conv: bytes) -> None:
    with visit("/upload") as page:
        page.locator("#file").set_input_files(_file(conv + b" ", "again.pt2"))
        page.route("**/plan?*", lambda route: None)  # no answer ever comes
        page.get_by_role("button", name="Plan").click()
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("alert")).to_have_text("Stopped.")
        expect(page.get_by_role("button", name="Plan")).to_be_enabled()


@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (1280, "light")])
def test_every_page_is_accessible_and_fits_its_screen(
    visit: Open, address: str, width: int, theme: str
) -> None:
    plan = _plan_of(address, "cvt.pte")
    paths = ("/", "/?model=net.pt2", "/upload", "/docs", f"{plan}?side=before&node=30")
    for path in paths:
        with visit(path, width=width, theme=theme) as page:
            page.wait_for_load_state("networkidle")
            if path.startswith("/view"):
                page.wait_for_selector(READY)
            _check_accessible(page)
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
    with visit("/view/nope", width=width, theme=theme, errors=1) as page:
        _check_accessible(page)


def test_names_of_files_are_never_markup(visit: Open, address: str) -> None:
    for path in ("/", _plan_of(address, "onerror"), f"/?model={HOSTILE}"):
        with visit(path) as page:
            expect(
                page.locator("main :is(h1, th a)").filter(has_text=HOSTILE).first
            ).to_be_visible()
            page.wait_for_load_state("networkidle")
            assert page.locator("img").count() == 0


def test_the_theme_is_chosen_and_kept(visit: Open) -> None:
    with visit("/") as page:
        button = page.get_by_role("button", name="Theme")
        background = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(background)
        button.click()
        button.click()
        expect(button).to_have_text("Theme: dark")
        assert page.evaluate(background) != light
        page.goto("/upload")
        expect(page.get_by_role("button", name="Theme")).to_have_text("Theme: dark")
