"""A table of text that may have thousands of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

GAP = 2  # spaces between two columns


class LongTable:
    """Prints like `plain_table`: without lines, folded to the console's width. Cells are plain text.

    Lays out the rows itself, because rich's table takes 0.5 ms of CPU for a row, and this one 0.02 ms: 10,000 jobs,
    5.0 s and 0.2 s (benchmarks/plan_cases.py).
    """

    def __init__(self, *columns: str) -> None:
        self._rows: list[Sequence[str]] = [columns]

    def add_row(self, *cells: str) -> None:
        self._rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        natural = [max(map(cell_len, column)) for column in zip(*self._rows)]
        widths = fitted(natural, options.max_width - GAP * (len(natural) - 1))
        style = Style(bold=True)
        for row in self._rows:
            for line in _lines(row, widths, console):
                yield Segment(line, style)
                yield Segment.line()
            style = Style.null()


def fitted(widths: Sequence[int], room: int) -> list[int]:
    """Returns the widths, with the widest columns narrowed until all fit the room; each keeps at least one cell."""
    found = list(widths)
    while (excess := sum(found) - room) > 0 and (widest := max(found)) > 1:
        wide = [i for i, width in enumerate(found) if width == widest]
        next_widest = max((width for width in found if width < widest), default=1)
        less = min(widest - max(1, next_widest), -(-excess // len(wide)))
        for i in wide:
            found[i] -= less
    return found


def _lines(row: Sequence[str], widths: Sequence[int], console: Console) -> Iterator[str]:
    lengths = [cell_len(cell) for cell in row]
    if all(length <= width for length, width in zip(lengths, widths)) and not any("\n" in cell for cell in row):
        yield _line(row, lengths, widths)
        return
    folded = [_folded(cell, width, console) for cell, width in zip(row, widths)]
    for number in range(max(map(len, folded))):
        cells = [lines[number] if number < len(lines) else "" for lines in folded]
        yield _line(cells, [cell_len(cell) for cell in cells], widths)


def _line(cells: Sequence[str], lengths: Sequence[int], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width + GAP - length) for cell, length, width in zip(cells, lengths, widths))
    return "".join(padded).rstrip()


def _folded(cell: str, width: int, console: Console) -> list[str]:
    return [line.plain.rstrip() for line in Text(cell).wrap(console, width, overflow="fold")]
