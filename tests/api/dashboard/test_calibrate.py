"""The page that calibrates the device that looks at it, in Chromium.

Its WebGPU is SwiftShader's, a software driver: what is shown here is that all of it works.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.dashboard.chromium import Visit, check_accessible, launched, visitor
from tests.api.graphs import graph
from tests.api.serving import Server, serving

pytestmark = pytest.mark.xdist_group("chromium")

WEBGPU: Final = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
FITS: Final = "document.documentElement.scrollWidth - innerWidth"
TRIAL: Final = "/calibrate?sweep=trial&batches=7&device=my%20laptop"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("calibrations")
    with serving(folder / "data", f"sqlite:///{folder / 'db.sqlite'}", workers=1) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched(*WEBGPU) as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser, server: Server) -> Visit:
    return visitor(browser, str(server.client.base_url).rstrip("/"))


def test_a_whole_calibration_plans_a_model(visit: Visit, server: Server) -> None:
    # A refusal, where others keep this machine busy, is an error in the browser's words.
    with visit(TRIAL, width=390, errors=None) as page:
        broken: list[str] = []
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.get_by_role("button", name="Start").click()
        expect(page.locator("#adapter")).to_have_text("google swiftshader (runs on the CPU)")
        expect(page.locator("#timing")).to_contain_text("timestamp queries, in steps of")
        expect(page.locator("#samples canvas")).to_be_visible()
        # Stopped, it goes on where it was.
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#stage")).to_contain_text("Stopped.")
        page.get_by_role("button", name="Go on").click()
        expect(page.locator("#stage")).not_to_contain_text("Stopped.")
        ended = page.locator("#result:not([hidden]), #problem:not([hidden])")
        expect(ended).to_be_visible()
        while page.locator("#problem").is_visible():  # Others kept this machine busy.
            expect(page.locator("#problem")).to_contain_text("Close other programs")
            page.get_by_role("button", name="Start").click()
            expect(page.locator("#problem")).to_be_hidden()
            expect(ended).to_be_visible()
        expect(page.locator("#stage")).to_have_text("Done: my laptop has its profile.")
        assert "0 of the sweep's times were left out" in page.locator("#fit").inner_text()
        check_accessible(page)
        assert page.evaluate(FITS) <= 0
        assert broken == []
        profile = page.locator("#profile").inner_text()
        page.get_by_role("link", name="The device's page").click()
        expect(page.get_by_role("heading", name="my laptop")).to_be_visible()
        expect(page.locator("#profile-part")).to_contain_text("google swiftshader")
        check_accessible(page)
    device = server.client.get("/devices/my laptop").json()
    assert device["profile"]["hash"] == profile
    assert "a software driver" in device["profile"]["description"]
    planned = server.client.post("/plan", params={"device": "my laptop"}, content=graph(4))
    assert planned.status_code == 200, planned.text
    report = server.client.get(planned.headers["location"]).json()
    assert report["total"]["objective_cost"] > 0


PACE: Final = """async () => {
  const { Gate, Thermometer } = await import("/static/pace.js");
  const told = [];
  // It throttles at the third look, is cool at the fifth, and later stays slow for good.
  const times = [1000, 1100, 2000, 1900, 1200];
  const cool = async () => void told.push("cool");
  const thermometer = new Thermometer(async () => times.shift() ?? 5000, cool);
  for (let n = 0; n < 3; n++) await thermometer.wait(() => told.push("said"));
  const before = told.length;
  await thermometer.wait(() => {});
  await thermometer.wait(() => told.push("never: this is how fast it is now"));

  let isHidden = false;
  Object.defineProperty(document, "hidden", { get: () => isHidden });
  const change = (hidden) => {
    isHidden = hidden;
    document.dispatchEvent(new Event("visibilitychange"));
  };
  const gate = new Gate();
  let runs = 0;
  const disturbed = gate.undisturbed(async () => {
    if (++runs === 1) {
      change(true);
      setTimeout(() => change(false));
    }
    return runs;
  });
  const done = await disturbed;
  gate.stop();
  let isPast = false;
  const passing = gate.pass().then(() => (isPast = true));
  await new Promise((resolve) => setTimeout(resolve));
  const held = !isPast;
  gate.goOn();
  await passing;
  return { told: told.slice(0, before), after: told.slice(before), done, held, isPast };
}"""


def test_it_waits_while_the_device_throttles_or_nobody_looks(visit: Visit) -> None:
    with visit("/calibrate") as page:
        found = page.evaluate(PACE)
    assert found["told"] == ["said", "cool", "said", "cool"]
    assert found["after"] == ["cool"] * 40
    assert found["done"] == 2 and found["held"] and found["isPast"]


QUEUE: Final = """async (path) => {
  const { Gpu, Bench } = await import("/static/webgpu.js");
  const gpu = await Gpu.open("queue");
  const library = (await (await fetch("/calibrations/sweeps/trial")).json()).library;
  const bench = new Bench(gpu, await (await fetch(path)).json(), library);
  const keys = new Set([bench.probes[0].key, bench.probes.at(-1).key]);
  await bench.prepare(1, keys);
  const measured = await bench.measure(3, await bench.check());
  bench.close();
  return { measured, resolution: gpu.resolution, timing: gpu.timing, least: gpu.least };
}"""


def test_without_timestamps_the_queue_is_the_clock(visit: Visit) -> None:
    with visit("/calibrate") as page:
        found = page.evaluate(QUEUE, "/calibrations/sweeps/trial/0")
    assert found["timing"] == "queue"
    assert found["least"] >= 20 * found["resolution"] > 0
    assert len(found["measured"]) == 2
    for probe in found["measured"]:
        assert len(probe["ns"]) == 3 and min(probe["ns"]) > 0
        assert re.fullmatch("[0-9a-f]{64}", probe["digest"])


def test_what_the_limits_do_not_allow_is_left_out(visit: Visit) -> None:
    script = """async () => {
      const { Bench } = await import("/static/webgpu.js");
      const shape = await (await fetch("/calibrations/sweeps/trial/1")).json();
      const of = (limits) => new Bench({ limits }, shape, "").probes.map(({ key }) => key);
      const most = { max_buffer_size: 2 ** 28, max_storage_buffer_binding_size: 2 ** 27 };
      return [
        of({ ...most, max_texture_dimension_3d: 2048 }),
        of({ ...most, max_texture_dimension_3d: 8 }),
        of({ ...most, max_texture_dimension_3d: 2048, max_buffer_size: 4096 }),
      ];
    }"""
    with visit("/calibrate") as page:
        everything, buffers, small = page.evaluate(script)
    assert len(everything) == 72
    assert buffers == [key for key in everything if "texture" not in key]
    assert small == [key for key in everything if ":4" in key]


def test_the_link_is_a_qr_code(visit: Visit) -> None:
    with visit("/calibrate", width=390, theme="dark") as page:
        page.get_by_label("Device").fill("my phone")
        page.get_by_text("Open this page on a phone").click()
        page.get_by_role("button", name="Show a link").click()
        code = page.get_by_role("img", name="The link as a QR code")
        expect(code).to_be_visible()
        assert code.evaluate("image => image.complete && image.naturalWidth") > 100
        expect(page.locator("#url")).to_have_attribute("href", re.compile(r"device=my\+phone"))
        expect(page.locator("#local")).to_contain_text("of this machine alone")
        check_accessible(page)
        assert page.evaluate(FITS) <= 0


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("delete Navigator.prototype.gpu", "has no WebGPU"),
        ("Object.defineProperty(window, 'isSecureContext', { value: false })", "over https alone"),
    ],
)
def test_what_is_missing_is_said_before_anybody_begins(
    browser: Browser, server: Server, without: str, said: str
) -> None:
    context = browser.new_context(base_url=str(server.client.base_url))
    context.add_init_script(without)
    page: Page = context.new_page()
    page.goto("/calibrate")
    expect(page.locator("#missing")).to_contain_text(said)
    expect(page.get_by_role("button", name="Start")).to_be_disabled()
    context.close()


def test_a_service_that_refuses_is_heard(visit: Visit) -> None:
    def refuse(route: Any) -> None:
        problem = {"detail": "times did not come again: 9.0 times apart."}
        route.fulfill(status=422, body=json.dumps(problem), content_type="application/json")

    with visit("/calibrate?device=x", errors=1) as page:
        page.route("**/calibrations", refuse)
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_role("alert")).to_contain_text("did not come again")
        expect(page.get_by_role("button", name="Start")).to_be_enabled()
