"""Parses foreign JSON within limits, and finds the rows in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.errors import InputError
from runner.schema import format_cell

# One object is 64 bytes of memory or more, and two in the file; 50,000 rows with their trials have fewer.
MOST_CONTAINERS = 200_000
MOST_VALUES = 2_000_000
LONGEST_INTEGER = 40
USED = "used"  # what `results -o json` adds to a row


class _FaultyError(ValueError):
    pass


def parsed(text: str, name: str) -> Any:
    """Returns the value of a JSON text. `NaN`, as Python writes a missing number, is None. Raises InputError."""
    if text.count("{") + text.count("[") > MOST_CONTAINERS or text.count(",") > MOST_VALUES:
        raise InputError(f"{name}: has more values than a table of benchmarks; fix: split the file")
    try:
        return json.loads(text, object_pairs_hook=_object, parse_int=_integer, parse_constant=_constant)
    except _FaultyError as error:
        raise InputError(f"{name}: {error}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{name}:{error.lineno}: is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise InputError(f"{name}: is JSON nested too deeply") from error


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _FaultyError(f"the key {key[:40]!r} appears twice in one object")
        found[key] = value
    return found


def _integer(text: str) -> int:
    if len(text) > LONGEST_INTEGER:
        raise _FaultyError(f"a number of {len(text)} digits is too long")
    return int(text)


def _constant(word: str) -> None:
    if word != "NaN":
        raise _FaultyError(f"{word} is not a finite number")


def records(value: Any) -> list[Mapping[str, Any]] | None:
    """Returns the rows of a list of objects, or of the JSON that `results -o json` prints; None if it is neither."""
    if isinstance(value, Mapping):
        value = list(_rows_of_document(value))
    if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
        return value
    return None


def _rows_of_document(document: Mapping[str, Any]) -> Iterator[Any]:
    cases = document.get("cases")
    for case in cases if isinstance(cases, list) else ():
        cells = case.get("cells") if isinstance(case, Mapping) else None
        for cell in cells.values() if isinstance(cells, Mapping) else cells or ():
            rows = cell.get("rows") if isinstance(cell, Mapping) else None
            yield from rows if isinstance(rows, list) else ()


def text_of(value: Any) -> str:
    """Writes a JSON value as a CSV cell."""
    if isinstance(value, list) and all(isinstance(item, (int, float)) for item in value):
        return ";".join(repr(item) for item in value)
    if isinstance(value, (list, Mapping)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return format_cell(value)
