"""Each metric's value, by hand from a row that was measured, and what a metric does without a value or a direction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from builders import a_row, rounds

from orchestrator.commands.results import comparison
from orchestrator.errors import InputError
from orchestrator.report.numbers import number_text
from orchestrator.report.table_text import table_text
from orchestrator.table import Cell, Comparison, Metric, compare
from orchestrator.table.declaration import Better, Price
from orchestrator.table.measured import NAMES
from runner.schema import COLUMN, Row, Validity

OF_ONE_CASE = [metric for metric in Metric if not metric.declared.derived and not metric.declared.spans]
PRICES: dict[tuple[str | None, str | None], Price] = {("first", "h200"): Price(3.5, "hosts.yaml")}


def graph_row(engine: str = "graph", trials: Sequence[float] = (3.3599486929999784,), **columns: Any) -> Row:
    """Engine graph, half precision, 16 images of 50 steps: measured on an H200 on 2026-11-28."""
    measured: dict[str, Any] = {
        "memory": 11.55530752,
        "memory_host": 2.364379136,
        "load_s": 2.474845383999991,
        "first_call_s": 82.308386187,
        "gpu_busy": 0.9867605633802817,
        "power_w": 691.203763815666,
        "energy_j": 145.02876249999971,
        "psnr": 59.884333586881,
    }
    return a_row("h200", engine, 16, trials, **{**measured, "device": "NVIDIA H200", **columns})


def cell(comparison: Comparison, place: int = 0) -> Cell:
    return comparison.lines[place].cells[0]


@pytest.mark.parametrize(
    ("metric", "by_hand"),
    [
        (Metric.LATENCY, 3.35994869),
        (Metric.THROUGHPUT, 285.718649),  # 16 / 3.35995 * 60
        (Metric.STEPS_PER_SECOND, 14.8811796),  # 50 / 3.35995
        (Metric.STARTUP, 84.7832316),  # 2.47485 + 82.30839
        (Metric.COST, 0.204163549),  # 3.35995 s / 16 * 1000 / 3600 s * 3.5
        (Metric.ENERGY, 145.028762),
        (Metric.POWER, 691.203764),
        (Metric.GPU_BUSY, 98.6760563),
        (Metric.MEMORY, 11.5553075),
        (Metric.MEMORY_PER_IMAGE, 722.20672),  # 11.5553 GB * 1000 / 16
        (Metric.PEAK_MEMORY, None),  # a captured graph's allocations are not counted
        (Metric.HOST_MEMORY, 2.36437914),
        (Metric.PSNR, 59.8843336),
    ],
)
def test_a_metric_of_a_measured_row_is_what_it_is_by_hand(metric: Metric, by_hand: float | None) -> None:
    found = cell(compare([graph_row()], metric, prices=PRICES))
    assert found.value == (None if by_hand is None else pytest.approx(by_hand, rel=1e-8))
    assert (found.reason is None) == (by_hand is not None)


@pytest.mark.parametrize("metric", Metric)
def test_a_metric_says_which_columns_it_comes_from(metric: Metric) -> None:
    said = metric.declared.source.replace("`trials`", "latency").replace("median latency", "latency")
    assert [name for name in metric.declared.columns if name not in COLUMN] == []
    assert [name for name in metric.declared.columns if not re.search(rf"\b{name}\b", said)] == []


@pytest.mark.parametrize(
    ("metric", "column", "reason"),
    [
        (metric, column, f"{NAMES[column]} was not measured")
        for metric in OF_ONE_CASE
        for column in metric.declared.columns
        if column not in ("latency", "n_samples", "steps")
    ],
)
def test_a_value_that_was_not_measured_is_missing_and_says_so(metric: Metric, column: str, reason: str) -> None:
    found = cell(compare([replace(graph_row(), **{column: None})], metric))
    assert (found.value, found.reason) == (None, reason)


def test_what_is_missing_is_named_in_the_readers_words() -> None:
    columns = {name for metric in OF_ONE_CASE for name in metric.declared.columns}
    assert columns <= NAMES.keys()
    assert not [words for words in NAMES.values() if "_" in words]


def test_a_row_that_does_not_state_its_batch_has_no_throughput() -> None:
    found = cell(compare([graph_row(n_samples=None)], Metric.THROUGHPUT))
    assert (found.value, found.reason) == (None, "batch size is not known")


def test_a_round_without_a_value_is_noted_and_not_counted_as_0() -> None:
    rows = [graph_row(round=1), graph_row(round=2, first_call_s=None)]
    found = cell(compare(rows, Metric.STARTUP))
    assert found.value == pytest.approx(84.7832316)
    assert found.notes[0] == "first call was not measured in 1 of 2 rows of this case"


def test_a_busy_share_of_0_is_a_value_and_breaks_no_statistics() -> None:
    idle = [graph_row(round=n, gpu_busy=0.0) for n in (1, 2, 3)]
    one_idle = [graph_row(round=n, gpu_busy=share, engine="eager") for n, share in enumerate((0.0, 0.5, 0.7), start=1)]
    eager, graph = (line.cells[0] for line in compare([*idle, *one_idle], Metric.GPU_BUSY).lines)
    assert (graph.value, graph.interval) == (0.0, None)
    assert eager.value == pytest.approx(40.0)
    assert eager.interval is None
    assert graph.ratio is not None
    assert (graph.ratio.value, graph.ratio.p) == (0.0, None)


def test_decibels_are_averaged_as_they_are_even_below_0() -> None:
    rows = [replace(graph_row(round=n), psnr=psnr) for n, psnr in enumerate((-2.0, 0.0, 5.0), start=1)]
    found = cell(compare(rows, Metric.PSNR, any_quality=True))
    assert found.value == pytest.approx(1.0)
    # Student: 4.302653 * 3.605551 / sqrt(3)
    assert found.interval == pytest.approx((1 - 8.956687, 1 + 8.956687), rel=1e-5)


def test_a_value_below_0_is_printed_with_its_interval() -> None:
    rows = [replace(graph_row(round=n), psnr=psnr) for n, psnr in enumerate((-12.0, -12.5, -13.0), start=1)]
    assert number_text(cell(compare(rows, Metric.PSNR, any_quality=True))) == "-12.50 ±1.24"  # 4.302653 * 0.5 / sqrt(3)


def test_decibels_have_no_ratio_and_the_caption_says_so_once() -> None:
    found = compare([graph_row(), graph_row(engine="eager")], Metric.PSNR)
    assert [(each.ratio, each.no_ratio) for each in found.cells()] == [(None, "decibels have no ratio")] * 2
    words = table_text(found)
    assert "without ratios: decibels have no ratio" in words.caption
    assert [each.ratio for line in words.lines for each in line.cells] == ["", ""]


@pytest.mark.parametrize("metric", [metric for metric in Metric if not metric.declared.has_baseline])
def test_a_baseline_of_a_metric_without_ratios_is_refused_with_the_fix(metric: Metric) -> None:
    with pytest.raises(
        InputError, match=rf"baseline 'eager': {metric.value} has no ratios, since .*; fix: leave it out"
    ):
        comparison([graph_row()], [], metric, "eager")


@pytest.mark.parametrize("metric", [metric for metric in Metric if metric.declared.better is Better.NEITHER])
def test_a_metric_without_a_direction_has_no_best(metric: Metric) -> None:
    names = {"power_w": 100.0, "gpu_busy": 0.1}
    low = rounds("h200", "eager", 16, device="NVIDIA H200", power_w=90.0, gpu_busy=0.09)
    high = [graph_row(round=n, power_w=names["power_w"] * n, gpu_busy=names["gpu_busy"] * n) for n in (1, 2, 3)]
    found = compare([*low, *high], metric)
    assert metric.less_is_better is None
    cells = [each for line in found.lines for each in line.cells if each.figure]
    assert [each.best or each.tied_best or each.best_of_case for each in cells] == [False, False]


def test_a_throttled_rows_power_is_shown_with_its_mark() -> None:
    found = cell(compare([graph_row(validity=Validity.THROTTLED)], Metric.POWER))
    assert (round(found.value or 0), found.validity) == (691, Validity.THROTTLED)


def test_a_cost_too_large_for_a_number_is_no_value() -> None:
    found = cell(compare([graph_row(trials=(1e6,))], Metric.COST, prices={("first", "h200"): Price(1e308, "p.yaml")}))
    assert (found.value, found.reason) == (None, "the cost is too large to compute")


def test_a_metric_that_is_not_declared_is_an_error() -> None:
    with pytest.raises(ValueError, match="'watts' is not a valid Metric"):
        Metric("watts")  # type: ignore[call-arg]  # a member is looked up
