"""Figures in a real browser: drawn under a strict policy, without a request, in light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsers import chromium, opened
from builders import rounds

from orchestrator import table
from orchestrator.report.figures import figures, write
from orchestrator.report.figures.theme import config, palette
from orchestrator.table import Metric

pytestmark = pytest.mark.live

HOSTILE = "<img src=x onerror=alert(1)>\"'{datum['x']}[0].y"


@pytest.mark.parametrize("dark", [False, True])
def test_an_interactive_figure_shows_the_value_under_the_pointer(tmp_path: Path, dark: bool) -> None:
    rows = [row for batch in (1, 4) for row in rounds(HOSTILE, samples=batch, middle=1.0)]
    drawn = figures({Metric.THROUGHPUT: table.compare(rows, Metric.THROUGHPUT)}).drawn
    (figure,) = (figure for figure in drawn if figure.name == "throughput-by-batch")
    write([figure], tmp_path)
    scheme = "dark" if dark else "light"
    with chromium() as browser, opened(browser, tmp_path / f"{figure.name}.html", color_scheme=scheme) as shown:
        shown.page.wait_for_selector("#figure svg")
        assert shown.page.title() == figure.title
        assert shown.page.locator("main > p").text_content() == figure.alt
        assert shown.page.locator(f'#figure svg path[fill="{palette(dark)[0]}"]').count() >= 2
        assert shown.page.locator(f'#figure svg [fill="{config(dark)["title"]["color"]}"]').first.text_content()
        shown.page.hover("#figure .mark-symbol.role-mark path")
        tip = shown.page.locator("#vg-tooltip-element.visible")
        tip.wait_for()
        assert "batch" in tip.inner_text()
        assert shown.page.locator("img").count() == 0
