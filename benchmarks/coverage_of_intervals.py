"""How often each interval that the product shows contains the truth, for 3, 5, 10 and 30 trials or rounds.

Values are drawn from known distributions and go through the functions that make a real row and a real table
(runner/measuring/measure.py, orchestrator/table/statistics.py). The truth of the interval within a process is the
distribution's median; of a value between processes, what its mean converges to (of the logarithms; for a quality
figure, of the values themselves); of a ratio of two cells with the same distribution, 1.

  python benchmarks/coverage_of_intervals.py [--tables 5000] [--seed 1] [--only within]

Two minutes beside other programs. A share of 95% from 5000 tables is known to ±0.6%; the intervals of 12 cells are
simulated with fewer tables, each of which has many ratios.
"""

from __future__ import annotations

import argparse
import functools
import math
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median

sys.path.insert(0, str(Path(__file__).parent.parent))

from orchestrator.table.statistics import Figure, Interval, Process, ratio, settled
from runner.measuring.measure import median_interval

SIZES = (3, 5, 10, 30)
CELLS = 12  # of a table whose variance is partly pooled
OF_ROUND = 0.02  # the deviation of the shift that the cells of a round share

Draw = Callable[[random.Random], float]


def normal(draw: random.Random) -> float:
    """Symmetric, with a deviation of 3%."""
    return 1 + 0.03 * draw.gauss(0, 1)


def lognormal(draw: random.Random) -> float:
    """Skewed: the logarithm is normal with a deviation of 0.3."""
    return math.exp(draw.gauss(0, 0.3))


def exponential(draw: random.Random) -> float:
    """A fastest possible call, and an exponential tail of 5% above it."""
    return 1 + 0.05 * draw.expovariate(1)


def outliers(draw: random.Random) -> float:
    """A deviation of 1%; one in ten is 5 to 50% slower."""
    return (1 + 0.01 * draw.gauss(0, 1)) * (1 + draw.uniform(0.05, 0.5) if draw.random() < 0.1 else 1)


DISTRIBUTIONS: tuple[Draw, ...] = (normal, lognormal, exponential, outliers)


@functools.cache
def truths(distribution: Draw) -> tuple[float, float, float]:
    """The distribution's median, geometric mean and mean, of a million values."""
    draw = random.Random(f"truth {distribution.__name__}")
    values = [distribution(draw) for _ in range(1_000_000)]
    return median(values), math.exp(fmean(map(math.log, values))), fmean(values)


def within(distribution: Draw, size: int, draw: random.Random) -> Iterator[tuple[Interval | None, float]]:
    found = median_interval([distribution(draw) for _ in range(size)])
    yield Interval(*found) if found else None, truths(distribution)[0]


def value(distribution: Draw, size: int, draw: random.Random) -> Iterator[tuple[Interval | None, float]]:
    (figure,) = settled({0: _figure([distribution(draw) for _ in range(size)])}).values()
    yield figure.interval, truths(distribution)[1]


def typical(distribution: Draw, size: int, draw: random.Random) -> Iterator[tuple[Interval | None, float]]:
    """The interval of a value, and the median of all processes."""
    yield from ((interval, truths(distribution)[0]) for interval, _ in value(distribution, size, draw))


def linear(distribution: Draw, size: int, draw: random.Random) -> Iterator[tuple[Interval | None, float]]:
    (figure,) = settled({0: _figure([distribution(draw) for _ in range(size)], is_linear=True)}).values()
    yield figure.interval, truths(distribution)[2]


def paired(
    distribution: Draw, size: int, draw: random.Random, cells: int = 2
) -> Iterator[tuple[Interval | None, float]]:
    """Ratios to the first of the cells of one host, whose rounds share a shift."""
    shifts = [math.exp(draw.gauss(0, OF_ROUND)) for _ in range(size)]
    figures = settled({cell: _figure([shift * distribution(draw) for shift in shifts]) for cell in range(cells)})
    yield from ((_ratio(figures[cell], figures[0]), 1.0) for cell in range(1, cells))


def pooled(distribution: Draw, size: int, draw: random.Random) -> Iterator[tuple[Interval | None, float]]:
    yield from paired(distribution, size, draw, CELLS)


def welch(distribution: Draw, size: int, draw: random.Random) -> Iterator[tuple[Interval | None, float]]:
    """A ratio of two hosts."""
    sides = {host: _figure([distribution(draw) for _ in range(size)], host) for host in "ab"}
    yield _of_two(sides), 1.0


def pooled_welch(distribution: Draw, size: int, draw: random.Random) -> Iterator[tuple[Interval | None, float]]:
    """Ratios of the cells of two hosts, each with its own rounds."""
    cells: dict[tuple[str, int], Figure] = {}
    for host in "ab":
        shifts = [math.exp(draw.gauss(0, OF_ROUND)) for _ in range(size)]
        for cell in range(CELLS):
            cells[host, cell] = _figure([shift * distribution(draw) for shift in shifts], host)
    figures = settled(cells)
    yield from ((_ratio(figures["a", cell], figures["b", cell]), 1.0) for cell in range(CELLS))


def welch_unequal(distribution: Draw, size: int, draw: random.Random) -> Iterator[tuple[Interval | None, float]]:
    """A ratio of two hosts; the base has 3 rounds and a third of the scatter."""
    center = truths(distribution)[1]
    calm = [center * (distribution(draw) / center) ** (1 / 3) for _ in range(3)]
    yield _of_two({"a": _figure([distribution(draw) for _ in range(size)]), "b": _figure(calm, "b")}), 1.0


INTERVALS: Mapping[str, tuple[str, Callable[[Draw, int, random.Random], Iterator[tuple[Interval | None, float]]]]] = {
    "within": ("median within a process (order statistics)", within),
    "value": ("value between processes (t of the logarithms)", value),
    "typical": ("the same interval, against the median", typical),
    "linear": ("quality figure between processes (t)", linear),
    "paired": ("ratio by rounds, 2 cells (paired t)", paired),
    "pooled": (f"ratio by rounds, {CELLS} cells (variance partly pooled)", pooled),
    "welch": ("ratio of two hosts (Welch)", welch),
    "pooled_welch": (f"ratio of two hosts, {CELLS} cells each (variance partly pooled)", pooled_welch),
    "unequal": ("the same, base of 3 rounds and a third of the scatter", welch_unequal),
}


def _figure(values: Sequence[float], host: str = "a", *, is_linear: bool = False) -> Figure:
    processes = (Process(value, ("run", host), number) for number, value in enumerate(values, start=1))
    return Figure(tuple(processes), is_linear=is_linear)


def _of_two(sides: Mapping[str, Figure]) -> Interval | None:
    figures = settled(sides)
    return _ratio(figures["a"], figures["b"])


def _ratio(ours: Figure, base: Figure) -> Interval | None:
    found = ratio(ours, base)
    return found.interval if found else None


def share(name: str, distribution: Draw, size: int, tables: int, seed: int) -> float | None:
    """The share of intervals that contain the truth; None if none is shown."""
    draw = random.Random(f"{seed} {name} {distribution.__name__} {size}")
    intervals = INTERVALS[name][1]
    found = [pair for _ in range(tables) for pair in intervals(distribution, size, draw)]
    shown = [interval.low <= truth <= interval.high for interval, truth in found if interval]
    return fmean(shown) if shown else None


def tables_of(name: str, tables: int) -> int:
    """Fewer tables where one gives several ratios."""
    return max(1, tables // {"pooled": CELLS // 2, "pooled_welch": 2 * CELLS}.get(name, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=INTERVALS, action="append")
    asked = parser.parse_args()
    print(f"| 95% interval, contains the truth in % | distribution | {' | '.join(map(str, SIZES))} |")
    print("| --- | --- |" + " --- |" * len(SIZES))
    for name in asked.only or INTERVALS:
        for distribution in DISTRIBUTIONS:
            shares = [share(name, distribution, size, tables_of(name, asked.tables), asked.seed) for size in SIZES]
            cells = ["none" if each is None else f"{100 * each:.1f}" for each in shares]
            label = INTERVALS[name][0] if distribution is DISTRIBUTIONS[0] else ""
            print(f"| {label} | {distribution.__name__} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
