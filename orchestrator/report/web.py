"""Writes a comparison as HTML: a page of its own, or a fragment for a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from orchestrator.report import markup
from orchestrator.report.table_text import CellText, TableText, table_text
from orchestrator.table.comparison import Comparison


def to_html(comparison: Comparison) -> str:
    words = table_text(comparison)
    return markup.page(words.title, _body(words, is_page=True))


def fragment(comparison: Comparison) -> str:
    return markup.styled(_body(table_text(comparison)))


def _body(words: TableText, *, is_page: bool = False) -> str:
    prefix = markup.prefix_of(words)
    title = markup.title(words.title, words.caption, prefix, is_page=is_page)
    parts = markup.table(prefix, title, _header(words), _lines(words, prefix)) if words.lines else []
    parts = parts or [title, "<p>No rows.</p>"]
    if words.more:
        parts.append(f"<p>{escape(words.more)}</p>")
    parts += markup.footnotes(words.footnotes, prefix)
    if words.payoffs:
        parts.append("<p>Break-even: images after which the slower start pays off</p>")
        parts += markup.items(words.payoffs, "Break-even")
    return markup.block(prefix, [*parts, *markup.items(words.legend, "Legend")])


def _header(words: TableText) -> Iterator[str]:
    for name, is_numeric in zip(words.axes, words.numeric):
        yield markup.header(name, "col", is_numeric=is_numeric)
    for name in words.columns:
        yield markup.header(name, "col")


def _lines(words: TableText, prefix: str) -> Iterator[list[str]]:
    widths = [_value_width(words, i) for i in range(len(words.columns))]
    for line in words.lines:
        labels = [markup.header(text, "row", is_numeric=it) for text, it in zip(line.labels, words.numeric)]
        yield [*labels, *(_cell(cell, width, prefix) for cell, width in zip(line.cells, widths))]


def _value_width(words: TableText, column: int) -> int:
    return max((len(line.cells[column].value) for line in words.lines if line.cells[column].ratio), default=0)


def _cell(cell: CellText, width: int, prefix: str) -> str:
    """Pads the value, so that the ratios of a column stand below each other."""
    value = markup.linked(cell.value, prefix)
    value = f"<strong>{value}</strong>" if cell.best else value
    gap = " " * (width - len(cell.value) + 2)
    return markup.cell(
        value + (f"{gap}<span>{markup.linked(cell.ratio, prefix)}</span>" if cell.ratio else ""), cell.tone
    )
