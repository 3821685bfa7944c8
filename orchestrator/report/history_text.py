"""Builds every string of a history that a reader sees, and writes it as text for a terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.report.changes_text import TONES, difference_words, interval_words, percent, verdict_words
from orchestrator.report.labels import in_use, label
from orchestrator.report.numbers import Widths, significant
from orchestrator.report.table_text import Tone, stated_by_some
from orchestrator.report.text import inert, markdown
from orchestrator.sanitize import clean
from orchestrator.table.cases import AxisValue
from orchestrator.table.change import Verdict
from orchestrator.table.history import History, Point, Series
from orchestrator.table.pairing import BASE, NEW
from runner.schema import Validity

if TYPE_CHECKING:
    from rich.console import Console

LONGEST_REASON = 150
LEAST_ROOM = 20  # characters for a verdict
_BEGINNING = re.compile(r"\d{8}-\d{6}-")  # of a run's name: its time, which stands beside it


@dataclass(frozen=True)
class PointText:
    """changed: what changed since the previous run; empty if nothing did."""

    when: str
    run: str
    value: str
    number: str
    ratio: str
    verdict: str
    changed: str
    tone: Tone


@dataclass(frozen=True)
class SeriesText:
    title: str
    points: tuple[PointText, ...]


@dataclass(frozen=True)
class HistoryText:
    head: tuple[str, ...]
    series: tuple[SeriesText, ...]
    legend: tuple[str, ...]


def history_text(history: History) -> HistoryText:
    metric = history.metric
    better = {True: " (less is better)", False: " (more is better)", None: ""}[metric.less_is_better]
    constant = in_use({**history.caption, **_shared(history)})
    shared = ", ".join(f"{label(name)} {label(value)}" for name, value in constant.items() if value is not None)
    if shared and stated_by_some(point.cell for series in history.series for point in series.points):
        shared = f"where the source states it: {shared}"
    return HistoryText(
        head=(f"{metric.heading}, {metric.unit}{better}, by run", shared),
        series=tuple(_series(history, each) for each in history.series),
        legend=tuple(_legend(history)),
    )


def _legend(history: History) -> list[str]:
    """Explains the verdicts that occur."""
    seen = {point.change.verdict for series in history.series for point in series.points if point.change}
    declared, limit = history.metric.declared, percent(history.threshold)
    together = f" for all {history.tests} tests together" if history.tests > 1 else ""
    lines = {
        "×: the value divided by that of the previous run that has one": bool(seen),
        "[low–high]: 95% interval of this ratio alone": history.tests > 0,
        f"{declared.worse}, {declared.improved}: by more than {limit}, shown at 5%{together}": history.tests > 0,
        f"within {limit}: the 95% interval excludes a change of more than {limit}": Verdict.WITHIN in seen,
        "not tested: no difference can be shown with one process (round) on a side": Verdict.UNTESTED in seen,
        "a shift between sessions is part of a difference": history.tests > 0,
    }
    return [text for text, used in lines.items() if used]


def _shared(history: History) -> dict[str, AxisValue]:
    if not history.series:
        return {}
    return {name: value for name, value in history.series[0].key.items() if name not in history.axes}


def _series(history: History, series: Series) -> SeriesText:
    title = [_axis(axis, series.key[axis]) for axis in history.axes]
    widths = Widths.of(point.cell for point in series.points)
    return SeriesText(
        ", ".join([*title, f"host {label(series.host)}"]),
        tuple(_point(history, point, widths) for point in series.points),
    )


def _axis(axis: str, value: AxisValue) -> str:
    return label(value) if axis in ("engine", "precision") else f"{label(axis)} {label(value)}"


def _point(history: History, point: Point, widths: Widths) -> PointText:
    change, cell = point.change, point.cell
    ratio = ""
    if change and change.ratio:
        ratio = f"{significant(change.ratio.value)[0]}× {interval_words(change.ratio)}".rstrip()
    return PointText(
        when=f"{point.started:%Y-%m-%d %H:%M}" if point.started else "",
        run=label(_BEGINNING.sub("", point.run, count=1) if point.started else point.run),
        value=widths.figure(cell) if cell.figure else _status(point),
        number=significant(cell.value)[0] if cell.value is not None else _status(point),
        ratio=ratio,
        verdict=_verdict(history, point),
        changed=", ".join(map(difference_words, point.differences)),
        tone=TONES[change.verdict] if change else Tone.NO_VALUE,
    )


def _status(point: Point) -> str:
    status = point.cell.status
    return status.value if status and status.value != "ok" else "no value"


def _verdict(history: History, point: Point) -> str:
    change = point.change
    if change is None:
        validity = point.cell.validity
        invalid = validity.value if validity not in (Validity.VALID, None) else ""
        return clean(point.cell.reason, LONGEST_REASON) if point.cell.reason else invalid
    words = verdict_words(history.metric, change.verdict, change.ratio, history.threshold)
    why = "1 round" if change.ratio and change.p is None else change.why
    return clean(f"{words}: {_of_previous(why)}", LONGEST_REASON) if why else words


def _of_previous(why: str) -> str:
    """Words a reason that two runs' comparison gives: here NEW is the line itself."""
    return why.replace(f"{NEW}: ", "").replace(f"{BASE}: ", "the previous: ")


# From the widest form of a line to the narrowest: cells of a point.
FORMS: tuple[Callable[[PointText], tuple[str, ...]], ...] = (
    lambda point: (point.when, point.run, point.value, point.ratio),
    lambda point: (point.when[:10], point.run, point.number, point.ratio),
    lambda point: (point.when[:10], point.number, point.ratio),
)


def terminal(history: History, console: Console) -> None:
    """Prints a block for each case. What changed between two runs stands between their lines."""
    from orchestrator.report.terminal import STYLES, literal

    words = history_text(history)
    console.print(literal(console, words.head[0], "bold"))
    for text in words.head[1:]:
        console.print(literal(console, text, "dim"))
    if not words.series:
        console.print("No rows.")
    form = _form(words, console.width)
    for series in words.series:
        console.print()
        console.print(literal(console, series.title, "bold"))
        for point, cells in zip(series.points, _padded([form(point) for point in series.points])):
            if point.changed:
                console.print(literal(console, f"    {point.changed}", "cyan"))
            room = max(LEAST_ROOM, console.width - len(cells) - 4)
            line = literal(console, f"  {cells}  {clean(point.verdict, room)}".rstrip())
            line.stylize(STYLES[point.tone], len(cells) + 4)
            console.print(line)
    console.print()
    console.print(literal(console, " · ".join(words.legend), "dim"))


def _form(words: HistoryText, width: int) -> Callable[[PointText], tuple[str, ...]]:
    points = [point for series in words.series for point in series.points]
    longest = max((min(len(point.verdict), 24) for point in points), default=0)

    def fits(form: Callable[[PointText], tuple[str, ...]]) -> bool:
        return all(len(line) + longest + 4 <= width for line in _padded([form(point) for point in points]))

    return next((form for form in FORMS if fits(form)), FORMS[-1])


def _padded(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths)) for row in rows]


def to_markdown(history: History) -> str:
    words = history_text(history)
    parts = [f"**{markdown(words.head[0])}**", *map(markdown, words.head[1:])]
    for series in words.series:
        parts.append(f"**{markdown(series.title)}**")
        rows = [["date", "run", "value", "to the previous", "verdict", "changed since"], [":--"] * 6]
        rows += [
            [markdown(" ".join(text.split())) for text in (p.when, p.run, p.value, p.ratio, p.verdict, p.changed)]
            for p in series.points
        ]
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    return "\n\n".join([*(part for part in parts if part), markdown(" · ".join(words.legend))]) + "\n"


def to_csv(history: History) -> str:
    """One line per case and run, with every axis."""
    axes = list({**history.caption, **history.series[0].key}) if history.series else []
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    tested = ("ratio", "ratio_ci_low", "ratio_ci_high", "p", "verdict", "why", "changed")
    unit = f"{history.metric.value} [{history.metric.unit}]"
    writer.writerow(["host", *axes, "run", "started", "status", "validity", unit, "ci_low", "ci_high", *tested])
    for series in history.series:
        for point in series.points:
            writer.writerow(
                [inert(value) if isinstance(value, str) else value for value in _record(history, series, point)]
            )
    return out.getvalue()


def _record(history: History, series: Series, point: Point) -> Iterator[str | float | int | None]:
    cell, change = point.cell, point.change
    ratio = change.ratio if change else None
    yield from (series.host, *{**history.caption, **series.key}.values(), point.run)
    yield point.started.isoformat() if point.started else None
    yield cell.status.value if cell.status else None
    yield cell.validity.value if cell.validity else None
    yield from (cell.value, *(cell.interval or (None, None)))
    yield from (ratio.value if ratio else None, *((ratio and ratio.interval) or (None, None)))
    yield change.p if change else None
    yield change.verdict.value if change else None
    yield (change.why if change else None) or cell.reason
    yield ", ".join(map(difference_words, point.differences))
