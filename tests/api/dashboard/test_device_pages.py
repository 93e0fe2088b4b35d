"""The dashboard's pages of devices and tunings, in Chromium."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from api.store.devices import DeviceStore
from api.store.plans import open_store
from planner.measured.device import Device
from planner.tuning.result import BASELINE
from tests.api.dashboard.chromium import Visit, check_accessible, held_answer, launched, visitor
from tests.api.dashboard.devices import (
    HOSTILE,
    HOSTILE_FILE,
    PHONE,
    finalist,
    plan,
    progress,
    put_runs,
)
from tests.api.graphs import graph
from tests.api.serving import Server, serving

pytestmark = pytest.mark.xdist_group("chromium")

PHONE_PAGE = "/device/my%20phone"
HOSTILE_PART = quote(HOSTILE, safe="")
KNOWN = "#fit[aria-busy=false]"
FITS = "document.documentElement.scrollWidth - innerWidth"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service of its own, with two devices that have runs and one that has none."""
    folder = tmp_path_factory.mktemp("devices")
    url = f"sqlite:///{folder / 'plans.sqlite'}"
    store = open_store(folder / "data", url)
    devices = DeviceStore(store)
    hostile = Device(HOSTILE, HOSTILE, HOSTILE)
    for device in (PHONE, hostile, Device("without runs")):
        devices.add(device)
    put_runs(devices, folder / "runs", PHONE, "a.vkg", "b.vkg")
    put_runs(devices, folder / "hostile", hostile, HOSTILE_FILE, "b.vkg")
    store.close()
    with serving(folder / "data", url, workers=1) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser, server: Server) -> Visit:
    return visitor(browser, str(server.client.base_url).rstrip("/"))


class Tuning:
    """A tuning of which the test tells."""

    def __init__(self, server: Server, device: str, program: str = "net.pt2") -> None:
        part = quote(device, safe="")
        at = f"/devices/{part}/tunings"
        begun = server.client.post(at, json={"program": program}).json()["id"]
        self._server, self._at = server, f"{at}/{begun}"
        self.page = f"/device/{part}/tuning/{begun}"

    def tell(self, told: dict[str, Any], ended: str | None = None) -> None:
        answer = self._server.client.put(self._at, json={**told, "ended": ended})
        assert answer.status_code == 204, answer.text


def test_a_device_is_added_and_says_what_to_do(visit: Visit) -> None:
    with visit("/device", errors=1) as page:
        page.get_by_role("link", name="Devices").click()
        page.get_by_text("Add a device").click()
        page.get_by_label("Name").fill("my phone")
        page.get_by_role("button", name="Add").click()
        expect(page.get_by_role("alert")).to_contain_text("there is a device 'my phone' with")
        check_accessible(page)
        page.get_by_label("Name").fill("<b>new 100%")
        page.get_by_label("GPU").fill("Mali")
        page.get_by_label("Buffer limit").fill("1024")
        page.get_by_role("button", name="Add").press("Enter")
        page.wait_for_url("**/device/%3Cb%3Enew%20100%25", wait_until="commit")


def test_how_well_a_device_is_known_is_drawn(visit: Visit) -> None:
    with visit(PHONE_PAGE) as page:
        page.wait_for_selector(KNOWN)
        expect(page.locator("#points canvas")).to_be_visible()
        expect(page.locator("#drift canvas")).to_be_visible()
        expect(page.locator("#points-text")).to_contain_text("Off by 0.0 % in the median")
        expect(page.locator("#fit-said")).to_be_empty()
        expect(page.locator("#fit-progress")).to_be_hidden()
        expect(page.locator("#operators tr")).to_have_count(2)
        expect(page.locator("#next h3")).to_have_text(["b.vkg", "a.vkg"])
        expect(page.locator("#next tr").nth(1)).to_contain_text("0: texture:CHANNELS_PACKED")
        rows = page.locator("#runs tr")
        expect(rows).to_have_count(6)
        expect(rows.first).to_contain_text("15.000 µs15.000 µs0.0 %")
        # The program that is chosen is in the address, and everything follows it.
        page.get_by_label("Program").select_option("a.vkg")
        expect(rows).to_have_count(3)
        expect(page.locator("#next h3")).to_have_text(["a.vkg"])
        assert page.url.endswith("?program=a.vkg")
        page.reload()
        page.wait_for_selector(KNOWN)
        expect(page.get_by_label("Program")).to_have_value("a.vkg")
        expect(rows).to_have_count(3)
        page.get_by_label("Program").select_option("")
        assert page.url.endswith(PHONE_PAGE)


def test_a_page_says_that_it_waits_and_why_it_fails(visit: Visit) -> None:
    with visit("/device") as page:
        with held_answer(page, "*/fit"):
            page.goto(PHONE_PAGE, wait_until="commit")
            expect(page.locator("#fit-said")).to_contain_text("Being computed from 6 runs")
            expect(page.locator("#fit-progress")).to_be_visible()
        page.wait_for_selector(KNOWN)
    with visit("/device", errors=1) as page:
        detail = {"detail": "<b>the process ended</b>"}
        page.route("**/fit", lambda route: route.fulfill(status=503, json=detail))
        page.goto(PHONE_PAGE)
        expect(page.locator("#fit-said.failed")).to_contain_text("<b>the process ended</b>")
        expect(page.locator("#fit-progress")).to_be_hidden()
        expect(page.locator("#operators-part")).to_be_hidden()
        check_accessible(page)
    with visit("/device", errors=1) as page:
        page.route("**/fit", lambda route: route.abort())
        page.goto(PHONE_PAGE)
        expect(page.locator("#fit-said.failed")).to_contain_text("the service did not answer")


def test_a_tuning_is_followed_as_it_goes_on(visit: Visit, server: Server) -> None:
    tuning = Tuning(server, "my phone")
    with visit("/device") as page:
        page.clock.install()
        page.goto(tuning.page)
        stage, plans = page.locator("#stage"), page.locator("#plans tr")
        expect(stage).to_have_text("Nothing was told yet.")
        expect(page.locator("#chart")).to_be_hidden()
        page.evaluate("window.isSame = true")

        tuning.tell(progress(stage="round 1"))
        expect(stage).to_have_text("round 1")
        expect(page.locator("#chart canvas")).to_be_visible()
        told = [
            plan("least repack cost", 5e6, 5.5e6, transitions=1),
            plan("variant 1", 5e6, None, verdict="wrong", error=0.25),
            plan("variant 2", 0, 5e6, verdict="crash", error=None, said="signal 11"),
        ]
        rounds = [{"number": 1, "measured": 3, "new_calls": 7, "least": 4.5e6, "saving": 0.02}]
        tuning.tell(progress(*told, rounds=rounds))
        expect(plans).to_have_count(4)
        expect(plans.nth(1)).to_have_text("2least repack cost015.500 ms5.000 ms1.200right")
        expect(plans.nth(2)).to_contain_text("wrong, off by 0.25")
        expect(plans.nth(3)).to_contain_text("5.000 ms––crash: signal 11")
        expect(page.locator("#rounds tr")).to_have_text("1374.500 ms2.0 %")
        expect(page.locator("#finalists-part")).to_be_hidden()

        finalists = [finalist("slow", is_faster=False), finalist("least repack cost")]
        won = progress(*told, finalists=finalists, winner="least repack cost")
        tuning.tell(won, "nothing more to gain")
        expect(stage).to_have_text("Ended: nothing more to gain")
        expect(page.locator("#gain")).to_have_text("1.200 (1.190 to 1.210)")
        expect(page.locator("#finalists tr.chosen")).to_contain_text("the winner")
        expect(page.locator("#finalists")).to_contain_text("not proven faster")
        assert page.evaluate("isSame")
        check_accessible(page)
        # Once it has ended, nobody asks again.
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.clock.run_for(60_000)
        assert asked == []


def test_a_tuning_that_nothing_won_keeps_executorch_s_plan(visit: Visit, server: Server) -> None:
    tuning = Tuning(server, "my phone")
    tuning.tell(progress(finalists=[finalist("b", is_faster=False)], winner=BASELINE), "no gain")
    with visit(tuning.page) as page:
        expect(page.locator("#winner")).to_have_text(BASELINE)
        expect(page.locator("#gain")).to_have_text("–")
        expect(page.locator("#plans tr.chosen")).to_contain_text(BASELINE)


def test_a_lost_connection_is_said_and_found_again(visit: Visit, server: Server) -> None:
    tuning = Tuning(server, "my phone")
    with visit("/device") as page:
        failing = True

        def answer(route: Route) -> None:
            if failing:
                route.fulfill(status=200, body="no JSON")
            else:
                route.continue_()

        page.route("**/devices/*/tunings/*", answer)
        page.goto(tuning.page)
        expect(page.locator("#connection")).to_have_text("The connection is lost; trying again.")
        failing = False
        tuning.tell(progress(), "time is up")
        expect(page.locator("#stage")).to_have_text("Ended: time is up")


def test_names_are_never_markup(visit: Visit, server: Server) -> None:
    tuning = Tuning(server, HOSTILE, HOSTILE_FILE)
    told = [plan(HOSTILE, 5e6, None, verdict="crash", said=HOSTILE)]
    won = progress(*told, finalists=[finalist(HOSTILE)], winner=HOSTILE, stage=HOSTILE)
    tuning.tell(won, HOSTILE)
    with visit(f"/device/{HOSTILE_PART}") as page:
        page.wait_for_selector(KNOWN)
        expect(page.locator("h1")).to_have_text(HOSTILE)
        expect(page.locator("#runs tr").last).to_contain_text(HOSTILE_FILE)
        page.get_by_label("Program").select_option(HOSTILE_FILE)
        expect(page.locator("#next h3")).to_have_text([HOSTILE_FILE])
        assert page.locator("img").count() == 0
        page.get_by_role("link", name=HOSTILE_FILE).click()
        expect(page.locator("#stage")).to_have_text(f"Ended: {HOSTILE}")
        expect(page.locator("#winner")).to_have_text(HOSTILE)
        expect(page.locator("#finalists th")).to_have_text(HOSTILE)
        assert page.locator("img").count() == 0
        page.get_by_role("link", name=HOSTILE).click()
        page.wait_for_url(f"**/device/{HOSTILE_PART}")


@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (1280, "light")])
def test_every_page_is_accessible_and_fits_its_screen(
    visit: Visit, server: Server, width: int, theme: str
) -> None:
    tuning = Tuning(server, HOSTILE, HOSTILE_FILE)
    tuning.tell(progress(plan("b", 5e6, 5e6), finalists=[finalist("b")], winner="b"), "over")
    pages = {
        "/device": "main",
        PHONE_PAGE: KNOWN,
        f"/device/{HOSTILE_PART}": KNOWN,
        "/device/without%20runs": "main",
        tuning.page: "#tuning[aria-busy=false]",
        f"/upload?device={HOSTILE_PART}": "main",
        f"/calibrate?device={HOSTILE_PART}": "main",
        "/": "main",
    }
    for path, ready in pages.items():
        with visit(path, width=width, theme=theme) as page:
            page.wait_for_selector(ready)
            check_accessible(page)
            assert page.evaluate(FITS) <= 0, path


def test_a_program_is_planned_for_a_device(visit: Visit, server: Server) -> None:
    with visit(PHONE_PAGE) as page:
        page.get_by_role("link", name="plan a program for it").click()
        objective = page.get_by_label("Objective").locator("option").first
        expect(objective).to_have_text("by default: latency")
        expect(page.locator("#device-text")).to_be_visible()
        page.get_by_label("Device").select_option("")
        expect(objective).to_have_text("by default: repack")
        page.get_by_label("Device").select_option("my phone")
        file: Any = {"name": "mine.vkg", "mimeType": "text/plain", "buffer": graph()}
        page.locator("#file").set_input_files(file)
        page.get_by_role("button", name="Plan", exact=True).click()
        page.wait_for_url("**/view/*")
        (plan,) = server.get("/plans?name=mine.vkg")["plans"]
        assert (plan["device"], plan["objective"]) == ("my phone", "latency")
        page.locator(".figures").get_by_role("link", name="my phone").click()
        page.wait_for_url(f"**{PHONE_PAGE}")
        page.wait_for_selector(KNOWN)
        page.get_by_role("link", name="its plans").click()
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(page.get_by_label("Device")).to_have_value("my phone")


def _unproven(route: Route) -> None:
    """The results of a job, of which nothing is proven."""
    answer = route.fetch()
    document = json.loads(answer.text())
    for item in document["items"]:
        item["result"] |= {"status": "FEASIBLE", "is_proven": False, "gap": 0.123}
    route.fulfill(response=answer, json=document)


def _marks(page: Page) -> int:
    return page.locator("#models td").get_by_text("not proven, gap 12%").count()


def test_a_job_shows_what_each_device_gains(visit: Visit, server: Server) -> None:
    devices = ["my phone", HOSTILE, None]
    inputs = {"a.vkg": graph(8), "b.vkg": graph(9)}
    job_id = server.submit(inputs, devices=devices, profiles=["default"])
    with visit(f"/job/{job_id}") as page:
        expect(page.locator("#counts")).to_have_text("6 of 6 done")
        expect(page.locator("#options th")).to_have_count(4)
        expect(page.locator("#options th").nth(1)).to_contain_text("my phone, latency")
        rows = page.locator("#gains tr")
        expect(rows).to_have_count(6)
        expect(rows.first).to_contain_text("a.vkgmy phonelatency")
        expect(page.locator("#gains .optimal")).to_have_count(6)
        expect(rows.nth(2)).to_contain_text("a.vkgnonedefault, repack")
        assert page.locator("img").count() == 0 == _marks(page)
        expect(page.locator("#unproven")).to_be_hidden()
        check_accessible(page)
        page.locator("#gains").get_by_role("link", name=HOSTILE).first.click()
        page.wait_for_selector(KNOWN)
        expect(page.locator("h1")).to_have_text(HOSTILE)
    with visit("/job", width=390, theme="dark") as page:
        page.route("**/results.json", _unproven)
        page.goto(f"/job/{job_id}")
        expect(page.locator("#gains .feasible")).to_have_count(6)
        expect(page.locator("#gains .feasible").first).to_have_text("not proven, gap 12%")
        assert _marks(page) == 6
        expect(page.locator("#unproven")).to_have_text(
            "◐ not proven: a plan may exist that costs less, by at most the gap."
        )
        check_accessible(page)
        assert page.evaluate(FITS) <= 0


def test_a_job_for_no_device_says_nothing_of_devices(visit: Visit, server: Server) -> None:
    job_id = server.submit({"a.vkg": graph(8)}, profiles=["bytes", "default"])
    with visit(f"/job/{job_id}") as page:
        expect(page.locator("#counts")).to_have_text("2 of 2 done")
        expect(page.locator("#gains-part")).to_be_hidden()
