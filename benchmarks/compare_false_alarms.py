"""How often `orchestrator compare` calls an unchanged run changed, and how often it finds a change, by simulation.

Two runs of one host, simulated as in replication.py: a shift of each process, of each round, and three calls. `even`:
all cases scatter alike; `uneven`: their deviations differ (log-normal, a factor of 1.6); `noisy`: one case scatters
five times as much. The figures go through the functions of `compare` (orchestrator/table/beyond.py).

  python benchmarks/compare_false_alarms.py [--pairs 200] [--seed 1] [--parts alarms coverage thresholds power sessions]
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from replication import CALLS, OF_ROUND, WITHIN, Kind, even, noisy, uneven

from orchestrator.table.beyond import adjusted, is_beyond, p_beyond
from orchestrator.table.overall import together
from orchestrator.table.statistics import LEVEL, Figure, Process, Ratio, ratio, settled

KINDS = (even, uneven, noisy)
ROUNDS = (3, 5, 10)
FAMILIES = (4, 15, 60)
THRESHOLD = 0.01


def run(
    name: str,
    deviations: Sequence[float],
    rounds: int,
    draw: random.Random,
    factors: Sequence[float],
    of_round: float = OF_ROUND,
) -> list[Figure]:
    """One run's figures. factors: the true value of each case."""
    shifts = [draw.gauss(0, of_round) for _ in range(rounds)]
    figures = {}
    for case, (deviation, factor) in enumerate(zip(deviations, factors)):
        processes = []
        for number, shift in enumerate(shifts, start=1):
            at = draw.gauss(0, deviation) + shift
            calls = [factor * math.exp(at + draw.gauss(0, WITHIN)) for _ in range(CALLS)]
            processes.append(Process(median(calls), (name, "host"), number, f"job{case}"))
        figures[case] = Figure(tuple(processes))
    return list(settled(figures).values())


def pair(
    kind: Kind,
    rounds: int,
    draw: random.Random,
    factors: Sequence[float],
    session: float = 0.0,
    of_round: float = OF_ROUND,
) -> list[Ratio]:
    """The ratios of two runs, and last that of all cases together.

    factors: what the second run changes. session, of_round: the deviation of a shift of a whole run, and of a round.
    """
    deviations = kind(len(factors), draw)
    shifts = [math.exp(draw.gauss(0, session)) if session else 1.0 for _ in range(2)]
    base = run("base", deviations, rounds, draw, [shifts[0]] * len(factors), of_round)
    new = run("new", deviations, rounds, draw, [shifts[1] * factor for factor in factors], of_round)
    whole = together(list(zip(base, new)))
    found = [each for ours, theirs in zip(new, base) if (each := ratio(ours, theirs))]
    return [*found, whole.ratio] if whole else found


class Calls(NamedTuple):
    """For each ratio of a comparison, whether a rule calls it changed."""

    holm: list[bool]
    hochberg: list[bool]
    alone: list[bool]


def calls(ratios: Sequence[Ratio], threshold: float) -> Calls:
    alone = [p_beyond(each, threshold) or 0.0 for each in ratios]
    ranked = sorted(alone)
    passing = [p for rank, p in enumerate(ranked, start=1) if p <= LEVEL * rank / len(ranked)]
    cut = passing[-1] if passing else -1.0
    return Calls(
        [is_beyond(p) for p in adjusted(ratios, threshold)], [p <= cut for p in alone], [p <= LEVEL for p in alone]
    )


class Shares(NamedTuple):
    """The shares of comparisons that call a case changed beyond 0 and beyond the threshold, by Holm and uncorrected.

    exit_1: the share that finds any case slower.
    """

    beyond_0: float
    beyond_threshold: float
    exit_1: float
    alone_0: float
    alone_threshold: float


def of_identical(kind: Kind, cases: int, rounds: int, pairs: int, seed: int) -> Shares:
    draw, found = random.Random(f"{seed} {kind.__name__} {cases} {rounds}"), []
    for _ in range(pairs):
        ratios = pair(kind, rounds, draw, [1.0] * cases)
        at_0, at_threshold = calls(ratios, 0.0), calls(ratios, THRESHOLD)
        slower = any(called and each.value > 1 for called, each in zip(at_threshold.holm, ratios))
        found.append((any(at_0.holm), any(at_threshold.holm), slower, any(at_0.alone), any(at_threshold.alone)))
    return Shares(*map(fmean, zip(*found)))


def alarms(pairs: int, seed: int) -> Iterator[str]:
    yield "Comparisons of two identical runs that call any case changed, and those that exit with 1 (any slower)"
    yield f"cases rounds  kind    by Holm beyond 0, {THRESHOLD:.0%} | exit 1 | uncorrected beyond 0, {THRESHOLD:.0%}"
    for cases in FAMILIES:
        for rounds in ROUNDS:
            for kind in KINDS:
                found = of_identical(kind, cases, rounds, pairs, seed)
                yield (
                    f"{cases:>5} {rounds:>6}  {kind.__name__:7} {found.beyond_0:6.1%} {found.beyond_threshold:6.1%} |"
                    f" {found.exit_1:6.1%} | {found.alone_0:6.1%} {found.alone_threshold:6.1%}"
                )


class Called(NamedTuple):
    """How often a change is called, tested against the threshold; and tested against 0 and estimated beyond it."""

    against: float
    estimated: float


def called(kind: Kind, rounds: int, change: float, pairs: int, seed: int) -> Called:
    """Of one case of 15."""
    draw, found = random.Random(f"{seed} {rounds} {change}"), []
    for _ in range(pairs):
        ratios = pair(kind, rounds, draw, [1 + change] + [1.0] * 14)
        is_above = abs(math.log(ratios[0].value)) > math.log1p(THRESHOLD)
        found.append((calls(ratios, THRESHOLD).holm[0], calls(ratios, 0.0).holm[0] and is_above))
    return Called(*map(fmean, zip(*found)))


def thresholds(pairs: int, seed: int) -> Iterator[str]:
    yield f"A change of one case of 15 by less than, exactly, and more than {THRESHOLD:.0%}: how often it is called"
    yield "rounds  true change   tested against the threshold | tested against 0, and estimated above the threshold"
    for rounds in ROUNDS:
        for change in (0.005, 0.01, 0.015, 0.02):
            found = called(even, rounds, change, pairs, seed)
            yield f"{rounds:>6}  {change:10.1%}   {found.against:6.1%} | {found.estimated:6.1%}"


def power(pairs: int, seed: int) -> Iterator[str]:
    yield f"Changes found, beyond {THRESHOLD:.0%} (even). One case changes: Holm, Benjamini-Hochberg. All change: Holm,"
    yield "Benjamini-Hochberg, all cases together by Holm"
    for cases in FAMILIES:
        for rounds in ROUNDS:
            words = []
            for change in (0.02, 0.05, 0.10):
                draw, one, every = random.Random(f"{seed} power {cases} {rounds} {change}"), [], []
                for _ in range(max(50, pairs // (1 if cases < 60 else 4))):
                    first = calls(pair(even, rounds, draw, [1 + change] + [1.0] * (cases - 1)), THRESHOLD)
                    one.append((first.holm[0], first.hochberg[0]))
                    whole = calls(pair(even, rounds, draw, [1 + change] * cases), THRESHOLD)
                    every.append((fmean(whole.holm[:-1]), fmean(whole.hochberg[:-1]), float(whole.holm[-1])))
                shares = [fmean(each) for found in (zip(*one), zip(*every)) for each in found]
                words.append(f"{change:.0%}: {' '.join(f'{share:4.0%}' for share in shares)}")
            yield f"{cases:>5} cases {rounds:>3} rounds   {'   '.join(words)}"


def sessions(pairs: int, seed: int) -> Iterator[str]:
    yield "Identical runs of 15 cases, each shifted as a whole by its session: comparisons that call any case changed"
    for session in (0.0, 0.0025, 0.005, 0.01, 0.02):
        words = []
        for rounds in ROUNDS:
            draw = random.Random(f"{seed} session {session} {rounds}")
            found = [any(calls(pair(even, rounds, draw, [1.0] * 15, session), THRESHOLD).holm) for _ in range(pairs)]
            words.append(f"{rounds} rounds {fmean(found):6.1%}")
        yield f"session {session:6.2%}   {'   '.join(words)}"


class Held(NamedTuple):
    """The shares of 95% intervals that contain the true ratio: of all 12 cases, of the last one, of all together."""

    cases: float
    last: float
    together: float


def held(kind: Kind, rounds: int, pairs: int, seed: int, of_round: float = OF_ROUND) -> Held:
    draw, found = random.Random(f"{seed} coverage {kind.__name__} {rounds} {of_round}"), []
    for _ in range(pairs):
        intervals = [each.interval for each in pair(kind, rounds, draw, [1.0] * 12, of_round=of_round)]
        found.append([each is not None and each.low <= 1 <= each.high for each in intervals])
    shares = [fmean(each) for each in zip(*found)]
    return Held(fmean(shares[:-1]), shares[-2], shares[-1])


def coverage(pairs: int, seed: int) -> Iterator[str]:
    yield "Coverage of the 95% interval of ratios of two runs: of all 12 cases, of the last one, of all together"
    for of_round in (OF_ROUND, 4 * OF_ROUND):
        for kind in KINDS:
            found = {rounds: held(kind, rounds, pairs, seed, of_round) for rounds in (2, *ROUNDS)}
            words = [f"{rounds}: {' '.join(f'{share:5.1%}' for share in each)}" for rounds, each in found.items()]
            yield f"rounds differ by {of_round:4.1%}  {kind.__name__:7}  {'   '.join(words)}"


PARTS: dict[str, Callable[[int, int], Iterator[str]]] = {
    part.__name__: part for part in (alarms, coverage, thresholds, power, sessions)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200, help="of runs, simulated for each figure")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=[*PARTS])
    flags = parser.parse_args()
    for part in [PARTS[name] for name in flags.parts]:
        for line in part(flags.pairs, flags.seed):
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
