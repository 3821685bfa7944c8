"""Writes a comparison of two runs as HTML for a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from orchestrator.report import markup
from orchestrator.report.changes_text import CaseText, ChangesText, changes_text
from orchestrator.report.table_text import Tone
from orchestrator.table.changes import Changes


def fragment(changes: Changes) -> str:
    words = changes_text(changes)
    prefix = markup.prefix_of(words)
    title = markup.title(words.summary, words.head, prefix)
    parts = markup.table(prefix, title, _header(words), (_line(words, case, prefix) for case in words.cases))
    parts += markup.footnotes(words.footnotes, prefix)
    return markup.styled(markup.block(prefix, [*parts, *markup.items(words.legend, "Legend")]))


def _header(words: ChangesText) -> Iterator[str]:
    for name, is_numeric in zip(words.axes, words.numeric):
        yield markup.header(name, "col", is_numeric=is_numeric)
    for name in ("BASE", "NEW", "NEW/BASE", "verdict"):
        yield markup.header(name, "col")


def _line(words: ChangesText, case: CaseText, prefix: str) -> Iterator[str]:
    for text, is_numeric in zip(case.labels, words.numeric):
        yield markup.header(text, "row", is_numeric=is_numeric)
    for text in (case.base, case.new, f"{case.ratio} {case.interval}".rstrip()):
        yield markup.cell(escape(text), Tone.PLAIN)
    yield markup.cell(f"<span>{markup.linked(case.verdict, prefix)}</span>", case.tone)
