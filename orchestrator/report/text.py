"""A comparison as CSV for spreadsheets, JSON for programs, Markdown for people's pages."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from typing import Any

from orchestrator.report.sheet import CellWords, Sheet, clean, label, sheet
from orchestrator.table.cases import AxisValue
from orchestrator.table.comparison import Cell, Comparison
from orchestrator.table.statistics import Interval
from orchestrator.trust import harmless

JSON_VERSION = 1
PER_HOST = ("value", "ci_low", "ci_high", "ratio", "ratio_ci_low", "ratio_ci_high", "status", "validity", "reason")
# Words that GitHub and other renderers turn into links without any markup: addresses, mentions, issue numbers, commits.
_LINKED = re.compile(r"://|www\.|\b(?:mailto|xmpp):|(?<!\w)@\w|\w@[\w-]+\.|#\d|\bGH-\d|\b[0-9a-f]{40}\b", re.IGNORECASE)


def to_csv(comparison: Comparison) -> str:
    """Cases down; for each host its value with the metric's unit in the header, interval, ratio, status and reason."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    value_name = f"{comparison.metric.value} [{comparison.metric.unit}]"
    names = [f"{host} {value_name if name == 'value' else name}" for host in comparison.hosts for name in PER_HOST]
    writer.writerow([_inert(text) for text in (*comparison.axes, *names)])
    for line in comparison.lines:
        cells = [value for cell in line.cells for value in _csv_cell(cell)]
        writer.writerow([_csv_label(value) for value in line.labels] + cells)
    return out.getvalue()


def _csv_label(value: AxisValue) -> str | int | float:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else _inert(label(value))


def _csv_cell(cell: Cell) -> list[str | float | None]:
    ratio = cell.ratio.value if cell.ratio else None
    interval = (*(cell.interval or (None, None)), ratio, *((cell.ratio and cell.ratio.interval) or (None, None)))
    why = "; ".join(part for part in (cell.reason, cell.no_ratio, *cell.notes) if part)
    status = cell.status.value if cell.status else "absent"
    return [cell.value, *interval, status, cell.validity.value if cell.validity else None, _inert(why)]


def _inert(text: str) -> str:
    """Text that a spreadsheet shows and does not run."""
    text = clean(text)
    return harmless(text, len(text) + 1) or ""


def to_json(comparison: Comparison) -> str:
    """All that is known of each cell, under a version that changes when a name's meaning does."""
    base, metric = comparison.baseline, comparison.metric
    document = {
        "version": JSON_VERSION,
        "metric": {"name": metric.value, "unit": metric.unit, "less_is_better": metric.less_is_better},
        "baseline": {"kind": base.kind.value, "name": base.name} if base else None,
        "runs": list(comparison.runs),
        "same_for_all": dict(comparison.caption),
        "axes": list(comparison.axes),
        "hosts": [_json_host(comparison, host) for host in comparison.hosts],
        "cases": [
            {
                "axes": dict(zip(comparison.axes, line.labels)),
                "cells": {host: _json_cell(cell) for host, cell in zip(comparison.hosts, line.cells)},
            }
            for line in comparison.lines
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def _json_host(comparison: Comparison, host: str) -> dict[str, Any]:
    value: dict[str, Any] = {"name": host, "devices": list(comparison.devices.get(host, ()))}
    if price := comparison.prices.get(host):
        value["price"] = {"per_hour": price.per_hour, "source": price.source}
    return value


def _json_cell(cell: Cell) -> dict[str, Any]:
    return {
        "status": cell.status.value if cell.status else "absent",
        "reason": cell.reason,
        "value": cell.value,
        "ci": _ends(cell.interval),
        "validity": cell.validity.value if cell.validity else None,
        "ratio": cell.ratio.value if cell.ratio else None,
        "ratio_ci": _ends(cell.ratio.interval) if cell.ratio else None,
        "ratio_p": cell.ratio.p if cell.ratio else None,
        "ratio_p_adjusted": cell.ratio.adjusted_p if cell.ratio else None,
        "difference": cell.ratio.shows_difference if cell.ratio else None,
        "no_ratio": cell.no_ratio,
        "is_baseline": cell.is_baseline,
        "best_of_line": cell.best_of_line,
        "best": cell.best,
        "rows": cell.rows,
        "processes": [process.value for process in cell.figure.processes] if cell.figure else [],
        "trials": cell.figure.trials if cell.figure else 0,
        "pays_off_after_images": cell.pays_off_after,
        "notes": list(cell.notes),
    }


def _ends(interval: Interval | None) -> list[float] | None:
    return list(interval) if interval else None


def to_markdown(comparison: Comparison) -> str:
    """A GitHub-flavoured table with its caption, footnotes and legend; what rows say cannot become markup."""
    words = sheet(comparison)
    parts = [f"**{_markdown(words.title)}**", "  \n".join(_markdown(text) for text in words.caption)]
    parts.append(_markdown_table(words) if words.lines else "No rows.")
    parts.append("  \n".join(_markdown(f"[{number}] {text}") for number, text in enumerate(words.footnotes, start=1)))
    if words.payoffs:
        parts.append("Earned back, the dearer load and first call against the baseline's:")
        parts.append("\n".join(f"- {_markdown(text)}" for text in words.payoffs))
    parts.append(_markdown(" · ".join(words.legend)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(words: Sheet) -> str:
    rules = [*("--:" if numeric else ":--" for numeric in words.numeric), *(":--" for _ in words.hosts)]
    rows = [[*map(_markdown, (*words.axes, *words.hosts))], rules]
    rows += [[*map(_markdown, line.labels), *map(_markdown_cell, line.cells)] for line in words.lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _markdown_cell(cell: CellWords) -> str:
    return "<br>".join(_markdown(re.sub(" +", " ", part).strip()) for part in (cell.value, cell.ratio) if part)


def _markdown(text: str) -> str:
    """Text that stays text: its markup is escaped, and a word that would become a link is shown as code."""
    words = re.split(r"([\s|`]+)", text)  # a code span holds neither of the last two
    return "".join(f"`{word}`" if _LINKED.search(word) else _escaped(word) for word in words)


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]|~$#!])", r"\\\1", html.escape(text, quote=False))
