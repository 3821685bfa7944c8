"""Encodes a report's table as the JSON that its page holds. The page's JavaScript only lays it out, sorts and filters.

The JSON comes in blocks, each a `<script type="application/json">` with an id, so that the page parses only what it
shows. A cell is a case of `Table.cases`; lists named "per cell" are in that order. Texts are numbers in `texts`.

`data`
    points: the number of cells.
    axes: name, numeric, named (a value needs its axis' name), always (shown even with one value), values (labels in
        their order), at (per cell: the place of its value), about (per value: a device; hosts only).
    metrics: name, title, unit, better (in words; empty without a direction), spans (the axes that one value is of all
        values of: its lines have no such axis). The block of the first one is `metric-0`.
    baselines: name (what `--baseline` takes), title. The block of the first metric's ratios to the first one is
        `ratio-0-0`. Not all exist.
    view: the default metric, baseline and axis across; "none" is no baseline, or one column.
    states: word, kind (value, imported, invalid, missing or fault) and meaning. marks: words. verdicts: word and kind.
    ratios: the ids of the ratios' blocks. texts: notes and reasons. command: prints what the page does not hold.
`metric-M`, per cell
    value (to nine digits, or null), text and spread (formatted), state, mark, notes. about: lines for all cells.
`ratio-M-B`, per cell
    value, text, interval (formatted), verdict, notes. about: lines for all cells.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from orchestrator.report.labels import told_apart
from orchestrator.report.model import Mark, MetricValues, RatioTo, Table, Value
from orchestrator.sanitize import clean
from orchestrator.table.cases import ALWAYS_SHOWN, ENGINE, HOST, MODEL, PRECISION, AxisValue, rank
from orchestrator.table.metric import Metric
from runner.schema import Status, Validity

Block: TypeAlias = dict[str, Any]
NONE = "none"
LONGEST_NOTE = 1000
SELF_EXPLAINING = (ENGINE, PRECISION, MODEL, HOST, "size", "scheduler")
MARKS = ("", "best", "tied", "best of case", "tied of case")
VERDICTS = (
    {"word": "better", "kind": "better"},
    {"word": "worse", "kind": "worse"},
    {"word": "no difference shown", "kind": "same"},
    {"word": "1 round", "kind": "plain"},
    {"word": "baseline", "kind": "base"},
    {"word": "no ratio", "kind": "none"},
    {"word": "", "kind": "none"},
    {"word": "differs", "kind": "plain"},
)
_HEADINGS = {metric.value: metric.heading for metric in Metric}
BETTER, WORSE, SAME, ONE_ROUND, IS_BASELINE, NO_RATIO, NO_VALUE, DIFFERS = range(len(VERDICTS))
_INVALID = {
    Validity.THROTTLED: "the GPU slowed its clock down while it was measured; not ranked",
    Validity.CONTENDED: "something else used the device, or kept the process from its CPUs; not ranked",
    Validity.FALLBACK: "another provider or device did the work; not ranked",
    Validity.SPILLED: "memory beyond the GPU's was used; not ranked",
    Validity.UNSTABLE: "the trials scatter too much to rank",
}


@dataclass
class _Texts:
    """Numbers texts; equal ones share a number."""

    places: dict[Hashable, int] = field(default_factory=dict)
    values: list[Any] = field(default_factory=list)

    def place(self, key: Hashable, value: Any = None) -> int:
        if key not in self.places:
            self.places[key] = len(self.values)
            self.values.append(key if value is None else value)
        return self.places[key]

    def notes(self, texts: Iterable[str]) -> list[int] | int:
        """Returns the numbers of texts; 0 if there are none, which is shorter in JSON."""
        return [self.place(clean(text, LONGEST_NOTE)) for text in dict.fromkeys(texts) if text] or 0


def payload(table: Table, command: str = "orchestrator results") -> dict[str, Block]:
    """Returns the blocks by id. command: prints the table of the same rows."""
    texts, states = _Texts(), _Texts()
    blocks: dict[str, Block] = {}
    for number, metric in enumerate(table.metrics):
        blocks[f"metric-{number}"] = _metric(metric, texts, states)
        for place, baseline in enumerate(table.baselines):
            ratios = [value.ratios.get(baseline) for value in metric.values]
            if any(ratios):
                blocks[f"ratio-{number}-{place}"] = _ratios(ratios, metric.values, texts)
    axes = _axes(table)
    data: Block = {
        "version": 1,
        "points": len(table.cases),
        "axes": axes,
        "metrics": [_metric_words(metric) for metric in table.metrics],
        "baselines": [{"name": clean(option), "title": clean(name)} for name, option in table.baselines.items()],
        "view": {
            "metric": table.metrics[0].name if table.metrics else NONE,
            "baseline": clean(next(iter(table.baselines.values()), NONE)),
            "across": _across(table, axes),
        },
        "states": states.values,
        "marks": MARKS,
        "verdicts": VERDICTS,
        "ratios": [name for name in blocks if name.startswith("ratio-")],
        "texts": texts.values,
        "command": clean(command),
    }
    return {"data": data, **blocks}


def _across(table: Table, axes: Sequence[Block]) -> str:
    names = {original: axis["name"] for original, axis in zip(table.axes, axes)}
    return next((names[column] for column in table.columns if column in names), NONE)


def _axes(table: Table) -> list[Block]:
    names = told_apart(table.axes)
    columns = list(zip(*table.cases)) or [()] * len(table.axes)
    return [_axis(table, axis, str(names[axis]), values) for axis, values in zip(table.axes, columns)]


def _axis(table: Table, axis: str, name: str, values: Sequence[AxisValue]) -> Block:
    ordered = sorted(set(values), key=lambda value: rank(axis, value))
    texts = told_apart(ordered)
    place = {value: number for number, value in enumerate(ordered)}
    block: Block = {
        "name": name,
        "numeric": all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in ordered),
        "named": axis not in SELF_EXPLAINING,
        "always": axis in (*ALWAYS_SHOWN, *table.columns),
        "values": [texts[value] for value in ordered],
        "at": [place[value] for value in values],
    }
    if axis == HOST and table.hosts:
        devices = [clean(table.hosts.get(str(value), ""), 120) for value in ordered]
        block["about"] = ["" if device == texts[value] else device for device, value in zip(devices, ordered)]
    return block


def _metric_words(metric: MetricValues) -> Block:
    better = {True: "less is better", False: "more is better", None: ""}[metric.less_is_better]
    return {
        "name": metric.name,
        "title": _HEADINGS.get(metric.name, metric.name),
        "unit": metric.unit,
        "better": better,
        "remark": clean(metric.remark),
        "spans": [clean(axis) for axis in metric.spans],
    }


def _metric(metric: MetricValues, texts: _Texts, states: _Texts) -> Block:
    values = metric.values
    of_all = _shared([value for value in values if value.number is not None])
    of_imported = _shared([value for value in values if _is_imported(value)])
    split = [_figure(value) for value in values]
    return {
        "value": [_rounded(value.number) for value in values],
        "text": [text for text, _ in split],
        "spread": [spread for _, spread in split],
        "state": [_state(value, states) for value in values],
        "mark": [_mark(value) for value in values],
        "notes": [
            texts.notes((*_reasons(value), *_without(value.notes, of_all, of_imported if _is_imported(value) else ())))
            for value in values
        ],
        "about": [clean(text) for text in _about(metric, of_all, _without(of_imported, of_all))],
    }


def _about(metric: MetricValues, of_all: Sequence[str], of_imported: Sequence[str]) -> Iterator[str]:
    """Yields what holds for all values of a metric."""
    yield from (f"All values: {note}." for note in of_all)
    yield from (f"All imported values: {note}." for note in of_imported)
    yield from metric.prices
    yield from metric.legend


def _rounded(number: float | None) -> float | None:
    """Returns what sorting needs: nine digits, which halves the JSON. The shown text has its own digits."""
    return None if number is None else float(f"{number:.9g}")


def _is_imported(value: Value) -> bool:
    return value.number is not None and not value.validity


def _shared(values: Sequence[Value]) -> list[str]:
    """Returns the notes of all values, if there are several values."""
    return [note for note in values[0].notes if all(note in each.notes for each in values)] if len(values) > 1 else []


def _without(notes: Sequence[str], *left_out: Sequence[str]) -> list[str]:
    return [note for note in notes if not any(note in each for each in left_out)]


def _figure(value: Value) -> tuple[str, str]:
    if value.number is None:
        return "", ""
    text, _, spread = value.text.replace("≥ ", "≥\u00a0").partition(" ")
    return text, spread


def _reasons(value: Value) -> tuple[str, ...]:
    return (value.reason,) if value.number is None and value.reason not in ("", value.status) else ()


def _state(value: Value, states: _Texts) -> int:
    key = (value.number is None, value.number is None and value.text, value.status, value.validity)
    return states.place(key, _state_words(value))


def _state_words(value: Value) -> Block:
    if value.number is None:
        word = value.text or "no value"
        is_fault = value.status in {status.value for status in Status if status.is_fault}
        return {"word": clean(word, 60), "kind": "fault" if is_fault else "missing", "meaning": ""}
    if value.validity == Validity.VALID.value:
        return {"word": "valid", "kind": "value", "meaning": ""}
    if not value.validity:
        return {"word": "imported", "kind": "imported", "meaning": "its validity was not checked; never best"}
    meaning = next((text for validity, text in _INVALID.items() if validity.value == value.validity), "not ranked")
    return {"word": clean(value.validity, 60), "kind": "invalid", "meaning": meaning}


def _mark(value: Value) -> int:
    of_all = {Mark.BEST: 1, Mark.TIED: 2, Mark.NONE: 0}[value.mark]
    return of_all or {Mark.BEST: 3, Mark.TIED: 4, Mark.NONE: 0}[value.line_mark]


def _ratios(ratios: Sequence[RatioTo | None], values: Sequence[Value], texts: _Texts) -> Block:
    split = [_ratio_texts(ratio) for ratio in ratios]
    verdicts = [_verdict(ratio, value) for ratio, value in zip(ratios, values)]
    tested = sum(ratio is not None and ratio.shows_difference is not None for ratio in ratios)
    family = f" for all {tested} ratios together" if tested > 1 else ""
    return {
        "value": [_rounded(ratio.value if ratio else None) for ratio in ratios],
        "text": [text for text, _ in split],
        "interval": [interval for _, interval in split],
        "verdict": verdicts,
        "notes": [
            texts.notes([ratio.text] if ratio and verdict == NO_RATIO and ratio.text != value.validity else [])
            for ratio, verdict, value in zip(ratios, verdicts, values)
        ],
        "about": [f"A difference is shown at the level of 5%{family}."] if tested else [],
    }


def _ratio_texts(ratio: RatioTo | None) -> tuple[str, str]:
    if ratio is None or ratio.value is None:
        return "", ""
    text, _, rest = ratio.text.partition(" ")
    return text, rest.removesuffix("≈").strip() if rest.startswith("[") else ""


def _verdict(ratio: RatioTo | None, value: Value) -> int:
    if ratio is None or value.number is None:
        return NO_VALUE
    if ratio.value is None:
        return IS_BASELINE if ratio.text == "baseline" else NO_RATIO
    if ratio.shows_difference is None:
        return ONE_ROUND
    if not ratio.shows_difference:
        return SAME
    return DIFFERS if ratio.is_better is None else BETTER if ratio.is_better else WORSE
