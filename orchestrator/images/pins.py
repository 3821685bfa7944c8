#!/usr/bin/env python3
"""The pins of one level: what pip installs there, each package with its version and its hashes.

`python -m orchestrator.images.pins cpu` prints them as a requirements file. In a checkout, `python
orchestrator/images/pins.py` does so before anything is installed: this module needs the standard library alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

FILE = "pins.txt"
LEVELS = "# for:"  # then names of levels; the pins below it, up to the next such line, belong to them


def file() -> Path:
    """Where the pins lie: in a checkout at its top, in an installed orchestrator among its data."""
    package = Path(__file__).parent.parent
    installed = package / "data" / FILE
    return installed if installed.is_file() else package.parent / FILE


def select(pins: str, level: str) -> str:
    """The pins of a level, as pip reads them. Raises LookupError where there are none."""
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
    pins = file().read_text(encoding="utf-8")
    try:
        print(*(select(pins, level) for level in levels), sep="", end="")
    except LookupError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
