"""The ratios to the baseline, as dots with whiskers: filled where a difference is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.report.figures import words
from orchestrator.report.figures.figure import Figure, NothingToDraw
from orchestrator.report.figures.points import Point, busiest, device_beside, number, ordered, points
from orchestrator.sanitize import clean
from orchestrator.table.comparison import Comparison
from orchestrator.table.statistics import Ratio

ROW = 25
MOST_PANELS, MOST_CASES = 8, 30
BETTER, WORSE, SAME = "better", "worse", "no difference shown"
UNKNOWN = "one process: no difference is claimed"
# Each verdict's shape; in the order of their colours in the theme, where the last two are hollow.
VERDICTS = {BETTER: "circle", WORSE: "square", SAME: "diamond", UNKNOWN: "triangle-up"}


@dataclass(frozen=True)
class Dot:
    point: Point
    ratio: Ratio
    verdict: str
    case: str

    @property
    def high(self) -> float:
        return max(self.ratio.value, self.ratio.interval.high if self.ratio.interval else 0.0)

    @property
    def low(self) -> float:
        return min(self.ratio.value, self.ratio.interval.low if self.ratio.interval else self.ratio.value)


def ratio_to_baseline(comparison: Comparison) -> Figure:
    metric, base = comparison.metric, comparison.baseline
    less = bool(metric.less_is_better)
    with_ratio = [point for point in points(comparison) if point.cell.ratio]
    has_works = len({point.work for point in with_ratio}) > 1
    found = [_dot(point, less, point.work if has_works else "") for point in with_ratio]
    if base is None or not found:
        raise NothingToDraw(_why_none(comparison))
    shown, panels_out = _limited(found)
    cases_out = len({dot.case for dot in found}) - len({dot.case for dot in shown})
    limits = [words.limited(panels_out, "host"), words.limited(cases_out, "case")]
    name = clean(base.name, 40)
    title = f"{metric.value.capitalize()}: ratio to {name}"
    axis = f"× {metric.value} of {name if len(name) < 12 else 'the baseline'}"
    marks = ["whiskers: 95% interval of each ratio alone"] if any(dot.ratio.interval for dot in shown) else []
    subtitle = words.lines(words.scope(comparison, "logarithmic axis"), *marks, *limits)
    return Figure(
        "ratio-to-baseline",
        title,
        _alt(title, shown, limits, less),
        _chart(shown, axis, less, title, subtitle),
    )


def _dot(point: Point, less: bool, work: str) -> Dot:
    ratio = point.cell.ratio
    assert ratio is not None  # noqa: S101  # the caller checked it
    shows = ratio.shows_difference
    verdict = UNKNOWN if shows is None else SAME if not shows else BETTER if (ratio.value < 1) is less else WORSE
    batch = "largest batch" if point.is_max else point.batch
    return Dot(point, ratio, verdict, ", ".join(filter(None, (point.series, batch, work))))


def _why_none(comparison: Comparison) -> str:
    if comparison.baseline is None:
        return "there is no baseline"
    reasons = ordered(cell.no_ratio for cell in comparison.cells() if cell.no_ratio and not cell.is_baseline)
    return words.listing(reasons[:1]) or "no case has a baseline to compare with"


def _limited(found: Sequence[Dot]) -> tuple[list[Dot], int]:
    kept, out = busiest([dot.point for dot in found], lambda point: point.host, MOST_PANELS)
    hosts = {point.host for point in kept}
    on_hosts = [dot for dot in found if dot.point.host in hosts]
    cases = ordered(dot.case for dot in sorted(on_hosts, key=lambda dot: (dot.point.order, dot.point.samples or 0)))
    return [dot for dot in on_hosts if dot.case in cases[:MOST_CASES]], out


def _alt(title: str, shown: Sequence[Dot], limits: Sequence[str], less: bool) -> str:
    by_value = sorted(shown, key=lambda dot: dot.ratio.value)
    hosts = ordered(dot.point.host for dot in shown)
    said = [
        f"{title}, as a factor; {'less' if less else 'more'} is better and 1 is equal.",
        f"{words.count(len(shown), 'ratio')} of {words.count(len(hosts), 'host')} ({words.listing(hosts)}).",
        *(
            f"{word}: {number(dot.ratio.value)} ({dot.point.host}, {dot.case})."
            for word, dot in (("Lowest", by_value[0]), ("Highest", by_value[-1]))
        ),
        *(
            f"{words.count(many, 'ratio')}: {verdict}."
            for verdict in VERDICTS
            if (many := sum(dot.verdict == verdict for dot in shown))
        ),
    ]
    return " ".join([*said, *(f"{limit}." for limit in limits if limit)])


def _chart(shown: Sequence[Dot], axis: str, less: bool, title: str, subtitle: Sequence[str]) -> Any:
    from orchestrator.report.figures import charts

    hosts = ordered(dot.point.host for dot in shown)
    cases = ordered(dot.case for dot in sorted(shown, key=lambda dot: (dot.point.order, dot.point.samples or 0)))
    columns = min(len(hosts), 2 if len(hosts) <= 4 else 4)
    width = (charts.WIDTH, 290.0, 200.0, 165.0)[columns - 1]
    low, high = charts.log_domain([1.0, *(dot.low for dot in shown), *(dot.high for dot in shown)])
    with_text = columns <= 2
    verdicts = [verdict for verdict in VERDICTS if any(dot.verdict == verdict for dot in shown)]
    panels = [
        _panel(
            [dot for dot in shown if dot.point.host == host],
            cases,
            (low, high),
            width,
            verdicts,
            title=host if len(hosts) > 1 else "",
            subtitle=[*filter(None, [device_beside(next(dot.point for dot in shown if dot.point.host == host))])],
            axis=[axis, words.LEFT if less else words.RIGHT] if place + columns >= len(hosts) else None,
            has_labels=place % columns == 0,
            with_text=with_text,
        )
        for place, host in enumerate(hosts)
    ]
    return charts.specification(panels, title, subtitle, columns, gap=80 if with_text else 26)


def _panel(
    dots: Sequence[Dot],
    cases: Sequence[str],
    ends: tuple[float, float],
    width: float,
    verdicts: Sequence[str],
    *,
    title: str,
    subtitle: Sequence[str],
    axis: Sequence[str] | None,
    has_labels: bool,
    with_text: bool,
) -> Any:
    import altair as alt

    from orchestrator.report.figures import charts

    values = [
        {
            "case": dot.case,
            "verdict": dot.verdict,
            "ratio": dot.ratio.value,
            "low": dot.ratio.interval.low if dot.ratio.interval else None,
            "high": dot.ratio.interval.high if dot.ratio.interval else None,
            "end": dot.high,
            "text": f"{number(dot.ratio.value)}×",
            "one": 1,
        }
        for dot in dots
    ]
    x = alt.X("ratio:Q").scale(type="log", domain=list(ends), nice=False)
    base = alt.Chart().encode(
        x=x.axis(values=charts.log_ticks(*ends, width), format="~g").title(axis),
        y=alt.Y("case:N").scale(domain=list(cases)).axis(labels=has_labels, ticks=has_labels, grid=True).title(None),
        tooltip=[alt.Tooltip("case:N"), alt.Tooltip("text:N", title="ratio"), alt.Tooltip("verdict:N")],
    )
    channels = [
        channel("verdict:N")
        .scale(domain=list(VERDICTS), range=range_)
        .legend(alt.Legend(title=None, values=list(verdicts)))
        for channel, range_ in ((alt.Fill, "diverging"), (alt.Stroke, "ordinal"), (alt.Shape, list(VERDICTS.values())))
    ]
    layers = [
        charts.own([{"one": 1}]).mark_rule(style="one").encode(x=alt.X("one:Q")),
        *charts.whiskers(base, across=True),
        base.mark_point(size=110, strokeWidth=2).encode(*channels),
    ]
    if with_text:
        layers.append(base.mark_text(style="value").encode(x=alt.value(width), text=alt.Text("text:N")))
    return charts.panel(values, *layers, title=title, subtitle=subtitle, width=width, height=ROW * len(cases))
