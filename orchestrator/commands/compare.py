"""`orchestrator compare`: what got worse or better between two runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.commands import completion
from orchestrator.commands.metrics import MetricName, prices_of
from orchestrator.commands.options import Inventory, command, inventory_file
from orchestrator.errors import ExitCode, InputError
from orchestrator.report.changes_formats import ChangesFormat
from orchestrator.table.metric import Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.library.sources import Found
    from orchestrator.table.changes import Changes


def share(text: str) -> float:
    """Parses a threshold: `1%`, `0.5 %` or `0.01`. Raises InputError for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(%?)\s*", text)
    value = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= value < 1:
        raise InputError(f"--threshold {text!r}: expected a share below 100%, such as 1% or 0.01")
    return value


@command("compare", "compare monday tuesday", "compare RUN RUN --map engine=eager:compile", "compare OLD NEW -o md")
def compare(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The earlier run.", autocompletion=completion.run_names)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The later run.", autocompletion=completion.run_names)],
    metric: MetricName = Metric.LATENCY,
    threshold: Annotated[
        str, typer.Option("--threshold", metavar="SHARE", help="A smaller change is no regression.")
    ] = "1%",
    mapped: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="AXIS=BASE:NEW",
            help="Compare BASE's rows with one value to NEW's with another: host=gpu1:gpu2.",
        ),
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="KEY=V[,V]", help="Compare only rows with these values.")
    ] = None,
    prices: Annotated[
        Path | None, typer.Option("--prices", metavar="FILE", help="Price per hour of each host (YAML or CSV).")
    ] = None,
    inventory: Inventory = None,
    any_quality: Annotated[
        bool, typer.Option("--any-quality", help="Also compare rows whose images visibly differ.")
    ] = False,
    output: Annotated[ChangesFormat, typer.Option("-o", help="Output format.")] = ChangesFormat.TABLE,
) -> None:
    """Matches cases by engine, precision, batch size and all other settings, and hosts by name. BASE and NEW are run
    names, folders of runs, or addresses, s3://BUCKET/PREFIX/RUN.

    Exit code: 1 if a case is shown to be worse by more than the threshold or no longer runs, else 0; 2 if the input is
    wrong.
    """
    from orchestrator.terminal.console import console

    found = comparison(base, new, metric, share(threshold), mapped or (), where or (), prices, inventory, any_quality)
    output.write(found, console)
    if not found.tests and not found.has_regression:
        untested = "No case was tested: exit code 0 does not say that nothing changed."
        console(stderr=True).print(untested, style="yellow", soft_wrap=True)
    raise typer.Exit(ExitCode.SOME_FAILED if found.has_regression else ExitCode.OK)


def comparison(
    base: str,
    new: str,
    metric: Metric,
    threshold: float,
    mapped: Sequence[str] = (),
    where: Sequence[str] = (),
    price_file: Path | None = None,
    inventory: Path | None = None,
    any_quality: bool = False,
) -> Changes:
    from orchestrator.commands.results import view_of
    from orchestrator.runs.kept import jobs_of
    from orchestrator.table.changes import changes

    ours, theirs = _read("BASE", base), _read("NEW", new)
    folders, rows = [*ours.runs, *theirs.runs], [*ours.rows, *theirs.rows]
    return changes(
        ours.rows,
        theirs.rows,
        metric,
        threshold,
        mapped,
        prices_of(metric, rows, folders, inventory_file(inventory), price_file),
        any_quality,
        view_of(where=where).where,
        (jobs_of(ours.runs), jobs_of(theirs.runs)),
    )


def _read(title: str, name: str) -> Found:
    """Returns the rows of one run, and prints what is missing. Raises InputError for several runs."""
    from orchestrator.library.sources import one_run, read
    from orchestrator.terminal.console import console

    found = one_run(f"{title} {name}", read([name]))
    for fault in found.faults:
        console(stderr=True).print(fault, style="yellow", markup=False, soft_wrap=True)
    return found
