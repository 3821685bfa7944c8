"""docs/commands.md, made from the program's own help: `python tests/support/commands_page.py` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.commands import root

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
WIDTH = 110
INTRODUCTION = """# Commands

Look up a command with its options and examples. Each prints the same text with `-h`:

```
orchestrator submit -h
```

Data goes to standard output, everything else to standard error. `-o json` and `--json` are for programs.
`orchestrator --install-completion` makes the shell complete commands, options, runs, jobs and hosts.
`python -m orchestrator` is the same program.

RUN is a run's name, a unique part of it, or its folder. If you leave it out, commands use the newest run.

This page is generated: `python tests/support/commands_page.py` writes it.
"""


def helps(command: Any = None, parent: Any = None, name: str = "orchestrator") -> Iterator[tuple[str, str]]:
    """Each command's words with its help, groups before their commands."""
    command = command or root.program()
    context = command.make_context(name, [], parent=parent, resilient_parsing=True, terminal_width=WIDTH)
    yield context.command_path, command.get_help(context)
    for sub_name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        yield from helps(command.get_command(context, sub_name), context, sub_name)


def page() -> str:
    blocks = [f"## {words}\n\n```\n{text.rstrip()}\n```\n" for words, text in helps()]
    lines = "\n".join([INTRODUCTION, *blocks]).splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
