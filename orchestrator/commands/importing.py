"""`orchestrator import`: the rows of foreign files, as a run beside one's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.commands.options import command

if TYPE_CHECKING:
    from orchestrator.runs.folder import Run
    from runner.schema import Row


@command(
    "import",
    "import benchmark.csv --name lambda --source https://github.com/LambdaLabsML/lambda-diffusers",
    "import eager/benchmark.json compiled/benchmark.json",
    "import other.csv --ignore 'gpu_*'",
)
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="CSV or JSON with rows, or benchmark.json of optimum-benchmark."),
    ],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the run. Default: the file's.")
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore", metavar="COLUMN", help="An unknown column that is no setting; `*` stands for any text."
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="URL", help="Where the file was published; kept with its rows.")
    ] = None,
) -> None:
    """`results RUN RUN` then shows them beside yours. Columns with unknown names are taken as settings: rows that
    differ in one are not compared with each other. Several files make one run if each of their rows states its model
    and steps.
    """
    from orchestrator.terminal.console import console

    imported = import_rows(files, name, ignore or (), source)
    rows = imported.all_rows()
    console().print(f"{_counted(rows)} in {imported.path}", soft_wrap=True)
    settings = list(dict.fromkeys(name for row in rows for name in row.other_settings))
    if settings:
        names = ", ".join(map(repr, settings[:20])) + (", …" if len(settings) > 20 else "")
        console(stderr=True).print(
            f"Taken as settings: {names}. If some of them are results: import again with --ignore COLUMN",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


def _counted(rows: Sequence[Row]) -> str:
    """Says how many rows there are, and of which status: `80 rows (73 ok, 7 oom)`."""
    from runner.schema import Status

    counts = [(sum(row.status is status for row in rows), status.value) for status in Status]
    return f"{len(rows)} rows ({', '.join(f'{count} {status}' for count, status in counts if count)})"


def import_rows(
    files: Sequence[Path], name: str | None = None, ignored: Sequence[str] = (), url: str | None = None
) -> Run:
    """A run with the rows of foreign files, and the files. Raises InputError with every line that cannot be read.

    name: of the run; by default it is derived from the first file's name. ignored: patterns of unknown columns to drop.
    url: where the files were published.
    """
    from orchestrator import config
    from orchestrator.results.origin import imported
    from orchestrator.runs import folder as runs
    from runner.schema import IMPORT

    found = imported(files, ignored, url)
    if name is None:
        name = re.sub(r"\W+", "-", files[0].stem, flags=re.ASCII)[:60].strip("-_") or "import"
    name = config.load_matrix(None, [f"name={name}"]).name
    run = runs.create(runs.ROOT, name, datetime.now(timezone.utc))
    for number, source in enumerate(found.sources, start=1):
        run.keep_source(number, source.name, source.stored, source.url)
    run.add_planned(replace(row, job=IMPORT) for row in found.rows)
    run.merge()
    return run
