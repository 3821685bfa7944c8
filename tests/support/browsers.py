"""A real Chromium for tests of pages, and a page that records what a report must not do."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines import missing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WATCH_POLICY = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI || event.sample}`));
"""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium of this machine, without a window."""
    if importlib.util.find_spec("playwright") is None:
        missing("the browser's tests need Playwright's Python package")
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        missing(f"the browser's tests need one of {', '.join(NAMES)}")
    from playwright.sync_api import sync_playwright

    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        words = [*root, "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=words, timeout=240_000)
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page, and what it did that a report must not do. requests: beyond the file itself."""

    page: Page
    address: str
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def faults(self) -> list[str]:
        return [*self.errors, *self.requests, *self.page.evaluate("window.violations")]


@contextlib.contextmanager
def opened(browser: Browser, file: Path | str, fragment: str = "", **context: Any) -> Iterator[Opened]:
    """Opens a file or an address in its own context. At the end: no console error, request or breach of the policy."""
    with contextlib.closing(browser.new_context(**{"viewport": {"width": 1366, "height": 768}, **context})) as made:
        if context.get("java_script_enabled", True):
            made.add_init_script(WATCH_POLICY)
        page = made.new_page()
        page.set_default_timeout(60_000)
        found = Opened(page, file if isinstance(file, str) else file.as_uri())
        page.on("console", lambda said: found.errors.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: found.errors.append(str(error)))
        page.on(
            "request",
            lambda request: (
                found.requests.append(request.url) if not request.url.startswith((found.address, "data:")) else None
            ),
        )
        page.goto(f"{found.address}{fragment}")
        yield found
        if context.get("java_script_enabled", True):
            assert found.faults() == []
