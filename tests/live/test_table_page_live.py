"""The page of `results -o html` in a real Chromium: accessible, without a request, readable on each medium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import browsers
import pytest
from builders import a_row, around
from compared import HOSTILE, ROWS

from orchestrator.report.web import fragment, to_html
from orchestrator.table import compare
from runner.schema import Status

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.live
LAPTOP: dict[str, Any] = {}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}}
COMPARED = compare(
    [
        *ROWS,
        a_row("rtx3090", "graph", 1, status=Status.FAILED, error=HOSTILE),
        a_row(HOSTILE, "eager", 1, around(3.0)),
    ]
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page; pictures of it are there after the tests."""
    file = tmp_path_factory.mktemp("table") / "table.html"
    file.write_text(to_html(COMPARED), encoding="utf-8")
    return file


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_axe_finds_nothing(scheme: str, screen: dict[str, Any], browser: Browser, page: Path) -> None:
    from axe_core_python.sync_playwright import Axe

    # the policy forbids scripts, and axe is one
    with browsers.opened(browser, page, color_scheme=scheme, bypass_csp=True, **screen) as opened:
        opened.page.screenshot(path=page.parent / f"{scheme}-{len(screen)}.png", full_page=True)
        found = Axe().run(opened.page)
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []


def test_the_page_scrolls_only_its_table_on_a_phone(browser: Browser, page: Path) -> None:
    with browsers.opened(browser, page, **PHONE) as opened:
        width = "document.documentElement.scrollWidth"
        assert opened.page.evaluate(width) <= 390
        assert opened.page.evaluate("document.querySelector('.scroll').scrollWidth") > 390


def test_a_wide_table_wraps_on_paper_and_is_not_cut(browser: Browser, page: Path) -> None:
    with browsers.opened(browser, page, viewport={"width": 1000, "height": 700}) as opened:
        opened.page.emulate_media(media="print")
        opened.page.screenshot(path=page.parent / "print.png", full_page=True)
        assert opened.page.evaluate("document.querySelector('table').getBoundingClientRect().right") <= 1000


def test_a_footnote_number_leads_to_its_note(browser: Browser, page: Path) -> None:
    with browsers.opened(browser, page) as opened:
        link = opened.page.locator("td a").first
        link.click()
        assert opened.page.locator(":target").inner_text() == "oom: tried to allocate 20.1 GB"


@pytest.mark.parametrize("background", ["#fff", "#000"])
def test_a_fragments_colours_can_be_read_on_white_and_on_black(background: str, browser: Browser, page: Path) -> None:
    from axe_core_python.sync_playwright import Axe

    colour = {"#fff": "#000", "#000": "#fff"}[background]
    file = page.with_name(f"notebook-{background[1:]}.html")
    style = f"<style>body {{ background: {background}; color: {colour}; }}</style>"
    file.write_text(
        f"<!DOCTYPE html><html lang=en><title>Notebook</title><main>{style}{fragment(COMPARED)}</main></html>"
    )
    with browsers.opened(browser, file) as opened:
        found = Axe().run(opened.page, options={"runOnly": ["color-contrast"]})
        assert [node["html"] for each in found["violations"] for node in each["nodes"]] == []
