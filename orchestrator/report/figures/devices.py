"""Figures with a bar for each device and precision: latency, memory, throughput at the largest batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.report.figures import words
from orchestrator.report.figures.figure import Figure, NothingToDraw
from orchestrator.report.figures.points import (
    Point,
    State,
    busiest,
    measured,
    ordered,
    points,
    with_device,
)
from orchestrator.report.numbers import significant, spread
from orchestrator.table.comparison import Comparison

LATENCY, MEMORY = "Latency by device and precision", "Memory by device and precision"
ENERGY, LARGEST_BATCH = "Energy by device and precision", "Throughput at the largest batch"
BAR = 31
MOST_PANELS, MOST_ROWS, MOST_BARS = 6, 16, 32


@dataclass(frozen=True)
class Picked:
    """The points that a figure shows, and in words which ones. left_out: what is not shown, and why.

    is_overview: of several engines, only the best is shown.
    """

    points: Sequence[Point]
    what: str
    left_out: str = ""
    is_overview: bool = False


@dataclass(frozen=True)
class Bar:
    point: Point
    row: str
    text: str


@dataclass(frozen=True)
class Panel:
    title: str
    bars: Sequence[Bar]


def latency(comparison: Comparison) -> Figure:
    found = at_one_batch(points(comparison))
    picked = _without_cpus(found, "CPUs are in the figure of GPUs and CPUs")
    return _bars("latency", comparison, LATENCY, "seconds per call", picked)


def memory(comparison: Comparison) -> Figure:
    picked = _without_cpus(at_one_batch(points(comparison)), "CPUs are left out: theirs is the process's memory")
    is_cpu = all(point.is_cpu for point in picked.points)
    axis = "GB, peak resident set of the process" if is_cpu else "GB reserved on the GPU"
    return _bars("memory", comparison, MEMORY, axis, picked)


def energy(comparison: Comparison) -> Figure:
    return _bars("energy", comparison, ENERGY, "joules per image", at_one_batch(points(comparison)))


def largest_batch(comparison: Comparison) -> Figure:
    largest: dict[tuple[str, str], Point] = {}
    for point in measured(points(comparison)):
        place = (point.place, point.series)
        if place not in largest or (point.samples or 0) > (largest[place].samples or 0):
            largest[place] = point
    picked = Picked(list(largest.values()), "largest batch measured, in each label")
    return _bars(
        "throughput-largest-batch",
        comparison,
        LARGEST_BATCH,
        "images per minute",
        picked,
        lambda point: f"batch {point.samples}",
    )


def at_one_batch(found: Sequence[Point]) -> Picked:
    """Picks the smallest batch size that at least half of all places and series have."""
    groups = {(point.place, point.series) for point in found}
    of: dict[int, list[Point]] = {}
    for point in found:
        if point.samples is not None and not point.is_max:
            of.setdefault(point.samples, []).append(point)
    if not of:
        raise NothingToDraw("no row asks for a batch size")
    usual = (size for size in sorted(of) if len(of[size]) * 2 >= len(groups))
    size = next(usual, max(sorted(of), key=lambda size: len(of[size])))
    return Picked(of[size], f"batch {size}")


def _without_cpus(picked: Picked, why: str) -> Picked:
    gpus = [point for point in picked.points if not point.is_cpu]
    return replace(picked, points=gpus, left_out=why) if 0 < len(gpus) < len(picked.points) else picked


def _bars(
    name: str,
    comparison: Comparison,
    title: str,
    axis: str,
    picked: Picked,
    remark: Callable[[Point], str] = lambda point: "",
) -> Figure:
    if not measured(picked.points):
        raise NothingToDraw(f"no row has a value at {picked.what}")
    less = bool(comparison.metric.less_is_better)
    picked, remark = _overview(picked, remark, less)
    by_place = len(ordered(p.place for p in picked.points)) >= len(ordered(p.how for p in picked.points))
    panel_of, row_of = (_how, with_device) if by_place else (with_device, _how)
    if picked.is_overview:
        panel_of, row_of = (lambda point: ""), with_device
    shown, panels_out = busiest(picked.points, panel_of, MOST_PANELS)
    shown, rows_out = busiest(shown, row_of, MOST_ROWS)
    limits = [words.limited(panels_out, "panel"), words.limited(rows_out, "host" if by_place else "engine")]
    subtitle = words.lines(
        words.scope(comparison, picked.what), "; ".join(words.states(shown)), picked.left_out, *limits
    )
    panels = [
        Panel(title, _bars_of([point for point in shown if panel_of(point) == title], row_of, remark, less))
        for title in ordered(panel_of(point) for point in sorted(shown, key=lambda point: point.order))
    ]
    return Figure(
        name,
        title,
        words.alt(f"{title}, {picked.what}", shown, axis, less_is_better=less, extra=[picked.left_out, *limits]),
        _chart(panels, f"{axis} · {words.LEFT if less else words.RIGHT}", title, subtitle),
    )


def _overview(picked: Picked, remark: Callable[[Point], str], less: bool) -> tuple[Picked, Callable[[Point], str]]:
    """Of many bars, keeps the best engine of each place and precision, and names it in the label."""
    hows = ordered(point.how for point in picked.points)
    if len(picked.points) <= MOST_BARS or len(hows) < 2:
        return picked, remark
    best: dict[tuple[str, str], Point] = {}
    for point in sorted(picked.points, key=lambda point: (not point.state.is_joined, _rank(point, less))):
        best.setdefault((point.place, point.precision), point)
    what = f"{picked.what}, the best of {len(hows)} engines"
    return replace(
        picked, points=list(best.values()), what=what, is_overview=True
    ), lambda point: f"{point.how} {remark(point)}".strip()


def _how(point: Point) -> str:
    return point.how


def _bars_of(
    its: Sequence[Point], row_of: Callable[[Point], str], remark: Callable[[Point], str], less: bool
) -> list[Bar]:
    """Sorts rows by their best value, and in each row by value; what has no value comes last."""

    def place(point: Point) -> tuple[float, ...]:
        values = [_rank(other, less) for other in its if row_of(other) == row_of(point)]
        return (min(values), _rank(point, less))

    return [
        Bar(point, f"{row_of(point)} {point.precision}".strip(), _text(point, remark))
        for point in sorted(its, key=place)
    ]


def _rank(point: Point, less: bool) -> float:
    if point.value is None:
        return math.inf
    return point.value if less else -point.value


def _text(point: Point, remark: Callable[[Point], str]) -> str:
    value = ""
    if point.value is not None:
        value, decimals = significant(point.value)
        value += f" {spread(point.value, point.interval, decimals)}" if point.interval else ""
    return " · ".join(filter(None, (value, remark(point), point.why)))


def _chart(panels: Sequence[Panel], axis: str, title: str, subtitle: Sequence[str]) -> Any:
    from orchestrator.report.figures import charts

    end = max(charts.room(bar.point.high, bar.text, charts.WIDTH) for panel in panels for bar in panel.bars) or 1.0
    precisions = ordered(bar.point.precision for panel in panels for bar in panel.bars)
    last = panels[-1]
    drawn = [
        _panel(panel, end, sorted(precisions), axis if panel is last else None, panel.title if len(panels) > 1 else "")
        for panel in panels
    ]
    return charts.specification(drawn, title, subtitle)


def _panel(panel: Panel, end: float, precisions: Sequence[str], axis: str | None, title: str) -> Any:
    import altair as alt

    from orchestrator.report.figures import charts

    rows = [bar.row for bar in panel.bars]
    x = alt.X(
        "value:Q",
        scale=alt.Scale(domain=[0, end]),
        title=axis,
        axis=alt.Axis(labels=axis is not None, ticks=axis is not None, tickCount=6),
    )
    base = alt.Chart().encode(
        y=alt.Y("row:N", scale=alt.Scale(domain=rows, paddingInner=0.22), title=None),
        tooltip=[alt.Tooltip("case:N"), alt.Tooltip("value:Q", format=charts.NUMBER), alt.Tooltip("text:N")],
    )
    bars = base.encode(x=x)
    fill = charts.colour("precision", precisions, legend=False)
    outline = charts.colour("precision", precisions, legend=False, channel=alt.Stroke)
    return charts.panel(
        [_value(bar) for bar in panel.bars],
        charts.of_state(bars, State.VALID).mark_bar().encode(fill),
        charts.of_state(bars, State.UNCHECKED).mark_bar(style="published").encode(fill, outline),
        charts.of_state(bars, State.DOUBTFUL).mark_bar(style="hollow", filled=False, strokeDash=[5, 3]).encode(fill),
        *charts.whiskers(base, across=True),
        base.mark_text(style="value").encode(x=alt.X("end:Q"), text=alt.Text("text:N")),
        title=title,
        height=len(rows) * BAR,
    )


def _value(bar: Bar) -> dict[str, Any]:
    point, interval = bar.point, bar.point.interval
    return {
        "row": bar.row,
        "precision": point.precision,
        "state": point.state.value,
        "value": point.value,
        "end": point.high,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "text": bar.text,
        "case": point.name,
    }
