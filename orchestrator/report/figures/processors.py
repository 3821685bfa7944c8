"""The latency of GPUs against CPUs, on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.report.figures import words
from orchestrator.report.figures.devices import at_one_batch
from orchestrator.report.figures.figure import Figure, NothingToDraw
from orchestrator.report.figures.points import Point, measured, points, with_device
from orchestrator.table.comparison import Comparison

ROW = 28
MOST_ROWS = 32
GPU, CPU = "GPU", "CPU"
TITLE, UNIT = "Latency of GPUs and CPUs", "seconds per call"


def gpu_against_cpu(comparison: Comparison) -> Figure:
    picked = at_one_batch(points(comparison))
    found = sorted(measured(picked.points), key=lambda point: point.value or 0.0)
    if len({point.is_cpu for point in found}) < 2:
        raise NothingToDraw(f"no row of a {'GPU' if all(p.is_cpu for p in found) else 'CPU'} at {picked.what}")
    shown = _spread_over(found, MOST_ROWS)
    limit = words.limited(len(found) - len(shown), "value")
    subtitle = words.lines(
        words.scope(comparison, picked.what, "logarithmic axis"), "; ".join(words.states(shown)), limit
    )
    alt = words.alt(
        f"{TITLE}, {picked.what}, on a logarithmic axis", shown, UNIT, less_is_better=True, extra=[_gap(shown), limit]
    )
    return Figure("latency-gpu-cpu", TITLE, alt, _chart(shown, subtitle))


def _spread_over(found: Sequence[Point], most: int) -> list[Point]:
    """Keeps the fastest values of each host in turn, so that no host is left out before another has two."""
    seen: dict[str, int] = {}
    turns = []
    for point in found:
        turns.append((seen.setdefault(point.place, 0), point.value or 0.0))
        seen[point.place] += 1
    kept = sorted(range(len(found)), key=turns.__getitem__)[:most]
    return [found[place] for place in sorted(kept)]


def _gap(shown: Sequence[Point]) -> str:
    """Says how many times slower the fastest CPU is than the fastest GPU."""
    fastest = {is_cpu: min(p.value or 0.0 for p in shown if p.is_cpu is is_cpu) for is_cpu in (True, False)}
    return f"The fastest CPU takes {fastest[True] / fastest[False]:.3g} times as long as the fastest GPU"


def _chart(shown: Sequence[Point], subtitle: Sequence[str]) -> Any:
    import altair as alt

    from orchestrator.report.figures import charts

    rows = [f"{with_device(point)} {point.series}" for point in shown]
    values = [
        {
            "row": row,
            "kind": CPU if point.is_cpu else GPU,
            "state": point.state.value,
            "value": point.value,
            "low": point.interval.low if point.interval else None,
            "high": point.interval.high if point.interval else None,
            "end": point.high,
            "text": point.text,
        }
        for row, point in zip(rows, shown)
    ]
    longest = max(len(point.text) for point in shown)
    low, high = charts.log_domain([point.value or 0.0 for point in shown] + [point.high for point in shown])
    high *= (high / low) ** (charts.CHARACTER * longest / charts.WIDTH)
    base = alt.Chart().encode(
        x=alt.X("value:Q")
        .scale(type="log", domain=[low, high], nice=False)
        .axis(values=charts.log_ticks(low, high), format="~g")
        .title(f"{UNIT} · {words.LEFT}"),
        y=alt.Y("row:N").scale(domain=list(dict.fromkeys(rows))).axis(grid=True).title(None),
        tooltip=[alt.Tooltip("row:N", title="case"), alt.Tooltip("value:Q", title=UNIT, format=charts.NUMBER)],
    )
    colour, shape = (charts.colour("kind", [GPU, CPU], channel=channel) for channel in (alt.Color, alt.Shape))
    stroke = charts.colour("kind", [GPU, CPU], legend=False, channel=alt.Stroke)
    drawn = charts.panel(
        values,
        *charts.whiskers(base, across=True),
        *charts.marks(base, [point.state for point in shown], (colour, shape), stroke, size=130),
        base.mark_text(style="value").encode(x=alt.X("end:Q"), text=alt.Text("text:N")),
        height=ROW * len(rows),
    )
    return charts.specification([drawn], TITLE, subtitle)
