"""The root command. It imports the module of a command when that command is used."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer

from orchestrator import commands
from orchestrator.commands.options import DECLARED
from orchestrator.commands.parameters import Group


class Root(Group):
    """Knows its commands by their declaration in `commands`, and builds a command when it is asked for it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands.update(dict.fromkeys(commands.VERBS))  # type: ignore[arg-type]  # typer suggests from their names

    def list_commands(self, ctx: Any) -> list[str]:
        return list(commands.VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in commands.VERBS and self.commands[cmd_name] is None:
            module, _ = commands.VERBS[cmd_name]
            import_module(f"orchestrator.commands.{module}")
            self.commands[cmd_name] = typer.main.get_command(DECLARED[cmd_name])
        return self.commands.get(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(f"{commands.page()}\n")

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:  # typer repeats pydantic's message; ours is that of the files
            from orchestrator.config.problems import of_option

            error.message = of_option(error.__cause__) or error.message
            raise


app = typer.Typer(
    cls=Root,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(commands.version())
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version)] = False,
) -> None:
    pass


def program() -> Any:
    """The root command, as typer builds it."""
    return typer.main.get_command(app)
