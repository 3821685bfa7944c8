"""Values of axes as words, and the values that a user's words mean."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from orchestrator.table.cases import AxisValue

MOST_LISTED = 12


def shown(value: AxisValue) -> str:
    """Formats a value as tables show it."""
    if value is None:
        return "not stated"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def named(axis: str, value: AxisValue) -> str:
    """Formats an axis and its value: `threads 2`."""
    return f"{axis} {shown(value)}"


def means(text: str, value: AxisValue) -> bool:
    """Whether a user's text means a value. Accepts what tables show, and 50.0, true and 512x512 beside it."""
    if text == shown(value):
        return True
    if isinstance(value, bool):
        return text.lower() == str(value).lower()
    if isinstance(value, str):
        return text.replace("x", "×") == value
    try:
        return value is not None and float(text) == value
    except ValueError:
        return False


def near(name: str, known: Iterable[str], otherwise: str) -> str:
    """Returns the end of a message about an unknown name: the nearest known one, or all of them after `otherwise`."""
    names = list(dict.fromkeys(known))
    is_number = name.replace(".", "", 1).isdigit()  # 1 is not a misspelt 16
    if not is_number and (found := difflib.get_close_matches(name, names, n=1)):
        return f"did you mean {found[0]!r}?"
    return f"{otherwise} {listed(names)}"


def listed(names: Sequence[str]) -> str:
    """Joins names; of many, the first ones and how many more there are."""
    more = [f"… and {len(names) - MOST_LISTED} more"] if len(names) > MOST_LISTED else []
    return ", ".join([*names[:MOST_LISTED], *more]) or "nothing"
