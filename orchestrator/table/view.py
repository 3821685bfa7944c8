"""Lays the cells of a comparison out in lines and columns. No layout changes a cell's value, ratio or marks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from orchestrator.errors import InputError
from orchestrator.table.cases import HOST, SAMPLES, AxisValue, Key, Placement, key_order
from orchestrator.table.comparison import Cell, Column, Line
from orchestrator.table.naming import named, near
from runner.schema import MAX

NOT_PLANNED = "not in the matrix"


@dataclass(frozen=True)
class View:
    """What a comparison shows, and where.

    rows, columns: the axes that lie down and across. Axes that differ and are in neither are appended down.
    where: the values of an axis or column that rows must have to be compared at all.
    sort: the axis or column by which lines are sorted, or `value`; with `-` before it, descending.
    limit: the number of lines shown.
    """

    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = (HOST,)
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sort: str | None = None
    limit: int | None = None


class Layout(NamedTuple):
    axes: tuple[str, ...]
    across: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]


def laid_out(cells: Mapping[Key, Cell], placed: Placement, view: View) -> Layout:
    """Lays cells out as a view asks. Raises InputError for an unknown axis, or one that is asked for twice."""
    axes, across = _axes(placed.axes, view)
    down = [placed.axes.index(name) for name in axes]
    over = [placed.axes.index(name) for name in across]
    at = {(tuple(key[i] for i in down), tuple(key[i] for i in over)): cell for key, cell in cells.items()}
    line_keys = sorted({line for line, _ in at}, key=key_order(axes))
    column_keys = sorted({column for _, column in at}, key=key_order(across))
    grid = [
        [at.get((line, column)) or _absent((*axes, *across), (*line, *column), placed.axes) for column in column_keys]
        for line in line_keys
    ]
    line_labels = _with_found(axes, line_keys, grid)
    column_labels = _with_found(across, column_keys, list(zip(*grid)))
    return Layout(
        axes,
        across,
        _columns(across, column_labels),
        tuple(Line(labels, tuple(_noting_found(row))) for labels, row in zip(line_labels, grid)),
    )


def _axes(known: Sequence[str], view: View) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the axes down and across."""
    for name, count in Counter((*view.rows, *view.columns)).items():
        if name not in known:
            raise InputError(f"these rows have no axis {name!r}; {near(name, known, 'they have')}")
        if count > 1:
            raise InputError(f"axis {name!r} is asked for twice; fix: name it either in --rows or in --columns")
    rest = (name for name in known if name not in view.rows and name not in view.columns)
    return (*view.rows, *rest), view.columns


def _absent(names: Sequence[str], values: Key, order: Sequence[str]) -> Cell:
    key = dict(zip(names, values))
    return Cell({name: key[name] for name in order}, reason=NOT_PLANNED)


def _with_found(axes: Sequence[str], keys: Sequence[Key], cells: Sequence[Sequence[Cell]]) -> list[Key]:
    """Returns labels: the keys, with the batch sizes that their cells found for `max`."""
    if SAMPLES not in axes:
        return list(keys)
    place, labels = axes.index(SAMPLES), []
    for key, its in zip(keys, cells):
        found = sorted({cell.samples for cell in its if cell.samples is not None})
        if key[place] == MAX and found:
            numbers = f"{found[0]}–{found[-1]}" if len(found) > 1 else str(found[0])
            key = (*key[:place], f"{MAX} ({numbers})", *key[place + 1 :])
        labels.append(key)
    return labels


def _noting_found(cells: Sequence[Cell]) -> list[Cell]:
    """Adds the batch size found for `max` to the notes of a line's cells if they differ in it."""
    asked = [cell for cell in cells if cell.key.get(SAMPLES) == MAX and cell.samples is not None]
    if len({cell.samples for cell in asked}) < 2:
        return list(cells)
    apart = set(map(id, asked))
    return [
        replace(cell, notes=(f"max is {cell.samples} here", *cell.notes)) if id(cell) in apart else cell
        for cell in cells
    ]


def _columns(across: Sequence[str], labels: Sequence[Key]) -> tuple[Column, ...]:
    """Names each column by its values; a number with its axis: `half, samples 4`."""
    names = [", ".join(_word(axis, value) for axis, value in zip(across, values)) for values in labels]
    times, seen, columns = Counter(names), Counter[str](), []
    for name, values in zip(names, labels):
        seen[name] += 1
        unique = name if times[name] == 1 else f"{name} ({seen[name]})"
        columns.append(Column(unique or "value", dict(zip(across, values))))
    return tuple(columns)


def _word(axis: str, value: AxisValue) -> str:
    return value if isinstance(value, str) else named(axis, value)
