"""What of a folder this process cannot read, and why: for a model that does not load, and for `hosts --check`.

`python -m runner.models.folders FOLDER` prints the first obstacle, or READABLE. Standard library alone.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

READABLE = "readable"
# A cache with a hundred models has fewer files.
MOST_ENTRIES = 100_000
# What is no part of a model: locks and halves of downloads, which belong to whoever downloads.
PASSING = (".lock", ".incomplete")


def first_obstacle(folder: Path, opened: str = "") -> str | None:
    """A sentence about the first file or folder that this process cannot read, with what to do; None where all can.

    opened: what has to be made readable, where that is more than the folder.
    """
    return next(obstacles(folder, opened or str(folder)), None)


def obstacles(top: Path, opened: str) -> Iterator[str]:
    """Links are followed as a loader would follow them."""
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
            if entry.name.startswith(".") or entry.name.endswith(PASSING):
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
    """Files of a folder, each with the target, that are links to somewhere outside of what is mounted of it."""
    inside = os.path.realpath(mounted)
    for folder, folders, files in os.walk(top):
        for name in sorted((*folders, *files)):
            path = os.path.join(folder, name)
            if os.path.islink(path) and not Path(os.path.realpath(path)).is_relative_to(inside):
                yield f"{path} is a link to {os.readlink(path)}"


def _in_words(path: Path, opened: str, error: OSError) -> str:
    if path.is_symlink() and not isinstance(error, PermissionError):
        return (
            f"{path} is a link to {os.readlink(path)}, which is not there, or is outside of what the job sees of that "
            f"host; fix: copy the folder with `cp -rL`, or give the Hugging Face cache as `weights`"
        )
    if isinstance(error, FileNotFoundError):
        return f"there is no {path}; fix: correct the path, or make the folder"
    if isinstance(error, PermissionError):
        return f"{path} cannot be read by user {os.getuid()}{_owner(path)}; fix, on that host: chmod -R a+rX {opened}"
    return f"{path} cannot be read: {error.strerror}"


def _owner(path: Path) -> str:
    """Whose it is; of what stands in a closed folder, nobody can tell."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return f" (it is user {found.st_uid}'s, mode {stat.S_IMODE(found.st_mode):04o})"


if __name__ == "__main__":
    print(first_obstacle(Path(sys.argv[1])) or READABLE)
