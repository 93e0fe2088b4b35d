"""Chromium, to measure the dashboard and to take pictures of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from planner.errors import OptionError
from planner.extras import require

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """The system's Chromium, without a window, driven by Playwright; with ``flags`` of its own.

    Raises ``OptionError`` without the one, ``MissingExtraError`` without the other.
    """
    require("a page in a browser", "playwright")
    program = shutil.which("chromium")
    if program is None:
        raise OptionError("there is no chromium: install it, as 'make chromium' does")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Root, as whom containers run tests, has no sandbox; the pages are our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", *flags])
        try:
            yield browser
        finally:
            browser.close()
