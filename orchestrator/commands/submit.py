"""`orchestrator submit`: a matrix run on all hosts."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.commands.options import (
    Detach,
    HostNames,
    Inventory,
    LostAfter,
    MatrixFile,
    MetricsFile,
    Output,
    Overrides,
    Registry,
    Shape,
    Tell,
    Wheels,
    command,
    inventory_file,
    names,
)


@command(
    "submit",
    "submit matrix.yaml",
    "submit matrix.yaml --hosts gpu1,gpu2 --set samples=1,2 --name quick",
    "submit matrix.yaml --detach",
)
def submit(
    context: typer.Context,
    matrix: MatrixFile,
    only: HostNames = None,
    overrides: Overrides = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the run. Default: the matrix's.")
    ] = None,
    inventory: Inventory = None,
    push: Registry = None,
    wheels: Wheels = None,
    lost_after: Annotated[float, LostAfter] = "15m",  # type: ignore[assignment]  # typer parses defaults too
    metrics_file: MetricsFile = None,
    detach: Detach = False,
    output: Output = Shape.TABLE,
    tell: Tell = None,
) -> None:
    """Ctrl-C leaves the jobs running on their hosts; `resume` continues the run.

    Exit codes: {exit codes}.
    """
    from orchestrator.commands import background

    if detach and tell is None:
        background.start_and_exit(context.obj, output)
    from orchestrator.commands import execution, outcome
    from orchestrator.commands.request import Request
    from orchestrator.terminal.console import console

    request = Request(
        matrix,
        inventory_file(inventory),
        names(only),
        (*(overrides or ()), *([] if name is None else [f"name={name}"])),
        push,
        wheels,
        lost_after,
        metrics_file,
    )
    outcome.finish(execution.submit(request, console(stderr=True), background.leaver(tell)), output)
