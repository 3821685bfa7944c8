"""`orchestrator clean`: what a run left on its hosts, listed and removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.commands import completion
from orchestrator.commands.options import HostNames, Inventory, Output, Shape, command, inventory_file, names
from orchestrator.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.commands.leftovers import Survey


@command("clean", "clean", "clean quick --dry-run", "clean quick --running")
def clean(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="Default: list what every run left.", autocompletion=completion.run_names),
    ] = None,
    running: Annotated[bool, typer.Option("--running", help="Also stop what still runs; its rows are lost.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be removed, and remove nothing.")] = False,
    stored: Annotated[
        bool, typer.Option("--stored", help="Also delete the run's objects in the object stores of its hosts.")
    ] = False,
    only: HostNames = None,
    inventory: Inventory = None,
    output: Output = Shape.TABLE,
) -> None:
    """Keeps the run's rows, logs and journal, all images, jobs that run, and jobs whose rows are not collected yet. If
    the run's folder is gone, give the run's whole name; the hosts are then those of hosts.yaml.

    Without RUN, lists what every run has on the hosts, and removes nothing. Exit code 1 if something of the run stays.
    """
    from orchestrator import config
    from orchestrator.commands import leftovers
    from orchestrator.runs import folder as runs
    from orchestrator.terminal.console import console
    from orchestrator.terminal.output import print_json

    out, err = console(), console(stderr=True)
    if run is None:
        hosts = config.select(config.load_hosts(inventory_file(inventory), names(only)), names(only))
        found = leftovers.survey(hosts)
        show_runs(found, runs.ROOT, out) if output is Shape.TABLE else print_json(survey_value(found))
        _show_failures(found.failed, err)
        raise typer.Exit(ExitCode.SOME_FAILED if found.failed else ExitCode.OK)
    folder = leftovers.locate(runs.ROOT, run)
    name = run if folder is None else folder.name
    if folder is not None and inventory is None:
        hosts = leftovers.hosts_of(folder)
    else:
        hosts = config.select(config.load_hosts(inventory_file(inventory), names(only)), names(only))

    def tell(survey: leftovers.Survey) -> bool:
        show_attempts(survey, run, out) if output is Shape.TABLE else print_json(survey_value(survey))
        return not dry_run

    found = leftovers.clean(name, folder, hosts, running=running, tell=tell)
    _show_failures(found.failed, err)
    if stored and not dry_run:
        for where, count in leftovers.remove_stored(name, folder, hosts).items():
            err.print(f"{where}: {count} objects deleted", soft_wrap=True)
    raise typer.Exit(ExitCode.OK if found.is_clean else ExitCode.SOME_FAILED)


def show_runs(survey: Survey, root: Path, out: Console) -> None:
    """What is on the hosts, by run, and how to remove it."""
    from orchestrator.terminal.output import plain_table

    counts: dict[tuple[str, str], Counter[str]] = {}
    for one in survey.left:
        counts.setdefault((one.attempt.run, one.host), Counter())[one.observation.state.value] += 1
    table = plain_table("run", "host", "what is there", "its folder")
    for (run, host), states in counts.items():
        folder = root / run
        there = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        table.add_row(run, host, there, str(folder) if folder.exists() else "not here")
    if counts:
        out.print(table)
        out.print("To remove what a run left: orchestrator clean RUN", soft_wrap=True)
    elif not survey.failed:
        out.print("Nothing to remove.")


def show_attempts(survey: Survey, run: str, out: Console) -> None:
    """What a run left, and what happens to each attempt."""
    from orchestrator.terminal.output import plain_table

    table = plain_table("host", "job", "attempt", "state", "")
    for one in survey.left:
        _, job, number = one.attempt
        table.add_row(one.host, job, str(number), one.observation.state.value, one.fate.value)
    out.print(table if survey.left else f"Nothing of {run} to remove.", soft_wrap=not survey.left)


def survey_value(survey: Survey) -> list[dict[str, Any]]:
    return [
        {
            "host": one.host,
            **one.attempt._asdict(),
            "state": one.observation.state.value,
            "fate": one.fate.value,
        }
        for one in survey.left
    ]


def _show_failures(failed: Mapping[str, str], err: Console) -> None:
    for reason in dict.fromkeys(failed.values()):
        err.print(reason, style="red", soft_wrap=True)
