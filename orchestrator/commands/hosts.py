"""`orchestrator hosts`: the hosts of the inventory, and with --check whether they can run their jobs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.commands.options import HostNames, Inventory, Output, Shape, command, inventory_file, names
from orchestrator.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.config import Host
    from orchestrator.executors.finding import Finding


@command("hosts", "hosts", "hosts --check --hosts gpu1,gpu2", "hosts -o json")
def hosts(
    check: Annotated[
        bool, typer.Option("--check", help="Connect to each host; exit code 1 if one cannot run its jobs.")
    ] = False,
    only: HostNames = None,
    inventory: Inventory = None,
    output: Output = Shape.TABLE,
) -> None:
    """--check tests engine, GPUs, toolkit, disk, images and clock, and says how to fix what is wrong."""
    from orchestrator import config
    from orchestrator.terminal.console import console
    from orchestrator.terminal.output import print_json

    chosen = config.select(config.load_hosts(inventory_file(inventory), names(only)), names(only))
    if not check:
        if output is Shape.JSON:
            print_json([host.model_dump(mode="json", exclude_none=True) for host in chosen])
        else:
            show_hosts(chosen, console())
        return
    from orchestrator.executors.finding import Grade
    from orchestrator.hosts import checkup

    found = checkup.check_all(chosen)
    if output is Shape.JSON:
        print_json(findings_value(found))
    else:
        show_findings(found, console())
    has_problem = any(finding.grade is Grade.PROBLEM for its in found.values() for finding in its)
    raise typer.Exit(ExitCode.SOME_FAILED if has_problem else ExitCode.OK)


def show_hosts(chosen: Sequence[Host], out: Console) -> None:
    from orchestrator.hosts.kinds import kind_of
    from orchestrator.terminal.output import plain_table

    table = plain_table("host", "kind", "where", "gpus", "price/h")
    for host in chosen:
        price = "" if host.price_per_hour is None else f"{host.price_per_hour:g}"
        gpus = host.gpus if isinstance(host.gpus, str) else ", ".join(map(str, host.gpus))
        table.add_row(host.name, host.kind, kind_of(host).where(host), gpus, price)
    out.print(table)


def show_findings(found: Mapping[str, Sequence[Finding]], out: Console) -> None:
    from rich.text import Text

    from orchestrator.executors.finding import Grade
    from orchestrator.terminal.output import plain_table

    table = plain_table("host", "", "what", "found")
    styles = {Grade.OK: "green", Grade.WARNING: "yellow", Grade.PROBLEM: "bold red"}
    for host, its in found.items():
        for finding in its:
            text = finding.text + (f"\nfix: {finding.remedy}" if finding.remedy else "")
            grade = Text(finding.grade.value, style=styles[finding.grade])
            table.add_row(host, grade, finding.topic, Text(text))
    out.print(table)


def findings_value(found: Mapping[str, Sequence[Finding]]) -> dict[str, list[dict[str, Any]]]:
    return {
        host: [{**dataclasses.asdict(finding), "grade": finding.grade.value} for finding in its]
        for host, its in found.items()
    }
