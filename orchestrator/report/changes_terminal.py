"""Prints a comparison of two runs on a terminal. Leaves out what does not fit: first the values' spreads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from orchestrator.report.changes_text import CaseText, ChangesText, changes_text
from orchestrator.report.fitting import PADDING, WIDEST_LABEL
from orchestrator.report.terminal import STYLES, literal
from orchestrator.table.changes import Changes

RATIO = "NEW/BASE"


@dataclass(frozen=True)
class Form:
    """The columns between a case's labels and its verdict, and their cells."""

    names: tuple[str, ...]
    cells: Callable[[CaseText], tuple[str, ...]]


# From the widest to the narrowest.
FORMS = (
    Form(("BASE", "NEW", RATIO), lambda case: (case.base, case.new, _ratio(case, " "))),
    Form(("BASE", "NEW", RATIO), lambda case: (case.base_number, case.new_number, _ratio(case, " "))),
    Form((RATIO,), lambda case: (_ratio(case, " "),)),
    Form((RATIO,), lambda case: (_ratio(case, "\n"),)),
)


def _ratio(case: CaseText, between: str) -> str:
    return f"{case.ratio}{between}{case.interval}" if case.interval else case.ratio


def terminal(changes: Changes, console: Console) -> None:
    """Prints the summary, what changed around the runs, the table, and its footnotes and legend."""
    words = changes_text(changes)
    _print(console, words.summary, "bold red" if words.is_regression else "bold")
    for text in words.head:
        _print(console, text, "dim")
    console.print()
    form = _form(words, console.width)
    console.print(_table(console, words, form))
    if len(form.names) == 1:
        _print(console, "The values of BASE and NEW: on a wider terminal, or with -o json.", "dim")
    console.print()
    for number, text in enumerate(words.footnotes, start=1):
        _print(console, f"[{number}] {text}")
    _print(console, " · ".join(words.legend), "dim")


def _print(console: Console, text: str, style: str = "") -> None:
    console.print(literal(console, text, style))


def _form(words: ChangesText, width: int) -> Form:
    return next((form for form in FORMS if _width(words, form) <= width), FORMS[-1])


def _width(words: ChangesText, form: Form) -> int:
    rows = [(*case.labels, *form.cells(case), case.verdict) for case in words.cases]
    columns = zip((*words.axes, *form.names, "verdict"), *rows)
    sizes = [max(cell_len(part) for text in column for part in text.split("\n")) for column in columns]
    labels = [min(size, WIDEST_LABEL) for size in sizes[: len(words.axes)]]
    return sum(each + PADDING for each in [*labels, *sizes[len(words.axes) :]]) - PADDING


def _table(console: Console, words: ChangesText, form: Form) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, PADDING - 1))
    for name, numeric in zip(words.axes, words.numeric):
        table.add_column(
            literal(console, name), justify="right" if numeric else "left", max_width=WIDEST_LABEL, overflow="fold"
        )
    for name in form.names:
        table.add_column(literal(console, name), no_wrap=True)
    table.add_column(literal(console, "verdict"), overflow="fold")
    for case in words.cases:
        texts: Sequence[str] = (*case.labels, *form.cells(case))
        table.add_row(*(literal(console, text) for text in texts), literal(console, case.verdict, STYLES[case.tone]))
    return table
