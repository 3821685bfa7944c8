"""Lays out the first lines of the default view: what the page shows without JavaScript."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from orchestrator.report.page.payload import NONE, Block

_Numbers: TypeAlias = dict[int, int]  # of footnotes, by the place of their text
MOST_LINES = 100  # as many as a page of the table has: js/main.js, PAGE


@dataclass(frozen=True)
class ValueCell:
    """whole, part: of the value, before and from its decimal point. kinds: classes of the value and of the ratio."""

    kind: str
    whole: str = ""
    part: str = ""
    spread: str = ""
    mark: str = ""
    word: str = ""
    notes: tuple[int, ...] = ()
    ratio: tuple[str, ...] = ()
    ratio_kind: str = ""
    ratio_notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class StaticLine:
    """cells: None for an absent case. joined: the labels but the first, for narrow screens."""

    labels: tuple[str, ...]
    joined: str
    cells: tuple[ValueCell | None, ...]


@dataclass(frozen=True)
class StaticTable:
    """numeric: by axis. columns: name and what is known of each. total: lines of the whole table."""

    axes: tuple[str, ...]
    numeric: tuple[bool, ...]
    columns: tuple[tuple[str, str], ...]
    has_ratios: bool
    caption: str
    unit: str
    baseline: str
    lines: tuple[StaticLine, ...]
    footnotes: tuple[str, ...]
    about: tuple[str, ...]
    total: int


def first_lines(blocks: Mapping[str, Block]) -> StaticTable:
    """Returns the default view's first lines, as js/table.js lays them out."""
    data, shown, found = blocks["data"], blocks["metric-0"], blocks.get("ratio-0-0")
    across = next((axis for axis in data["axes"] if axis["name"] == data["view"]["across"]), None)
    down = [axis for axis in data["axes"] if axis is not across and (axis["always"] or len(axis["values"]) > 1)]
    by_key: dict[tuple[int, ...], dict[int, int]] = {}
    for point in range(data["points"]):
        key = tuple(axis["at"][point] for axis in down)
        by_key.setdefault(key, {})[across["at"][point] if across else 0] = point
    columns = sorted({column for cells in by_key.values() for column in cells})
    notes: _Numbers = {}
    lines = tuple(
        _line(blocks, down, key, [by_key[key].get(column) for column in columns], notes)
        for key in sorted(by_key)[:MOST_LINES]
    )
    metric, view = data["metrics"][0], data["view"]
    title = next((each["title"] for each in data["baselines"] if each["name"] == view["baseline"]), "")
    ratio = metric["remark"] or (f"× is the ratio to {title}" if title else "")
    return StaticTable(
        axes=tuple(axis["name"] for axis in down),
        numeric=tuple(axis["numeric"] for axis in down),
        columns=tuple(_column(across, column, metric) for column in columns),
        has_ratios=found is not None,
        caption="; ".join(filter(None, (f"{metric['title']} in {metric['unit']}", metric["better"], ratio))),
        unit=metric["unit"],
        baseline=view["baseline"] if view["baseline"] != NONE else "",
        lines=lines,
        footnotes=tuple(data["texts"][at] for at in notes),
        about=(*shown["about"], *(found["about"] if found else ())),
        total=len(by_key),
    )


def _column(across: Block | None, column: int, metric: Block) -> tuple[str, str]:
    if across is None:
        return metric["title"], ""
    return across["values"][column], across["about"][column] if "about" in across else ""


def _line(
    blocks: Mapping[str, Block],
    down: list[Block],
    key: tuple[int, ...],
    points: list[int | None],
    notes: _Numbers,
) -> StaticLine:
    labels = tuple(axis["values"][at] for axis, at in zip(down, key))
    rest = [f"{axis['name']}\u00a0{text}" if axis["named"] else text for axis, text in zip(down[1:], labels[1:])]
    return StaticLine(labels, " · ".join(rest), tuple(_cell(blocks, point, notes) for point in points))


def _cell(blocks: Mapping[str, Block], point: int | None, notes: _Numbers) -> ValueCell | None:
    if point is None:
        return None
    data, shown, found = blocks["data"], blocks["metric-0"], blocks.get("ratio-0-0")
    state = data["states"][shown["state"][point]]
    has_value = shown["value"][point] is not None
    whole, dot, part = shown["text"][point].partition(".")
    words: dict[str, Any] = {"whole": whole, "part": dot + part, "spread": shown["spread"][point]} if has_value else {}
    return ValueCell(
        kind=state["kind"],
        **words,
        mark=data["marks"][shown["mark"][point]],
        word="" if state["kind"] == "value" else state["word"],
        notes=_numbered(shown["notes"][point], notes),
        **(_ratio(data, found, point, notes) if found else {}),
    )


def _ratio(data: Block, found: Block, point: int, notes: _Numbers) -> dict[str, Any]:
    verdict = data["verdicts"][found["verdict"][point]]
    return {
        "ratio": (found["text"][point], found["interval"][point], verdict["word"]),
        "ratio_kind": verdict["kind"],
        "ratio_notes": _numbered(found["notes"][point], notes),
    }


def _numbered(places: list[int] | int, notes: _Numbers) -> tuple[int, ...]:
    return tuple(notes.setdefault(place, len(notes) + 1) for place in (places or []))  # type: ignore[union-attr]
