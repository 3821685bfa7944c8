"""`orchestrator report`: one HTML page with the answer, the table, figures, environments and failures of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.commands import completion
from orchestrator.commands.options import Inventory, command, inventory_file
from orchestrator.table.metric import Metric

if TYPE_CHECKING:
    from orchestrator.commands.gathering import Asked

DEFAULT = Path("report.html")


@command("report", "report", "report quick lambda -o page.html --figures figures", "report --watch")
def report(
    run: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Default: the newest run.", autocompletion=completion.run_names),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", metavar="FILE", help="Default: report.html. A name that ends in .json gets JSON."),
    ] = None,
    metric: Annotated[
        Metric, typer.Option("--metric", metavar="METRIC", help="The figure to show first, as in `results`.")
    ] = Metric.LATENCY,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline", metavar="HOST|ENGINE|AXIS=VALUE[,…]", help="What ratios compare with first. Default: eager."
        ),
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option(
            "--prices", metavar="FILE", help="Price per hour of each host (YAML or CSV); replaces those of hosts.yaml."
        ),
    ] = None,
    inventory: Inventory = None,
    any_quality: Annotated[
        bool, typer.Option("--any-quality", help="Also rank rows whose images visibly differ from the baseline's.")
    ] = False,
    figures: Annotated[
        Path | None,
        typer.Option(
            "--figures", metavar="DIR", file_okay=False, help="Also write each figure there: HTML, SVG and PNG."
        ),
    ] = None,
    quality: Annotated[
        Path | None,
        typer.Option("--quality", metavar="DIR", help="Also draw what `python -m runner quality` wrote there."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve the page of a run on this machine while the run goes on.")
    ] = False,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", min=0, max=65535, help="Of --watch. Default: a free port.")
    ] = None,
) -> None:
    """The page is one file that requests nothing from a network. RUN may also be an address, s3://BUCKET/PREFIX/RUN.
    `submit` and `resume` write the page of their run to its folder. A report that is already there is replaced, and
    the message names its runs.

    --watch prints the address of the page, which only this machine can open, and serves it until Ctrl-C.
    """
    from orchestrator.commands.gathering import Asked
    from orchestrator.errors import InputError

    if metric.declared.spans:
        fix = f"fix: orchestrator results --metric {metric.value}"
        raise InputError(f"--metric {metric.value} has one value for several cases, and the page one per case; {fix}")
    asked = Asked(metric, baseline, inventory_file(inventory), prices, any_quality)
    names = run or []
    if not watch:
        if port is not None:
            raise InputError(f"--port {port} is for --watch; fix: add --watch")
        _write(names, asked, output, figures, quality)
        return
    if output or figures or quality:
        raise InputError("--watch writes no file; fix: leave out -o, --figures and --quality")
    if len(names) > 1 or any(name.startswith("s3://") for name in names):
        raise InputError("--watch serves one run of this machine; fix: name one run")
    from orchestrator.commands.watching import serve

    serve(names[0] if names else None, asked, port or 0)


def _write(names: list[str], asked: Asked, output: Path | None, figures: Path | None, quality: Path | None) -> None:
    from orchestrator.commands import replacing, reporting
    from orchestrator.commands.results import stored_rows
    from orchestrator.files import write_atomically
    from orchestrator.report import reportfile
    from orchestrator.runs import folder as runs
    from orchestrator.sanitize import clean
    from orchestrator.terminal.console import console

    if output is None:
        output = DEFAULT
        replacing.check_own(output)
    before = replacing.report_title(output)
    stored = [row for name in names if name.startswith("s3://") for row in stored_rows(name)]
    local: list[str | None] = [name for name in names if not name.startswith("s3://")] if names else [None]
    chosen = [runs.find(runs.ROOT, name) for name in local]
    measured = reporting.read_quality(quality) if quality else []
    made = reporting.made(chosen, stored, asked, figures, measured)
    is_json = output.suffix.lower() == ".json"
    text = reportfile.to_json(made) if is_json else reporting.html(made)
    write_atomically(output, text.encode())
    err = console(stderr=True)
    replaced = f"; it replaces the report of {before}" if before not in (None, clean(made.title)) else ""
    size = f"{len(text.encode()) / 1000:,.0f} kB"
    err.print(f"Report: {output} ({size}){replaced}", markup=False, highlight=False, soft_wrap=True)
    if figures:
        err.print(f"Figures: {len(made.pictures)} in {figures}", soft_wrap=True)
        for note in (note for note in made.notes if note.startswith(reporting.NOT_DRAWN)):
            err.print(f"  {note}", markup=False, highlight=False, soft_wrap=True)
