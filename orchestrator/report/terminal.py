"""Prints a comparison on a terminal, or plain if piped. Splits columns into blocks that fit the console's width."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from orchestrator.report.table_text import CellText, TableText, Tone, table_text
from orchestrator.table.comparison import Comparison

PADDING = 2
WIDEST_LABEL = 24
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
ASCII = str.maketrans({"×": "x", "±": "+-", "≈": "~", "–": "-", "…": "...", "·": "-"})


def terminal(comparison: Comparison, console: Console) -> None:
    """Prints the whole table with its caption, footnotes and legend."""
    words = table_text(comparison)
    _print(console, words.title, "bold")
    for text in words.caption:
        _print(console, text, "dim")
    if not words.lines:
        _print(console, "No rows.")
        return
    stacked = _table_width(words, range(len(words.columns)), stacked=False) > console.width
    for columns in _blocks(words, console.width, stacked):
        console.print()
        console.print(_table(console, words, columns, stacked))
    if words.more:
        _print(console, f"… {words.more}", "dim")
    console.print()
    for number, text in enumerate(words.footnotes, start=1):
        _print(console, f"[{number}] {text}")
    if words.payoffs:
        _print(console, "Break-even: images after which the slower start pays off", "bold")
        for text in words.payoffs:
            _print(console, f"  {text}")
    if words.legend:
        _print(console, " · ".join(words.legend), "dim")


def _print(console: Console, text: str, style: str = "") -> None:
    console.print(literal(console, text, style))


def literal(console: Console, text: str, style: str = "") -> Text:
    """Returns literal text: brackets are not markup."""
    return Text(text.translate(ASCII) if console.options.ascii_only else text, style=style)


def _value_width(words: TableText, column: int) -> int:
    return max((cell_len(line.cells[column].value) for line in words.lines if line.cells[column].ratio), default=0)


def _cell_lines(cell: CellText, value_width: int, stacked: bool) -> list[str]:
    """Returns the value with its ratio beside it, or below it if stacked."""
    if stacked or not cell.ratio:
        return [part for part in (cell.value, cell.ratio) if part]
    return [cell.value + " " * (value_width - cell_len(cell.value) + PADDING) + cell.ratio]


def _heading(column: str, stacked: bool) -> str:
    """Returns a column's name; if stacked, with a host's run on a second line."""
    return column.replace("@", "\n@", 1) if stacked else column


def _column_width(words: TableText, column: int, stacked: bool) -> int:
    beside = _value_width(words, column)
    lines = [text for line in words.lines for text in _cell_lines(line.cells[column], beside, stacked)]
    return max(map(cell_len, [*lines, *_heading(words.columns[column], stacked).split("\n")])) + PADDING


def _labels_width(words: TableText) -> int:
    labels = [[name, *(line.labels[i] for line in words.lines)] for i, name in enumerate(words.axes)]
    return sum(min(WIDEST_LABEL, max(map(cell_len, texts))) + PADDING for texts in labels) - PADDING


def _table_width(words: TableText, columns: Sequence[int], stacked: bool) -> int:
    return _labels_width(words) + sum(_column_width(words, column, stacked) for column in columns)


def _blocks(words: TableText, width: int, stacked: bool) -> list[list[int]]:
    """Splits columns into blocks that fit the width, with at least one host each."""
    blocks: list[list[int]] = []
    for column in range(len(words.columns)):
        if blocks and _table_width(words, [*blocks[-1], column], stacked) <= width:
            blocks[-1].append(column)
        else:
            blocks.append([column])
    return blocks


def _table(console: Console, words: TableText, columns: Sequence[int], stacked: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, PADDING - 1))
    for name, numeric in zip(words.axes, words.numeric):
        side: JustifyMethod = "right" if numeric else "left"
        table.add_column(literal(console, name), justify=side, max_width=WIDEST_LABEL, overflow="fold")
    for column in columns:
        table.add_column(literal(console, _heading(words.columns[column], stacked)), overflow="fold")
    widths = [_value_width(words, column) for column in columns]
    for line in words.lines:
        labels = [literal(console, label) for label in line.labels]
        cells = zip((line.cells[column] for column in columns), widths)
        table.add_row(*labels, *(_cell(console, cell, width, stacked) for cell, width in cells))
    return table


def _cell(console: Console, cell: CellText, value_width: int, stacked: bool) -> Text:
    text = literal(console, "\n".join(_cell_lines(cell, value_width, stacked)))
    text.stylize(STYLES[cell.tone], -len(cell.ratio or cell.value))
    if cell.best:
        text.stylize("bold", 0, len(cell.value))
    return text
