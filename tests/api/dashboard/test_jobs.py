"""The dashboard's pages of jobs, in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.api.dashboard.chromium import Visit, check_accessible, launched, visitor
from tests.api.graphs import graph
from tests.api.serving import Server, serving

pytestmark = pytest.mark.xdist_group("chromium")

HOSTILE = "<img src=x onerror=alert(1)>.vkg"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("jobs")
    with serving(folder / "data", f"sqlite:///{folder / 'jobs.sqlite'}", workers=1) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser, server: Server) -> Visit:
    return visitor(browser, str(server.client.base_url).rstrip("/"))


def test_a_job_is_followed_to_its_results(visit: Visit, server: Server) -> None:
    inputs = {HOSTILE: graph(8), "large.vkg": graph(9, 2000), "bad.pte": b"text"}
    job_id = server.submit(inputs, name="<b>nightly</b>", profiles=["bytes", "default"])
    with visit(f"/job/{job_id}") as page:
        expect(page.locator("h1")).to_have_text("<b>nightly</b>")
        rows = page.locator("#models tr")
        expect(rows).to_have_count(3)
        expect(page.locator("#options th")).to_have_count(3)
        # Nobody loads the page again: the rest comes by events.
        expect(page.locator("#counts")).to_have_text("4 of 6 done, 2 failed")
        expect(rows.nth(0).locator("th")).to_have_text(HOSTILE)
        expect(rows.nth(0).locator("td.r4")).to_have_count(2)
        expect(page.locator("#failed li")).to_have_count(2)
        expect(page.locator("#failed")).to_contain_text("bad.pte bytes, repack: bad.pte is not")
        assert page.locator("img").count() == 0
        check_accessible(page)
        rows.nth(0).locator("a").first.click()
        page.wait_for_selector("#plan[aria-busy=false]")
        expect(page.locator("h1")).to_have_text(HOSTILE)


def test_a_result_is_the_cost_that_was_minimised(visit: Visit, server: Server) -> None:
    job_id = server.submit({"a.vkg": graph(8)}, profiles=["default"], objectives=["latency"])
    with visit(f"/job/{job_id}") as page:
        expect(page.locator("#counts")).to_have_text("1 of 1 done")
        (item,) = server.get(f"/jobs/{job_id}")["items"]
        result = item["result"]
        assert result["objective_ratio"] != result["ratio"]
        cell = page.locator("#models td")
        expect(cell.locator("a")).to_have_text(f"{result['objective_ratio']:.2f}×")
        repacks = f"{result['baseline_transitions']} → {result['transitions']} repacks"
        expect(cell.locator("small").nth(1)).to_have_text(repacks)


def test_a_job_is_cancelled_and_retried(browser: Browser, tmp_path: Path) -> None:
    data, url = tmp_path / "data", f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    # Without a worker, nothing is done before it is cancelled.
    with serving(data, url, workers=0) as server:
        job_id = server.submit({f"{n}.vkg": graph(n) for n in range(10, 13)}, profiles=["bytes"])
        visit = visitor(browser, str(server.client.base_url).rstrip("/"))
        with visit(f"/job/{job_id}") as page:
            counts = page.locator("#counts")
            cancel = page.get_by_role("button", name="Cancel")
            retry = page.get_by_role("button", name="Retry")
            cancel.click()
            expect(counts).to_have_text("0 of 3 done, 3 cancelled")
            expect(cancel).to_be_hidden()
            with serving(data, url, workers=1):
                retry.click()
                expect(counts).to_have_text("3 of 3 done")
            expect(cancel).to_be_hidden()
            expect(retry).to_be_hidden()


@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (1280, "light")])
def test_jobs_are_listed(visit: Visit, server: Server, width: int, theme: str) -> None:
    job_id = server.submit({"a.vkg": graph(8)}, name="<i>of this test</i>")
    with visit("/job", width=width, theme=theme) as page:
        page.wait_for_selector("#jobs[aria-busy=false]")
        check_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        page.get_by_role("link", name="<i>of this test</i>").first.click()
        page.wait_for_url(f"**/job/{job_id}")
        expect(page.locator("#counts")).to_have_text("1 of 1 done")
        check_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_a_job_that_is_not_there(visit: Visit) -> None:
    with visit(f"/job/{'0' * 32}", errors=1) as page:
        expect(page.locator("#connection")).to_contain_text("there is no job")
    with visit("/job/nope", errors=1) as page:
        expect(page.locator("h1")).to_have_text("There is no such page")
