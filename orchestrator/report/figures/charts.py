"""What the charts of all figures share: data, panels, titles, marks by state, and axes.

Texts of rows go into data, domains and titles, never into field names or expressions: no text of a row is evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import altair as alt

from orchestrator.report.figures.points import State

Values: TypeAlias = Sequence[Mapping[str, Any]]
WIDTH = 540  # of a whole row of panels, without the labels of its axis
CHARACTER = 8.4  # pixels of a character, on average
ROOM_OF_TICK = 36  # pixels from a tick of a logarithmic axis to the next
ROOM_OF_SYMBOL = 45  # pixels beside the text of an entry of the legend
PANEL_TITLE = "panel"
NUMBER = ".4~g"  # of a value under the pointer


def own(values: Values) -> alt.Chart:
    """Returns a layer with data of its own, beside the panel's."""
    return alt.Chart(alt.InlineData(values=list(values)))


def of_state(chart: alt.Chart, *states: State) -> alt.Chart:
    found: alt.Chart = chart.transform_filter(
        alt.FieldOneOfPredicate(field="state", oneOf=[state.value for state in states])
    )
    return found


def panel(
    values: Values,
    *layers: alt.Chart,
    title: str = "",
    subtitle: Sequence[str] = (),
    width: float = WIDTH,
    height: float,
) -> dict[str, Any]:
    """Lays layers over each other. values: the data of those without their own.

    title, subtitle: text that has no room is cut off.
    """
    found: dict[str, Any] = {"data": {"values": list(values)}, "width": width, "height": height}
    if title:
        heading = {"text": title, "style": PANEL_TITLE, "anchor": "start", "frame": "group", "offset": 8}
        found["title"] = {**heading, "limit": width + 20, **({"subtitle": list(subtitle)} if subtitle else {})}
    return {**found, "layer": [_layer(layer) for layer in layers]}


def _layer(chart: alt.Chart) -> dict[str, Any]:
    """Returns a layer as Vega-Lite. Unit tests validate the whole chart; here that would take most of the time."""
    with alt.data_transformers.enable("default", consolidate_datasets=False):
        found: dict[str, Any] = chart.to_dict(validate=False)
    has_own = chart.data is not alt.Undefined
    left_out = ["$schema", "config", *([] if has_own else ["data", "datasets"])]
    return {name: value for name, value in found.items() if name not in left_out}


def specification(
    panels: Sequence[dict[str, Any]], title: str, subtitle: Sequence[str], columns: int = 1, gap: int = 26
) -> Mapping[str, Any]:
    """Returns the whole chart. It is put together here, because Altair copies every part of a chart at each step."""
    return {
        "$schema": alt.SCHEMA_URL,
        "title": {"text": title, "subtitle": list(subtitle)},
        "spacing": {"row": 22, "column": gap},
        "columns": columns,
        "concat": list(panels),
    }


def marks(
    chart: alt.Chart, states: Sequence[State], channels: Sequence[Any], stroke: Any, **size: Any
) -> list[alt.Chart]:
    """Draws the points of each state that occurs: filled if valid, pale if unchecked, hollow if doubtful.

    channels: colour and shape. stroke: the colour again, as an outline.
    """
    layers = []
    if State.VALID in states:
        layers.append(of_state(chart, State.VALID).mark_point(**size).encode(*channels))
    if State.UNCHECKED in states:
        pale = of_state(chart, State.UNCHECKED).mark_point(style="pale", **size)
        layers.append(pale.encode(*channels, stroke))
    if State.DOUBTFUL in states:
        hollow = of_state(chart, State.DOUBTFUL).mark_point(style="hollow", filled=False, **size)
        layers.append(hollow.encode(*channels))
    return layers


def whiskers(chart: alt.Chart, *, across: bool = False) -> list[alt.Chart]:
    """Draws `low` to `high` with a cap at each end; with across, along x."""
    first, second = (alt.X, alt.X2) if across else (alt.Y, alt.Y2)
    ends: list[dict[str, Any]] = [{"x" if across else "y": first(f"{end}:Q")} for end in ("low", "high")]
    line = {"x" if across else "y": first("low:Q"), "x2" if across else "y2": second("high:Q")}
    caps = [chart.mark_tick(style="cap", orient="vertical" if across else "horizontal").encode(**end) for end in ends]
    return [chart.mark_rule(style="whisker").encode(**line), *caps]


def colour(field: str, domain: Sequence[str], *, legend: bool = True, channel: Any = alt.Color) -> Any:
    """Encodes a field of text as a colour. The legend is left out where one entry would say nothing."""
    columns = max(1, int(WIDTH // (CHARACTER * max(map(len, domain), default=1) + ROOM_OF_SYMBOL)))
    shown = alt.Legend(title=None, columns=columns) if legend and len(domain) > 1 else None
    return channel(f"{field}:N", scale=alt.Scale(domain=list(domain)), legend=shown)


def room(value: float, label: str, width: float) -> float:
    """Returns the end of a linear axis from 0 that leaves room for a label beside the value."""
    return value * width / max(width * 0.3, width - CHARACTER * len(label) - 14)


def log_ticks(low: float, high: float, length: float = WIDTH) -> list[float]:
    """Returns ticks whose labels find room: powers of 10, then 2 and 5 times those, then others on a short axis.

    length: of the axis in pixels.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ranks: list[tuple[float, ...]] = [(1,), (2, 5), (1.5, 3, 7)] if high < 4 * low else [(1,), (2, 5)]
    kept: list[float] = []
    for tick in (step * 10.0**decade for steps in ranks for step in steps for decade in decades):
        apart = (abs(math.log(tick / other)) / math.log(high / low) * length for other in kept)
        if low * 0.999 <= tick <= high * 1.001 and all(pixels > ROOM_OF_TICK for pixels in apart):
            kept.append(tick)
    return sorted(kept)


def log_domain(values: Sequence[float]) -> tuple[float, float]:
    """Returns the ends of a logarithmic axis, with at least a factor of 2 between them."""
    low, high = min(values), max(values)
    margin = max(1.15, math.sqrt(2 * low / high) if high < 2 * low else 1.0)
    return low / margin, high * margin
