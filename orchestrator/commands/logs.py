"""`orchestrator logs`: the log of a job, from its host while it runs and from the run's folder afterwards."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.commands import completion
from orchestrator.commands.options import command
from orchestrator.errors import ExitCode


@command("logs", "logs -f", "logs quick 3cac81 --tail 20", "logs 3cac81 --json")
def logs(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="Default: the newest run.", autocompletion=completion.runs_and_jobs),
    ] = None,
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="JOB", help="Default: its only job, or the only one that runs.", autocompletion=completion.job_ids
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Wait for the job, and print until it ends.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", metavar="N", min=0, help="Only the last N lines.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line, with times in epoch seconds.")
    ] = False,
) -> None:
    """The log holds the runner's events and the output of libraries. It comes from the host while the job runs, and
    from the run's folder afterwards. JOB is an id that `status` shows, or its beginning. RUN may be omitted.
    """
    from orchestrator.runs import folder as runs
    from orchestrator.runs import joblog
    from orchestrator.terminal.console import console

    out, err = console(), console(stderr=True)
    chosen, its_job = joblog.choose(runs.ROOT, [word for word in (run, job) if word is not None])
    lines = joblog.lines(chosen, its_job, follow=follow, tail=tail, say=lambda text: err.print(text, soft_wrap=True))
    try:
        for line in joblog.as_json(lines) if as_json else (joblog.in_words(its_job, line) for line in lines):
            out.print(line, soft_wrap=True)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.ABORTED) from None
