"""`orchestrator cancel`: the open jobs of a run, or one of them, ended."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.commands import completion
from orchestrator.commands.options import command

if TYPE_CHECKING:
    from orchestrator.runs.folder import Run
    from runner.schema import Job


@command("cancel", "cancel quick", "cancel quick 3cac81")
def cancel(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Name of the run, or part of it.", autocompletion=completion.run_names),
    ],
    job: Annotated[
        str | None, typer.Argument(metavar="JOB", help="Default: all jobs.", autocompletion=completion.job_ids)
    ] = None,
) -> None:
    """Rows that were measured are kept. A case that is being measured gets a `cancelled` row with the trials it has;
    such a row never ranks.
    """
    from orchestrator.commands import outcome
    from orchestrator.runs import folder as runs
    from orchestrator.terminal.console import console

    err = console(stderr=True)
    found = runs.find(runs.ROOT, run, driven=True)
    asked = request_cancel(found, job)
    if not asked:
        err.print(f"Nothing to cancel: no job of {found.name} is open.", soft_wrap=True)
        return
    err.print(f"Cancelling {len(asked)} job{'s' if len(asked) > 1 else ''}.")
    if not found.is_driven:
        from orchestrator.commands import execution

        outcome.finish(execution.resume(found, err))


def request_cancel(run: Run, job: str | None) -> list[Job]:
    """Records that the open jobs of a run, or one of them, shall end; the process that drives the run ends them.

    Returns these jobs.
    """
    from orchestrator.runs.job_state import Entry, Kind
    from orchestrator.runs.joblog import find_job
    from orchestrator.runs.journal import Journal

    with closing(Journal.open(run.journal)) as journal:
        chosen = journal.states() if job is None else (find_job(journal.states(), job),)
        asked = [each.job for each in chosen if not each.is_settled]
        now = max(time.time(), journal.latest)
        journal.record_all([Entry(now, Kind.CANCEL, one.id) for one in asked])
        return asked
