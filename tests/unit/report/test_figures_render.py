"""Figures as files: SVG, PNG and HTML that request nothing and obey no text of a row."""

from __future__ import annotations

import builtins
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import rounds

from orchestrator import table
from orchestrator.errors import InputError
from orchestrator.report.figures import Figure, figures, svg, write
from orchestrator.report.figures.render import page, png
from orchestrator.table import Metric

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<script>alert('x')</script>&\"]]>"


def a_figure(host: str = "a") -> Figure:
    rows = [*rounds(host, "eager"), *rounds(host, "graph", middle=0.5)]
    (found,) = figures({Metric.LATENCY: table.compare(rows)}).drawn[:1]
    return found


@pytest.mark.parametrize("dark", [False, True])
def test_the_svg_is_an_image_with_its_text_alternative(dark: bool) -> None:
    figure = a_figure()
    root = ElementTree.fromstring(svg(figure, dark))
    assert root.get("role") == "img"
    named = {element.get("id"): element.text for element in root if element.tag in (f"{SVG}title", f"{SVG}desc")}
    assert list(named.values()) == [figure.title, figure.alt]
    assert root.get("aria-labelledby") == " ".join(map(str, named))
    assert [
        element for element in root.iter() if element.get("aria-label") or element.get("aria-roledescription")
    ] == []


def test_the_svg_draws_the_bars_and_writes_their_values() -> None:
    root = ElementTree.fromstring(svg(a_figure()))
    texts = {element.text for element in root.iter(f"{SVG}text")}
    assert {"graph half", "eager half"} <= texts
    assert any(text and text.startswith("0.500 ±") for text in texts)


def test_light_and_dark_differ_in_colours_and_ids_alone() -> None:
    light, dark = svg(a_figure()), svg(a_figure(), dark=True)
    blank = re.compile(r"#[0-9A-Fa-f]{6}|latency(-dark)?-(?=[a-z0-9])")
    assert light != dark
    assert blank.sub("", light) == blank.sub("", dark)


def test_two_renders_give_equal_bytes() -> None:
    one, other = a_figure(), a_figure()
    assert (svg(one), png(one), page(one)) == (svg(other), png(other), page(other))


def test_the_png_is_twice_the_size_of_the_svg() -> None:
    figure = a_figure()
    width, height = struct.unpack(">II", png(figure)[16:24])
    root = ElementTree.fromstring(svg(figure))
    assert (width, height) == (2 * int(str(root.get("width"))), 2 * int(str(root.get("height"))))


def test_the_html_requests_nothing_and_allows_only_its_own_scripts() -> None:
    text = page(a_figure())
    assert re.findall(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)""", text.partition("<script>")[0]) == []
    (policy,) = re.findall(r'Content-Security-Policy"\s+content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "http" not in policy


def test_texts_of_rows_are_escaped_in_svg_and_html() -> None:
    figure = a_figure(HOSTILE)
    assert f"{SVG}script" not in {element.tag for element in ElementTree.fromstring(svg(figure)).iter()}
    assert "<script>alert" not in page(figure)
    assert "<script>" in figure.alt


def test_every_figure_is_written_in_three_forms(tmp_path: Path) -> None:
    figure = a_figure()
    written = write([figure], tmp_path / "new")
    assert {path.name for path in written} == {"latency.html", "latency.svg", "latency-dark.svg", "latency.png"}
    assert all(path.stat().st_size > 1000 for path in written)


def test_ids_of_two_figures_in_one_page_differ() -> None:
    one = a_figure()
    ids = [set(re.findall(r'\bid="([^"]+)"', svg(figure))) for figure in (one, replace(one, name="other"))]
    assert ids[0]
    assert not ids[0] & ids[1]


@pytest.mark.parametrize("absent", ["altair", "vl_convert"])
def test_without_the_extra_one_message_names_the_command(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    whole = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == absent:
            raise ModuleNotFoundError(f"No module named {absent!r}", name=absent)
        return whole(name, *rest)

    figure = a_figure()
    act: Callable[[], object] = a_figure if absent == "altair" else lambda: svg(figure)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=rf"figures need {absent}, which is not installed; fix: .*install"):
        act()


def test_charting_libraries_are_imported_only_to_draw() -> None:
    code = "import sys, orchestrator.report.figures as f; print(*{'altair', 'vl_convert'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
