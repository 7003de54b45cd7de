"""A headless Chromium for tests of the pages that people open, and a page that tolerates no complaint."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")

_FLAGS = [
    "--headless",
    "--no-sandbox",  # in a container, as root, there is none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

_PATIENCE_MS = 15_000
expect.set_options(timeout=_PATIENCE_MS)

_TELL_OF_VIOLATIONS = """document.addEventListener("securitypolicyviolation",
    violation => console.error(`${violation.effectiveDirective} forbids ${violation.blockedURI}`));"""


def chromium() -> str:
    """Path of this machine's Chromium; without one the test is skipped, and where CI is "true" it fails."""
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    reason = f"no {', '.join(_NAMES)} here to open pages in (Debian: apt-get install chromium)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@contextmanager
def headless_browser() -> Iterator[Browser]:
    """Start it. While it runs this thread has an event loop, so no other can be run here."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield browser
        browser.close()


@contextmanager
def faultless_page(browser: Browser, width: int = 1200, *, is_phone: bool = False) -> Iterator[Page]:
    """A page of a visitor without history; errors, warnings, violations and failed requests fail the test."""
    complaints: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 800}, has_touch=is_phone, is_mobile=is_phone
    )
    context.add_init_script(_TELL_OF_VIOLATIONS)
    page = context.new_page()
    page.set_default_timeout(_PATIENCE_MS)
    page.on(
        "console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"{request.url}: {request.failure}"))
    page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    try:
        yield page
    except Exception as error:
        if complaints:
            error.add_note(f"the page complained: {complaints}")
        raise
    finally:
        context.close()
    assert not complaints, complaints


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window; above 0 people must scroll sideways."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
