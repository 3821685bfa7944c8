"""The words of figures: scope, direction, limits, and the text alternative, all computed from what is drawn."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from orchestrator.report.figures.points import Point, State, measured, number, ordered
from orchestrator.report.labels import label
from orchestrator.table.cases import MODEL
from orchestrator.table.comparison import Comparison

LONGEST_LINE = 84
MOST_NAMED = 3
LESS, MORE = "less is better ↓", "more is better ↑"
LEFT, RIGHT = "← less is better", "more is better →"
_SCOPE = (MODEL, "steps", "size", "scheduler")


def count(many: int, what: str, several: str = "") -> str:
    """Formats a count: `1 host`, `3 hosts`."""
    return f"{many} {what}" if many == 1 else f"{many} {several or what + 's'}"


def listing(names: Sequence[str]) -> str:
    """Joins names; of many, the first ones and how many more there are."""
    if len(names) > MOST_NAMED:
        return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def scope(comparison: Comparison, *more: str) -> str:
    """Returns what all rows share, of what a reader must know: model, steps, size, scheduler; and more of them."""
    caption = comparison.caption
    stated = [(name, caption[name]) for name in _SCOPE if caption.get(name) is not None]
    shared = ", ".join(label(value, 50) if name == MODEL else f"{name} {label(value, 30)}" for name, value in stated)
    return " · ".join(filter(None, (shared, *more)))


def states(points: Sequence[Point], which: str = "", *, with_whiskers: bool = True) -> list[str]:
    """Returns what the marks mean that differ from a plain value. which: intervals are drawn."""
    found = {point.state for point in points}
    said = []
    if State.DOUBTFUL in found:
        whys = listing(sorted({point.why for point in points if point.state is State.DOUBTFUL}))
        said.append(f"hollow: not ranked ({whys})")
    if State.UNCHECKED in found:
        only = found <= {State.UNCHECKED, State.OOM}
        said.append("all values are published or unchecked" if only else "pale: published or unchecked, not ranked")
    if with_whiskers and any(point.interval for point in points):
        said.append(f"whiskers: 95% interval{which}")
    return said


def lines(*parts: str) -> list[str]:
    """Wraps the lines of a subtitle. Leaves out empty ones."""
    return [line for part in parts if part for line in textwrap.wrap(part, LONGEST_LINE)]


def limited(left_out: int, what: str, several: str = "") -> str:
    if not left_out:
        return ""
    return f"{count(left_out, f'more {what}', f'more {several or what + chr(115)}')} not drawn: limit reached"


def alt(what: str, points: Sequence[Point], unit: str, *, less_is_better: bool, extra: Sequence[str] = ()) -> str:
    """Returns the text alternative: what is shown, of how many hosts, the extremes, and what has no plain value."""
    values = measured(points)
    hosts, series = ordered(point.host for point in values), ordered(point.series for point in values if point.series)
    said = [
        f"{what}, in {unit}; {'less' if less_is_better else 'more'} is better.",
        f"{count(len(values), 'value')} of {count(len(hosts), 'host')} ({listing(hosts)})"
        + (f" with {listing(series)}." if series else "."),
    ]
    ranked = [point for point in values if point.state.is_joined] or values
    if ranked:
        by_value = sorted(ranked, key=lambda point: point.value or 0.0)
        said += [f"{word}: {_one(point, unit)}." for word, point in _extremes(by_value)]
    said += _without_plain_value(points)
    return " ".join([*said, *(f"{text}." for text in extra if text)])


def _extremes(by_value: Sequence[Point]) -> list[tuple[str, Point]]:
    if len(by_value) == 1:
        return [("The value", by_value[0])]
    return [("Lowest", by_value[0]), ("Highest", by_value[-1])]


def _one(point: Point, unit: str) -> str:
    return f"{number(point.value)} {unit} ({point.name})"


def _without_plain_value(points: Sequence[Point]) -> list[str]:
    said = []
    if out := [point for point in points if point.state is State.OOM]:
        said.append(f"Out of memory: {listing([point.name for point in out])}.")
    for why, many in sorted(Counter(point.why for point in points if point.state is State.DOUBTFUL).items()):
        said.append(f"{count(many, 'value is', 'values are')} {why} and not ranked.")
    if unchecked := sum(point.state is State.UNCHECKED for point in points):
        said.append(f"{count(unchecked, 'value is', 'values are')} published or unchecked and not ranked.")
    return said
