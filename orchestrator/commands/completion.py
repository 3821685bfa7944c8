"""What a shell is offered for the next word: runs, jobs and hosts, read without the libraries that check them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

RUNS, INVENTORY = Path("runs"), Path("hosts.yaml")


def run_names(incomplete: str) -> list[str]:
    """The runs here, newest first; of names that hold what was typed, where none begins with it."""
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
    """The hosts of hosts.yaml, after those that are there already: `a,b` for `a,`."""
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
