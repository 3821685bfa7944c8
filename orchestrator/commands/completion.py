"""Shell completion: commands, runs, jobs and hosts, read without the libraries that validate them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestrator.commands import VERBS

RUNS, INVENTORY = Path("runs"), Path("hosts.yaml")


def complete_verb(environ: Mapping[str, str]) -> bool:
    """Prints the commands that fit the first word, for typer's scripts. False for any other word: typer knows those.

    Without it, each press of TAB waits for typer, pydantic and, in zsh and fish, rich.
    """
    shell = environ["_ORCHESTRATOR_COMPLETE"].removeprefix("complete_")
    line = environ.get("COMP_WORDS" if shell == "bash" else "_TYPER_COMPLETE_ARGS", "")
    words = line.split()
    if shell == "bash":
        position = int(environ.get("COMP_CWORD", "0"))
    else:
        position = len(words) if line.endswith(" ") else len(words) - 1
    begun = words[1] if len(words) > 1 else ""
    found = {name: help_ for name, (_, help_) in VERBS.items() if name.startswith(begun)}
    if shell not in ("bash", "zsh", "fish") or position != 1 or not found:
        return False
    if shell == "bash":
        print("\n".join(found))
    elif shell == "zsh":
        described = (f'"{name}":"{_in_zsh(help_)}"' for name, help_ in found.items())
        print("_arguments '*: :((" + "\n".join(described) + "))'")
    elif environ.get("_TYPER_COMPLETE_FISH_ACTION") == "get-args":
        print("\n".join(f"{name}\t{help_}" for name, help_ in found.items()))
    return True


def _in_zsh(text: str) -> str:
    return text.replace('"', '""').replace("'", "''").replace("$", "\\$").replace("`", "\\`").replace(":", r"\\:")


def run_names(incomplete: str) -> list[str]:
    """The runs here, newest first: names that begin with what was typed, else names that contain it."""
    names = sorted((path.name for path in RUNS.glob("*") if path.is_dir()), reverse=True)
    return [name for name in names if name.startswith(incomplete)] or [name for name in names if incomplete in name]


def job_ids(incomplete: str) -> list[str]:
    """The jobs of the newest run that has any."""
    for name in run_names(""):
        if ids := list(_jobs(RUNS / name / "journal.db")):
            return [each for each in ids if each.startswith(incomplete)]
    return []


def runs_and_jobs(incomplete: str) -> list[str]:
    return [*job_ids(incomplete), *run_names(incomplete)]


def host_names(incomplete: str) -> list[str]:
    """The hosts of hosts.yaml, after those typed already: `a,b` for `a,`."""
    before, comma, name = incomplete.rpartition(",")
    given = before.split(",")
    return [f"{before}{comma}{host}" for host in _hosts() if host.startswith(name) and host not in given]


def _jobs(journal: Path) -> Iterator[str]:
    import sqlite3

    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True)) as db,
    ):
        yield from (id_ for (id_,) in db.execute("SELECT id FROM jobs ORDER BY position"))


def _hosts() -> list[str]:
    import yaml

    with contextlib.suppress(OSError, ValueError, RecursionError, AttributeError, TypeError, yaml.YAMLError):
        return [str(name) for name in yaml.safe_load(INVENTORY.read_text(encoding="utf-8"))["hosts"]]
    return []
