"""Writes a comparison as complete JSON for programs. `schema()` defines each name.

`python -m orchestrator.report.document` writes the copy of the schema that ships.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from orchestrator.report.table_text import table_text
from orchestrator.table.cases import HOST, natural
from orchestrator.table.comparison import Cell, Comparison
from orchestrator.table.metric import Metric
from orchestrator.table.statistics import Interval
from runner.schema import COLUMN, COLUMNS, Column, Row, Status, Validity

VERSION = 4
DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILE = Path(__file__).parent.parent / "data" / "results.schema.json"
ABSENT = "absent"
_AXIS_VALUE = {"type": ["string", "number", "boolean", "null"]}
_AXES = {"type": "object", "additionalProperties": _AXIS_VALUE}


def to_json(comparison: Comparison) -> str:
    """Returns the whole comparison with its rows. Its version changes when a name's meaning changes."""
    metric, words = comparison.metric, table_text(comparison)
    base = comparison.baseline if metric.declared.has_baseline else None
    document = {
        "version": VERSION,
        "metric": {"name": metric.value, "unit": metric.unit, "less_is_better": metric.less_is_better},
        "baseline": dict(base.values) if base else None,
        "runs": list(comparison.runs),
        "same_for_all": dict(comparison.caption),
        "caption": list(words.caption),
        "legend": list(words.legend),
        "where": {name: list(texts) for name, texts in comparison.where.items()},
        "lines_left_out": comparison.left_out,
        "ratios_tested": comparison.tested,
        "axes": list(comparison.axes),
        "across": list(comparison.across),
        "columns": [{"name": column.name, "axes": dict(column.labels)} for column in comparison.columns],
        "hosts": [_host(comparison, host) for host in _hosts(comparison)],
        "cases": [
            {
                "axes": dict(zip(comparison.axes, line.labels)),
                "cells": {column.name: _cell(cell) for column, cell in zip(comparison.columns, line.cells)},
            }
            for line in comparison.lines
        ],
    }
    text = json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False)
    return text.replace("\x7f", "\\u007f") + "\n"  # the only control character that ensure_ascii does not escape


def _hosts(comparison: Comparison) -> list[str]:
    return sorted({str(cell.key[HOST]) for cell in comparison.cells()}, key=natural)


def _host(comparison: Comparison, host: str) -> dict[str, Any]:
    value: dict[str, Any] = {"name": host, "devices": list(comparison.devices.get(host, ()))}
    if price := comparison.prices.get(host):
        value["price"] = {"per_hour": price.per_hour, "source": price.source}
    return value


def _cell(cell: Cell) -> dict[str, Any]:
    used = {id(row) for row in cell.used}
    return {
        "key": dict(cell.key),
        "status": cell.status.value if cell.status else ABSENT,
        "reason": cell.reason,
        "value": cell.value,
        "ci": _ends(cell.interval),
        "limit": {"beyond": cell.figure.limit.beyond} if cell.figure and cell.figure.limit else None,
        "validity": cell.validity.value if cell.validity else None,
        "ratio": cell.ratio.value if cell.ratio else None,
        "ratio_ci": _ends(cell.ratio.interval) if cell.ratio else None,
        "ratio_p": cell.ratio.p if cell.ratio else None,
        "ratio_p_adjusted": cell.ratio.adjusted_p if cell.ratio else None,
        "difference": cell.ratio.shows_difference if cell.ratio else None,
        "no_ratio": cell.no_ratio,
        "differs_from_baseline": list(cell.ratio_notes),
        "is_baseline": cell.is_baseline,
        "best_of_case": cell.best_of_case,
        "best": cell.best,
        "tied_best_of_case": cell.tied_best_of_case,
        "tied_best": cell.tied_best,
        "processes": [process.value for process in cell.figure.processes] if cell.figure else [],
        "trials": cell.figure.trials if cell.figure else 0,
        "pays_off_after_images": cell.pays_off_after,
        "notes": list(cell.notes),
        "rows": [{"used": id(row) in used, **_columns(row)} for row in cell.sources],
    }


def _ends(interval: Interval | None) -> list[float] | None:
    return list(interval) if interval else None


def _columns(row: Row) -> dict[str, Any]:
    """Returns a row's columns with their own types. Omits empty columns; settings are an object."""
    values = {name: value for name in COLUMNS if (value := getattr(row, name)) is not None}
    if settings := row.other_settings:
        values["settings"] = dict(settings)
    return values


def schema() -> dict[str, Any]:
    """Returns the JSON Schema of `results -o json`."""
    texts, text = {"type": "array", "items": {"type": "string"}}, {"type": "string"}
    return {
        "$schema": DIALECT,
        "title": "orchestrator results -o json",
        **_object(
            "A comparison: lines of cells, under columns.",
            version={"const": VERSION, "description": "changes when a name's meaning does; new names may come without"},
            metric=_object(
                "The quantity that is compared.",
                name={"enum": [metric.value for metric in Metric]},
                unit=text,
                less_is_better=_of(["boolean", "null"], "null: neither less nor more is better"),
            ),
            baseline={
                "anyOf": [
                    {
                        **_AXES,
                        "description": "what ratios compare with: the cell of the same key, except on these axes",
                        "minProperties": 1,
                    },
                    {"type": "null"},
                ]
            },
            runs={**texts, "description": "the runs that are compared"},
            same_for_all={
                "type": "object",
                "description": "what all rows share, by axis; rows of imported files that state nothing are not meant",
                "additionalProperties": _AXIS_VALUE,
            },
            caption={**texts, "description": "the lines above the table"},
            legend={**texts, "description": "what the marks of the table mean"},
            where={
                "type": "object",
                "description": "the values that rows had to have to be compared, by axis or column",
                "additionalProperties": texts,
            },
            ratios_tested={"type": "integer", "description": "those tested together, of lines left out too"},
            lines_left_out={"type": "integer", "description": "lines of the table that --limit left out of cases"},
            axes={**texts, "description": "the axes that name a line, in order"},
            across={**texts, "description": "the axes that name a column, in order"},
            columns={
                "type": "array",
                "description": "in the order of the table",
                "items": _object("A column of the table.", name=text, axes=_AXES),
            },
            hosts={"type": "array", "items": _HOST, "description": "the hosts of all cells"},
            cases={
                "type": "array",
                "items": _object(
                    "A line of the table.",
                    axes=_AXES,
                    cells={
                        "type": "object",
                        "description": "by the name of each column",
                        "additionalProperties": {"$ref": "#/$defs/cell"},
                    },
                ),
            },
        ),
        "$defs": {"cell": _cell_schema(), "row": _row_schema()},
    }


def _object(description: str, optional: Mapping[str, Any] | None = None, **required: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }


_HOST = _object(
    "A host, as cells name it.",
    name={"type": "string", "description": "a host, or host@run where a host stands in several runs"},
    devices={"type": "array", "items": {"type": "string"}, "description": "what its rows say they ran on"},
    optional={
        "price": _object(
            "What the cost was computed with.",
            per_hour={"type": "number"},
            source={"type": "string", "description": "the file that says so"},
        )
    },
)


def _of(kinds: str | Sequence[str], description: str, **more: Any) -> dict[str, Any]:
    return {"type": kinds, "description": description, **more}


def _interval(description: str) -> dict[str, Any]:
    return _of(["array", "null"], description, items={"type": "number"}, minItems=2, maxItems=2)


def _cell_schema() -> dict[str, Any]:
    statuses = [*(status.value for status in Status), ABSENT]
    return _object(
        "One case on one host: a value, or the reason why there is none.",
        key={**_AXES, "description": "the value of every axis on which the rows differ"},
        status={"enum": statuses, "description": f"{ABSENT}: the case was not planned for this host"},
        reason=_of(["string", "null"], "why there is no value, whole"),
        value=_of(["number", "null"], "of the metric, in its unit"),
        ci=_interval("the value's 95% confidence interval; null where one process gives none"),
        limit={
            "anyOf": [
                _object(
                    "The value is a limit that was searched for.",
                    beyond=_of(["integer", "null"], "smallest value beyond it; null: a lower bound, none was tried"),
                ),
                {"type": "null"},
            ]
        },
        validity={"enum": [*(each.value for each in Validity), None], "description": "null: the source does not say"},
        ratio=_of(["number", "null"], "the value over its baseline's"),
        ratio_ci=_interval("of this ratio alone"),
        ratio_p=_of(["number", "null"], "two-sided, that the true ratio is 1"),
        ratio_p_adjusted=_of(["number", "null"], "for all ratios of the table together, by Holm"),
        difference=_of(["boolean", "null"], "whether a difference is shown; null: nothing can be said"),
        no_ratio=_of(["string", "null"], "why there is no ratio"),
        differs_from_baseline=_of("array", "in software and threads, in words", items={"type": "string"}),
        is_baseline=_of("boolean", "whether others are compared with it"),
        best_of_case=_of("boolean", "the mark * of the table: among the hosts of its case"),
        best=_of("boolean", "the mark ** of the table: among all cells of equal work"),
        tied_best_of_case=_of("boolean", "the mark *≈ of the table"),
        tied_best=_of("boolean", "the mark **≈ of the table"),
        processes=_of("array", "the value of each process", items={"type": "number"}),
        trials=_of("integer", "timed calls behind the value"),
        pays_off_after_images=_of(["integer", "null"], "images after which the slower start pays off"),
        notes=_of("array", "what to know of the value", items={"type": "string"}),
        rows=_of("array", "all rows of this case on this host", items={"$ref": "#/$defs/row"}),
    )


def _row_schema() -> dict[str, Any]:
    columns = {name: _column_schema(column) for name, column in COLUMN.items()}
    used = _of("boolean", "whether the cell's value comes from this row, too")
    return _object("A row of results.csv, by columns; an empty one is left out.", columns, used=used)


def _column_schema(column: Column) -> dict[str, Any]:
    meaning = column.meaning + (f", in {column.unit}" if column.unit else "")
    if column.name == "settings":
        texts = {"type": "string"}
        return {"anyOf": [_of("object", meaning, additionalProperties=texts), texts]}
    if typing.get_origin(column.kind) is tuple:
        return _of("array", meaning, items={"type": "number"})
    if issubclass(column.kind, Enum):
        return {"enum": [member.value for member in column.kind], "description": meaning}
    return _of({str: "string", bool: "boolean", int: "integer", float: "number"}[column.kind], meaning)


def schema_text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema_text(), encoding="utf-8")
