"""Makes reports, and writes report.html and report.json beside the rows of a run that ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from orchestrator.commands.gathering import Asked, Gathered, gather
from orchestrator.errors import InputError
from orchestrator.files import write_atomically
from orchestrator.runs.folder import Run

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.report.model import Report
    from runner.schema import Row


def made(runs: Sequence[Run], stored: Sequence[Row], asked: Asked) -> Gathered:
    """Gathers a report and draws its figures."""
    gathered = gather(runs, stored, asked, datetime.now(timezone.utc))
    return replace(gathered, report=drawn(gathered, runs))


def drawn(gathered: Gathered, runs: Sequence[Run]) -> Report:
    """Returns the report with its figures, and with a note for each that cannot be drawn."""
    return gathered.report


def html(report: Report) -> str:
    """Returns the page. Raises InputError with the command that installs what is missing."""
    try:
        from orchestrator.report.page import render

        return render(report)
    except ImportError as error:
        from orchestrator import installation

        fix = installation.command("report")
        raise InputError(f"an HTML report needs {error.name}, which is not installed; fix: {fix}") from error


def write_at_end(run: Run, console: Console) -> None:
    """Writes report.html and report.json of a run that was driven. A failure is one line and changes nothing else.

    report.json comes first: it needs no extra.
    """
    from orchestrator.report import reportfile

    try:
        gathered = gather([run], [], Asked(), datetime.now(timezone.utc))
        write_atomically(run.report_json, reportfile.to_json(gathered.report).encode())
        write_atomically(run.report, html(drawn(gathered, [run])).encode())
    except Exception as error:  # the rows are what a run is for, and they are written
        reason = str(error).partition("\n")[0] or type(error).__name__
        console.print(f"report.html is not written: {reason}", style="yellow", markup=False, soft_wrap=True)
