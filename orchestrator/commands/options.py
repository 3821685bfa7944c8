"""How a command is declared, and the options and arguments that commands share."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from orchestrator.commands import VERBS, completion
from orchestrator.commands.parameters import Command
from orchestrator.errors import ExitCode, InputError

Function = TypeVar("Function", bound=Callable[..., None])

# Filled as the modules of the commands are imported.
DECLARED: dict[str, typer.Typer] = {}


def command(name: str, *examples: str) -> Callable[[Function], Function]:
    """Declares a command. Its help is its line in the list of commands, the function's docstring, and the examples."""

    def declare(function: Function) -> Function:
        app = DECLARED[name] = typer.Typer(rich_markup_mode=None, add_completion=False)
        app.command(name, cls=Command, help=help_of(name, function.__doc__), epilog=epilog(*examples))(function)
        return function

    return declare


def help_of(name: str, details: str | None) -> str:
    """The help of a command. details: what follows the summary; `{exit codes}` in it is replaced by their meanings."""
    _, summary = VERBS[name]
    exit_codes = "; ".join(f"{code.value} {code.meaning}" for code in ExitCode)
    return f"{summary}\n\n{cleandoc(details)}".replace("{exit codes}", exit_codes) if details else summary


def epilog(*examples: str) -> str:
    """The end of a command's help: lines to copy, which the tests parse."""
    return "\n".join(["\b", "Examples:", *(f"  orchestrator {line}" for line in examples)])


class Shape(str, Enum):
    """The output formats of most commands."""

    TABLE = "table"
    JSON = "json"


def _duration(text: str) -> float:
    from orchestrator.config.values import duration_s

    seconds = duration_s(text)
    if not isinstance(seconds, float):
        raise typer.BadParameter(f"{text!r} is not a duration; write 90s, 15m or 1h30m")
    return seconds


MatrixFile = Annotated[Path, typer.Argument(metavar="MATRIX.YAML", help="The matrix to run.")]
HostNames = Annotated[
    str | None,
    typer.Option("--hosts", metavar="A,B", help="Use only these hosts.", autocompletion=completion.host_names),
]
Inventory = Annotated[
    Path | None,
    typer.Option(
        "--inventory", metavar="FILE", help="Default: hosts.yaml in this folder; without one, this machine alone."
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=V[,V]", help="Replace an axis or a value of the matrix.")
]
RunName = Annotated[
    str | None, typer.Argument(metavar="RUN", help="Default: the newest run.", autocompletion=completion.run_names)
]
Wheels = Annotated[
    Path | None,
    typer.Option(
        "--wheels", metavar="DIR", exists=True, file_okay=False, help="Build offline, from the wheels in this folder."
    ),
]
Registry = Annotated[
    str | None,
    typer.Option("--push", metavar="REGISTRY", help="Push the images to this registry; hosts pull them from there."),
]
LostAfter = typer.Option(parser=_duration, metavar="TIME", help="Give up a host that does not answer for this long.")
MetricsFile = Annotated[
    Path | None,
    typer.Option(
        "--metrics-file",
        metavar="FILE.prom",
        dir_okay=False,
        help="Write the run's state to this file, for the textfile collector of Prometheus' node exporter.",
    ),
]
Detach = Annotated[
    bool, typer.Option("--detach", "-d", help="Drive the run in the background; it survives this terminal.")
]
Tell = Annotated[int | None, typer.Option("--tell", hidden=True, help="The pipe on which --detach waits.")]
Output = Annotated[Shape, typer.Option("-o", help="Output format.")]


def inventory_file(given: Path | None) -> Path | None:
    """The inventory's file; None where this machine alone is meant."""
    default = Path("hosts.yaml")
    return given or (default if default.exists() else None)


def names(given: str | None) -> tuple[str, ...]:
    """The hosts of `--hosts`. Raises InputError if it names none: an empty shell variable must not mean every host."""
    if given is None:
        return ()
    found = tuple(name.strip() for name in given.split(",") if name.strip())
    if not found:
        raise InputError(f"--hosts {given!r} names no host; fix: leave it out to use all hosts")
    return found
