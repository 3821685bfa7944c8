"""A/A and A/B tests of the table on this machine: how often identical runs are called different, and slower found.

Runs synthetic:tiny on the CPU through `orchestrator submit`: cells that do the same work (they differ in the seed of
the latents alone), beside cells that make 2, 5 and 10% more denoising steps; each in so many rounds, and all of it in
two runs. The rows are then labelled as if they were engines of one work, and compared as the table compares engines (in
one run, round by round) and runs (host@first with host@second).

  python benchmarks/aa.py --minutes 10            # on a quiet machine
  python benchmarks/aa.py --cells 4 --rounds 3    # so many identical cells, however long it takes
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

import replication

from orchestrator.errors import ExitCode
from orchestrator.runs.rows import read_rows
from orchestrator.table import Comparison, compare
from orchestrator.table.statistics import LEVEL, Figure, Ratio
from runner.schema import Row, Status, Validity

ROOT = Path(__file__).parent.parent
STEPS = 100
SLOWER = (0.02, 0.05, 0.10)
FEWEST_CELLS, MOST_CELLS = 4, 40


def submit(folder: Path, name: str, cells: int, slower: Mapping[float, int], rounds: int, repeats: int) -> list[Row]:
    """The rows of one run. slower: how many cells make so many more steps, as a share."""
    points = [{"seed": seed, "steps": STEPS} for seed in range(cells)]
    for more, count in slower.items():
        points += [{"seed": len(points) + i, "steps": round(STEPS * (1 + more))} for i in range(count)]
    first, *others = points
    matrix = {
        "name": name,
        "model": "synthetic:tiny",
        "height": 64,
        "width": 64,
        "scheduler": "ddim",
        "matrix": {key: [value] for key, value in first.items()},
        "include": others,
        "warmup": 1,
        "repeats": repeats,
        "rounds": rounds,
    }
    (folder / "matrix.yaml").write_text(json.dumps(matrix))
    (folder / "hosts.yaml").write_text(json.dumps({"hosts": {"here": {"kind": "process", "threads": 1}}}))
    command = [sys.executable, "-m", "orchestrator", "submit", "matrix.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    if ended.returncode not in (ExitCode.OK, ExitCode.SOME_FAILED):
        raise SystemExit(f"submit ended with exit code {ended.returncode}")
    (run,) = (folder / "runs").glob(f"*-{name}")
    return read_rows(run / "results.csv")


def as_engines(rows: Sequence[Row]) -> list[Row]:
    """As if each seed were an engine, and all did one work."""
    return [replace(row, engine=label(row), seed=0, steps=STEPS, work="one") for row in rows]


def label(row: Row) -> str:
    return f"{row.steps}-{row.seed:03}"


def more_steps(engine: object) -> float:
    return int(str(engine).partition("-")[0]) / STEPS - 1


def of_engines(rows: Sequence[Row]) -> Iterator[tuple[str, str, Ratio]]:
    """Each pair of cells of one run, tested as the table tests them."""
    for run in sorted({row.run or "" for row in rows}):
        its = as_engines([row for row in rows if row.run == run])
        for base in sorted({row.engine or "" for row in its}):
            comparison = compare(its, baseline=base)
            for engine, ratio in _ratios(comparison, 0):
                if engine != base:
                    yield base, engine, ratio


def of_runs(rows: Sequence[Row]) -> Iterator[tuple[str, str, Ratio]]:
    """Each cell of the second run with each equal one of the first."""
    its = as_engines(rows)
    engines = sorted({row.engine or "" for row in its if more_steps(row.engine) == 0})
    for shift in range(len(engines)):
        shifted = dict(zip(engines, engines[shift:] + engines[:shift]))
        first = min(row.run or "" for row in its)
        moved = [replace(row, engine=shifted[row.engine or ""]) if row.run == first else row
                 for row in its if row.engine in shifted]  # fmt: skip
        comparison = compare(moved, baseline=f"here@{first}")
        for engine, ratio in _ratios(comparison, 1):
            yield f"{first} {shifted[engine]}", engine, ratio


def _ratios(comparison: Comparison, host: int) -> Iterator[tuple[str, Ratio]]:
    for line in comparison.lines:
        if host < len(line.cells) and (found := line.cells[host].ratio):
            yield str(line.labels[0]), found


def deviation(rows: Sequence[Row]) -> float:
    """Between processes of identical cells of one run, relative."""
    squares, degrees = 0.0, 0
    for run in {row.run for row in rows}:
        comparison = compare(as_engines([row for row in rows if row.run == run and row.steps == STEPS]))
        figures: list[Figure] = [cell.figure for line in comparison.lines for cell in line.cells if cell.figure]
        for figure in figures:
            logs = [math.log(process.value) for process in figure.processes]
            squares += sum((each - fmean(logs)) ** 2 for each in logs)
            degrees += len(logs) - 1
    return math.sqrt(squares / degrees) if degrees else math.nan


def report(rows: Sequence[Row], rounds: int) -> Iterator[str]:
    valid = [row for row in rows if row.status is Status.OK and row.validity is Validity.VALID]
    yield f"{len(valid)} of {len(rows)} rows are valid"
    compared = list(of_engines(valid))
    once = [ratio for base, engine, ratio in compared if more_steps(base) == more_steps(engine) == 0 and base < engine]
    yield _share("identical, one run", once)
    if not any(ratio.p is not None for ratio in once):
        yield "nothing to tell: too few rows are valid, since something else uses the CPUs"
        return
    if len({row.run for row in valid}) > 1:
        between = [ratio for _, _, ratio in of_runs(valid)]
        yield _share("identical, two runs", between)
        yield _share("identical, all", [*once, *between])
    spread = deviation(valid)
    yield f"deviation between processes: {spread:.2%}"
    for more in sorted({more_steps(label(row)) for row in valid} - {0.0}):
        found = [r for base, engine, r in compared if more_steps(base) == 0 and more_steps(engine) == more]
        if not found:
            continue
        seen = fmean(math.log(each.value) for each in found)
        stated = expected(spread, math.exp(seen), len({label(row) for row in valid}), rounds)
        yield f"{_share(f'{more:.0%} more steps', found)}; {math.exp(seen) - 1:+.1%}; by simulation {stated:.0%}"


def _share(what: str, ratios: Sequence[Ratio]) -> str:
    """Of comparisons: those with p at most 5% by themselves, and those that a table with all others calls different."""
    tested = [ratio for ratio in ratios if ratio.p is not None]
    alone = sum((ratio.p or 0.0) <= LEVEL for ratio in tested)
    called = sum(bool(ratio.shows_difference) for ratio in tested)
    of = max(1, len(tested))
    words = f"{alone} ({alone / of:.1%}) alone, {called} ({called / of:.1%}) in a table"
    return f"{what}: of {len(tested)} comparisons {words}"


def expected(spread: float, ratio: float, cells: int, rounds: int, tables: int = 300) -> float:
    """The share of comparisons alone that find this ratio at this deviation between processes, by simulation."""
    import random

    draw, kept = random.Random(1), (replication.WITHIN, replication.OF_ROUND)
    replication.WITHIN, replication.OF_ROUND = 1e-6, 0.0  # the deviation seen has them in it
    try:
        tables_ = (replication.table([spread] * cells, rounds, draw, ratio) for _ in range(tables))
        tested = [replication.ratios(figures[:2])[0].p or 0.0 for figures in tables_]
    finally:
        replication.WITHIN, replication.OF_ROUND = kept
    return fmean(p <= LEVEL for p in tested)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="the time to fill, from which --cells follows")
    parser.add_argument("--cells", type=int, help="identical cells; an eighth as many make each number of more steps")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--runs", type=int, default=2)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, cells = Path(name), flags.cells
        if cells is None:
            began = time.monotonic()
            submit(folder, "warm", 3, {}, 1, flags.repeats)
            job_s = (time.monotonic() - began) / 3
            jobs = flags.minutes * 60 / job_s / flags.rounds / flags.runs
            cells = min(MOST_CELLS, max(FEWEST_CELLS, int(jobs / (1 + len(SLOWER) / 8))))
            print(f"{job_s:.1f} s a job: {cells} identical cells", flush=True)
        slower = dict.fromkeys(SLOWER, max(1, cells // 8))
        names = [f"number{number}" for number in range(1, flags.runs + 1)]
        runs = [submit(folder, name, cells, slower, flags.rounds, flags.repeats) for name in names]
        for line in report(list(itertools.chain(*runs)), flags.rounds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
