"""What the table's statistics promise, by simulation: coverage, false differences and power, where processes differ.

Each simulated process has a shift of its own, and three calls that scatter around it; a round has a shift that its
cells share. The rows go through the functions that make a real table (orchestrator/table/statistics.py). Six kinds of
table: `even`, where all cells scatter alike; `uneven`, where their deviations differ (log-normal, a factor of 1.6);
`noisy`, where the last scatters five times as much; `noisy base`, where the one that all are compared to scatters
three times as much; `wild`, where the last scatters 25 times as much, as `eager` may beside FLUX on a host with a slow
CPU; `few`, where a quarter of them scatter ten times as much.

  python benchmarks/replication.py [--tables 2000] [--seed 1] [--parts coverage power]
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean, median

sys.path.insert(0, str(Path(__file__).parent.parent))

from orchestrator.table import statistics
from orchestrator.table.statistics import Figure, Process, Ratio, corrected, ratio, settled

BETWEEN = 0.01  # the deviation between processes, relative
WITHIN = 0.01  # and between the calls of one
OF_ROUND = 0.005
CALLS = 3
ROUNDS = (2, 3, 5, 10)


def even(cells: int, draw: random.Random) -> list[float]:
    return [BETWEEN] * cells


def uneven(cells: int, draw: random.Random) -> list[float]:
    return [BETWEEN * math.exp(draw.gauss(0, 0.5)) for _ in range(cells)]


def noisy(cells: int, draw: random.Random) -> list[float]:
    return [BETWEEN] * (cells - 1) + [5 * BETWEEN]


def noisy_base(cells: int, draw: random.Random) -> list[float]:
    return [3 * BETWEEN] + [BETWEEN] * (cells - 1)


def wild(cells: int, draw: random.Random) -> list[float]:
    return [BETWEEN] * (cells - 1) + [25 * BETWEEN]


def few(cells: int, draw: random.Random) -> list[float]:
    return [BETWEEN] * (cells - max(1, cells // 4)) + [10 * BETWEEN] * max(1, cells // 4)


def half(cells: int, draw: random.Random) -> list[float]:
    return [BETWEEN] * (cells - cells // 2) + [10 * BETWEEN] * (cells // 2)


KINDS = (even, uneven, noisy, noisy_base, wild, few)
Kind = Callable[[int, random.Random], list[float]]
# How the shifts of processes are distributed, with a mean of 0 each.
Shape = Callable[[random.Random], float]


def normal(draw: random.Random) -> float:
    return draw.gauss(0, 1)


def exponential(draw: random.Random) -> float:
    return draw.expovariate(1) - 1


def student(draw: random.Random) -> float:
    """Student's t of 3 degrees of freedom."""
    return draw.gauss(0, 1) / math.sqrt(draw.gammavariate(1.5, 2) / 3)


def table(
    deviations: Sequence[float], rounds: int, draw: random.Random, second: float = 1.0, shape: Shape = normal
) -> list[Figure]:
    """Cells of equal truth, 1, but the second; settled."""
    shifts = [draw.gauss(0, OF_ROUND) for _ in range(rounds)]
    figures = {}
    for cell, deviation in enumerate(deviations):
        processes = []
        for number, shift in enumerate(shifts, start=1):
            at = deviation * shape(draw) + shift
            calls = [math.exp(at + draw.gauss(0, WITHIN)) for _ in range(CALLS)]
            processes.append(Process((second if cell == 1 else 1.0) * median(calls), ("run", "host"), number))
        figures[cell] = Figure(tuple(processes))
    return list(settled(figures).values())


def ratios(figures: Sequence[Figure]) -> list[Ratio]:
    """Of all cells to the first."""
    return corrected([found for figure in figures[1:] if (found := ratio(figure, figures[0]))])


def shares(
    kind: Kind, cells: int, rounds: int, tables: int, seed: int, second: float = 1.0
) -> tuple[float, float, float, float]:
    """The shares of values and of ratios that their interval contains, of tables with a false difference, and of
    tables that show the second cell's."""
    draw = random.Random(f"{seed} {kind.__name__} {cells} {rounds} {second}")
    values, compared, false, found = [], [], [], []
    for _ in range(tables):
        figures = table(kind(cells, draw), rounds, draw, second)
        truths = [second if cell == 1 else 1.0 for cell in range(cells)]
        of_table = ratios(figures)
        # the middle of a median of three calls and of a log-normal shift is that of the logs: the truth itself
        values += [_holds(figure.interval, truth) for figure, truth in zip(figures, truths)]
        compared += [_holds(each.interval, truth) for each, truth in zip(of_table, truths[1:])]
        false.append(any(each.shows_difference for each in of_table[1 if second != 1.0 else 0 :]))
        found.append(bool(of_table[0].shows_difference))
    return fmean(values), fmean(compared), fmean(false), fmean(found)


def _holds(interval: statistics.Interval | None, truth: float) -> bool:
    return interval is not None and interval.low <= truth <= interval.high


def coverage(tables: int, seed: int) -> Iterator[str]:
    yield "Coverage of 95% intervals, tables of 12 cells: values, ratios; tables with a false difference"
    for rounds in ROUNDS:
        for kind in KINDS:
            values, compared, false, _ = shares(kind, 12, rounds, tables, seed)
            yield f"{rounds:>3} rounds  {kind.__name__:10}  {values:6.1%}  {compared:6.1%}  {false:6.1%}"


def small(tables: int, seed: int) -> Iterator[str]:
    yield "Tables with a false difference, by cells"
    for cells in (2, 3, 4, 6, 60):
        for rounds in (2, 3, 5):
            false = [shares(kind, cells, rounds, max(200, tables // max(1, cells // 6)), seed)[2] for kind in KINDS]
            words = "  ".join(f"{kind.__name__} {share:5.1%}" for kind, share in zip(KINDS, false))
            yield f"{cells:>3} cells  {rounds} rounds  {words}"


def power(tables: int, seed: int) -> Iterator[str]:
    yield "Tables that show a true difference of 2, 5, 10% (12 cells, one of the quiet ones differs)"
    for kind in (even, uneven, wild, few, half):
        for rounds in ROUNDS:
            found = [shares(kind, 12, rounds, tables, seed, 1 + off)[3] for off in (0.02, 0.05, 0.10)]
            yield f"{rounds:>3} rounds  {kind.__name__:10}  " + "  ".join(f"{share:6.1%}" for share in found)


def borrowed(tables: int, seed: int) -> Iterator[str]:
    yield "3 rounds, 12 cells, by the degrees of freedom borrowed: tables with a false difference in even, noisy, noisy"
    yield "base; tests of the noisy cell by itself that call it different; tables that show a difference of 5% (even)"
    kept = statistics.MOST_BORROWED, statistics.SHARE_BORROWED
    try:
        for most, share in ((0.0, 0.25), (1.0, 0.25), (2.0, 0.25), (3.0, 0.25), (5.0, 0.25), (20.0, 1.0)):
            statistics.MOST_BORROWED, statistics.SHARE_BORROWED = most, share
            false = [shares(kind, 12, 3, tables, seed)[2] for kind in (even, noisy, noisy_base)]
            found = shares(even, 12, 3, tables, seed, 1.05)[3]
            yield f"{most:>4g}  " + "  ".join(f"{each:6.1%}" for each in (*false, of_noisy(tables, seed), found))
    finally:
        statistics.MOST_BORROWED, statistics.SHARE_BORROWED = kept


def of_noisy(tables: int, seed: int, rounds: int = 3, times: float = 5) -> float:
    """The share of tests of a cell that scatters so many times as much as eleven others that call it different."""
    draw = random.Random(f"{seed} of noisy")
    deviations = [BETWEEN] * 11 + [times * BETWEEN]
    tested = (ratios(table(deviations, rounds, draw))[-1] for _ in range(tables))
    return fmean((each.p or 0.0) <= statistics.LEVEL for each in tested)


def wild_base(tables: int, seed: int) -> Iterator[str]:
    yield "Tables of 12 cells with a false difference, if the baseline scatters 10 and 25 times as much"
    for rounds in ROUNDS:
        false = []
        for times in (10, 25):
            draw = random.Random(f"{seed} wild base {rounds} {times}")
            made = (ratios(table([times * BETWEEN] + [BETWEEN] * 11, rounds, draw)) for _ in range(tables))
            false.append(fmean(any(each.shows_difference for each in of_table) for of_table in made))
        yield f"{rounds:>3} rounds  " + "  ".join(f"{share:5.1%}" for share in false)


def unlike(tables: int, seed: int) -> Iterator[str]:
    yield "Tests by itself of a cell that scatters ten times as much as eleven others, that call it different"
    for rounds in ROUNDS:
        yield f"{rounds:>3} rounds  {of_noisy(tables, seed, rounds, 10):6.1%}"


def rounded(draw: random.Random) -> float:
    """A latency of 0.505 s that is rounded to two digits, steps of twice the scatter."""
    return round(0.505 * math.exp(draw.gauss(0, BETWEEN)), 2)


def two_modes(draw: random.Random) -> float:
    """One of two kernels, as likely, which differ by 2%."""
    return (1 + 0.02 * (draw.random() < 0.5)) * math.exp(draw.gauss(0, BETWEEN / 20))


def seldom_slow(draw: random.Random) -> float:
    """One process in five is 5% slower."""
    return (1 + 0.05 * (draw.random() < 0.2)) * math.exp(draw.gauss(0, BETWEEN / 20))


def false_of_steps(value: Callable[[random.Random], float], cells: int, rounds: int, tables: int, seed: int) -> float:
    """The share of tables with a false difference. Some cells agree by chance, and say nothing of themselves so."""
    draw = random.Random(f"{seed} {value.__name__} {cells} {rounds}")
    false = 0
    for _ in range(tables):
        processes = [[Process(value(draw), ("run", "host"), i) for i in range(rounds)] for _ in range(cells)]
        figures = settled({cell: Figure(tuple(its)) for cell, its in enumerate(processes)})
        false += any(each.shows_difference for each in ratios(list(figures.values())))
    return false / tables


STEPS = (rounded, two_modes, seldom_slow)


def steps(tables: int, seed: int) -> Iterator[str]:
    yield "Tables with a false difference, where values come in steps or modes, with 2, 3 and 5 rounds"
    for value in STEPS:
        for cells in (4, 12, 60):
            false = [
                false_of_steps(value, cells, rounds, max(200, tables // max(1, cells // 6)), seed)
                for rounds in (2, 3, 5)
            ]
            yield f"{value.__name__:12} {cells:>3} cells  " + "  ".join(f"{share:5.1%}" for share in false)


def tails(tables: int, seed: int) -> Iterator[str]:
    yield "Coverage of 95% intervals of values and of ratios, tables of 12 cells, where the shifts of processes are not"
    yield "normal, and five times as large, so that calls and rounds hide little of it"
    for shape in (exponential, student):
        for rounds in ROUNDS:
            draw = random.Random(f"{seed} {shape.__name__} {rounds}")
            values, compared = [], []
            for _ in range(tables):
                figures = table([5 * BETWEEN] * 12, rounds, draw, shape=shape)
                values += [_holds(figure.interval, 1.0) for figure in figures]
                compared += [_holds(each.interval, 1.0) for each in ratios(figures)]
            yield f"{shape.__name__:12} {rounds:>3} rounds  {fmean(values):6.1%}  {fmean(compared):6.1%}"


def stopped(tables: int, seed: int) -> Iterator[str]:
    yield "Coverage where rounds are added (3 to 10) until the interval is as narrow as rel_ci; rounds on average"
    for rel_ci in (0.005, 0.01, 0.02, 0.03, 0.05):
        draw = random.Random(f"{seed} {rel_ci}")
        held, took = [], []
        for _ in range(tables):
            (most,) = table([BETWEEN], 10, draw)
            figure = next(each for each in map(_first(most), range(3, 11)) if _is_enough(each, rel_ci))
            held.append(_holds(figure.interval, 1.0))
            took.append(len(figure.processes))
        yield f"rel_ci {rel_ci:<6g} {fmean(held):6.1%}  {fmean(took):4.1f} rounds"


def _first(figure: Figure) -> Callable[[int], Figure]:
    return lambda rounds: settled({0: Figure(figure.processes[:rounds])})[0]


def _is_enough(figure: Figure, rel_ci: float) -> bool:
    found = figure.interval
    return len(figure.processes) == 10 or (found is not None and (found.high - found.low) / 2 <= rel_ci * figure.value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=2000, help="simulated for each figure")
    parser.add_argument("--seed", type=int, default=1)
    parts = {
        part.__name__: part for part in (coverage, small, power, borrowed, wild_base, unlike, steps, tails, stopped)
    }
    parser.add_argument("--parts", nargs="*", choices=parts, default=[*parts])
    flags = parser.parse_args()
    for part in [parts[name] for name in flags.parts]:
        for line in part(flags.tables, flags.seed):
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
