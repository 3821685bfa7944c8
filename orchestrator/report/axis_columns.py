"""The value of every axis of a cell, as typed columns of its record."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from orchestrator.frames import Column
from orchestrator.table.cases import AXES, HOST, SAMPLES, AxisValue, natural
from orchestrator.table.comparison import Cell
from runner.schema import COLUMN

SAMPLES_ASKED = "samples_asked"
# The axes that every record has, by column.
ALWAYS: Mapping[str, str] = {HOST: HOST, **{name: name for name in AXES}, SAMPLES_ASKED: SAMPLES}


def axis_values(
    cells: Sequence[Cell], caption: Mapping[str, AxisValue], others: Collection[str]
) -> tuple[list[Column], dict[str, list[Any]]]:
    """Returns the columns of all axes, and their values, a value per cell.

    caption: what all rows share; an axis on which all rows agree has its value in each record.
    others: names of the record's other columns, which the setting of an imported file may have too.
    """
    found = axes(cells, others)
    values = {
        column.name: [_value(caption, cell, axis, column.kind) for cell in cells] for column, axis in found.items()
    }
    return list(found), values


def axes(cells: Sequence[Cell], others: Collection[str]) -> dict[Column, str]:
    """Returns the axis of each column: first those that every record has, then those that only some tables have."""
    found = {Column(name, _kind(name), meaning=_meaning(name)): axis for name, axis in ALWAYS.items()}
    taken = {*others, *(column.name for column in found)}
    for axis in sorted({axis for cell in cells for axis in cell.key if axis not in ALWAYS.values()}, key=natural):
        name = axis
        while name in taken:
            name = f"{name} (axis)"
        taken.add(name)
        found[Column(name, _kind(axis))] = axis
    return found


def _kind(name: str) -> Any:
    """Returns the type of an axis: that of its column in results.csv, or else text."""
    if name == SAMPLES:
        return int
    kind = COLUMN[name].kind if name in COLUMN else str
    return kind if kind in (int, float, bool) else str


def _meaning(name: str) -> str:
    own = {SAMPLES: COLUMN["n_samples"].meaning, "size": "width×height in pixels", HOST: "the host, or host@run"}
    return own.get(name) or COLUMN[name].meaning


def _value(caption: Mapping[str, AxisValue], cell: Cell, axis: str, kind: Any) -> Any:
    value = cell.key[axis] if axis in cell.key else _shared(caption, cell, axis)
    if axis == SAMPLES and kind is int:
        return cell.samples if cell.samples is not None else value if isinstance(value, int) else None
    return value if value is None or kind is not str else str(value)


def _shared(caption: Mapping[str, AxisValue], cell: Cell, axis: str) -> AxisValue:
    """Returns what the caption says of an axis. It does not hold for imported rows that state nothing."""
    if axis in AXES and cell.sources and all(row.is_imported and AXES[axis](row) is None for row in cell.sources):
        return None
    return caption.get(axis)
