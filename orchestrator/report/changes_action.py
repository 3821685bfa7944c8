"""Writes a comparison of two runs in the format of benchmark-action/github-action-benchmark's custom tools.

A JSON list of objects with `name`, `unit`, `value`, `range` and `extra`, of NEW's values. The action keeps the values
of earlier commits, so it needs NEW alone; the comparison with BASE is in `extra`.
"""

from __future__ import annotations

import json
from typing import Any

from orchestrator.errors import InputError
from orchestrator.report.changes_text import interval_words, verdict_words
from orchestrator.report.labels import label
from orchestrator.report.numbers import significant
from orchestrator.sanitize import clean
from orchestrator.table.change import Change
from orchestrator.table.changes import Changes
from orchestrator.table.comparison import Cell
from runner.schema import Validity

KEY = ("engine", "precision", "samples")
SMALLER, BIGGER = "customSmallerIsBetter", "customBiggerIsBetter"


def tool_of(changes: Changes) -> str:
    """Returns the action's `tool` for a metric. Raises InputError for one without a better direction."""
    if changes.metric.less_is_better is None:
        raise InputError(
            f"-o action: of {changes.metric.value}, neither more nor less is better; fix: another --metric"
        )
    return SMALLER if changes.metric.less_is_better else BIGGER


def to_action(changes: Changes) -> str:
    tool_of(changes)
    found = [_entry(changes, change) for change in changes.cases if change.new and _is_sound(change.new)]
    return json.dumps(found, indent=1, ensure_ascii=True, allow_nan=False).replace("\x7f", "\\u007f") + "\n"


def _is_sound(cell: Cell) -> bool:
    """Whether a value may stand in a history of values: the action would take a disturbed one for a regression."""
    return cell.value is not None and cell.validity in (Validity.VALID, None)


def _entry(changes: Changes, change: Change) -> dict[str, Any]:
    assert change.new is not None  # noqa: S101  # to_action filtered
    entry: dict[str, Any] = {
        "name": _name(changes, change),
        "unit": changes.metric.unit,
        "value": change.new.value,
        "extra": "\n".join(_extra(changes, change)),
    }
    if change.new.interval and change.new.value is not None:
        half = (change.new.interval.high - change.new.interval.low) / 2
        entry["range"] = f"± {significant(half)[0]}"
    return entry


def _name(changes: Changes, change: Change) -> str:
    """Returns a name that stays the same from commit to commit: it does not depend on which axes differ in this run."""
    parts = [change.new_host, *(label(change.key.get(axis)) for axis in KEY)]
    parts += [f"{axis} {label(value)}" for axis, value in _others(changes, change) if value is not None]
    return clean(" / ".join(parts))


def _others(changes: Changes, change: Change) -> list[tuple[str, Any]]:
    every = {**changes.caption, **change.key}
    return [(axis, value) for axis, value in sorted(every.items()) if axis not in (*KEY, "host")]


def _extra(changes: Changes, change: Change) -> list[str]:
    words = verdict_words(changes.metric, change.verdict, change.ratio, changes.threshold)
    if change.ratio is None:
        return [clean(f"{words}: {change.why}" if change.why else words)]
    return [f"{significant(change.ratio.value)[0]}× {interval_words(change.ratio)} of {label(changes.base)}", words]
