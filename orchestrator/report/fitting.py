"""Fits a table into a width: wraps headings, puts ratios below values, and splits columns into blocks.

A number is never wrapped or cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells

from orchestrator.report.table_text import CellText, TableText

PADDING = 2
WIDEST_LABEL, NARROWEST_LABEL = 24, 8
WHOLE_WORD = 12  # a longer word of a label may be broken
NARROWEST_HEADING = 16
NARROWEST_CASE = 20
_PARTS = re.compile(r"[@(]?[^@(.,_/ -]+[.,_/ -]*|.")  # of a heading, which may be broken between them


@dataclass(frozen=True)
class Shape:
    """How a table is drawn. blocks: the columns of each block.

    labels: the width of each label column; of the only one if they are joined. widths: of each column.
    wrapped: headings are. stacked: ratios are below their values. joined: all labels are in one column.
    """

    labels: tuple[int, ...]
    widths: tuple[int, ...]
    blocks: tuple[tuple[int, ...], ...]
    wrapped: bool = False
    stacked: bool = False
    joined: bool = False


def fitting(words: TableText, width: int) -> Shape:
    """Returns the most readable shape that fits the width; several blocks only if nothing else does."""
    every = tuple(range(len(words.columns)))
    labels = _label_widths(words, WIDEST_LABEL)
    widths: tuple[int, ...] = ()
    for wrapped, stacked in ((False, False), (True, False), (True, True)):
        widths = tuple(_column_width(words, column, wrapped=wrapped, stacked=stacked) for column in every)
        if _total(labels) + _total(widths) - PADDING <= width:
            return Shape(labels, widths, (every,), wrapped, stacked)
    labels, joined = _narrowed(words, width - max(widths) - PADDING)
    return Shape(labels, widths, tuple(_blocks(widths, width - _total(labels) + PADDING)), True, True, joined)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + PADDING * len(widths)


def _narrowed(words: TableText, width: int) -> tuple[tuple[int, ...], bool]:
    """Returns the widths of the labels beside the widest column, and whether they must share one column."""
    for most in range(WIDEST_LABEL, NARROWEST_LABEL - 1, -1):
        labels = _label_widths(words, most)
        if _total(labels) - PADDING <= width:
            return labels, False
    return (max(NARROWEST_CASE, width),), True


def _label_widths(words: TableText, most: int) -> tuple[int, ...]:
    labels = [[name, *(line.labels[i] for line in words.lines)] for i, name in enumerate(words.axes)]
    return tuple(_label_width(texts, most) for texts in labels)


def _label_width(texts: Sequence[str], most: int) -> int:
    """Returns a column's width: at most so wide, but no word of usual length is broken."""
    words = [cell_len(word) for text in texts for word in text.split()]
    unbroken = max((length for length in words if length <= WHOLE_WORD), default=0)
    return min(max(map(cell_len, texts)), max(most, unbroken))


def _blocks(widths: Sequence[int], room: int) -> Iterator[tuple[int, ...]]:
    """Splits columns into blocks that fit the room, with at least one column each."""
    block: list[int] = []
    for column in range(len(widths)):
        if block and _total([widths[i] for i in (*block, column)]) > room:
            yield tuple(block)
            block = []
        block.append(column)
    yield tuple(block)


def _column_width(words: TableText, column: int, *, wrapped: bool, stacked: bool) -> int:
    heading = _wrapped(words, column, stacked) if wrapped else [words.columns[column]]
    return max([_cells_width(words, column, stacked), *map(cell_len, heading)])


def _cells_width(words: TableText, column: int, stacked: bool) -> int:
    beside = value_width(words, column)
    lines = (text for line in words.lines for text in cell_lines(line.cells[column], beside, stacked=stacked))
    return max(map(cell_len, lines), default=0)


def heading_lines(words: TableText, column: int, shape: Shape) -> list[str]:
    return _wrapped(words, column, shape.stacked) if shape.wrapped else [words.columns[column]]


def _wrapped(words: TableText, column: int, stacked: bool) -> list[str]:
    """Wraps a heading to the width of the cells below it, between the parts of a name if possible."""
    most = max(_cells_width(words, column, stacked), NARROWEST_HEADING)
    lines = [""]
    for part in _PARTS.findall(words.columns[column]):
        if cell_len(lines[-1] + part.rstrip()) <= most:
            lines[-1] += part
        elif cell_len(part) <= most:
            lines.append(part)
        else:
            lines += chop_cells(part, most)
    return [line.strip() for line in lines if line.strip()]


def value_width(words: TableText, column: int) -> int:
    return max((cell_len(line.cells[column].value) for line in words.lines if line.cells[column].ratio), default=0)


def cell_lines(cell: CellText, width: int, *, stacked: bool) -> list[str]:
    """Returns the value with its ratio beside it, or below it if stacked. width: of the column's values."""
    if stacked or not cell.ratio:
        return [part for part in (cell.value, cell.ratio) if part]
    return [cell.value + " " * (width - cell_len(cell.value) + PADDING) + cell.ratio]
