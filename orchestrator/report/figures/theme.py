"""The look of all figures, as Vega-Lite configuration: a chart names styles and series, and has no colour of its own.

Colours are Okabe and Ito's ("Color Universal Design", 2008), less those that are faint on the page. Each series also
has a shape of its own. tests/unit/report/figures/test_theme.py computes distances and contrasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# All of about one width: a figure is laid out with Liberation Sans, and a reader's machine may have another of them.
FONT = "Arial, Helvetica, 'Liberation Sans', Arimo, 'Nimbus Sans', Roboto, 'DejaVu Sans Condensed', sans-serif"
# At half size, text of 16 pixels is 8 pixels high and can still be read.
TEXT, SMALL, TITLE = 16, 15, 21

LIGHT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
DARK = ("#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#FFFFFF", "#E69F00", "#F0E442")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
MOST_SERIES = len(SHAPES)

PAGE = {False: "#FFFFFF", True: "#16191D"}
_INK = {False: "#1B1F24", True: "#E8EAED"}
_FAINT = {False: "#57606A", True: "#A9B1BA"}
_GRID = {False: "#E3E6E9", True: "#31363C"}
_LINE = {False: "#8C949C", True: "#7A838C"}


def palette(dark: bool) -> tuple[str, ...]:
    return DARK if dark else LIGHT


def config(dark: bool = False) -> Mapping[str, Any]:
    ink, faint, grid, line = _INK[dark], _FAINT[dark], _GRID[dark], _LINE[dark]
    return {
        "aria": False,  # one text alternative for the whole figure, instead of one for each mark
        "background": PAGE[dark],
        "padding": {"left": 20, "right": 34, "top": 14, "bottom": 14},  # a wider font still finds room
        "font": FONT,
        "range": {
            "category": list(palette(dark)),
            "symbol": list(SHAPES),
            "ordinal": [*palette(dark)[:2], ink, ink],  # lines of verdicts: better, worse, and two that claim nothing
            "diverging": [*palette(dark)[:2], PAGE[dark], PAGE[dark]],  # and their insides
        },
        "view": {"stroke": None},
        "title": {
            "anchor": "start",
            "frame": "bounds",
            "color": ink,
            "fontSize": TITLE,
            "subtitleColor": faint,
            "subtitleFontSize": SMALL,
            "subtitleLineHeight": SMALL + 5,
            "offset": 14,
        },
        "axis": {
            "labelColor": ink,
            "labelFontSize": TEXT,
            "labelLimit": 0,
            "titleColor": ink,
            "titleFontSize": TEXT,
            "titleFontWeight": "normal",
            "titlePadding": 10,
            "titleLimit": 0,
            "gridColor": grid,
            "domainColor": line,
            "tickColor": line,
        },
        "axisY": {"labelPadding": 6},
        "header": {
            "labelColor": ink,
            "labelFontSize": TEXT,
            "labelFontWeight": "bold",
            "labelAnchor": "start",
            "labelLimit": 0,
            "titleFontSize": 0,
            "titlePadding": 0,
            "title": None,
        },
        "legend": {
            "labelColor": ink,
            "labelFontSize": TEXT,
            "labelLimit": 0,
            "titleColor": ink,
            "titleFontSize": TEXT,
            "titleFontWeight": "normal",
            "orient": "bottom",
            "direction": "horizontal",
            "columns": 4,
            "symbolSize": 130,
            "symbolOpacity": 1,
            "symbolStrokeWidth": 2.5,
            "rowPadding": 6,
            "columnPadding": 18,
            "offset": 16,
        },
        "line": {"strokeWidth": 2.5},
        "point": {"size": 90, "filled": True, "opacity": 1},
        "text": {"color": ink, "fontSize": SMALL},
        "rule": {"color": ink},
        "style": {
            "panel": {"fill": ink, "fontSize": TEXT, "fontWeight": "bold"},
            "value": {"align": "left", "baseline": "middle", "dx": 9},
            "remark": {"color": faint, "align": "left", "baseline": "middle"},
            "whisker": {"strokeWidth": 1.8},
            "cap": {"color": ink, "thickness": 1.8, "size": 11},
            "hollow": {"strokeWidth": 2.2},
            "published": {"fillOpacity": 0.4, "strokeWidth": 1.6},
            "pale": {"opacity": 0.55, "strokeWidth": 1.6},
            "oom": {"strokeWidth": 1.6, "size": 130},
            "oom-cross": {"strokeWidth": 1.6, "size": 50},
            "one": {"strokeWidth": 1.4},
            "gate": {"strokeWidth": 1.4, "strokeDash": [6, 4]},
            "front": {"color": faint, "strokeWidth": 2, "strokeDash": [7, 4]},
            "empty": {"color": grid},
            "neutral": {"fill": PAGE[dark], "stroke": ink, "strokeWidth": 2},
            "inside": {"color": PAGE[dark], "align": "center", "baseline": "middle"},
            "span": {"stroke": PAGE[dark], "strokeWidth": 1},
            "rank": {"fontWeight": "bold", "align": "center", "baseline": "bottom", "dy": -9},
            "line": {"align": "left", "baseline": "middle"},
        },
    }
