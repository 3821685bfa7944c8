"""Formats numbers with three or four significant digits and aligned decimal points."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from orchestrator.table.comparison import Cell
from orchestrator.table.statistics import Interval

SKEWED = 0.1  # both ends are printed if an interval's halves differ by more than this fraction of the larger
MOST_DIGITS = 700  # enough for the largest float with the decimals of the smallest


def significant(value: float) -> tuple[str, int]:
    """Returns the number and its decimals: three significant digits, four if the first is a 1, so that 1% shows."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}", 0
    first, exponent = f"{abs(value):.3e}".split("e")
    decimals = max(0, (3 if first[0] == "1" else 2) - int(exponent))
    return f"{value:.{decimals}f}", decimals


def is_skewed(value: float, interval: Interval) -> bool:
    """Whether the interval is too asymmetric to be shown as ± half its width."""
    below, above = value - interval.low, interval.high - value
    return abs(above - below) > SKEWED * max(above, below)


def spread(value: float, interval: Interval, decimals: int) -> str:
    """Formats half the interval's width, or both ends if it is skewed. Never rounds to zero."""
    if is_skewed(value, interval):
        return f"[{_rounded(interval.low, decimals, ROUND_FLOOR)}–{_rounded(interval.high, decimals, ROUND_CEILING)}]"
    half = (interval.high - interval.low) / 2
    smallest = 10.0**-decimals
    return f"±{max(half, smallest) if half > 0 else 0:.{decimals}f}"


def _rounded(value: float, decimals: int, to: str) -> str:
    """Rounds to twelve digits first, which removes binary representation errors: 2.01 stays 2.01."""
    exact = Decimal(f"{value:.12g}")
    return f"{exact.quantize(Decimal(1).scaleb(-decimals), to, Context(prec=MOST_DIGITS)):f}"


@dataclass(frozen=True)
class Widths:
    """Widths in a column: the digits before the point, the point with the fraction, and the spread."""

    whole: int = 0
    fraction: int = 0
    spread: int = 0

    @classmethod
    def of(cls, cells: Iterable[Cell]) -> Widths:
        parts = [_parts(cell) for cell in cells if cell.figure]
        return cls(*(max(map(len, part)) for part in zip(*parts))) if parts else cls()

    def figure(self, cell: Cell) -> str:
        whole, fraction, around = _parts(cell)
        return f"{whole:>{self.whole}}{fraction:<{self.fraction}} {around:<{self.spread}}".rstrip()


def _parts(cell: Cell) -> tuple[str, str, str]:
    value = cell.value or 0.0
    if cell.figure and cell.figure.limit:
        beyond = cell.figure.limit.beyond
        return (f"≥ {value:.0f}", "", "") if beyond is None else (f"{value:.0f}", "", f"(oom at {beyond})")
    number, decimals = (str(value), 0) if isinstance(value, int) else significant(value)
    whole, point, fraction = number.partition(".")
    return whole, point + fraction, spread(value, cell.interval, decimals) if cell.interval else ""


def limit_words(cell: Cell) -> str:
    """Returns what is known beyond a limit, such as `278 is out of memory`; empty for other values."""
    if cell.figure is None or cell.figure.limit is None:
        return ""
    beyond = cell.figure.limit.beyond
    return "a lower bound: no larger batch was tried" if beyond is None else f"{beyond} is out of memory"


def number_text(cell: Cell) -> str:
    """The value with its spread or limit, such as `0.312 ±0.001`; empty without a value."""
    if cell.figure is None:
        return ""
    whole, fraction, around = _parts(cell)
    return f"{whole}{fraction} {around}".rstrip()
