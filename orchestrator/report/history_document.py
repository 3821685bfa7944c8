"""Writes a history as JSON for programs. `schema()` defines each name.

`python -m orchestrator.report.history_document` writes the copy of the schema that ships.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orchestrator.report.changes_document import cell_schema, cell_value, dumped, ratio_value
from orchestrator.report.changes_text import verdict_words
from orchestrator.report.schema_parts import DIALECT, interval, object_of, of
from orchestrator.table.change import Verdict
from orchestrator.table.history import History, Point
from orchestrator.table.metric import Metric

VERSION = 1
FILE = Path(__file__).parent.parent / "data" / "history.schema.json"


def to_json(history: History) -> str:
    """Returns the whole history. Its version changes when a name's meaning changes."""
    metric = history.metric
    document = {
        "version": VERSION,
        "metric": {"name": metric.value, "unit": metric.unit, "less_is_better": metric.less_is_better},
        "threshold": history.threshold,
        "tests": history.tests,
        "same_for_all": dict(history.caption),
        "axes": list(history.axes),
        "series": [
            {
                "axes": dict(series.key),
                "host": series.host,
                "points": [_point(history, point) for point in series.points],
            }
            for series in history.series
        ],
    }
    return dumped(document)


def _point(history: History, point: Point) -> dict[str, Any]:
    change = point.change
    return {
        "run": point.run,
        "started": point.started.isoformat() if point.started else None,
        **(cell_value(point.cell) or {}),
        **ratio_value(change.ratio if change else None, change.p if change else None),
        "verdict": change.verdict.value if change else None,
        "words": verdict_words(history.metric, change.verdict, change.ratio, history.threshold) if change else None,
        "why": change.why if change else None,
        "changed": [
            {"name": each.name, "before": list(each.base), "after": list(each.new)} for each in point.differences
        ],
    }


def schema() -> dict[str, Any]:
    """Returns the JSON Schema of `results --history -o json`."""
    axis_value = {"type": ["string", "number", "boolean", "null"]}
    values = of("array", "several if the rows differ; none if it is not stated", items=axis_value)
    changed = object_of("A fact.", name=of("string", "a column, such as driver"), before=values, after=values)
    point = object_of(
        "The case in one run.",
        run={"type": "string"},
        started=of(["string", "null"], "ISO 8601, in UTC"),
        **cell_schema()["properties"],
        ratio=of(["number", "null"], "over the value of the previous run with a valid one"),
        ratio_ci=interval("95%, of this ratio alone; null with one round"),
        p=of(["number", "null"], "that the true ratio is within the threshold, for all tests together; null: no test"),
        verdict={"enum": [*(verdict.value for verdict in Verdict), None]},
        words=of(["string", "null"], "the verdict as a reader says it, such as `slower`"),
        why=of(["string", "null"], "of a verdict without a test"),
        changed=of("array", "what changed since the previous run", items=changed),
    )
    return {
        "$schema": DIALECT,
        "title": "orchestrator results --history -o json",
        **object_of(
            "Cases over runs, by date.",
            version={"const": VERSION, "description": "changes when a name's meaning does; new names may come without"},
            metric=object_of(
                "The quantity.",
                name={"enum": [metric.value for metric in Metric]},
                unit={"type": "string"},
                less_is_better=of(["boolean", "null"], "null: neither is better"),
            ),
            threshold=of("number", "the smallest relative change that counts"),
            tests=of("integer", "how many tests are corrected together, by Holm"),
            same_for_all=of("object", "what all rows share, by axis", additionalProperties=axis_value),
            axes=of("array", "the axes that differ between cases", items={"type": "string"}),
            series=of(
                "array",
                "cases",
                items=object_of(
                    "A case on one host.",
                    axes=of("object", "by axis", additionalProperties=axis_value),
                    host={"type": "string"},
                    points=of("array", "oldest first", items=point),
                ),
            ),
        ),
    }


def schema_text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema_text(), encoding="utf-8")
