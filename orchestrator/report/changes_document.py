"""Writes a comparison of two runs as JSON for programs. `schema()` defines each name.

`python -m orchestrator.report.changes_document` writes the copy of the schema that ships.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orchestrator.report.changes_text import summary, verdict_words
from orchestrator.report.schema_parts import DIALECT, interval, object_of, of
from orchestrator.table.change import Change, Verdict
from orchestrator.table.changes import Changes, Environment, Overall
from orchestrator.table.comparison import Cell
from orchestrator.table.metric import Metric
from orchestrator.table.statistics import Ratio
from runner.schema import Status, Validity

VERSION = 1
FILE = Path(__file__).parent.parent / "data" / "compare.schema.json"


def to_json(changes: Changes) -> str:
    """Returns the whole comparison. Its version changes when a name's meaning changes."""
    metric = changes.metric
    document = {
        "version": VERSION,
        "summary": summary(changes),
        "regression": changes.has_regression,
        "base": changes.base,
        "new": changes.new,
        "metric": {"name": metric.value, "unit": metric.unit, "less_is_better": metric.less_is_better},
        "threshold": changes.threshold,
        "tests": changes.tests,
        "mapped": [{"axis": each.axis, "base": each.base, "new": each.new} for each in changes.mapped],
        "same_for_all": dict(changes.caption),
        "axes": list(changes.axes),
        "environment": [_environment(each) for each in changes.environment],
        "overall": [_overall(changes, each) for each in changes.overall],
        "cases": [_case(changes, each) for each in changes.cases],
        "left_out": list(changes.left_out),
    }
    return dumped(document)


def dumped(document: dict[str, Any]) -> str:
    text = json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False)
    return text.replace("\x7f", "\\u007f") + "\n"  # the only control character that ensure_ascii does not escape


def _environment(environment: Environment) -> dict[str, Any]:
    return {
        "base_host": environment.base_host,
        "new_host": environment.new_host,
        "differences": [
            {"name": each.name, "base": list(each.base), "new": list(each.new), "engines": list(each.engines)}
            for each in environment.differences
        ],
    }


def _overall(changes: Changes, overall: Overall) -> dict[str, Any]:
    return {
        "base_host": overall.base_host,
        "new_host": overall.new_host,
        "cases": overall.cases,
        **ratio_value(overall.ratio, overall.p),
        "verdict": overall.verdict.value,
        "words": verdict_words(changes.metric, overall.verdict, overall.ratio, changes.threshold),
    }


def _case(changes: Changes, change: Change) -> dict[str, Any]:
    return {
        "axes": dict(change.key),
        "base_host": change.base_host,
        "new_host": change.new_host,
        "base": cell_value(change.base),
        "new": cell_value(change.new),
        **ratio_value(change.ratio, change.p),
        "verdict": change.verdict.value,
        "words": verdict_words(changes.metric, change.verdict, change.ratio, changes.threshold),
        "why": change.why,
        "notes": list(change.notes),
    }


def ratio_value(ratio: Ratio | None, p: float | None) -> dict[str, Any]:
    return {
        "ratio": ratio.value if ratio else None,
        "ratio_ci": list(ratio.interval) if ratio and ratio.interval else None,
        "p": p,
    }


def cell_value(cell: Cell | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    return {
        "status": cell.status.value if cell.status else None,
        "reason": cell.reason,
        "value": cell.value,
        "ci": list(cell.interval) if cell.interval else None,
        "validity": cell.validity.value if cell.validity else None,
        "processes": [process.value for process in cell.figure.processes] if cell.figure else [],
    }


def schema() -> dict[str, Any]:
    """Returns the JSON Schema of `compare -o json`."""
    axis_value = {"type": ["string", "number", "boolean", "null"]}
    return {
        "$schema": DIALECT,
        "title": "orchestrator compare -o json",
        **object_of(
            "Two runs, case by case.",
            version={"const": VERSION, "description": "changes when a name's meaning does; new names may come without"},
            summary=of("string", "the number of cases by verdict, in words"),
            regression=of("boolean", "whether anything is worse or broken; the command's exit code is then 1"),
            base=of("string", "the run BASE"),
            new=of("string", "the run NEW"),
            metric=object_of(
                "The quantity that is compared.",
                name={"enum": [metric.value for metric in Metric]},
                unit={"type": "string"},
                less_is_better=of(["boolean", "null"], "null: neither is better"),
            ),
            threshold=of("number", "the smallest relative change that counts, such as 0.01"),
            tests=of("integer", "how many tests are corrected together, by Holm"),
            mapped=of(
                "array",
                "values that are compared with other values (--map)",
                items=object_of(
                    "A value of BASE and one of NEW.",
                    axis={"type": "string"},
                    base={"type": "string"},
                    new={"type": "string"},
                ),
            ),
            same_for_all=of("object", "what all rows share, by axis", additionalProperties=axis_value),
            axes=of("array", "the axes that differ between cases", items={"type": "string"}),
            environment=of("array", "for each pair of hosts", items=_environment_schema(axis_value)),
            overall=of("array", "all tested cases of a pair of hosts together", items=_overall_schema()),
            cases=of("array", "broken and worse ones first", items={"$ref": "#/$defs/case"}),
            left_out=of("array", "hosts that only one run has, in words", items={"type": "string"}),
        ),
        "$defs": {"case": _case_schema(axis_value), "cell": cell_schema()},
    }


def _hosts() -> dict[str, Any]:
    return {"base_host": of("string", "the host in BASE"), "new_host": of("string", "the host in NEW")}


def _tested() -> dict[str, Any]:
    return {
        "ratio": of(["number", "null"], "NEW over BASE"),
        "ratio_ci": interval("95%, of this ratio alone; null with one round"),
        "p": of(
            ["number", "null"], "that the true ratio is within the threshold, for all tests together; null: no test"
        ),
        "verdict": {"enum": [verdict.value for verdict in Verdict]},
        "words": of("string", "the verdict as a reader says it, such as `slower`"),
    }


def _environment_schema(axis_value: dict[str, Any]) -> dict[str, Any]:
    values = of("array", "several if the cases' rows differ; none if it is not stated", items=axis_value)
    return object_of(
        "What changed on a host, or between two hosts.",
        **_hosts(),
        differences=of(
            "array",
            "facts that the rows of BASE and NEW state differently",
            items=object_of(
                "A fact.",
                name=of("string", "a column, such as driver"),
                base=values,
                new=values,
                engines=of("array", "those that it holds for; none: all", items={"type": "string"}),
            ),
        ),
    )


def _overall_schema() -> dict[str, Any]:
    return object_of(
        "The geometric mean of the cases' ratios.", **_hosts(), cases=of("integer", "how many"), **_tested()
    )


def _case_schema(axis_value: dict[str, Any]) -> dict[str, Any]:
    cell = {"anyOf": [{"$ref": "#/$defs/cell"}, {"type": "null"}]}
    return object_of(
        "A case of either run.",
        axes=of("object", "by axis, as NEW names them", additionalProperties=axis_value),
        **_hosts(),
        base={**cell, "description": "null: only in NEW"},
        new={**cell, "description": "null: only in BASE"},
        **_tested(),
        why=of(["string", "null"], "of a verdict without a test"),
        notes=of("array", "what to know of the values", items={"type": "string"}),
    )


def cell_schema() -> dict[str, Any]:
    return object_of(
        "The case in one run.",
        status={"enum": [*(status.value for status in Status), None]},
        reason=of(["string", "null"], "why there is no value"),
        value=of(["number", "null"], "of the metric, in its unit"),
        ci=interval("the value's 95% confidence interval; null with one process"),
        validity={"enum": [*(each.value for each in Validity), None], "description": "null: the source does not say"},
        processes=of("array", "the value of each process", items={"type": "number"}),
    )


def schema_text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema_text(), encoding="utf-8")
