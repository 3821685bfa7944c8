"""`orchestrator build`: the runner's images, built and copied to the hosts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer

from orchestrator.commands.options import HostNames, Inventory, Registry, Wheels, command, inventory_file, names
from orchestrator.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.images import ImageInfo


@command("build", "build", "build --hosts gpu1 --push registry.example.com/bench")
def build(only: HostNames = None, inventory: Inventory = None, push: Registry = None, wheels: Wheels = None) -> None:
    """Each image is built once and copied to the hosts that lack it. `submit` does this too."""
    from orchestrator import config
    from orchestrator.hosts import fleet
    from orchestrator.terminal.console import console
    from orchestrator.terminal.live import image_progress

    chosen = config.select(config.load_hosts(inventory_file(inventory), names(only)), names(only))
    err = console(stderr=True)
    with image_progress(err) as progress:
        built = fleet.build(chosen, registry=push, wheels=wheels, progress=progress)
    show_images(built, console(), err)
    has_failed = any(isinstance(outcome, Exception) for outcome in built.values())
    raise typer.Exit(ExitCode.SOME_FAILED if has_failed else ExitCode.OK)


def show_images(built: Mapping[tuple[str, str], ImageInfo | str | Exception], out: Console, err: Console) -> None:
    """The images by host; for a cluster, the references that its Jobs name."""
    from orchestrator.terminal.output import plain_table

    table = plain_table("host", "image", "id", "GB")
    for (host, flavour), outcome in built.items():
        if isinstance(outcome, Exception):
            err.print(f"{host}, {flavour}: {outcome}", style="red", soft_wrap=True)
        elif isinstance(outcome, str):
            table.add_row(host, outcome, "", "")
        else:
            short_id = outcome.id.removeprefix("sha256:")[:12]
            table.add_row(host, outcome.reference, short_id, f"{outcome.size_bytes / 1e9:.2f}")
    if table.row_count:
        out.print(table)
