"""Metrics of a case and its baseline: the break-even, and the speed-up of half over single precision."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import a_row, rounds

from orchestrator.commands.results import comparison
from orchestrator.errors import InputError
from orchestrator.report.document import to_json
from orchestrator.report.table_text import table_text
from orchestrator.table import Cell, Comparison, Metric, compare
from runner.schema import Row, Status


def measured(engine: str, latency: float, load_s: float, first_call_s: float, **columns: Any) -> Row:
    """A row of one image in half precision: the values below were measured on an H200 on 2026-11-28."""
    return a_row("h200", engine, 1, (latency,), load_s=load_s, first_call_s=first_call_s, **columns)


EAGER = measured("eager", 1.3904279460000453, 0.8392109700000674, 6.417730106000022)
GRAPH = measured("graph", 0.31241621499998473, 2.100650405999886, 90.99232591300006)
SINGLE = measured("eager", 2.2287953830000333, 4.374690493999992, 2.609700068000052, precision="single")


def cell(comparison: Comparison, **key: object) -> Cell:
    return next(each for each in comparison.cells() if key.items() <= each.key.items())


def started(engine: str, middle: float, start_s: float, **columns: Any) -> list[Row]:
    return rounds("h200", engine, 1, middle, load_s=1.0, first_call_s=start_s - 1.0, **columns)


def test_a_break_even_is_the_extra_start_over_the_time_saved_per_image() -> None:
    # (93.0929763 - 7.2569411) / (1.3904279 - 0.3124162) = 79.62
    found = cell(compare([EAGER, GRAPH], Metric.BREAK_EVEN), engine="graph")
    assert (found.value, found.ratio) == (80, None)
    assert found.notes == ("one round: whether it is faster at all was not tested",)


def test_a_break_even_of_rounds_is_the_one_below_the_latencies() -> None:
    rows = [*started("eager", 2.0, 5.0), *started("graph", 1.0, 55.5)]
    found = cell(compare(rows, Metric.BREAK_EVEN), engine="graph")
    assert (found.value, found.notes) == (51, ())
    assert cell(compare(rows), engine="graph").pays_off_after == 51


def test_a_break_even_takes_the_baseline_that_is_asked_for() -> None:
    rows = [*started("eager", 2.0, 5.0), *started("graph", 1.0, 54.7), *started("compile", 1.5, 29.9)]
    found = compare(rows, Metric.BREAK_EVEN, "compile")
    assert cell(found, engine="graph").value == 50
    assert cell(found, engine="compile").is_baseline
    assert cell(found, engine="eager").value is None


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (started("graph", 3.0, 1.5), "it is not faster than the baseline, so a slower start never pays off"),
        (started("graph", 2.0, 9.0), "no difference in speed to the baseline is shown"),
        (rounds("h200", "graph", 1, 1.0), "load time was not measured"),
        ([a_row("h200", "graph", status=Status.UNSUPPORTED, error="no graphs")], "no graphs"),
    ],
)
def test_a_start_that_never_pays_off_has_no_break_even_and_says_why(rows: list[Row], reason: str) -> None:
    found = cell(compare([*started("eager", 2.0, 5.0), *rows], Metric.BREAK_EVEN), engine="graph")
    assert (found.value, found.reason) == (None, reason)


def test_a_baseline_whose_start_was_not_measured_is_named_in_the_reason() -> None:
    rows = [*rounds("h200", "eager", 1, 2.0), *started("graph", 1.0, 5.0)]
    found = cell(compare(rows, Metric.BREAK_EVEN), engine="graph")
    assert (found.value, found.reason) == (None, "load time was not measured for the baseline")


def test_an_engine_that_starts_no_later_pays_off_at_once() -> None:
    rows = [*started("eager", 2.0, 5.0), *started("graph", 1.0, 4.0)]
    assert cell(compare(rows, Metric.BREAK_EVEN), engine="graph").value == 0


def test_break_evens_are_whole_numbers_and_never_best() -> None:
    rows = [*started("eager", 2.0, 5.0), *started("graph", 1.0, 55.5), *started("compile", 1.5, 29.9)]
    found = compare(rows, Metric.BREAK_EVEN)
    words = table_text(found)
    assert words.title == "Break-even, images (less is better)"
    assert [line.cells[0].value for line in words.lines] == ["baseline", "50", "51"]
    assert "compared with engine eager, in the same column, all else equal" in words.caption
    assert not any(each.best or each.tied_best or each.best_of_case for each in found.cells())


def test_a_speed_up_of_half_is_single_over_half_latency() -> None:
    found = compare([EAGER, SINGLE, GRAPH], Metric.HALF_SPEEDUP)
    assert cell(found, engine="eager", precision="half").value == pytest.approx(1.602956)  # 2.2287954 / 1.3904279
    assert cell(found, precision="single").is_baseline
    missing = cell(found, engine="graph")
    assert (missing.value, missing.reason) == (None, "no baseline: precision single has no row of this case")


def test_a_speed_up_is_the_ratio_to_the_baseline_precision_single() -> None:
    rows = [*rounds(middle=1.0), *rounds(middle=2.2, precision="single"), *rounds(samples=4, middle=2.0)]
    speedup = cell(compare(rows, Metric.HALF_SPEEDUP), precision="half", samples=1)
    ratio = cell(compare(rows, Metric.THROUGHPUT, "precision=single"), precision="half", samples=1).ratio
    assert ratio is not None
    assert speedup.value == ratio.value == pytest.approx(2.2)
    assert speedup.interval == pytest.approx(ratio.interval)


def test_a_speed_up_over_a_case_that_did_not_fit_says_so() -> None:
    rows = [EAGER, a_row("h200", "eager", 1, precision="single", status=Status.OOM)]
    found = cell(compare(rows, Metric.HALF_SPEEDUP), precision="half")
    assert (found.value, found.reason) == (None, "no baseline: precision single is oom")


def test_rows_without_single_precision_have_no_speed_up_and_no_error() -> None:
    found = cell(compare([EAGER], Metric.HALF_SPEEDUP))
    assert (found.value, found.reason) == (None, "no baseline: precision single has no row of this case")


def test_a_baseline_for_the_speed_up_is_refused_with_the_fix() -> None:
    with pytest.raises(
        InputError, match="half-speedup always compares with precision=single; fix: leave the baseline out"
    ):
        comparison([EAGER, SINGLE], [], Metric.HALF_SPEEDUP, "eager")


def test_the_json_of_a_derived_metric_has_its_baseline_and_no_ratio() -> None:
    document = json.loads(to_json(compare([EAGER, GRAPH], Metric.BREAK_EVEN)))
    (graph,) = [each for case in document["cases"] for each in case["cells"].values() if each["value"] is not None]
    assert (graph["value"], graph["ratio"]) == (80, None)
    assert graph["no_ratio"] == "a break-even compares two cases already"
