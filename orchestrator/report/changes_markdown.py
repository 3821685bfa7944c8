"""Writes a comparison of two runs as Markdown, for a comment on a pull request."""

from __future__ import annotations

from orchestrator.report.changes_text import CaseText, ChangesText, changes_text
from orchestrator.report.table_text import Tone
from orchestrator.report.text import markdown
from orchestrator.table.changes import Changes

LOUD = (Tone.FAULT, Tone.WORSE, Tone.BETTER)


def to_markdown(changes: Changes) -> str:
    """Returns the summary and the cases that changed; the other cases and the legend are folded. Text from rows cannot
    become markup."""
    words = changes_text(changes)
    loud = [case for case in words.cases if case.tone in LOUD]
    quiet = [case for case in words.cases if case.tone not in LOUD]
    parts = [f"**{markdown(words.summary)}**", "  \n".join(map(markdown, words.head))]
    parts += [_table(words, loud)] if loud else []
    parts += [_folded(f"{len(quiet)} other case{'s' if len(quiet) > 1 else ''}", _table(words, quiet))] if quiet else []
    notes = [markdown(f"[{number}] {text}") for number, text in enumerate(words.footnotes, start=1)]
    parts.append("  \n".join(notes))
    parts.append(_folded("How to read this", "\n".join(f"- {markdown(text)}" for text in words.legend)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _folded(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def _table(words: ChangesText, cases: list[CaseText]) -> str:
    rules = [*("--:" if numeric else ":--" for numeric in words.numeric), *[":--"] * 4]
    rows = [[*map(markdown, (*words.axes, "BASE", "NEW", "NEW/BASE", "verdict"))], rules]
    rows += [[markdown(" ".join(text.split())) for text in _texts(case)] for case in cases]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _texts(case: CaseText) -> tuple[str, ...]:
    return (*case.labels, case.base, case.new, f"{case.ratio} {case.interval}", case.verdict)
