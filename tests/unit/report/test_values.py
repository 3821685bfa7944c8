from __future__ import annotations

from builders import a_row, rounds

from orchestrator.report.model import Mark
from orchestrator.report.values import table
from orchestrator.table import Metric, compare
from runner.schema import Status

ROWS = [
    *rounds("a", "eager", 1, 1.5),
    *rounds("a", "graph", 1, 1.0),
    *rounds("b", "eager", 1, 3.0),
    a_row("b", "graph", status=Status.OOM, error="tried to allocate 20 GB"),
]


def test_every_case_has_its_value_and_its_ratio_to_each_baseline() -> None:
    found = table([[compare(ROWS, Metric.LATENCY, name) for name in (None, "a")]])
    assert found.axes == ("engine", "precision", "samples", "host")
    assert found.baselines == {"engine eager": "eager", "host a": "a"}
    place = found.cases.index(("eager", "half", 1, "b"))
    value = found.metrics[0].values[place]
    assert value.number is not None
    assert round(value.number, 6) == 3.0
    assert value.ratios["engine eager"].text == "baseline"
    assert round(value.ratios["host a"].value or 0, 3) == 2.0
    assert value.ratios["host a"].is_better is False


def test_a_case_without_a_value_has_its_status_and_reason() -> None:
    found = table([[compare(ROWS)]])
    value = found.metrics[0].values[found.cases.index(("graph", "half", 1, "b"))]
    assert (value.number, value.text, value.reason) == (None, "oom", "tried to allocate 20 GB")


def test_the_best_of_equal_work_is_marked() -> None:
    found = table([[compare(ROWS)]])
    marks = {case[:1] + case[3:]: value.mark for case, value in zip(found.cases, found.metrics[0].values)}
    assert marks[("graph", "a")] is Mark.BEST
    assert marks[("eager", "b")] is Mark.NONE


def test_a_metric_that_no_case_has_is_left_out() -> None:
    found = table([[compare(ROWS, metric)] for metric in (Metric.LATENCY, Metric.ENERGY)])
    assert [metric.name for metric in found.metrics] == ["latency"]


def test_a_metric_without_ratios_says_what_it_compares_with_instead() -> None:
    rows = [
        *rounds("a", "eager", 1, 1.5, load_s=1.0, first_call_s=2.0),
        *rounds("a", "graph", 1, 1.0, load_s=1.0, first_call_s=51.9),
    ]
    (metric,) = table([[compare(rows, Metric.BREAK_EVEN)]]).metrics
    assert metric.remark == "compared with engine eager; a break-even compares two cases already"
    assert [(value.text, dict(value.ratios)) for value in metric.values] == [("baseline", {}), ("100", {})]


def test_the_baselines_are_those_of_the_first_metric_that_has_ratios() -> None:
    rows = [*rounds("a", "eager", psnr=60.0), *rounds("a", "graph", psnr=59.0)]
    found = table([[compare(rows, metric)] for metric in (Metric.PSNR, Metric.LATENCY)])
    assert [metric.name for metric in found.metrics] == ["psnr", "latency"]
    assert found.baselines == {"engine eager": "eager"}


def test_a_table_of_no_rows_is_empty() -> None:
    assert table([[compare([])]]).cases == ()


def test_hostile_names_are_printable_and_stay_apart() -> None:
    rows = [a_row("gpu\x1b[31m", trials=(1.0,)), a_row("gpu", trials=(1.0,))]
    hosts = [str(case[-1]) for case in table([[compare(rows)]]).cases]
    assert len(set(hosts)) == 2
    assert all(host.isprintable() for host in hosts)
