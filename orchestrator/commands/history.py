"""`orchestrator results --history`: each case over runs, by date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.commands.metrics import prices_of
from orchestrator.errors import InputError
from orchestrator.report.formats import Format

if TYPE_CHECKING:
    from orchestrator.runs.folder import Run
    from orchestrator.table.history import History
    from orchestrator.table.metric import Metric
    from runner.schema import Row


def show(
    rows: Sequence[Row],
    folders: Sequence[Run],
    metric: Metric,
    where: Mapping[str, tuple[str, ...]],
    inventory: Path | None,
    price_file: Path | None,
    any_quality: bool,
    output: Format,
    unused: Mapping[str, object],
) -> None:
    """Prints the history of rows. folders: those of their runs, for prices.

    unused: options that a history does not take, with what was given. Raises InputError if one was given.
    """
    from orchestrator.runs.kept import facts_of_jobs
    from orchestrator.table.history import history

    if given := [name for name, value in unused.items() if value is not None]:
        raise InputError(f"--history does not take {', '.join(given)}")
    prices = prices_of(metric, rows, folders, inventory, price_file)
    found = history(rows, metric, prices=prices, any_quality=any_quality, where=where, jobs=facts_of_jobs(folders))
    _write(output, found)


def _write(output: Format, found: History) -> None:
    from orchestrator.report import history_document, history_text
    from orchestrator.terminal.console import console

    if output is Format.TABLE:
        history_text.terminal(found, console())
    elif output is Format.JSON:
        print(history_document.to_json(found), end="")
    elif output is Format.CSV:
        print(history_text.to_csv(found), end="")
    elif output is Format.MARKDOWN:
        print(history_text.to_markdown(found), end="")
    else:
        raise InputError(f"--history -o {output.value}: expected table, json, csv or md")
