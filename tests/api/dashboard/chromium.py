"""Chromium, which looks at a page and at what goes wrong in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect

from api.bench.browser import chromium

Visit = Callable[..., AbstractContextManager[Page]]

PATIENCE = 600_000
"""Milliseconds that tests wait for what must come: how long it takes is not what they are about."""

_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""


@contextmanager
def launched(*flags: str) -> Iterator[Browser]:
    """Debian's browser. While it runs, this thread has a running event loop."""
    expect.set_options(timeout=PATIENCE)
    with chromium(*flags) as browser:
        yield browser


def visitor(browser: Browser, address: str) -> Visit:
    """Opens pages; at the end of each nothing may have gone wrong but so many ``errors``.

    With None for them, any number may.
    """

    @contextmanager
    def visit(
        path: str,
        width: int = 1280,
        height: int = 900,
        theme: Any = "light",
        errors: int | None = 0,
    ) -> Iterator[Page]:
        size: Any = {"width": width, "height": height}
        context = browser.new_context(base_url=address, viewport=size, color_scheme=theme)
        context.add_init_script(_WATCH)
        context.set_default_timeout(PATIENCE)
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
        assert errors is None or len(said) == errors, said
        assert [url for url in asked if not url.startswith(f"{address}/")] == []
        context.close()

    return visit


@contextmanager
def held_answer(page: Page, pattern: str) -> Iterator[None]:
    """Lets requests to such addresses reach the server, and their answers wait for the end."""
    session = page.context.new_cdp_session(page)
    patterns = [{"urlPattern": pattern, "requestStage": "Response"}]
    session.send("Fetch.enable", {"patterns": patterns})
    yield
    session.send("Fetch.disable")


def check_accessible(page: Page) -> None:
    """Asserts that axe finds nothing to mend."""
    spec = find_spec("axe_playwright_python")
    assert spec is not None and spec.origin is not None
    # Through the debugger: the page's own policy would not let it in.
    page.evaluate(Path(spec.origin).with_name("axe.min.js").read_text("utf-8"))
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    mistakes = [(each["id"], each["nodes"][0]["html"]) for each in found]
    assert mistakes == []
