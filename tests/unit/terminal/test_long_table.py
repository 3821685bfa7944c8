"""A table of thousands of rows is laid out like rich's own, without its cost."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.cells import cell_len

from orchestrator.terminal.console import SanitizingConsole
from orchestrator.terminal.long_table import LongTable, fitted
from orchestrator.terminal.output import plain_table

ROWS = [
    ("gpu00", "a1b2", "eager", ""),
    ("東京", "", "onnxruntime", "unsupported: it has kernels for half precision only"),
    ("a-host-of-a-long-name", "ffff", "[bold]mii[/]", "two\nlines"),
]


def lines(table: object, width: int, *, terminal: bool = False) -> list[str]:
    out = StringIO()
    console = SanitizingConsole(file=out, width=width, force_terminal=terminal, markup=False, highlight=False)
    console.print(table)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def filled(table: LongTable) -> LongTable:
    for row in ROWS:
        table.add_row(*row)
    return table


@pytest.mark.parametrize("width", [160, 100])
def test_where_all_fits_it_prints_what_the_plain_table_prints(width: int) -> None:
    plain = plain_table("host", "job", "engine", "why")
    for row in ROWS:
        plain.add_row(*row)
    assert lines(filled(LongTable("host", "job", "engine", "why")), width) == lines(plain, width)


@pytest.mark.parametrize("width", [160, 40, 20])
def test_no_line_is_wider_than_the_console_and_no_text_is_lost(width: int) -> None:
    found = lines(filled(LongTable("host", "job", "engine", "why")), width)
    assert max(map(cell_len, found)) <= width
    assert sorted("".join(found).replace(" ", "")) == sorted(
        "".join(map("".join, [("host", "job", "engine", "why"), *ROWS])).replace(" ", "").replace("\n", "")
    )


def test_the_heading_is_bold_and_foreign_text_is_not_obeyed() -> None:
    table = LongTable("host")
    table.add_row("\x1b[2Jgone")
    heading, row = lines(table, 40, terminal=True)
    assert heading == "\x1b[1mhost\x1b[0m"
    assert row == "?[2Jgone"


@pytest.mark.parametrize(
    ("widths", "room", "found"),
    [([5, 9, 30], 44, [5, 9, 30]), ([5, 9, 30], 20, [5, 7, 7]), ([3, 3], 1, [1, 1]), ([4, 30, 30], 40, [4, 18, 18])],
)
def test_the_widest_columns_give_way_first(widths: list[int], room: int, found: list[int]) -> None:
    assert fitted(widths, room) == found
