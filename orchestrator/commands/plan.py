"""`orchestrator plan`: what would run where, and what would not."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.commands.options import HostNames, Inventory, MatrixFile, Overrides, command, inventory_file, names

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.planning.estimate import HostEstimate
    from orchestrator.planning.plan import Description


class PlanShape(str, Enum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


@command(
    "plan",
    "plan matrix.yaml",
    "plan matrix.yaml --set engine=compile --set samples=1,2 -o json",
    "plan matrix.yaml --hosts lab-a100 -o yaml",
)
def plan(
    matrix: MatrixFile,
    only: HostNames = None,
    overrides: Overrides = None,
    inventory: Inventory = None,
    output: Annotated[
        PlanShape, typer.Option("-o", help="Output format. yaml: the objects that Kubernetes hosts would get.")
    ] = PlanShape.TABLE,
    containers: Annotated[bool, typer.Option("--containers", help="Print each container's spec as JSON.")] = False,
) -> None:
    """Also shows what would not run, and why. Runs nothing and connects to no host."""
    from orchestrator.commands.request import Request, planned
    from orchestrator.planning.plan import describe
    from orchestrator.terminal.console import console
    from orchestrator.terminal.output import print_json, print_yaml

    found = planned(Request(matrix, inventory_file(inventory), names(only), tuple(overrides or ())))
    description = describe(found.plan, found.hosts)
    for warning in found.warnings:
        console(stderr=True).print(warning, style="yellow", markup=False, soft_wrap=True)
    if containers:
        from orchestrator.commands import specs

        print_json(specs.containers(found.plan, found.hosts))
    elif output is PlanShape.YAML:
        from orchestrator.commands import specs

        print_yaml(specs.objects(found.plan, found.hosts))
    elif output is PlanShape.JSON:
        print_json(description.value)
    else:
        show_plan(description, console())


def show_plan(description: Description, out: Console) -> None:
    from orchestrator.runs.labels import setting, varying
    from orchestrator.scheduling.progress import in_words
    from orchestrator.terminal.long_table import LongTable
    from orchestrator.terminal.output import counted, some
    from runner.catalog import NONE, OPTIONS

    options = [name for name in OPTIONS if any(getattr(line, name) != NONE for line in description.lines)]
    settings = [name for name in varying(description.lines) if name != "steps"]
    table = LongTable(
        "host", "round", "job", "engine", "precision", *options, *settings, "steps", "samples", "about", ""
    )
    for line in description.lines:
        samples = ", ".join(map(str, line.samples))
        about = in_words(line.expected_s) if line.expected_s is not None else ""
        if line.expected_from:
            about += f" on {some(line.expected_from, 2)}"
        why = "" if line.fate == "run" else f"{line.fate}: {line.reason}"
        job = (line.job or "") if line.fate == "run" else ""
        which = "" if line.round is None else str(line.round)
        where = line.host or "every host"
        used = ["" if getattr(line, name) == NONE else getattr(line, name) for name in options]
        told = [setting(getattr(line, name)) for name in settings]
        table.add_row(
            where, which, job, line.engine, line.precision, *used, *told, str(line.steps), samples, about, why
        )
    out.print(table)
    for host in description.hosts:
        known = "" if host.known_cases == host.cases else f" for the {host.known_cases} cases that ran before"
        duration = "duration unknown: none of these cases ran before"
        seconds = host.slot_s if host.wall_s is None else host.wall_s
        if seconds is not None:
            duration = f"about {in_words(seconds)}{known}"
        price = "" if host.price is None else f", at {host.price:.2f}{known}"
        work = f"{counted(host.jobs, 'job')}, {counted(host.cases, 'case')}"
        out.print(f"{host.host}: {work}, {duration}{price}")
        if host.other_cases:
            verb = "its time is" if host.other_cases == 1 else "their times are"
            ran = f"{counted(host.other_cases, 'case')} never ran on it"
            out.print(f"{host.host}: {ran}; {verb} from {some(host.other_hosts)}")
        if text := _rounds(host, seconds):
            out.print(f"{host.host}: {text}")
        if host.compiled_anew:
            again = counted(host.compiled_anew, "compilation")
            out.print(f"{host.host}: rounds after the first repeat {again}; fix: set cache in hosts.yaml")


def _rounds(host: HostEstimate, seconds: float | None) -> str:
    """The cost of a round, and how many rounds `until` may add."""
    from orchestrator.scheduling.progress import in_words

    if host.most_rounds == 1:
        return "1 round: the table shows no difference; fix: rounds: 3" if host.jobs else ""
    each = "" if seconds is None else f", about {in_words(seconds / host.rounds)} each"
    if host.price is not None:
        each += f", at {host.price / host.rounds:.2f}"
    more = host.most_rounds - host.rounds
    return f"{host.rounds} rounds{each}" + (f"; until may add up to {more} more" if more else "")
