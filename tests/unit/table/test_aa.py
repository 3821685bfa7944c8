"""The A/A and A/B script: what it makes of rows, and a short run of it on this machine."""

from __future__ import annotations

import importlib.util
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import engines
import pytest
from builders import a_row
from paths import ROOT
from scipy import stats

from runner.schema import Row, Validity

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def aa() -> Any:
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location("aa", BENCHMARKS / "aa.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module


def made_up(cells: Sequence[float], deviation: float, runs: Sequence[str] = ("first", "second")) -> list[Row]:
    """Three rounds in each run. cells: the share of more steps that each makes."""
    draw, rows = random.Random(1), []
    for run in runs:
        for seed, more in enumerate(cells):
            for round_ in (1, 2, 3):
                took = (1 + more) * math.exp(draw.gauss(0, deviation))
                steps = round(100 * (1 + more))
                rows.append(
                    a_row("here", trials=(took,), seed=seed, steps=steps, run=run, round=round_, work=f"w{seed}")
                )
    return rows


def test_all_pairs_of_identical_cells_are_compared_in_and_between_runs(aa: Any) -> None:
    lines = list(aa.report(made_up([0.0] * 5, 0.01), 3))
    assert lines[0] == "30 of 30 rows are valid"
    assert lines[1].startswith("identical, one run: of 20 comparisons ")  # ten pairs in each run
    assert lines[2].startswith("identical, two runs: of 25 comparisons ")
    assert lines[3].startswith("identical, all: of 45 comparisons ")


def test_slower_cells_are_found_and_by_how_much_is_said(aa: Any) -> None:
    *_, line = aa.report(made_up([0.0] * 4 + [0.1, 0.1], 0.001), 3)
    assert line.startswith("10% more steps: of 16 comparisons 16 (100.0%) alone, ")
    assert "; +10" in line
    assert line.endswith("by simulation 100%")


def test_where_other_work_left_too_few_valid_rows_that_is_said(aa: Any) -> None:
    rows = made_up([0.0, 0.0, 0.1], 0.01, ["first"])
    busy = [replace(row, validity=Validity.CONTENDED) if row.round != 1 else row for row in rows]
    *_, line = aa.report(busy, 3)
    assert line == "nothing to tell: too few rows are valid, since something else uses the CPUs"


@pytest.mark.live
@pytest.mark.alone
def test_identical_runs_on_this_machine_are_rarely_called_different(aa: Any, tmp_path: Path) -> None:
    """Pairs without a cell in common are independent: more than `most` of them are different once in 1000 runs."""
    if importlib.util.find_spec("torch") is None:
        engines.missing("a job needs PyTorch (the runner's extra)")
    cells = 6
    rows = aa.submit(tmp_path, "aa", cells, {1.0: 1}, 3, 3)
    assert len(rows) == (cells + 1) * 3
    compared = {(base[-3:], engine[-3:]): ratio for base, engine, ratio in aa.of_engines(rows)}
    apart = [found for pair, found in compared.items() if pair in {("000", "001"), ("002", "003"), ("004", "005")}]
    most = stats.binom.isf(0.001, len(apart), 0.05)
    assert sum((found.p or 1.0) <= 0.05 for found in apart) <= most
    twice = compared.get(("000", f"{cells:03}"))  # None where the machine was too busy for either to count
    assert twice is None or twice.value > 1.5
