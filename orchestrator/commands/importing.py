"""`orchestrator import`: the rows of a foreign CSV file, as a run beside one's own."""

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


@command("import", "import benchmark.csv --name lambda", "import other.csv --ignore 'gpu_*'")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.CSV", help="For example the Lambda benchmark's benchmark.csv.")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the run. Default: the file's.")
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore", metavar="COLUMN", help="An unknown column that is no setting; `*` stands for any text."
        ),
    ] = None,
) -> None:
    """`results RUN RUN` then shows them beside yours. Columns with unknown names are taken as settings: rows that
    differ in one are not compared with each other.
    """
    from orchestrator.terminal.console import console

    imported = import_rows(file, name, ignore or ())
    rows = imported.all_rows()
    console().print(f"{len(rows)} rows in {imported.path}", soft_wrap=True)
    settings = list(dict.fromkeys(name for row in rows for name in row.other_settings))
    if settings:
        names = ", ".join(map(repr, settings[:20])) + (", …" if len(settings) > 20 else "")
        console(stderr=True).print(
            f"Taken as settings: {names}. If some of them are results: import again with --ignore COLUMN",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


def import_rows(file: Path, name: str | None = None, ignored: Sequence[str] = ()) -> Run:
    """A run with the rows of a foreign CSV file. Raises InputError with every line that cannot be read.

    name: of the run; by default it is derived from the file's name. ignored: patterns of unknown columns to drop.
    """
    from orchestrator import config
    from orchestrator.results import foreign
    from orchestrator.runs import folder as runs
    from runner.schema import IMPORT

    rows = foreign.read_file(file, ignored)
    if name is None:
        name = re.sub(r"\W+", "-", file.stem, flags=re.ASCII)[:60].strip("-_") or "import"
    name = config.load_matrix(None, [f"name={name}"]).name
    run = runs.create(runs.ROOT, name, datetime.now(timezone.utc))
    run.add_planned(replace(row, job=IMPORT) for row in rows)
    run.merge()
    return run
