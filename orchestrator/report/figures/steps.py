"""The difference of two precisions' images over the denoising steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.report.figures import words
from orchestrator.report.figures.figure import Figure, NothingToDraw, StepQuality
from orchestrator.report.figures.points import number, ordered
from orchestrator.report.figures.theme import MOST_SERIES
from orchestrator.report.labels import label, told_apart
from orchestrator.table.cases import ENGINE, HOST, PRECISION
from orchestrator.table.comparison import Comparison
from runner.schema import GATE_DB

HEIGHT = 300
IDENTICAL = 149.0  # dB; identical images have 150, which no other two images reach
TITLE = "Difference to single precision over the steps"
UNIT = "PSNR in dB"


@dataclass(frozen=True)
class Dot:
    series: str
    steps: int
    psnr: float
    remark: str = ""


def quality_over_steps(comparison: Comparison, measured: Sequence[StepQuality] = ()) -> Figure:
    """measured: what `python -m runner quality` wrote; without it, the rows' own PSNR, of runs with several steps."""
    dots = [Dot(label(one.source, 40), one.steps, one.psnr, one.remark) for one in measured] or _of_rows(comparison)
    series = ordered(dot.series for dot in dots)
    shown = [dot for dot in dots if dot.series in series[:MOST_SERIES]]
    if not shown:
        raise NothingToDraw(
            "no host has PSNR at several numbers of steps; fix: quality: true and several steps, or --quality DIR"
        )
    limit = words.limited(max(0, len(series) - MOST_SERIES), "series", "series")
    identical = [dot for dot in shown if dot.psnr >= IDENTICAL]
    notes = [f"below {GATE_DB:g} dB: visibly another image"]
    notes += ["at the upper edge: identical images"] if identical else []
    subtitle = words.lines("" if measured else words.scope(comparison), "; ".join(notes), limit)
    return Figure("quality-by-steps", TITLE, _alt(shown, limit), _chart(shown, series[:MOST_SERIES], subtitle))


def _of_rows(comparison: Comparison) -> list[Dot]:
    """Returns the lowest PSNR of each series and number of steps, for series with several numbers of steps."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for cell in comparison.cells():
        key = cell.key
        for row in cell.used:
            if row.psnr is not None and row.steps is not None:
                what = " ".join(label(key.get(name), 30) for name in (ENGINE, PRECISION) if key.get(name) is not None)
                of_series = found.setdefault((label(key.get(HOST), 30), what), {})
                of_series[row.steps] = min(row.psnr, of_series.get(row.steps, row.psnr))
    kept = {name: its for name, its in found.items() if len(its) > 1 and min(its.values()) < IDENTICAL}
    hosts = {host for host, _ in kept}
    named = told_apart([what if len(hosts) == 1 else f"{host} {what}" for host, what in kept], 44)
    return [
        Dot(named[what if len(hosts) == 1 else f"{host} {what}"], steps, psnr)
        for (host, what), its in kept.items()
        for steps, psnr in sorted(its.items())
    ]


def _alt(shown: Sequence[Dot], limit: str) -> str:
    low = sum(dot.psnr < GATE_DB for dot in shown)
    by_value = sorted(shown, key=lambda dot: dot.psnr)
    said = [
        f"{TITLE}: {UNIT}; more is closer.",
        f"{words.count(len(shown), 'value')} of {words.listing(ordered(dot.series for dot in shown))},",
        f"from {min(dot.steps for dot in shown)} to {max(dot.steps for dot in shown)} steps.",
        *(
            f"{word}: {number(dot.psnr)} dB at {dot.steps} steps ({dot.series})."
            for word, dot in (("Lowest", by_value[0]), ("Highest", by_value[-1]))
        ),
        f"{words.count(low, 'value')} below {GATE_DB:g} dB, visibly another image.",
        *(f"At {dot.steps} steps: {dot.remark}." for dot in shown if dot.remark),
    ]
    return " ".join([*said, f"{limit}." if limit else ""]).strip()


def _chart(shown: Sequence[Dot], series: Sequence[str], subtitle: Sequence[str]) -> Any:
    import altair as alt

    from orchestrator.report.figures import charts

    finite = [dot.psnr for dot in shown if dot.psnr < IDENTICAL] or [GATE_DB]
    low, high = min(*finite, GATE_DB) - 3, max(*finite, GATE_DB) + 5
    y = alt.Y("psnr:Q").scale(domain=[low, high], nice=False, zero=False).title([UNIT, "more is closer ↑"])
    values = [
        {"series": dot.series, "steps": dot.steps, "psnr": min(dot.psnr, high), "remark": dot.remark} for dot in shown
    ]
    base = alt.Chart().encode(
        x=alt.X("steps:Q")
        .scale(nice=False, zero=False, padding=14)
        .axis(tickMinStep=1, tickCount=8, grid=False)
        .title("denoising steps"),
        y=y,
        tooltip=[alt.Tooltip(f"{name}:N") for name in ("series", "steps", "psnr", "remark")],
    )
    colour, shape = (charts.colour("series", series, channel=channel) for channel in (alt.Color, alt.Shape))
    gate = charts.own([{"psnr": GATE_DB}]).encode(y=y)
    drawn = charts.panel(
        values,
        gate.mark_rule(style="gate"),
        base.mark_line().encode(colour),
        base.mark_point().encode(colour, shape),
        height=HEIGHT,
    )
    return charts.specification([drawn], TITLE, subtitle)


def read_quality(text: str, source: str) -> Iterable[StepQuality]:
    """Parses the `quality.csv` of `python -m runner quality`. Raises ValueError for any other file."""
    import csv
    import io
    import math

    reader = csv.DictReader(io.StringIO(text))
    if not {"steps", "psnr"} <= set(reader.fieldnames or ()):
        raise ValueError("expected the columns steps and psnr of `python -m runner quality`")
    for row in reader:
        steps, psnr = int(row["steps"]), float(row["psnr"])
        if steps < 1 or not math.isfinite(psnr):
            raise ValueError(f"line {reader.line_num}: {row['steps']} steps with {row['psnr']} dB are no measurement")
        yield StepQuality(source, steps, psnr, row.get("remark") or "")
