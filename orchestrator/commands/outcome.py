"""The end of a run that was driven: its table, its folder, and the exit code that says how it went."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.commands.options import Shape
from orchestrator.errors import ExitCode

if TYPE_CHECKING:
    from orchestrator.runs.folder import Run
    from runner.schema import Row


# A comparison of 100,000 rows takes 20 s of processor time and 450 MB, and one of so many 4 s and 90 MB.
MOST_ROWS_COMPARED = 20_000


@dataclass(frozen=True)
class RunOutcome:
    """rows: of all cases that have ended. finished: False if the user interrupted the run, with work left."""

    run: Run
    rows: tuple[Row, ...]
    finished: bool

    @property
    def counts(self) -> dict[str, int]:
        """The number of rows by status."""
        return dict(Counter(row.status.value if row.status else "?" for row in self.rows))

    @property
    def exit_code(self) -> ExitCode:
        if not self.finished:
            return ExitCode.INTERRUPTED
        has_faults = any(row.status is None or row.status.is_fault for row in self.rows)
        return ExitCode.SOME_FAILED if has_faults else ExitCode.OK


def finish(outcome: RunOutcome, output: Shape = Shape.TABLE) -> None:
    """Prints how a run went, and exits with its exit code."""
    from orchestrator.commands.hints import hint_lost, unfinished
    from orchestrator.commands.results import comparison
    from orchestrator.report.formats import Format
    from orchestrator.table.metric import Metric
    from orchestrator.terminal.console import console
    from orchestrator.terminal.output import print_json

    err = console(stderr=True)
    if output is Shape.JSON:
        print_json(outcome_value(outcome))
    elif len(outcome.rows) > MOST_ROWS_COMPARED:
        counts = ", ".join(f"{count} {status}" for status, count in outcome.counts.items())
        asked = f"orchestrator results {outcome.run.name}"
        text = f"{len(outcome.rows)} rows: {counts}. Too many to compare at once; fix: {asked}"
        err.print(text, soft_wrap=True)
    elif outcome.rows:
        Format.TABLE.write(comparison(outcome.rows, [outcome.run], Metric.LATENCY, None), console)
    err.print(f"Run: {outcome.run.path}", soft_wrap=True)
    hint_lost(outcome.run, outcome.rows)
    if not outcome.finished:
        err.print(unfinished(outcome.run), style="yellow", soft_wrap=True)
    raise typer.Exit(outcome.exit_code)


def outcome_value(outcome: RunOutcome) -> dict[str, Any]:
    """How a run went. exit: the exit code of the command. A row's empty columns are left out."""
    rows = [{k: v for k, v in dataclasses.asdict(row).items() if v is not None} for row in outcome.rows]
    return {
        "run": outcome.run.name,
        "folder": str(outcome.run.path),
        "exit": outcome.exit_code,
        "finished": outcome.finished,
        "counts": outcome.counts,
        "rows": rows,
    }
