"""How fast the report's page lays out and sorts a long table in Chromium, compared with the same table in one piece.

Paged is the page as it is, 100 lines at a time; in one piece, the same page puts all lines into the document. Each page
is opened several times, in turns, on two of this machine's cores. The table shows medians. First layout: from the start
of the navigation to the second frame with the table that the script laid out. Sort: from the click to the second frame
after it.

  python benchmarks/report_page.py
  python benchmarks/report_page.py --lines 2000 --turns 3
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import os
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from orchestrator.report.model import MetricValues, RatioTo, Report, Table, Value  # noqa: E402
from orchestrator.report.page import render  # noqa: E402
from orchestrator.table.metric import Metric  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTS, ENGINES = ("gpu1", "gpu2"), ("eager", "compile", "graph", "onnxruntime")
BASELINES = {"engine eager": "eager"}  # as `report` writes for so many rows
TARGETS_S = {"first layout": 1.0, "sort": 0.5}
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
WHEN_LAID_OUT = """
const look = () => document.documentElement?.classList.contains("js")
  ? requestAnimationFrame(() => { window.laidOut = performance.now(); })
  : requestAnimationFrame(look);
look();
"""
SORT = """
() => new Promise((done) => {
  const start = performance.now();
  document.querySelector('#head [data-sort="value:gpu2"]').click();
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
})
"""


def a_table(lines: int) -> Table:
    """So many lines, two hosts across, every metric that has one value per case, ratios to one baseline."""
    sizes = range(1, lines // len(ENGINES) + 1)
    cases = tuple((engine, "half", size, host) for engine in ENGINES for size in sizes for host in HOSTS)
    metrics = tuple(
        MetricValues(metric.value, metric.unit, metric.less_is_better, tuple(_value(i, j) for j in range(len(cases))))
        for i, metric in enumerate((metric for metric in Metric if not metric.declared.spans), 1)
    )
    return Table(("engine", "precision", "samples", "host"), cases, ("host",), metrics, BASELINES)


def _value(number: int, place: int) -> Value:
    shown = number + (place * 7919 % 10007) / 1000
    ratio = RatioTo(shown / 5, f"{shown / 5:.3f}× [{shown / 5.1:.3f}–{shown / 4.9:.3f}]", True, shown < 5)
    notes = (f"note {place % 50}",) if place % 10 == 0 else ()
    ratios = dict.fromkeys(BASELINES, ratio)
    return Value(shown, f"{shown:.3f} ±0.012", "ok", validity="valid", notes=notes, ratios=ratios)


def in_one_piece(page: str) -> str:
    """Returns the page with a limit that no table reaches, and the hash of its changed script."""
    script = page.partition("<script>")[2].partition("</script>")[0]
    changed = re.sub(r"const PAGE = \d+;", "const PAGE = 1e9;", script)
    return page.replace(script, changed).replace(_hash(script), _hash(changed))


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        raise SystemExit(f"no Chromium found; fix: install one of {', '.join(PROGRAMS)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Browser, file: Path) -> dict[str, float]:
    """The seconds of the first layout and of a sort."""
    with contextlib.closing(browser.new_context(viewport={"width": 1366, "height": 768})) as context:
        context.add_init_script(WHEN_LAID_OUT)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(file.as_uri())
        page.wait_for_function("window.laidOut")
        return {"first layout": page.evaluate("window.laidOut") / 1000, "sort": page.evaluate(SORT) / 1000}


def measured(files: Sequence[Path], turns: int) -> list[dict[str, float]]:
    """The medians of each page."""
    with chromium() as browser:
        taken = [[opened(browser, file) for file in files] for _ in range(turns + 1)][1:]  # the first one warms up
    return [
        {what: statistics.median(turn[place][what] for turn in taken) for what in TARGETS_S}
        for place in range(len(files))
    ]


def table(paged: dict[str, float], whole: dict[str, float]) -> str:
    lines = ["| what | paged, s | in one piece, s | ratio | target, s |", "| --- | --- | --- | --- | --- |"]
    for what, target in TARGETS_S.items():
        ratio = paged[what] / whole[what]
        lines.append(f"| {what} | {paged[what]:.2f} | {whole[what]:.2f} | {ratio:.3f} | {target:g} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=10_000, help="lines of the table (default: 10000)")
    parser.add_argument("--turns", type=int, default=5, help="times that each page is opened (default: 5)")
    asked = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    page = render(Report("A long table", "1", "2026-11-29T00:00:00+00:00", table=a_table(asked.lines)))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, "paged.html"), Path(folder, "whole.html")]
        for file, text in zip(files, (page, in_one_piece(page))):
            file.write_text(text, encoding="utf-8")
        print(f"{asked.lines} lines, {len(HOSTS)} hosts, {len(page) / 1e6:.1f} MB")
        print(table(*measured(files, asked.turns)))


if __name__ == "__main__":
    main()
