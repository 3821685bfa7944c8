"""Chooses the rows that are compared at all, by the values of their axes and columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from orchestrator.errors import InputError
from orchestrator.table.cases import HOST, Placement, rank
from orchestrator.table.hosts import AxisValue, host_of
from orchestrator.table.naming import means, near, shown
from runner.schema import COLUMN, Row

# Every column but those that are lists; an axis of the same name comes first.
_COLUMNS = tuple(name for name, column in COLUMN.items() if isinstance(column.kind, type))


def chosen(rows: Sequence[Row], placed: Placement, where: Mapping[str, Sequence[str]]) -> list[Row]:
    """Returns the rows that have one of the values of every key: an axis or a column, its values as tables show them.

    Raises InputError for an unknown key, a value that no row has, and if no row has all of it.
    """
    kept = set(range(len(rows)))
    for name, texts in where.items():
        kept &= _with(name, texts, _values(name, rows, placed))
    if rows and not kept:
        asked = ", ".join(f"{name}={','.join(texts)}" for name, texts in where.items())
        raise InputError(f"--where {asked}: no row has all of these")
    return [row for i, row in enumerate(rows) if i in kept]


def _values(name: str, rows: Sequence[Row], placed: Placement) -> Sequence[tuple[AxisValue, ...]]:
    """Returns each row's values under a key. A host may be given with or without its run and conditions."""
    if name == HOST:
        named = (placed.host_names[column] for column in placed.hosts)
        return [(column, host_of(row), host.text(without=host.parts)) for column, row, host in
                zip(placed.hosts, rows, named)]  # fmt: skip
    if name in placed.facts:
        return [(value,) for value in placed.facts[name]]
    if name in _COLUMNS:
        return [(_plain(getattr(row, name)),) for row in rows]
    known = (*placed.known_axes, *_COLUMNS)
    raise InputError(f"--where {name}: rows have no axis or column {name!r}; {near(name, known, 'they have')}")


def _plain(value: object) -> AxisValue:
    return value.value if isinstance(value, Enum) else value  # type: ignore[return-value]


def _with(name: str, texts: Sequence[str], values: Sequence[tuple[AxisValue, ...]]) -> set[int]:
    """Returns the numbers of the rows that have one of the values. A value may itself contain a comma."""
    places: dict[AxisValue, set[int]] = {}
    for i, each in enumerate(values):
        for value in each:
            places.setdefault(value, set()).add(i)
    whole = ",".join(texts)
    found: set[int] = set()
    for text in [whole] if any(means(whole, value) for value in places) else map(str.strip, texts):
        meant = [value for value in places if means(text, value)]
        if values and not meant:
            known = [shown(value) for value in sorted(places, key=lambda value: rank(name, value))]
            raise InputError(f"--where {name}={text}: no row has it; {near(text, known, 'the rows have')}")
        found.update(*(places[value] for value in meant))
    return found
