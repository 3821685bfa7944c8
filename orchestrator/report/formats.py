"""Declares the output formats of a comparison, each with its writer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from orchestrator.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.table.comparison import Comparison

# Writes a comparison to standard output. The console is slow to import; only terminal output needs it.
Write: TypeAlias = "Callable[[Comparison, Callable[[], Console]], None]"


def _table(comparison: Comparison, out: Callable[[], Console]) -> None:
    from orchestrator.report.terminal import terminal

    terminal(comparison, out())


def _csv(comparison: Comparison, out: Callable[[], Console]) -> None:
    from orchestrator.report.text import to_csv

    print(to_csv(comparison), end="")


def _json(comparison: Comparison, out: Callable[[], Console]) -> None:
    from orchestrator.report.document import to_json

    print(to_json(comparison), end="")


def _markdown(comparison: Comparison, out: Callable[[], Console]) -> None:
    from orchestrator.report.text import to_markdown

    print(to_markdown(comparison), end="")


def _html(comparison: Comparison, out: Callable[[], Console]) -> None:
    from orchestrator.report.web import to_html

    print(to_html(comparison), end="")


def _parquet(comparison: Comparison, out: Callable[[], Console]) -> None:
    from orchestrator.report.records import parquet

    if sys.stdout.isatty():
        raise InputError(
            "Parquet is binary, and standard output is a terminal; fix: orchestrator results -o parquet > FILE.parquet"
        )
    sys.stdout.buffer.write(parquet(comparison))


class Format(str, Enum):
    """A value of `results -o`."""

    _value_: str
    summary: str
    write: Write

    def __new__(cls, name: str, summary: str, write: Write) -> Format:
        made = str.__new__(cls, name)
        made._value_, made.summary, made.write = name, summary, write
        return made

    TABLE = "table", "a table as wide as the terminal, with colours", _table
    CSV = "csv", "one line per case, for spreadsheets", _csv
    JSON = "json", "everything about each cell, for programs", _json
    MARKDOWN = "md", "a table for a page or an issue", _markdown
    HTML = "html", "one page with the table, for a browser", _html
    PARQUET = "parquet", "one record per cell, for data frames", _parquet
