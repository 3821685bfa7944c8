"""The report's page in a real Chromium: what a reader does with it, and what it never does."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import browsers
import pytest
from browsers import Opened
from builders import a_row, around
from reports import a_hostile_report, a_report, a_table, rows

from orchestrator.report.model import HostProgress, Live, Report, RunningJob
from orchestrator.report.page import render
from orchestrator.table import Metric

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.live
Open = Callable[..., AbstractContextManager[Opened]]
PHONE = {"viewport": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages; pictures of them are there after the tests."""
    folder = tmp_path_factory.mktemp("page")
    many = [a_row(host, "eager", size, around(size / 10)) for size in range(1, 251) for host in ("a", "b")]
    (folder / "report.html").write_text(render(a_report()))
    (folder / "hostile.html").write_text(render(a_hostile_report()))
    (folder / "many.html").write_text(render(a_report(a_table(many, [Metric.LATENCY], [None]))))
    return folder


@pytest.fixture
def report(browser: Browser, folder: Path) -> Open:
    return partial(browsers.opened, browser, folder / "report.html")


@pytest.fixture
def many(browser: Browser, folder: Path) -> Open:
    return partial(browsers.opened, browser, folder / "many.html")


def lines(page: Page) -> list[list[str]]:
    """The table's body as it is shown, cell by cell."""
    rows: list[list[str]] = page.locator("#body tr").evaluate_all(
        "rows => rows.map(row => [...row.children].map(cell => cell.innerText.replace(/\\s+/g, ' ').trim()))"
    )
    return rows


def column(page: Page, place: int) -> list[str]:
    return [line[place] for line in lines(page)]


def names(page: Page) -> list[str]:
    return page.locator("#head .column .name").all_inner_texts()


def sort(page: Page, key: str) -> None:
    page.locator(f'#head [data-sort="{key}"]').click()


def test_a_click_sorts_and_says_so(report: Open) -> None:
    with report() as opened:
        page = opened.page
        assert [line[:3] for line in lines(page)][:3] == [
            ["eager", "half", "1"],
            ["eager", "half", "4"],
            ["compile", "half", "1"],
        ]
        sort(page, "value:gpu1")
        values = [float(text.split()[0]) for text in column(page, 3) if text[0].isdigit()]
        assert values == sorted(values) == [1.0, 1.5, 3.9, 4.8]
        assert page.locator('th[aria-sort="ascending"]').inner_text().split() == ["gpu1:", "s", "per", "call"]
        assert "Sorted by value gpu1, ascending. 5 lines." in page.locator("#said").inner_text()
        sort(page, "value:gpu1")
        assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
        assert [text.split()[0] for text in column(page, 3)][:2] == ["4.80", "3.90"]
        sort(page, "value:gpu1")
        assert page.locator("th[aria-sort]").count() == 0
        assert column(page, 0) == ["eager", "eager", "compile", "graph", "graph"]


@pytest.mark.parametrize("presses", [1, 2])
def test_invalid_and_missing_values_come_last_in_both_orders(presses: int, report: Open) -> None:
    with report() as opened:
        for _ in range(presses):
            sort(opened.page, "value:gpu2")
        shown = column(opened.page, 5)
        assert "throttled" in shown[2]
        assert {text.split()[0] for text in shown[3:]} == {"oom", "not"}


def test_ratios_and_axes_sort_too(report: Open) -> None:
    with report() as opened:
        sort(opened.page, "ratio:gpu1")
        assert [text.split("×")[0] for text in column(opened.page, 4)][:2] == ["0.667", "0.813"]
        sort(opened.page, "samples")
        assert column(opened.page, 2) == ["1", "1", "1", "4", "4"]


def test_a_search_keeps_lines_whole(report: Open) -> None:
    with report() as opened:
        opened.page.locator("#search").fill("OOM")
        opened.page.locator("#count", has_text="1 of 5 lines match").wait_for()
        (line,) = lines(opened.page)
        assert line[0] == "graph"
        assert line[3].startswith("3.90")
        opened.page.locator("#search").fill("no such engine")
        opened.page.locator("#empty").wait_for()
        opened.page.locator("#reset").click()
        assert len(lines(opened.page)) == 5


def test_a_filter_keeps_one_value_of_an_axis(report: Open) -> None:
    with report() as opened:
        opened.page.locator("#filters summary").click()
        opened.page.get_by_label("samples").select_option("4")
        assert column(opened.page, 2) == ["4", "4"]
        opened.page.get_by_label("host", exact=True).select_option("gpu1")
        assert names(opened.page) == ["gpu1"]
        assert "where.samples=4&where.host=gpu1" in opened.page.url


def test_another_metric_has_its_own_values_and_unit(report: Open) -> None:
    with report() as opened:
        opened.page.get_by_label("Metric").select_option("throughput")
        assert lines(opened.page)[0][3].split()[0] == "40.0"
        assert opened.page.locator("#caption").inner_text().startswith("Throughput in images/min; more is better")


def test_another_baseline_has_its_own_ratios(report: Open) -> None:
    with report() as opened:
        page = opened.page
        assert lines(page)[0][4] == "baseline"
        page.get_by_label("Ratios to").select_option("gpu1")
        first = lines(page)[0]
        assert (first[4], first[6].split()[0], first[6].split()[-1]) == ("baseline", "1.500×", "worse")
        page.get_by_label("Ratios to").select_option("none")
        assert len(lines(page)[0]) == 5


def test_any_axis_goes_across(report: Open) -> None:
    with report() as opened:
        opened.page.get_by_label("Columns").select_option("engine")
        assert names(opened.page) == ["eager", "compile", "graph"]
        assert [line[:3] for line in lines(opened.page)] == [
            ["half", "1", "gpu1"], ["half", "1", "gpu2"], ["half", "4", "gpu1"], ["half", "4", "gpu2"],
        ]  # fmt: skip
        opened.page.get_by_label("Columns").select_option("none")
        assert names(opened.page) == ["Latency"]
        assert len(lines(opened.page)) == 8


def test_the_address_holds_the_view(report: Open) -> None:
    with report() as opened:
        page = opened.page
        page.get_by_label("Metric").select_option("throughput")
        page.get_by_label("Ratios to").select_option("gpu1")
        page.get_by_label("Columns").select_option("engine")
        sort(page, "value:graph")
        sort(page, "value:graph")
        page.locator("#search").fill("gpu1")
        page.locator("#count", has_text="lines match").wait_for()
        page.wait_for_function("location.hash.includes('search')")
        shown, fragment = lines(page), page.evaluate("location.hash")
    with report(fragment) as again:
        assert lines(again.page) == shown
        assert again.page.get_by_label("Metric").input_value() == "throughput"
        assert again.page.locator("#search").input_value() == "gpu1"
        again.page.evaluate("location.hash = '#metric=energy'")
        again.page.locator("#caption", has_text="Energy in J per image").wait_for()
        assert again.page.locator("#search").input_value() == ""


def test_back_returns_to_the_view_before(report: Open) -> None:
    with report() as opened:
        page = opened.page
        before = lines(page)
        page.get_by_label("Metric").select_option("throughput")
        sort(page, "value:gpu1")
        page.go_back()
        assert page.get_by_label("Metric").input_value() == "throughput"
        assert page.locator("th[aria-sort]").count() == 0
        page.go_back()
        assert lines(page) == before


@pytest.mark.parametrize(
    "fragment",
    ["#metric=nothing", "#sort=value:nobody", "#page=-1", "#page=1e9", "#where.host=<img>&where.x=1", "#%E0%A4%A",
     "#=&&=", "#__proto__=1&constructor=2", "#metric=%00&search=", "#across=toString", "#failures"],
)  # fmt: skip
def test_a_fragment_that_means_nothing_is_ignored(fragment: str, report: Open) -> None:
    with report(fragment) as opened:
        assert len(lines(opened.page)) == 5
        assert names(opened.page) == ["gpu1", "gpu2"]


def test_a_link_to_a_section_leaves_the_view(report: Open) -> None:
    with report() as opened:
        opened.page.get_by_label("Metric").select_option("energy")
        opened.page.get_by_role("link", name="Environment").click()
        opened.page.wait_for_function("location.hash === '#environment'")
        assert opened.page.get_by_label("Metric").input_value() == "energy"


def test_the_keyboard_reaches_and_works_everything(report: Open) -> None:
    with report() as opened:
        page, press = opened.page, opened.page.keyboard.press

        def focused() -> str:
            found = page.evaluate("document.activeElement.id || document.activeElement.innerText")
            return str(found)

        press("Tab")
        assert focused() == "Skip to the answer"
        page.locator("#metric").focus()
        press("ArrowDown")
        assert page.locator("#caption").inner_text().startswith("Throughput")
        reached = []
        for _ in range(9):
            press("Tab")
            reached.append(focused().strip())
        assert reached[:3] == ["baseline", "across", "search"]
        assert {"reset", "Skip the table", "region"} <= set(reached)
        page.locator('#head [data-sort="value:gpu2"]').focus()
        press("Enter")
        assert page.locator('th[aria-sort="ascending"]').count() == 1
        assert focused().startswith("gpu2")


def test_arrow_keys_go_from_value_to_value(report: Open) -> None:
    with report() as opened:
        page = opened.page
        page.locator("button.cell").first.focus()
        seen = []
        for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowLeft"):
            page.keyboard.press(key)
            seen.append(page.evaluate("document.activeElement.innerText").split()[0])
        assert seen == ["2.25", "2.25", "0.900", "0.900", "2.25", "1.500"]


def test_the_details_of_a_cell_open_close_and_give_the_focus_back(report: Open) -> None:
    with report() as opened:
        page = opened.page
        cell = page.locator("button.cell", has_text="oom")
        cell.focus()
        page.keyboard.press("Enter")
        page.locator("dialog[open]").wait_for()
        said = page.locator("#details-list").inner_text()
        assert "tried to allocate 34.75 GiB" in said
        assert page.locator("#details-title").inner_text().endswith("host gpu2")
        page.keyboard.press("Escape")
        assert page.locator("dialog[open]").count() == 0
        assert page.evaluate("document.activeElement.innerText").startswith("oom")
        page.locator("button.cell").first.click()
        assert "engine eager" in page.locator("#details-list").inner_text()
        page.get_by_role("button", name="Close").click()
        assert page.locator("dialog[open]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [{}, PHONE], ids=["laptop", "phone"])
def test_axe_finds_nothing(scheme: str, screen: dict[str, Any], browser: Browser, folder: Path) -> None:
    """The policy lets no other script in: this context alone goes without it."""
    with browsers.opened(
        browser, folder / "report.html", bypass_csp=True, color_scheme=scheme, reduced_motion="reduce", **screen
    ) as opened:
        page = opened.page
        page.locator("main").evaluate("main => main.querySelectorAll('details').forEach(each => each.open = true)")
        sort(page, "value:gpu1")
        assert violations(page) == []
        page.screenshot(path=folder / f"{'phone' if screen else 'laptop'}-{scheme}.png", full_page=True)
        page.locator("button.cell").first.click()
        assert violations(page) == []


def violations(page: Page) -> list[tuple[str, list[str]]]:
    from axe_core_python.sync_playwright import Axe

    found = Axe().run(page)["violations"]
    return [(each["id"], [node["html"][:120] for node in each["nodes"]]) for each in found]


@pytest.mark.parametrize("file", ["report.html", "many.html", "hostile.html"])
@pytest.mark.parametrize("width", [320, 390])
def test_nothing_but_the_tables_is_wider_than_a_phone(width: int, file: str, browser: Browser, folder: Path) -> None:
    with browsers.opened(browser, folder / file, viewport={"width": width, "height": 700}) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_phone_keeps_the_case_in_sight_while_the_table_scrolls(report: Open) -> None:
    with report(**PHONE) as opened:
        page = opened.page
        first = page.locator("#body th").first
        left = first.evaluate("cell => cell.getBoundingClientRect().x")
        assert "half · samples\u00a01" in first.inner_text()
        page.locator("#region").evaluate("region => region.scrollLeft = 200")
        assert first.evaluate("cell => cell.getBoundingClientRect().x") == left
        page.get_by_label("Sort by").select_option("-value:gpu1")
        assert page.locator("#body th").first.inner_text().startswith("eager")


def test_the_theme_is_kept_for_the_tab(report: Open) -> None:
    with report(color_scheme="light") as opened:
        ground = "getComputedStyle(document.body).backgroundColor"
        light = opened.page.evaluate(ground)
        assert opened.page.locator("img.light").is_visible()
        opened.page.get_by_role("button", name="Dark").click()
        opened.page.reload()
        assert opened.page.evaluate(ground) != light
        assert opened.page.locator("img.dark").is_visible()
        assert not opened.page.locator("img.light").is_visible()
        assert opened.page.get_by_role("button", name="Dark").get_attribute("aria-pressed") == "true"


def test_a_long_table_comes_in_pages(many: Open) -> None:
    with many() as opened:
        page = opened.page
        assert len(lines(page)) == 100
        assert page.locator("#count").inner_text() == "Lines 1–100 of 250 lines"
        page.get_by_role("button", name="Next lines").click()
        assert lines(page)[0][2] == "101"
        assert page.url.endswith("#page=2")
        sort(page, "value:a")
        assert page.locator("#count").inner_text() == "Lines 1–100 of 250 lines"


def test_paper_has_all_lines_and_no_controls(many: Open, folder: Path) -> None:
    with many(color_scheme="dark") as opened:
        page = opened.page
        page.evaluate(
            "addEventListener('beforeprint', () => { window.printed = document.querySelectorAll('#body tr').length; })"
        )
        made = page.pdf(path=folder / "many.pdf", format="A4")
        assert page.evaluate("window.printed") == 250
        assert len(re.findall(rb"/Type\s*/Page\b", made)) > 3
        assert len(lines(page)) == 100
        page.emulate_media(media="print")
        for part in (".controls", "#theme", "header nav", "#pager"):
            assert not page.locator(part).is_visible()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_hostile_text_does_nothing(browser: Browser, folder: Path) -> None:
    with browsers.opened(browser, folder / "hostile.html") as opened:
        page = opened.page
        page.locator("main").evaluate("main => main.querySelectorAll('details').forEach(each => each.open = true)")
        for select in ("#metric", "#baseline", "#across"):
            for value in page.locator(f"{select} option").evaluate_all("options => options.map(each => each.value)"):
                page.locator(select).select_option(value)
        page.locator("#reset").click()
        for cell in page.locator("button.cell").all():
            cell.click()
            page.keyboard.press("Escape")
        assert not page.title().startswith("attacked")
        assert page.locator("img:not([src^='data:image/'])").count() == 0
        assert page.locator("svg, iframe, object, a[href^='javascript']").count() == 0
        assert "{{7*7}}" in page.locator("#failures").inner_text()


def test_hostile_fragments_do_nothing(browser: Browser, folder: Path) -> None:
    with browsers.opened(browser, folder / "report.html") as opened:
        for name in ("metric", "search", "sort", "where.host", "across", "baseline"):
            opened.page.evaluate(
                "text => { location.hash = text }", f"{name}=<img src=x onerror=document.title='attacked'>"
            )
            opened.page.wait_for_function("name => location.hash.includes(name)", arg=name)
        assert opened.page.title() == "Two hosts"
        assert opened.page.locator("img:not([src^='data:image/'])").count() == 0


def test_the_default_table_is_there_without_javascript(browser: Browser, folder: Path, report: Open) -> None:
    with report() as opened:
        with_script = lines(opened.page)
        head = opened.page.locator("#caption").inner_text()
    with browsers.opened(browser, folder / "report.html", java_script_enabled=False) as opened:
        rows = [row.locator("th, td").all_inner_texts() for row in opened.page.locator("#body tr").all()]
        assert [[" ".join(text.split()) for text in row] for row in rows] == with_script
        assert opened.page.locator("#caption").inner_text() == head
        assert "JavaScript is off" in opened.page.locator("noscript").inner_text()
        assert not opened.page.locator(".controls").is_visible()


class Served:
    """A server of one page, which changes while it is open."""

    def __init__(self, report: Report) -> None:
        self.report = report
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = render(served.report).encode()
                tag = f'"{zlib.crc32(page)}"'
                is_known = self.headers.get("If-None-Match") == tag
                self.send_response(304 if is_known else 200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("ETag", tag)
                self.end_headers()
                if not is_known:
                    self.wfile.write(page)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def served() -> Iterator[Served]:
    job = RunningJob("j1", "gpu1", "graph half", "running", "2026-11-29T02:00:00+00:00", "step 3 of 50")
    live = Live(True, 3, 8, "2 min", "5 min", (HostProgress("gpu1", {"ok": 3, "running": 1}),), (job,))
    found = Served(a_report(a_table(rows()[:-4]), live=live, failures=()))
    thread = Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def test_a_served_page_follows_its_run_and_keeps_the_view(served: Served, browser: Browser, folder: Path) -> None:
    with browsers.opened(browser, served.address) as opened:
        page, live = opened.page, served.report.live
        assert live is not None
        page.locator("#progress", has_text="step 3 of 50").wait_for()
        sort(page, "value:gpu1")
        page.locator("#legend summary").click()
        page.screenshot(path=folder / "live.png")
        served.report = replace(served.report, table=a_table(rows()), live=replace(live, done=7, jobs=()))
        page.locator("#count", has_text="5 lines").wait_for()
        page.locator("#progress", has_text="7 of 8 cases").wait_for()
        assert page.locator('th[aria-sort="ascending"]').count() == 1
        assert page.locator("#legend").get_attribute("open") is not None
        served.report = replace(a_report(), live=replace(live, is_open=False, done=8, jobs=()))
        page.locator("#progress", has_text="The run has ended.").wait_for()
        page.locator("#failures").wait_for()
        assert page.locator('th[aria-sort="ascending"]').count() == 1
        assert page.locator("html[data-live]").count() == 0
