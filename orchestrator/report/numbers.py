"""Figures as a reader wants them: three or four significant digits, decimal points under each other."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from orchestrator.table.comparison import Cell
from orchestrator.table.statistics import Interval

SKEWED = 0.1  # by how much, of the larger, the two halves of an interval differ before both ends are printed
MOST_DIGITS = 700  # of the largest float, to the decimals of the smallest


def significant(value: float) -> tuple[str, int]:
    """The number and its decimals: three significant digits, four where the first is a 1, so that 1% is always seen."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}", 0
    first, exponent = f"{abs(value):.3e}".split("e")
    decimals = max(0, (3 if first[0] == "1" else 2) - int(exponent))
    return f"{value:.{decimals}f}", decimals


def is_skewed(value: float, interval: Interval) -> bool:
    """Whether half of the interval's width would say too much of one side and too little of the other."""
    below, above = value - interval.low, interval.high - value
    return abs(above - below) > SKEWED * max(above, below)


def spread(value: float, interval: Interval, decimals: int) -> str:
    """Half the interval's width, or both of its ends where it is skewed; never rounded to nothing."""
    if is_skewed(value, interval):
        return f"[{_rounded(interval.low, decimals, ROUND_FLOOR)}–{_rounded(interval.high, decimals, ROUND_CEILING)}]"
    half = (interval.high - interval.low) / 2
    smallest = 10.0**-decimals
    return f"±{max(half, smallest) if half > 0 else 0:.{decimals}f}"


def _rounded(value: float, decimals: int, to: str) -> str:
    """Twelve digits first, which takes away what binary fractions add: 2.01 is 2.01."""
    exact = Decimal(f"{value:.12g}")
    return f"{exact.quantize(Decimal(1).scaleb(-decimals), to, Context(prec=MOST_DIGITS)):f}"


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
    value = cell.value or 0.0
    number, decimals = significant(value)
    whole, point, fraction = number.partition(".")
    return whole, point + fraction, spread(value, cell.interval, decimals) if cell.interval else ""
