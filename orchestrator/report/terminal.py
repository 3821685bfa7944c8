"""Prints a comparison on a terminal, or plain if piped, in blocks of columns that fit the console's width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from orchestrator.report.fitting import PADDING, Shape, cell_lines, fitting, heading_lines, value_width
from orchestrator.report.reasons import CUT, cut, is_cut
from orchestrator.report.table_text import CellText, TableText, Tone, table_text
from orchestrator.table.comparison import Comparison

FOOTNOTE_LINES = 2
STYLES = {
    Tone.PLAIN: "",
    Tone.BETTER: "green",
    Tone.WORSE: "red",
    Tone.SAME: "dim",
    Tone.DOUBTFUL: "yellow",
    Tone.NO_VALUE: "yellow",
    Tone.FAULT: "bold red",
    Tone.ABSENT: "dim",
}
ASCII = str.maketrans({"─": "-", "×": "x", "±": "+-", "≈": "~", "–": "-", "…": "...", "·": "-", "→": "->"})


def terminal(comparison: Comparison, console: Console) -> None:
    """Prints the whole table with its caption, footnotes and legend."""
    words = table_text(comparison)
    _print(console, words.title, "bold")
    for text in words.caption:
        _print(console, text, "dim")
    if not words.lines:
        _print(console, "No rows.")
        return
    shape = fitting(words, console.width)
    for columns in shape.blocks:
        console.print()
        for line in _table(console, words, columns, shape):
            console.print(line, no_wrap=True, overflow="ignore", crop=False)
    if words.more:
        _print(console, f"… {words.more}", "dim")
    console.print()
    footnotes = [_in_lines(console, f"[{number}] {text}") for number, text in enumerate(words.footnotes, start=1)]
    for text in footnotes:
        _print(console, text)
    if words.payoffs:
        _print(console, "Break-even: images after which the slower start pays off", "bold")
        for text in words.payoffs:
            _print(console, f"  {text}")
    legend = [*words.legend, *([CUT] if CUT not in words.legend and any(map(is_cut, footnotes)) else [])]
    if legend:
        _print(console, " · ".join(legend), "dim")


def _print(console: Console, text: str, style: str = "") -> None:
    console.print(literal(console, text, style))


def literal(console: Console, text: str, style: str = "") -> Text:
    """Returns literal text: brackets are not markup."""
    return Text(_encodable(console, text), style=style)


def _encodable(console: Console, text: str) -> str:
    # `console.options.ascii_only` says the same, but asks for the size of the terminal each time
    return text if console.encoding.startswith("utf") else text.translate(ASCII)


def _in_lines(console: Console, text: str) -> str:
    """Cuts a text that takes more lines than a footnote may."""
    lines = Text(text).wrap(console, console.width)
    if len(lines) <= FOOTNOTE_LINES:
        return text
    *kept, last = (line.plain.rstrip() for line in lines[:FOOTNOTE_LINES])
    # the last word makes room for the ellipsis
    return "\n".join([*kept, cut(f"{last} ") if cell_len(last) < console.width - 1 else cut(last)])


@dataclass(frozen=True)
class _Line:
    """A line of a cell. styles: each with the first and the last character that it holds for."""

    text: str
    styles: Sequence[tuple[str, int, int]] = ()


_Cell: TypeAlias = Sequence[_Line]


def _table(console: Console, words: TableText, columns: Sequence[int], shape: Shape) -> Iterator[Text]:
    """Yields the lines of a block of columns. rich's own table, which measures and wraps every cell again, takes three
    times as long (docs/performance.md)."""
    names = ["case"] if shape.joined else words.axes
    heading = [_wrapped(console, name, width) for name, width in zip(names, shape.labels)]
    heading += [[_Line(_encodable(console, text)) for text in heading_lines(words, i, shape)] for i in columns]
    tallest = max(map(len, heading))
    heading = [[*[_Line("")] * (tallest - len(lines)), *lines] for lines in heading]  # names stand next to the line
    values = [value_width(words, column) for column in columns]
    rows: list[Sequence[_Cell]] = [heading]
    for line in words.lines:
        labels = [", ".join(line.named(words.axes))] if shape.joined else line.labels
        cells = [_cell(console, line.cells[i], width, shape) for i, width in zip(columns, values)]
        rows.append([*(_wrapped(console, text, width) for text, width in zip(labels, shape.labels)), *cells])
    found = [max(cell_len(line.text) for cell in column for line in cell) for column in zip(*rows)]
    widths = [*shape.labels, *map(max, found[len(names) :], (shape.widths[i] for i in columns))]
    to_the_right = [*((False,) if shape.joined else words.numeric), *(False for _ in columns)]
    for text in _beside(heading, widths, to_the_right):
        text.stylize("bold")
        yield text
    yield literal(console, "─" * (sum(widths) + PADDING * (len(widths) - 1)))
    for row in rows[1:]:
        yield from _beside(row, widths, to_the_right)


def _wrapped(console: Console, label: str, width: int) -> _Cell:
    text = _encodable(console, label)
    if cell_len(text) <= width:
        return [_Line(text)]
    return [_Line(line.plain.rstrip()) for line in Text(text).wrap(console, width, overflow="fold")]


def _beside(cells: Sequence[_Cell], widths: Sequence[int], to_the_right: Sequence[bool]) -> Iterator[Text]:
    """Yields a row's lines, as many as its longest cell has."""
    for i in range(max(map(len, cells))):
        text = Text(no_wrap=True)
        for cell, width, is_right in zip(cells, widths, to_the_right):
            line = cell[i] if i < len(cell) else _Line("")
            space = " " * (width - cell_len(line.text))
            text.append(f"{' ' * PADDING * bool(text)}{space if is_right else ''}")
            start = len(text)
            text.append(line.text if is_right else line.text + space)
            for style, first, end in line.styles:
                text.stylize(style, start + first, start + end)
        yield text


def _cell(console: Console, cell: CellText, width: int, shape: Shape) -> _Cell:
    lines = [_encodable(console, text) for text in cell_lines(cell, width, stacked=shape.stacked)]
    toned = len(_encodable(console, cell.ratio or cell.value))
    found: list[list[tuple[str, int, int]]] = [[] for _ in lines]
    if STYLES[cell.tone]:
        found[-1].append((STYLES[cell.tone], len(lines[-1]) - toned, len(lines[-1])))
    if cell.best:
        found[0].append(("bold", 0, len(_encodable(console, cell.value))))
    return [_Line(text, styles) for text, styles in zip(lines, found)] or [_Line("")]
