#!/usr/bin/env python3
"""Selects the pins of one level: the packages that pip installs, each with its version and hashes.

`python -m orchestrator.images.pins cpu` prints them as a requirements file. In a checkout, `python
orchestrator/images/pins.py` does so before anything is installed: this module needs only the standard library.
"""

from __future__ import annotations

import sys
from pathlib import Path

FILE = "pins.txt"
LEVELS = "# for:"  # then level names; the pins below it, up to the next such line, belong to them


def file() -> Path:
    """Returns the path of the pins: the top of a checkout, or an installed orchestrator's data."""
    package = Path(__file__).parent.parent
    installed = package / "data" / FILE
    return installed if installed.is_file() else package.parent / FILE


def select(pins: str, level: str) -> str:
    """Returns the pins of a level in pip's format. Raises LookupError if there are none."""
    chosen, wanted = [], False
    for line in pins.splitlines(keepends=True):
        if line.startswith(LEVELS):
            wanted = level in line.removeprefix(LEVELS).split()
        elif wanted and line.strip():
            chosen.append(line)
    if not chosen:
        raise LookupError(f"{FILE} has no pins for {level!r}")
    return "".join(chosen)


def main(levels: list[str]) -> int:
    if not levels:
        print("usage: pins.py LEVEL...", file=sys.stderr)
        return 2
    pins = file().read_text(encoding="utf-8")
    try:
        print(*(select(pins, level) for level in levels), sep="", end="")
    except LookupError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
