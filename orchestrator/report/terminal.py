"""Prints a comparison on a terminal, or plain if piped, in blocks of columns that fit the console's width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from orchestrator.report.fitting import Shape, cell_lines, fitting, heading_lines, value_width
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
ASCII = str.maketrans({"×": "x", "±": "+-", "≈": "~", "–": "-", "…": "...", "·": "-", "→": "->"})


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
        console.print(_table(console, words, columns, shape))
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
    return Text(text.translate(ASCII) if console.options.ascii_only else text, style=style)


def _in_lines(console: Console, text: str) -> str:
    """Cuts a text that takes more lines than a footnote may."""
    lines = Text(text).wrap(console, console.width)
    if len(lines) <= FOOTNOTE_LINES:
        return text
    *kept, last = (line.plain.rstrip() for line in lines[:FOOTNOTE_LINES])
    # the last word makes room for the ellipsis
    return "\n".join([*kept, cut(f"{last} ") if cell_len(last) < console.width - 1 else cut(last)])


def _table(console: Console, words: TableText, columns: Sequence[int], shape: Shape) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
    for name, side, width in _label_columns(words, shape):
        table.add_column(literal(console, name), justify=side, width=width, overflow="fold")
    for column in columns:
        heading = literal(console, "\n".join(heading_lines(words, column, shape)))
        table.add_column(heading, no_wrap=True, min_width=shape.widths[column])
    widths = [value_width(words, column) for column in columns]
    for line in words.lines:
        texts = [", ".join(line.named(words.axes))] if shape.joined else line.labels
        cells = zip((line.cells[column] for column in columns), widths)
        table.add_row(
            *(literal(console, text) for text in texts), *(_cell(console, cell, width, shape) for cell, width in cells)
        )
    return table


def _label_columns(words: TableText, shape: Shape) -> Iterator[tuple[str, JustifyMethod, int]]:
    if shape.joined:
        yield "case", "left", shape.labels[0]
        return
    for name, numeric, width in zip(words.axes, words.numeric, shape.labels):
        yield name, "right" if numeric else "left", width


def _cell(console: Console, cell: CellText, width: int, shape: Shape) -> Text:
    text = literal(console, "\n".join(cell_lines(cell, width, stacked=shape.stacked)))
    text.stylize(STYLES[cell.tone], -len(cell.ratio or cell.value))
    if cell.best:
        text.stylize("bold", 0, len(cell.value))
    return text
