"""A case over runs, by date: its values, ratios to the previous run, and what changed between them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import rounds

from orchestrator.errors import InputError
from orchestrator.table.change import Verdict
from orchestrator.table.history import Series, history
from orchestrator.table.metric import Metric
from runner.schema import IMPORT, Row, Status, Validity

DAYS = ("20260301-120000-aaaaaa-x", "20260302-120000-bbbbbb-x", "20260303-120000-cccccc-x")


def runs(*middles: float, **columns: object) -> list[Row]:
    return [row for name, middle in zip(DAYS, middles) for row in rounds(middle=middle, run=name, **columns)]  # type: ignore[arg-type]


def the_series(rows: list[Row], **options: object) -> Series:
    (series,) = history(rows, **options).series  # type: ignore[arg-type]
    return series


def verdicts(series: Series) -> list[Verdict | None]:
    return [point.change.verdict if point.change else None for point in series.points]


def test_each_run_is_compared_with_the_one_before() -> None:
    series = the_series(runs(1.0, 1.1, 1.1))
    assert [point.run for point in series.points] == list(DAYS)
    assert verdicts(series) == [None, Verdict.WORSE, Verdict.WITHIN]


def test_runs_are_in_the_order_of_their_time_not_of_the_rows() -> None:
    rows = runs(1.0, 1.1, 1.1)
    late = [replace(row, started="2026-04-01T00:00:00+00:00") if row.run == DAYS[0] else row for row in rows]
    assert [point.run for point in the_series(late[::-1]).points] == [DAYS[1], DAYS[2], DAYS[0]]


def test_an_imported_row_is_dated_by_its_own_time_and_not_by_its_import() -> None:
    first, second = runs(1.0, 1.1)[0], runs(1.0, 1.1)[-1]
    rows = [replace(first, job=IMPORT), replace(second, job=IMPORT, started="2022-10-01T00:00:00+00:00")]
    points = the_series(rows).points
    assert [(point.run, point.started and point.started.year) for point in points] == [(DAYS[0], None), (DAYS[1], 2022)]


def test_a_case_is_followed_by_key_and_host_whatever_the_runs_are_called() -> None:
    rows = [*runs(1.0, 1.0), *rounds(host="b", run=DAYS[0]), *rounds(engine="graph", run=DAYS[0])]
    found = history(rows)
    assert [(series.key["engine"], series.host, len(series.points)) for series in found.series] == [
        ("eager", "a", 2),
        ("eager", "b", 1),
        ("graph", "a", 1),
    ]
    assert found.axes == ("engine",)


def test_what_changed_stands_at_the_run_that_has_it() -> None:
    rows = [replace(row, driver="590" if row.run == DAYS[1] else "580") for row in runs(1.0, 1.0)]
    first, second = the_series(rows).points
    assert first.differences == ()
    assert [(each.name, each.base, each.new) for each in second.differences] == [("driver", ("580",), ("590",))]


def test_a_run_without_a_valid_value_is_skipped_by_the_next_ratio() -> None:
    rows = [replace(row, validity=Validity.THROTTLED) if row.run == DAYS[1] else row for row in runs(1.0, 5.0, 1.1)]
    series = the_series(rows)
    assert verdicts(series) == [None, Verdict.NOT_COMPARABLE, Verdict.WORSE]
    third = series.points[2].change
    assert third is not None
    assert third.ratio is not None
    assert third.ratio.value == pytest.approx(1.1)


def test_a_run_in_which_the_case_fails_is_a_point_of_its_own() -> None:
    rows = [
        replace(row, status=Status.OOM, trials=None, latency=None, latency_median=None, validity=None)
        if row.run == DAYS[1]
        else row
        for row in runs(1.0, 1.0, 1.0)
    ]
    assert verdicts(the_series(rows)) == [None, Verdict.BROKEN, Verdict.WITHIN]


def test_all_ratios_of_a_history_are_one_family() -> None:
    one, three = history(runs(1.0, 1.05)), history([*runs(1.0, 1.05), *runs(1.0, 1.05, engine="graph")])
    assert (one.tests, three.tests) == (1, 2)
    change = one.series[0].points[1].change
    other = three.series[0].points[1].change
    assert change is not None
    assert other is not None
    assert (other.p or 0) > (change.p or 0)


def test_a_metric_without_ratios_has_no_history() -> None:
    with pytest.raises(InputError, match="psnr has no history: decibels have no ratio"):
        history(runs(1.0), Metric.PSNR)
