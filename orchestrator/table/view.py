"""Lays the cells of a comparison out in lines and columns. No layout changes a cell's value, ratio or marks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from orchestrator.errors import InputError
from orchestrator.table.cases import HOST, SAMPLES, AxisValue, Key, Placement, key_order
from orchestrator.table.comparison import Cell, Column, Line
from orchestrator.table.copies import copy_of
from orchestrator.table.naming import named, near
from orchestrator.table.sorting import VALUE, ordered
from runner.schema import MAX

NOT_PLANNED = "not in the matrix"
NO_ROW = "no row"  # not in the matrix, or left out by `where`


@dataclass(frozen=True)
class View:
    """What a comparison shows, and where.

    rows, columns: the axes that lie down and across. Axes that differ and are in neither are appended down.
    where: the values of an axis or a column that rows must have to be compared at all.
    sort: what lines are sorted by: an axis that lies down, a column's name, or `value`, the best value of a line; with
        `-` before it, descending. By default, the axes in their order.
    limit: the number of lines shown; all comparisons are made before.
    """

    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = (HOST,)
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sort: str | None = None
    limit: int | None = None


class Layout(NamedTuple):
    """left_out: the number of lines that a limit leaves out."""

    axes: tuple[str, ...]
    across: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    left_out: int


def laid_out(cells: Mapping[Key, Cell], placed: Placement, view: View, *, less_is_better: bool = True) -> Layout:
    """Lays cells out as a view asks. Raises InputError for an unknown axis, or one that is asked for twice."""
    axes, across = _axes(placed, view)
    at = _placed_at(cells, placed, axes, across)
    line_keys = sorted({line for line, _ in at}, key=key_order(axes))
    column_keys = sorted({column for _, column in at}, key=key_order(across))
    reason = NO_ROW if view.where else NOT_PLANNED
    order = (*placed.axes, *(name for name in (*axes, *across) if name not in placed.axes))
    grid = [
        [at.get((line, column)) or _absent((*axes, *across), (*line, *column), order, reason) for column in column_keys]
        for line in line_keys
    ]
    line_labels = _with_found(axes, line_keys, grid)
    column_labels = _with_found(across, column_keys, list(zip(*grid)))
    columns = _columns(across, column_labels)
    lines = [Line(labels, tuple(_noting_found(row))) for labels, row in zip(line_labels, grid)]
    if view.sort is not None:
        lines = ordered(lines, view.sort, axes, columns, less_is_better=less_is_better)
    shown = lines[: view.limit]
    return Layout(axes, across, columns, tuple(shown), len(lines) - len(shown))


def _axes(placed: Placement, view: View) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the axes down and across."""
    known = placed.known_axes
    for name, count in Counter((*view.rows, *view.columns)).items():
        if name not in known:
            raise InputError(f"these rows have no axis {name!r}; {near(name, known, 'they have')}")
        if count > 1:
            raise InputError(f"axis {name!r} is asked for twice; fix: name it once, in --rows or in --columns")
    rest = (name for name in placed.axes if name not in view.rows and name not in view.columns)
    return (*view.rows, *rest), view.columns


def _placed_at(
    cells: Mapping[Key, Cell], placed: Placement, axes: Sequence[str], across: Sequence[str]
) -> dict[tuple[Key, Key], Cell]:
    """Returns the cells by the labels of their lines and columns.

    An axis that is a part of hosts' names, such as `desk (threads 2)`, leaves those names if it is asked for itself.
    """
    more = [name for name in (*axes, *across) if name not in placed.axes]
    of = {name: placed.on(name) for name in (*axes, *across)}
    keyed = {key: copy_of(cell, key={**cell.key, **{name: of[name](key) for name in more}}) if more else cell
             for key, cell in cells.items()}  # fmt: skip
    whole = of[HOST]
    for host in (lambda key: placed.host_names[str(key[-1])].text(without=more), whole) if more else (whole,):
        of[HOST] = host
        at = {
            (tuple(of[name](key) for name in axes), tuple(of[name](key) for name in across)): cell
            for key, cell in keyed.items()
        }
        if len(at) == len(cells):
            break
    return at


def _absent(names: Sequence[str], values: Key, order: Sequence[str], reason: str) -> Cell:
    key = dict(zip(names, values))
    return Cell({name: key[name] for name in order}, reason=reason)


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
        copy_of(cell, notes=(f"max is {cell.samples} here", *cell.notes)) if id(cell) in apart else cell
        for cell in cells
    ]


def _columns(across: Sequence[str], labels: Sequence[Key]) -> tuple[Column, ...]:
    """Names each column by its values, a number with its axis: `half, samples 4`; `value` if no axis lies across."""
    columns: dict[str, Column] = {}
    for values in labels:
        name = ", ".join(_word(axis, value) for axis, value in zip(across, values)) or VALUE
        while name in columns:  # two hostile values may read the same
            name += "'"
        columns[name] = Column(name, dict(zip(across, values)))
    return tuple(columns.values())


def _word(axis: str, value: AxisValue) -> str:
    return value if isinstance(value, str) else named(axis, value)
