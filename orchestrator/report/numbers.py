"""Figures as a reader wants them: three or four significant digits, decimal points under each other."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.table.comparison import Cell
from orchestrator.table.statistics import Interval


def significant(value: float) -> tuple[str, int]:
    """The number and its decimals: three significant digits, four where the first is a 1, so that 1% is always seen."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}", 0
    first, exponent = f"{abs(value):.3e}".split("e")
    decimals = max(0, (3 if first[0] == "1" else 2) - int(exponent))
    return f"{value:.{decimals}f}", decimals


def spread(interval: Interval, decimals: int) -> str:
    """Half the interval's width, to the value's decimals and never rounded to nothing."""
    half = (interval.high - interval.low) / 2
    smallest = 10.0**-decimals
    return f"±{max(half, smallest) if half > 0 else 0:.{decimals}f}"


@dataclass(frozen=True)
class Column:
    """The widest number's parts in a host's column: digits before the point, with and after it, and the spread."""

    whole: int = 0
    fraction: int = 0
    spread: int = 0

    @classmethod
    def of(cls, cells: Iterable[Cell]) -> Column:
        parts = [_parts(cell) for cell in cells if cell.figure]
        return cls(*(max(map(len, part)) for part in zip(*parts))) if parts else cls()

    def figure(self, cell: Cell) -> str:
        whole, fraction, around = _parts(cell)
        return f"{whole:>{self.whole}}{fraction:<{self.fraction}} {around:<{self.spread}}".rstrip()


def _parts(cell: Cell) -> tuple[str, str, str]:
    number, decimals = significant(cell.value or 0.0)
    whole, point, fraction = number.partition(".")
    return whole, point + fraction, spread(cell.interval, decimals) if cell.interval else ""
