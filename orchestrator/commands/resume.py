"""`orchestrator resume`: an interrupted run continued."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.commands.options import (
    Detach,
    LostAfter,
    MetricsFile,
    Output,
    Registry,
    RunName,
    Shape,
    Tell,
    Wheels,
    command,
    names,
)


@command("resume", "resume", "resume 20260301-120000 --retry-lost")
def resume(
    context: typer.Context,
    run: RunName = None,
    only: Annotated[
        str | None,
        typer.Option("--hosts", metavar="A,B", help="Only these hosts of the run; the jobs of others stay open."),
    ] = None,
    push: Registry = None,
    wheels: Wheels = None,
    lost_after: Annotated[float | None, LostAfter] = None,
    retry_lost: Annotated[
        bool,
        typer.Option("--retry-lost", help="Also run lost cases again; their rows stay until then."),
    ] = False,
    metrics_file: MetricsFile = None,
    detach: Detach = False,
    output: Output = Shape.TABLE,
    tell: Tell = None,
) -> None:
    """Follows the jobs that still run, collects those that have ended, and starts the others. A host that did not
    answer before gets its images from a host that has them. Without --lost-after, the value of `submit` applies. Exit
    codes are those of `submit`.
    """
    from orchestrator.commands import background

    if detach and tell is None:
        background.start_and_exit(context.obj, output)
    from orchestrator.commands import execution, outcome
    from orchestrator.runs import folder as runs
    from orchestrator.terminal.console import console

    asked = execution.Resumption(names(only), push, wheels, lost_after, retry_lost, metrics_file)
    found = runs.find(runs.ROOT, run, driven=True)
    outcome.finish(execution.resume(found, console(stderr=True), asked, background.leaver(tell)), output)
