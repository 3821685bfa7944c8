"""Declares the output formats of a comparison of two runs, each with its writer."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.table.changes import Changes

Write: TypeAlias = "Callable[[Changes, Callable[[], Console]], None]"


def _table(changes: Changes, out: Callable[[], Console]) -> None:
    from orchestrator.report.changes_terminal import terminal

    terminal(changes, out())


def _json(changes: Changes, out: Callable[[], Console]) -> None:
    from orchestrator.report.changes_document import to_json

    print(to_json(changes), end="")


def _markdown(changes: Changes, out: Callable[[], Console]) -> None:
    from orchestrator.report.changes_markdown import to_markdown

    print(to_markdown(changes), end="")


def _action(changes: Changes, out: Callable[[], Console]) -> None:
    from orchestrator.report.changes_action import to_action

    print(to_action(changes), end="")


class ChangesFormat(str, Enum):
    """A value of `compare -o`."""

    _value_: str
    summary: str
    write: Write

    def __new__(cls, name: str, summary: str, write: Write) -> ChangesFormat:
        made = str.__new__(cls, name)
        made._value_, made.summary, made.write = name, summary, write
        return made

    TABLE = "table", "a table as wide as the terminal, with colours", _table
    JSON = "json", "everything about each case, for programs", _json
    MARKDOWN = "md", "a comment for a pull request; cases without a change are folded", _markdown
    ACTION = "action", "NEW's values for the GitHub action github-action-benchmark", _action
