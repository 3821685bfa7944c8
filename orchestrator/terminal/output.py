"""How commands print values: as JSON, as YAML, and as plain tables. Foreign text is never markup."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def counted(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def print_json(value: object) -> None:
    print(json.dumps(value, indent=1, default=str))


def print_yaml(documents: Iterable[object]) -> None:
    """As kubectl reads it: text that another reader of YAML may take for a number (`12e4`) is quoted."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, data: str) -> Any:
        may_be_a_number = data[:1] in "0123456789.+-"
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style='"' if may_be_a_number else None)

    Dumper.add_representer(str, text)
    settings: dict[str, Any] = {
        "sort_keys": False,
        "allow_unicode": True,
        "width": float("inf"),
        "explicit_start": True,
    }
    print(yaml.dump_all(documents, Dumper=Dumper, **settings), end="")


def plain_table(*columns: str) -> Table:
    """A table without lines, as docker and kubectl print them."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def some(names: Sequence[str], most: int = 3) -> str:
    """The names; of many, the first ones and the number of the others."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
