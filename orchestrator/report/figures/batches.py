"""Figures over the batch size, with a panel for each host: throughput, memory with `oom` marks, energy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.report.figures import devices, words
from orchestrator.report.figures.figure import Figure, NothingToDraw
from orchestrator.report.figures.points import Point, State, busiest, device_beside, measured, ordered, points, segments
from orchestrator.report.figures.theme import MOST_SERIES
from orchestrator.table.comparison import Comparison
from orchestrator.table.frontier import known_not_to_fit
from runner.schema import Status

THROUGHPUT, MEMORY, ENERGY = "Throughput by batch size", "Memory by batch size", "Energy by batch size"
MOST_PANELS = 12
CROSS = "M-0.7,-0.7L0.7,0.7M0.7,-0.7L-0.7,0.7"
WIDER = ", where it is wider than the mark"
MARK = 9.0  # pixels that an interval must be high to be seen
CROSS_ROW = 17  # pixels between the `oom` marks of two series


def throughput(comparison: Comparison) -> Figure:
    return _lines("throughput-by-batch", comparison, THROUGHPUT, "images per minute")


def memory(comparison: Comparison) -> Figure:
    found = points(comparison)
    is_cpu = all(point.is_cpu for point in found)
    unit = "GB resident" if is_cpu else "GB resident or reserved" if any(p.is_cpu for p in found) else "GB reserved"
    return _lines("memory-by-batch", comparison, MEMORY, unit, with_oom=True)


def _beyond(found: Sequence[Point]) -> Iterator[Point]:
    """Yields, for each search for the largest batch, the smallest batch that it found out of memory, unless a case of
    that size says so itself."""
    known = {(point.place, point.series, point.samples) for point in found if point.state is State.OOM}
    for point in found:
        size = min(known_not_to_fit(point.cell.sources), default=None) if point.is_max else None
        if size and (point.place, point.series, size) not in known:
            yield replace(point, samples=size, state=State.OOM, value=None, interval=None, why="")


def energy(comparison: Comparison) -> Figure:
    """Draws bars where no case has several batch sizes."""
    if has_batches(measured(points(comparison))):
        return _lines("energy-by-batch", comparison, ENERGY, "joules per image")
    if not measured(points(comparison)):
        raise NothingToDraw(why_nothing(comparison))
    return devices.energy(comparison)


def has_batches(found: Sequence[Point]) -> bool:
    """Whether any place and series has points at several batch sizes."""
    sizes: dict[tuple[str, str], set[int | None]] = {}
    for point in found:
        sizes.setdefault((point.place, point.series), set()).add(point.samples)
    return any(len(its) > 1 for its in sizes.values())


@dataclass(frozen=True)
class Series:
    """names: in the order of colours and shapes. of: the series of a point. out: those that have an `oom`."""

    names: Sequence[str]
    of: Callable[[Point], str]
    out: Sequence[str]


@dataclass(frozen=True)
class Panel:
    """The points of one host and work. rivals: of all hosts with equal work, whose panels have the same axes."""

    title: str
    subtitle: Sequence[str]
    points: Sequence[Point]
    rivals: Sequence[Point]


@dataclass(frozen=True)
class Size:
    columns: int
    width: float
    height: float


def _lines(name: str, comparison: Comparison, title: str, unit: str, *, with_oom: bool = False) -> Figure:
    found = points(comparison)
    found = [
        point
        for point in [*found, *(_beyond(found) if with_oom else ())]
        if point.samples and (with_oom or point.value is not None)
    ]
    if not measured(found):
        raise NothingToDraw(why_nothing(comparison))
    if not has_batches(found):
        raise NothingToDraw("no case has several batch sizes")
    is_split = len(ordered(point.series for point in found)) > MOST_SERIES
    series_of: Callable[[Point], str] = (lambda point: point.how) if is_split else (lambda point: point.series)
    title_of: Callable[[Point], str] = (
        (lambda point: f"{point.precision} · {point.host}") if is_split else (lambda point: point.host)
    )
    shown, panels_out = busiest(found, lambda point: f"{title_of(point)} · {point.work}", MOST_PANELS)
    shown, series_out = busiest(shown, series_of, MOST_SERIES)
    limits = [words.limited(panels_out, "panel"), words.limited(series_out, "series", "series")]
    series = _series(shown, series_of)
    less = bool(comparison.metric.less_is_better)
    marks = [*words.states(shown, WIDER), *(["×: out of memory"] if series.out else [])]
    subtitle = words.lines(words.scope(comparison), "; ".join(marks), *limits)
    axis = [unit, words.LESS if less else words.MORE]
    return Figure(
        name,
        title,
        words.alt(title, shown, unit, less_is_better=less, extra=limits),
        _chart(_panels(shown, title_of), series, axis, title, subtitle),
    )


def why_nothing(comparison: Comparison) -> str:
    """Returns why a comparison has no value at all, in the words of its first cell that gives a reason."""
    measured_cells = (cell for cell in comparison.cells() if cell.status is Status.OK)
    return next((cell.reason for cell in measured_cells if cell.reason), "no row has a value")


def _series(shown: Sequence[Point], of: Callable[[Point], str]) -> Series:
    names = ordered(of(point) for point in sorted(shown, key=lambda point: point.order))
    return Series(names, of, [name for name in names if any(p.state is State.OOM and of(p) == name for p in shown)])


def _panels(shown: Sequence[Point], title_of: Callable[[Point], str]) -> list[Panel]:
    """Returns a panel for each place. The work with most points comes first."""
    by_work = {work: [point for point in shown if point.work == work] for work in ordered(p.work for p in shown)}
    panels = []
    for rivals in sorted(by_work.values(), key=lambda its: -len(its)):
        for title in ordered(map(title_of, rivals)):
            its = [point for point in rivals if title_of(point) == title]
            subtitle = [*filter(None, (its[0].work, device_beside(its[0])))]
            panels.append(Panel(title, subtitle, its, rivals))
    return panels


def _ticks(sizes: Sequence[int], pixels: float) -> list[int]:
    """Returns the batch sizes that find room on the axis. pixels: of a factor of 2."""
    kept: list[int] = []
    for size in sizes:
        if not kept or math.log2(size / kept[-1]) * pixels > 10 * len(str(size)) + 8:
            kept.append(size)
    return kept


def _chart(panels: Sequence[Panel], series: Series, axis: Sequence[str], title: str, subtitle: Sequence[str]) -> Any:
    from orchestrator.report.figures import charts

    many = len(panels)
    size = Size(1, 540, 300) if many == 1 else Size(2, 300, 220) if many <= 4 else Size(3, 214, 170)
    drawn = [
        _panel(
            panel,
            series,
            size,
            title=panel.title if many > 1 else "",
            axis=axis if place % size.columns == 0 else None,
            has_x_title=place + size.columns >= many,
        )
        for place, panel in enumerate(panels)
    ]
    return charts.specification(drawn, title, subtitle, size.columns)


def _panel(
    panel: Panel, series: Series, size: Size, *, title: str, axis: Sequence[str] | None, has_x_title: bool
) -> Any:
    import altair as alt

    from orchestrator.report.figures import charts

    x, y, end = _scales(panel.rivals, series, size)
    base = alt.Chart().encode(x=x.title("images per call (batch size)" if has_x_title else None))
    of_value = base.encode(
        y=y.title(axis), tooltip=[alt.Tooltip("case:N"), alt.Tooltip("value:Q", format=charts.NUMBER)]
    )
    colour, shape = (charts.colour("series", series.names, channel=channel) for channel in (alt.Color, alt.Shape))
    stroke = charts.colour("series", series.names, legend=False, channel=alt.Stroke)
    states = [point.state for point in panel.points]
    joined = charts.of_state(of_value, State.VALID, State.UNCHECKED)
    layers = [
        joined.mark_line().encode(colour, alt.Detail("part:O")),
        *charts.whiskers(of_value),
        *charts.marks(of_value, states, (colour, shape), stroke),
    ]
    if series.out:
        out = charts.of_state(base, State.OOM).encode(y=alt.Y("place:Q", scale=None), tooltip=[alt.Tooltip("case:N")])
        layers.append(out.mark_point(style="oom", filled=False).encode(colour, shape))
        layers.append(out.mark_point(shape=CROSS, style="oom-cross", filled=False).encode(colour))
    return charts.panel(
        _values(panel.points, series, end / size.height * MARK),
        *layers,
        title=title,
        subtitle=panel.subtitle if title else (),
        width=size.width,
        height=size.height,
    )


def _scales(rivals: Sequence[Point], series: Series, size: Size) -> tuple[Any, Any, float]:
    """Returns the axes that all panels of equal work share, and their largest value.

    Above the values there is room for rows of `oom` marks.
    """
    import altair as alt

    sizes = sorted({point.samples for point in rivals if point.samples})
    low, high = sizes[0] / 1.35, sizes[-1] * 1.35
    ticks = _ticks(sizes, size.width / math.log2(high / low))
    room = size.height - CROSS_ROW * (len(series.out) + 0.7 if series.out else 0)
    top = max((point.high for point in rivals), default=1.0) * 1.06 or 1.0
    x = alt.X("batch:Q").scale(type="log", base=2, domain=[low, high], nice=False)
    end = top * size.height / max(room, size.height * 0.3)
    y = alt.Y("value:Q").scale(domain=[0, end], nice=False)
    return x.axis(values=ticks, grid=False, format="d"), y.axis(tickCount=5), end


def _values(its: Sequence[Point], series: Series, least: float) -> list[dict[str, Any]]:
    """least: how wide an interval must be to be drawn."""
    values = []
    for name in series.names:
        for point, part in segments([point for point in its if series.of(point) == name]):
            interval = point.interval if point.interval and point.interval.high - point.interval.low > least else None
            values.append(
                {
                    "series": name,
                    "part": part,
                    "batch": point.samples,
                    "state": point.state.value,
                    "value": point.value,
                    "low": interval.low if interval else None,
                    "high": interval.high if interval else None,
                    "place": CROSS_ROW * (series.out.index(name) + 0.6) if name in series.out else None,
                    "case": point.name,
                }
            )
    return values
