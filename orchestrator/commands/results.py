"""`orchestrator results`: the rows of one or more runs side by side."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.commands import completion
from orchestrator.commands.metrics import MetricName, prices_of
from orchestrator.commands.options import Inventory, command, inventory_file
from orchestrator.report.formats import Format
from orchestrator.table.cases import HOST
from orchestrator.table.metric import Metric
from orchestrator.table.view import View

if TYPE_CHECKING:
    from orchestrator.runs.folder import Run
    from orchestrator.table.comparison import Comparison
    from runner.schema import Row

MOST_REFUSED = 20  # of a store's refused rows that are printed


@command(
    "results",
    "results",
    "results quick lambda --metric throughput --baseline gpu1",
    "results --rows engine,samples --columns precision --where host=gpu1",
)
def results(
    run: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Default: the newest run.", autocompletion=completion.run_names),
    ] = None,
    metric: MetricName = Metric.LATENCY,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline", metavar="HOST|ENGINE|AXIS=VALUE[,…]", help="What ratios compare with. Default: eager."
        ),
    ] = None,
    rows: Annotated[
        str | None, typer.Option("--rows", metavar="AXIS[,AXIS]", help="Axes down, before the others that differ.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option("--columns", metavar="AXIS[,AXIS]", help="Axes across. Default: host."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="KEY=VALUE[,VALUE]",
            help="Compare only rows with this value of an axis or a column; repeatable.",
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="KEY",
            help="Sort lines by an axis, a column, or `value`, their best one; -KEY descends.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Show only the first N lines; all are compared.")
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option(
            "--prices",
            metavar="FILE",
            help="Price per hour of each host (YAML or CSV); replaces those of hosts.yaml.",
        ),
    ] = None,
    inventory: Inventory = None,
    any_quality: Annotated[
        bool, typer.Option("--any-quality", help="Also rank rows whose images visibly differ from the baseline's.")
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Follow each case over these runs, else over all runs, by date.")
    ] = False,
    output: Annotated[Format, typer.Option("-o", help="Output format.")] = Format.TABLE,
) -> None:
    """RUN may also be an address, s3://BUCKET/PREFIX/RUN, to read a run from an object store."""
    from orchestrator.commands.hints import hint_lost
    from orchestrator.report.table_text import more
    from orchestrator.runs import folder as runs
    from orchestrator.terminal.console import console

    view = view_of(rows, columns, where or (), sort, limit)
    names: Sequence[str | None] = run or [each.name for each in runs.all_runs(runs.ROOT) if history] or [None]
    stored = [row for name in names if name and name.startswith("s3://") for row in stored_rows(name)]
    chosen = [runs.find(runs.ROOT, name) for name in names if not (name and name.startswith("s3://"))]
    rows_of = {each: each.all_rows() for each in chosen}
    every = [*stored, *itertools.chain.from_iterable(rows_of.values())]
    if history:
        from orchestrator.commands.history import show

        options = {"--baseline": baseline, "--rows": rows, "--columns": columns, "--sort": sort, "--limit": limit}
        show(every, chosen, metric, view.where, inventory_file(inventory), prices, any_quality, output, options)
        return
    found = comparison(every, chosen, metric, baseline, inventory_file(inventory), prices, any_quality, view)
    output.write(found, console)
    if found.left_out and output in (Format.CSV, Format.PARQUET):
        console(stderr=True).print(more(found), soft_wrap=True)
    for each in chosen:
        hint_lost(each, rows_of[each])


def view_of(
    rows: str | None = None,
    columns: str | None = None,
    where: Sequence[str] = (),
    sort: str | None = None,
    limit: int | None = None,
) -> View:
    """Returns the view that options ask for. Hosts lie across unless they are asked for down."""
    down = _names(rows)
    across = _names(columns) if columns is not None else tuple({HOST} - {*down})
    return View(down, across, _conditions(where), sort, limit)


def _conditions(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    from orchestrator.errors import InputError

    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, is_given, values = text.partition("=")
        if not is_given or not _names(values):
            raise InputError(f"--where {text}: expected KEY=VALUE, such as engine=eager")
        # a value may itself contain a comma and spaces
        found[name.strip()] = (*found.get(name.strip(), ()), *values.split(","))
    return found


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def comparison(
    rows: Sequence[Row],
    chosen: Sequence[Run],
    metric: Metric,
    baseline: str | None,
    inventory: Path | None = None,
    price_file: Path | None = None,
    any_quality: bool = False,
    view: View = View(),  # noqa: B008  # frozen
) -> Comparison:
    """The rows of one or more runs side by side.

    chosen: the runs on this machine. inventory, price_file: where prices for the cost come from. any_quality, view: as
    in `compare`.
    """
    from orchestrator import table

    table.check_baseline(metric, baseline)
    prices = prices_of(metric, rows, chosen, inventory, price_file)
    return table.compare(rows, metric, baseline, prices, any_quality, view)


def stored_rows(address: str) -> Sequence[Row]:
    from orchestrator.results import from_store
    from orchestrator.terminal.console import console

    err = console(stderr=True)
    found = from_store.read(address)
    for fault in found.refused[:MOST_REFUSED]:
        err.print(fault, style="yellow", markup=False, soft_wrap=True)
    if len(found.refused) > MOST_REFUSED:
        more = f"… and {len(found.refused) - MOST_REFUSED} more rows are refused"
        err.print(more, style="yellow", soft_wrap=True)
    err.print(f"{found.name}: {len(found.rows)} rows", soft_wrap=True)
    if found.missing:
        err.print(f"Not complete yet; missing: {', '.join(found.missing)}", style="yellow", soft_wrap=True)
    return found.rows
