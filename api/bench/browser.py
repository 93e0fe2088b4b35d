"""Chromium, to measure the dashboard and to take pictures of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from planner.errors import OptionError

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, without a window, driven by Playwright.

    Raises ``OptionError`` where one of them is missing.
    """
    program = shutil.which("chromium")
    if program is None:
        raise OptionError("there is no chromium: install it, as 'make chromium' does")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise OptionError("playwright is missing: pip install playwright") from None
    with sync_playwright() as playwright:
        # Root, as whom containers run tests, has no sandbox; the pages are our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
