"""Finds the columns of a CSV that the Lambda benchmark's script wrote, in any of its versions.

The script appends to one file. Its versions write 5, 6 or 8 values in a row, and some write a header that does not
match: one lacks `runtime`, one lacks the comma between `xformers` and `runtime`. Published files also lack the header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runner.catalog import PRECISIONS
from runner.schema import LAMBDA_COLUMNS

PRECISION_WORDS = {"fp32": "single", "float32": "single", "fp16": "half", "float16": "half"}
LAYOUTS = (
    LAMBDA_COLUMNS,
    ("device", "precision", "runtime", "n_samples", "latency", "memory"),
    ("device", "precision", "n_samples", "latency", "memory"),
)
OF_WIDTH = {len(layout): layout for layout in LAYOUTS}
MERGED = tuple(",".join(LAMBDA_COLUMNS).replace("xformers,runtime", "xformersruntime").split(","))
INDEX_NAMES = frozenset({"", "index", "level_0", "unnamed: 0"})  # pandas turns the value without a name into an index


@dataclass(frozen=True)
class ScriptFile:
    """names: what the header names, without an index. width: cells that match it. has_header: the first line is one."""

    names: tuple[str, ...]
    width: int
    has_header: bool = True

    @classmethod
    def seen(cls, header: Sequence[str]) -> ScriptFile | None:
        """Detects the script's file by its first line; None for any other file."""
        if is_record(header):
            return cls(LAMBDA_COLUMNS, 0, has_header=False)
        names = tuple(header)
        while names and not names[-1]:
            names = names[:-1]
        width = len(names)
        if names and names[0] in INDEX_NAMES:
            names = names[1:]
        if names == MERGED:
            return cls(names, 0)
        return cls(names, width) if names in LAYOUTS else None

    def is_misfit(self, records: Iterable[Sequence[str]]) -> bool:
        """Whether the header does not name the values of all records. records: the first line included."""
        return self.width == 0 or any(len(cells) != self.width and is_record(cells) for cells in records)

    def cells(self, cells: Sequence[str]) -> list[str]:
        """Returns a record's cells in the order of LAMBDA_COLUMNS. A record of no known layout stays as it is."""
        if len(cells) == self.width or (not any(cells[self.width :]) and len(cells) > self.width > 0):
            layout, values = self.names, cells[self.width - len(self.names) :]
        elif is_record(cells):
            layout, values = OF_WIDTH[len(cells)], cells
        else:
            return list(cells)
        found = dict(zip(layout, values))
        return [found.get(name, "") for name in LAMBDA_COLUMNS]


def is_record(cells: Sequence[str]) -> bool:
    """Whether these are the values of one row: a precision after the device, then numbers at the end."""
    if len(cells) not in OF_WIDTH or cells[1].strip().lower() not in {*PRECISIONS, *PRECISION_WORDS}:
        return False
    return re.fullmatch(r"\d+(\.0)?", cells[-3].strip()) is not None
