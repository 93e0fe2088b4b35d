"""The dashboard in Chromium, as somebody uses it."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Route, expect

from api.bench.background import serving
from api.store.plans import open_store
from tests.api.dashboard.chromium import (
    PATIENCE,
    Visit,
    check_accessible,
    held_answer,
    launched,
    visitor,
)
from tests.api.graphs import pooled
from tests.api.planned import lowered, put_planned
from tests.api.store.drafts import put

# One browser and one server for all of them.
pytestmark = pytest.mark.xdist_group("chromium")

HOSTILE = "<img src=x onerror=alert(1)>.pte"
READY = "#plan[aria-busy=false]"
_DROP = """([base64, name]) => {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
}"""

_PAPER = "import('/static/chart.js').then((chart) => chart.colours()('paper'))"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service of its own, with some plans."""
    folder = tmp_path_factory.mktemp("browser")
    store = open_store(folder / "data")
    for n, cost in enumerate((50.0, 40.0, 60.0)):
        put(store, folder / f"net{n}", f"net {n}", "net.pt2", repack_cost=cost, objective_cost=cost)
    for n in range(30):
        put(store, folder / f"other{n}", f"other {n}", f"other_{n:02}.pt2")
    put_planned(store, folder / "cvt")
    put_planned(store, folder / "hostile", HOSTILE)
    store.close()
    with serving(folder / "data") as service:
        yield service.address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser, address: str) -> Visit:
    return visitor(browser, address)


def _plan_of(address: str, name: str) -> str:
    plans = httpx.get(f"{address}/plans", params={"name": name}).json()["plans"]
    return f"/view/{plans[0]['id']}"


def _file(content: bytes, name: str) -> Any:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def test_the_overview_searches_sorts_and_pages(visit: Visit) -> None:
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


def test_a_model_s_trend_marks_what_became_worse(visit: Visit, address: str) -> None:
    with visit("/?model=net.pt2") as page:
        expect(page.locator("#trend-text")).to_have_text("3 plans; 1 regression:")
        expect(page.locator("#trend canvas")).to_be_visible()
        worse = httpx.get(f"{address}/trend?model=net.pt2").json()[0]["points"][2]["id"]
        expect(page.locator("#regressions a")).to_have_attribute("href", f"/view/{worse}")
    with visit(_plan_of(address, "cvt.pte")) as page:
        page.get_by_role("link", name="trend").click()
        expect(page.locator("#trend-text")).to_have_text("1 plans; no regression")


def test_the_graph_is_switched_searched_and_walked_by_keys(visit: Visit, address: str) -> None:
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


def test_a_click_on_an_operator_chooses_it(visit: Visit, address: str) -> None:
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


def test_trade_offs_are_drawn_above_their_tables(visit: Visit, address: str) -> None:
    plan = _plan_of(address, "cvt.pte")
    found = httpx.get(f"{address}/plans/{plan.rpartition('/')[2]}/tradeoffs").json()["outlines"]
    with visit(plan) as page:
        page.wait_for_selector(READY)
        for outline in found:
            if len(outline["corners"]) == 1:
                least = page.locator("section", has_text="less memory at once")
                expect(least).to_contain_text("That is proven.")
                continue
            part = page.locator(f"section:has([data-criterion={outline['criterion']}])")
            expect(part.locator("canvas")).to_be_visible()
            expect(part.locator(".chart")).to_have_attribute("aria-label", re.compile("points"))
            expect(part.locator("tbody tr")).to_have_count(len(outline["corners"]))
            expect(part.locator("tbody tr").first).to_contain_text("the cheapest")


def test_less_memory_at_once_is_drawn(visit: Visit, address: str) -> None:
    asked = {"name": "pooled.bin", "profile": "bytes"}
    answer = httpx.post(
        f"{address}/plan", params=asked, content=pooled(), timeout=PATIENCE / 1000
    ).raise_for_status()
    with visit(answer.headers["location"].replace("/plans/", "/view/")) as page:
        part = page.locator("section:has([data-criterion=memory])")
        expect(part.locator("canvas")).to_be_visible()
        expect(part.locator("thead")).to_contain_text("Bytes alive at once")
        expect(part.locator("tbody tr")).to_have_count(2)
        expect(part.locator("tbody tr").last).to_contain_text("1.3 kB")


def test_another_delegate_is_drawn_on_demand(visit: Visit, address: str) -> None:
    with visit(_plan_of(address, "cvt.pte")) as page:
        page.wait_for_selector(READY)
        many = page.locator("#operators tr").count()
        page.get_by_label("Delegate").select_option("1")
        page.wait_for_url("**delegate=1")
        page.wait_for_selector(READY)
        expect(page.locator("#operators tr")).not_to_have_count(many)


def test_an_uploaded_program_ends_on_its_plan(visit: Visit, conv: bytes) -> None:
    with visit("/upload") as page:
        page.locator("#file").set_input_files(_file(conv, "<b>conv.pt2"))
        stage: str | None = None
        asked, sent = set(), []

        def answer(route: Route) -> None:
            asked.add(route.request.url.rpartition("/")[2])
            route.fulfill(json={"stage": stage})

        page.route("**/progress/*", answer)
        page.on("request", lambda request: sent.append(request.headers.get("progress-id")))
        # However fast the program is planned, the page learns of it when it has shown the stages.
        with held_answer(page, "*/plan?*"):
            page.get_by_role("button", name="Plan").click()
            said = page.locator("#said")
            expect(said).to_have_text("planning <b>conv.pt2 …")
            stage = "lowering"
            expect(said).to_have_text("planning <b>conv.pt2: lowering it for Vulkan …")
            stage = "writing"
            expect(said).to_have_text("planning <b>conv.pt2: writing the program …")
            expect(page.locator("#state-title")).to_contain_text("Progress: planning for")
        assert len(asked) == 1 and asked <= set(sent)
        page.wait_for_url("**/view/*")
        expect(page.locator("h1")).to_have_text("<b>conv.pt2")
        page.wait_for_selector(READY)
        # Beside it is what ExecuTorch's own pass makes of it.
        expect(page.get_by_text("as ExecuTorch's own pass lays it out")).to_be_visible()
        repacks = int(page.locator(".figures small").first.inner_text().split()[0])
        page.get_by_text("Before", exact=True).first.click()
        expect(page.locator("#transitions tr")).to_have_count(repacks)
        expect(page.locator("#operators")).to_contain_text("conv")
        check_accessible(page)
        with page.expect_download() as download:
            page.get_by_role("link", name=".pte").click()
        assert download.value.path().read_bytes()[4:8] == b"ET12"


def test_a_dropped_program_is_planned_with_the_options_of_the_form(
    visit: Visit, address: str
) -> None:
    with visit("/upload") as page:
        page.get_by_label("Profile").select_option("bytes")
        expect(page.locator("#profile-text")).to_contain_text("bytes")
        page.get_by_label("Objective").select_option("latency")
        page.get_by_label("Texture limits").fill("2048,2048,1024")
        page.get_by_text("Layouts that the plan must not use").click()
        page.get_by_label("HEIGHT_PACKED").check()
        page.evaluate(_DROP, [b64encode(lowered()).decode(), "dropped.pte"])
        page.wait_for_url("**/view/*")
        (plan,) = httpx.get(f"{address}/plans", params={"name": "dropped"}).json()["plans"]
        assert page.url.endswith(plan["id"])
        assert (plan["profile"], plan["objective"]) == ("bytes", "latency")
        assert plan["texture_limits"] == [2048, 2048, 1024]
        assert plan["excluded_layouts"] == ["TENSOR_HEIGHT_PACKED"]


def test_what_cannot_be_planned_is_said_in_words(visit: Visit) -> None:
    with visit("/upload", errors=2) as page:
        page.locator("#file").set_input_files(_file(b"hello", "notes.txt"))
        page.get_by_role("button", name="Plan").click()
        expect(page.get_by_role("alert")).to_contain_text("notes.txt is not a zip archive: hand in")
        expect(page.locator("#state")).to_be_hidden()
        page.get_by_label("Buffer limit").fill("0")
        page.get_by_role("button", name="Plan").click()
        expect(page.get_by_role("alert")).to_contain_text("buffer limit")
        check_accessible(page)


def test_planning_can_be_stopped(visit: Visit, conv: bytes) -> None:
    with visit("/upload") as page:
        page.locator("#file").set_input_files(_file(conv + b" ", "again.pt2"))
        page.route("**/plan?*", lambda route: None)  # no answer ever comes
        page.get_by_role("button", name="Plan").click()
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("alert")).to_have_text("Stopped.")
        expect(page.get_by_role("button", name="Plan")).to_be_enabled()


@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (1280, "light")])
def test_every_page_is_accessible_and_fits_its_screen(
    visit: Visit, address: str, width: int, theme: str
) -> None:
    plan = _plan_of(address, "cvt.pte")
    paths = ("/", "/?model=net.pt2", "/upload", "/docs", f"{plan}?side=before&node=30")
    for path in paths:
        with visit(path, width=width, theme=theme) as page:
            page.wait_for_load_state("networkidle")
            if path.startswith("/view"):
                page.wait_for_selector(READY)
            if path == "/docs":
                page.wait_for_selector(".opblock")
            check_accessible(page)
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
    with visit("/view/nope", width=width, theme=theme, errors=1) as page:
        check_accessible(page)


def test_two_plans_of_a_program_are_compared(visit: Visit, address: str) -> None:
    upload = {"profile": "default", "objective": "repack", "name": "cvt.pte"}
    answer = httpx.post(
        f"{address}/plan", params=upload, content=lowered(), timeout=PATIENCE / 1000
    )
    assert answer.status_code == 200
    with visit(_plan_of(address, "cvt.pte"), width=390) as page:
        page.wait_for_selector(READY)
        page.get_by_role("button", name="Compare").click()
        page.wait_for_url("**/compare?a=*&b=*")
        expect(page.locator("h1")).to_have_text("cvt.pte, two plans")
        expect(page.get_by_text("tensors are represented differently").first).to_be_visible()
        check_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_names_of_files_are_never_markup(visit: Visit, address: str) -> None:
    for path in ("/", _plan_of(address, "onerror"), f"/?model={HOSTILE}"):
        with visit(path) as page:
            expect(
                page.locator("main :is(h1, th a)").filter(has_text=HOSTILE).first
            ).to_be_visible()
            page.wait_for_load_state("networkidle")
            assert page.locator("img").count() == 0


def test_the_api_is_read_and_tried_on_its_page(visit: Visit) -> None:
    with visit("/docs", errors=1) as page:
        health = page.locator(".opblock", has=page.locator("[data-path='/health']"))
        health.locator(".opblock-summary-control").click()
        # Descriptions are Markdown.
        expect(health.locator(".opblock-description code")).to_have_text("/healthz")
        health.locator("button.execute").click()
        answer = health.locator(".live-responses-table .response").first
        expect(answer.locator(".response-col_status")).to_contain_text("200")
        expect(answer).to_contain_text('"status": "ok"')
        # What would change something is looked at: 422, and not 403, as of no page of the service.
        # Its token is in no command that is shown.
        profile = page.locator(".opblock-post", has=page.locator("[data-path='/profiles']"))
        profile.locator(".opblock-summary-control").click()
        profile.locator("textarea").fill("{}")
        with page.expect_response("**/profiles") as answered:
            profile.locator("button.execute").click()
        assert answered.value.status == 422, answered.value.text()
        assert "Form-Token" not in page.locator("#api").inner_text()


def test_the_theme_is_chosen_and_kept(visit: Visit) -> None:
    with visit("/") as page:
        button = page.get_by_role("button", name="Theme")
        background = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(background)
        assert page.evaluate(_PAPER) == light
        button.click()
        button.click()
        expect(button).to_have_text("Theme: dark")
        dark = page.evaluate(background)
        assert dark != light
        # Charts are drawn in the colours of the same theme.
        assert page.evaluate(_PAPER) == dark
        page.goto("/upload")
        expect(page.get_by_role("button", name="Theme")).to_have_text("Theme: dark")
