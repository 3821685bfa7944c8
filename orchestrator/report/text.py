"""Writes a comparison as CSV for spreadsheets and as Markdown for web pages."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Mapping

from orchestrator.report.labels import axis_labels, told_apart
from orchestrator.report.legend import price_words
from orchestrator.report.numbers import limit_words
from orchestrator.report.table_text import CellText, TableText, shared_words, table_text, where_words
from orchestrator.sanitize import clean, harmless
from orchestrator.table.cases import AxisValue
from orchestrator.table.comparison import Cell, Comparison

PER_COLUMN = ("ci_low", "ci_high", "ratio", "ratio_ci_low", "ratio_ci_high", "status", "validity", "reason")
FOR_ALL = ("caption", "runs", "baseline", "prices")  # prices: where the metric needs them
# Words that GitHub and other renderers link without markup: addresses, mentions, issue numbers, commits. Renderers do
# not count a non-ASCII letter as part of a word: they link what follows it.
_LINKED = re.compile(
    r"://|www\.|\b(?:mailto|xmpp):|(?<![A-Za-z0-9_])(?:@\w|GH-\d|[0-9a-f]{40}(?![A-Za-z0-9_]))|\w@[\w-]+\.|#\d",
    re.IGNORECASE,
)


def to_csv(comparison: Comparison) -> str:
    """One line per case; per column: value (the header names its unit), interval, ratio, status and reason.

    Repeats what holds for the whole table on each line, so that every line is a complete record.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    value_name = f"{comparison.metric.value} [{comparison.metric.unit}]"
    columns = told_apart((column.name for column in comparison.columns), None).values()
    everywhere = FOR_ALL if comparison.metric.declared.needs_price else FOR_ALL[:-1]
    names = [f"{column} {name}" for column in columns for name in (value_name, *PER_COLUMN)]
    writer.writerow([inert(text) for text in (*told_apart(comparison.axes, None).values(), *names, *everywhere)])
    labels = [told_apart(values, None) for values in zip(*(line.labels for line in comparison.lines))]
    for_all = [inert(text) for text in _for_all(comparison)]
    for line in comparison.lines:
        cells = [value for cell in line.cells for value in _csv_cell(comparison, cell)]
        shown = [_csv_label(value, texts) for value, texts in zip(line.labels, labels)]
        writer.writerow([*shown, *cells, *for_all])
    return out.getvalue()


def _for_all(comparison: Comparison) -> tuple[str, ...]:
    shared = shared_words(comparison)
    if comparison.where:
        shared = "; ".join(part for part in (shared, f"only rows with {where_words(comparison)}") if part)
    base = comparison.baseline if comparison.metric.declared.has_baseline else None
    return (
        shared,
        ", ".join(comparison.runs),
        axis_labels(base.values, None) if base else "",
        *(["; ".join(price_words(comparison))] if comparison.metric.declared.needs_price else []),
    )


def _csv_label(value: AxisValue, texts: Mapping[AxisValue, str]) -> str | int | float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number else inert(texts[value])  # type: ignore[return-value]


def _csv_cell(comparison: Comparison, cell: Cell) -> list[str | float | None]:
    ratio = cell.ratio.value if cell.ratio else None
    interval = (*(cell.interval or (None, None)), ratio, *((cell.ratio and cell.ratio.interval) or (None, None)))
    no_ratio = None if cell.no_ratio == comparison.metric.declared.no_ratio else cell.no_ratio  # else it is of all
    parts = (cell.reason, limit_words(cell), no_ratio, *cell.ratio_notes, *cell.notes)
    why = "; ".join(part for part in parts if part)
    status = cell.status.value if cell.status else "absent"
    return [cell.value, *interval, status, cell.validity.value if cell.validity else None, inert(why)]


def inert(text: str) -> str:
    """Returns the whole text so that a spreadsheet shows it and does not run it as a formula."""
    text = clean(text)
    return harmless(text, len(text) * 2 + 1) or ""


def to_markdown(comparison: Comparison) -> str:
    """Returns a GitHub-flavoured table with caption, footnotes and legend. Text from rows cannot become markup."""
    words = table_text(comparison)
    parts = [f"**{markdown(words.title)}**", "  \n".join(markdown(text) for text in words.caption)]
    parts.append(_markdown_table(words) if words.lines else "No rows.")
    parts.append(words.more)
    parts.append("  \n".join(markdown(f"[{number}] {text}") for number, text in enumerate(words.footnotes, start=1)))
    if words.payoffs:
        parts.append("Break-even, images after which the slower start pays off:")
        parts.append("\n".join(f"- {markdown(text)}" for text in words.payoffs))
    parts.append(markdown(" · ".join(words.legend)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(words: TableText) -> str:
    rules = [*("--:" if numeric else ":--" for numeric in words.numeric), *(":--" for _ in words.columns)]
    rows = [[*map(markdown, (*words.axes, *words.columns))], rules]
    rows += [[*map(markdown, line.labels), *map(_markdown_cell, line.cells)] for line in words.lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _markdown_cell(cell: CellText) -> str:
    return "<br>".join(markdown(re.sub(" +", " ", part).strip()) for part in (cell.value, cell.ratio) if part)


def markdown(text: str) -> str:
    """Escapes markup, and formats a word that would become a link as code."""
    words = re.split(r"([\s|`]+)", text)  # a code span cannot contain `|` or a backtick
    return "".join(f"`{word}`" if _LINKED.search(word) else _escaped(word) for word in words)


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]|~$#!])", r"\\\1", html.escape(text, quote=False))
