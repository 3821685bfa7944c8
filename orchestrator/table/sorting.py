"""Sorts the lines of a table by an axis or by their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from orchestrator.errors import InputError
from orchestrator.table.cases import rank
from orchestrator.table.comparison import Cell, Column, Line
from orchestrator.table.naming import near
from runner.schema import Validity

VALUE = "value"


def ordered(
    lines: Sequence[Line], by: str, axes: Sequence[str], columns: Sequence[Column], *, less_is_better: bool
) -> list[Line]:
    """Sorts lines by an axis, a column's value, or `value`: a line's best one. `-` before it means descending.

    Whatever the direction, lines whose value is invalid come after those with a valid one, and lines without any
    last; so do lines that do not state the axis.
    """
    names = [column.name for column in columns]
    known = (*axes, VALUE, *names)
    descending = by.startswith("-") and by not in known
    name = by[1:] if descending else by
    if name in axes:
        place = axes.index(name)
        by_label = sorted(lines, key=lambda line: rank(name, line.labels[place]), reverse=descending)
        return sorted(by_label, key=lambda line: line.labels[place] is None)
    if name == VALUE:
        return _by_value(lines, lambda line: line.cells, descending, min if less_is_better else max)
    if name in names:
        place = names.index(name)
        return _by_value(lines, lambda line: [line.cells[place]], descending, min)
    raise InputError(
        f"--sort {by}: expected an axis that lies down, value, or a column; {near(name, known, 'there are')}"
    )


def _by_value(
    lines: Sequence[Line],
    cells: Callable[[Line], Iterable[Cell]],
    descending: bool,
    best: Callable[[Iterable[float]], float],
) -> list[Line]:
    def key(line: Line) -> tuple[int, float]:
        for kind, is_valid in enumerate((True, False)):
            values = [
                cell.value
                for cell in cells(line)
                if cell.value is not None and (cell.validity in (Validity.VALID, None)) is is_valid
            ]
            if values:
                return kind, -best(values) if descending else best(values)
        return 2, 0.0

    return sorted(lines, key=key)
