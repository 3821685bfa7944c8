"""Finds files of a folder that this process cannot read: for a model that does not load, and for `hosts --check`.

`python -m runner.models.folders FOLDER` prints the first obstacle, or READABLE. Standard library only: the orchestrator
imports it too.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

READABLE = "readable"
# More than a cache of a hundred models has.
MOST_ENTRIES = 100_000
# Locks and incomplete downloads belong to the process that downloads; they are no part of a model.
TEMPORARY = (".lock", ".incomplete")


def first_obstacle(folder: Path, opened: str = "") -> str | None:
    """Describes the first file or folder that this process cannot read, with the fix; None if it can read all.

    opened: the folder that the fix makes readable, where that is not `folder` itself.
    """
    return next(obstacles(folder, opened or str(folder)), None)


def obstacles(top: Path, opened: str) -> Iterator[str]:
    """Yields one sentence per unreadable file or folder. Follows links, as a loader does."""
    seen: set[str] = set()
    waiting, left = [top], MOST_ENTRIES
    while waiting and left > 0:
        folder = waiting.pop()
        if (real := os.path.realpath(folder)) in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield _in_words(folder, opened, error)
            continue
        left -= len(entries)
        for entry in entries:
            if entry.name.startswith(".") or entry.name.endswith(TEMPORARY):
                continue
            path = Path(entry.path)
            try:
                mode = path.stat().st_mode
            except OSError as error:
                yield _in_words(path, opened, error)
                continue
            if stat.S_ISDIR(mode):
                waiting.append(path)
            elif not os.access(path, os.R_OK):
                yield _in_words(path, opened, PermissionError())


def leaving_links(top: Path, mounted: Path) -> Iterator[str]:
    """Yields each link in a folder that leads outside the mounted folder, with its target."""
    inside = os.path.realpath(mounted)
    for folder, folders, files in os.walk(top):
        for name in sorted((*folders, *files)):
            path = os.path.join(folder, name)
            if os.path.islink(path) and not Path(os.path.realpath(path)).is_relative_to(inside):
                yield f"{path} is a link to {os.readlink(path)}"


def _in_words(path: Path, opened: str, error: OSError) -> str:
    if path.is_symlink() and not isinstance(error, PermissionError):
        return (
            f"{path} is a link to {os.readlink(path)}, which does not exist or is outside the folders that the job "
            f"sees on that host; fix: copy the folder with `cp -rL`, or give the Hugging Face cache as `weights`"
        )
    if isinstance(error, FileNotFoundError):
        return f"there is no {path}; fix: correct the path, or create the folder"
    if isinstance(error, PermissionError):
        return f"{path} cannot be read by user {os.getuid()}{_owner(path)}; fix, on that host: chmod -R a+rX {opened}"
    return f"{path} cannot be read: {error.strerror}"


def _owner(path: Path) -> str:
    """The owner and mode; empty where they cannot be read (inside a closed folder)."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return f" (owner {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o})"


if __name__ == "__main__":
    print(first_obstacle(Path(sys.argv[1])) or READABLE)
