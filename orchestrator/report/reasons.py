"""Reasons and notes as text of at most two lines; the whole text is in the JSON and in the run's rows."""

from __future__ import annotations

from orchestrator.sanitize import clean

LONGEST_REASON = 200  # two lines of a usual width
ELLIPSIS = "…"
CUT = f"{ELLIPSIS}: the whole text is in -o json and in the run's results.csv"


def reason_text(text: str) -> str:
    whole = clean(text)
    return whole if len(whole) <= LONGEST_REASON else cut(whole[: LONGEST_REASON - 2])


def cut(text: str) -> str:
    """Ends a text that goes on after its last whole word, so that no number is cut."""
    return f"{text.rpartition(' ')[0] or text} {ELLIPSIS}"


def is_cut(text: str) -> bool:
    return text.endswith(f" {ELLIPSIS}")
