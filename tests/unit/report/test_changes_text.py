"""What a reader sees of a comparison of two runs: the terminal, Markdown, JSON, and the benchmark action's format."""

from __future__ import annotations

import importlib
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from builders import a_row, rounds
from rich.console import Console

from orchestrator.errors import InputError
from orchestrator.report import changes_document
from orchestrator.report.changes_action import to_action, tool_of
from orchestrator.report.changes_document import to_json
from orchestrator.report.changes_markdown import to_markdown
from orchestrator.report.changes_terminal import terminal
from orchestrator.report.changes_text import changes_text
from orchestrator.table.changes import Changes, changes
from orchestrator.table.metric import Metric
from orchestrator.table.software import Jobs
from runner.schema import Row, Status, Validity


def a_comparison(metric: Metric = Metric.LATENCY, **options: Any) -> Changes:
    """One case that is slower, one that is not, one that no longer runs, one that only BASE has."""
    old = [row for samples in (1, 4, 8, 16) for row in rounds(samples=samples, run="old", driver="580.1")]
    new = [
        *rounds(samples=1, run="new", driver="590.2"),
        *rounds(samples=4, middle=1.1, run="new", driver="590.2"),
        *(_oom(row) for row in rounds(samples=8, run="new", driver="590.2")),
    ]
    return changes(old, new, metric, **options)


def _oom(row: Row) -> Row:
    return replace(
        row, status=Status.OOM, error="tried to allocate 20.1 GB", trials=None, latency_median=None, latency=None
    )


def printed(found: Changes, width: int = 120) -> str:
    out = io.StringIO()
    terminal(found, Console(file=out, width=width))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def library(name: str) -> Any:
    return importlib.import_module(name)


def test_the_summary_comes_first_and_counts_every_case() -> None:
    assert printed(a_comparison()).splitlines()[0] == "1 no longer runs, 1 slower, 1 within 1%, 1 not comparable"


def test_a_changed_driver_is_said_above_the_table() -> None:
    assert "a: driver 580.1 → 590.2" in printed(a_comparison()).splitlines()


def test_a_table_has_both_values_the_ratio_and_the_verdict() -> None:
    lines = printed(a_comparison()).splitlines()
    assert any(line.endswith("  slower") and "1.100× [" in line for line in lines)
    assert any(line.split()[:1] == ["8"] and "oom" in line and line.endswith("no longer runs [1]") for line in lines)
    assert "[1] oom: tried to allocate 20.1 GB" in lines


@pytest.mark.parametrize("width", [50, 80, 120, 200])
def test_a_table_fits_the_terminal(width: int) -> None:
    assert max(map(len, printed(a_comparison(), width).splitlines())) <= width


def test_a_narrow_terminal_says_where_the_values_are() -> None:
    assert "on a wider terminal" in printed(a_comparison(), 50)
    assert "on a wider terminal" not in printed(a_comparison(), 120)


@pytest.mark.parametrize(
    ("metric", "words"),
    [(Metric.LATENCY, "slower"), (Metric.MEMORY, "more memory"), (Metric.ENERGY, "more energy")],
)
def test_a_verdict_is_in_the_metrics_words(metric: Metric, words: str) -> None:
    old = [replace(row, memory=4.0, energy_j=10.0) for row in rounds(run="old")]
    new = [replace(row, memory=5.0, energy_j=12.0) for row in rounds(middle=1.2, run="new")]
    assert changes_text(changes(old, new, metric)).summary == f"1 {words}"


@pytest.mark.parametrize("metric", Metric)
def test_each_metric_that_has_a_direction_has_words_for_it(metric: Metric) -> None:
    assert metric.declared.worse != metric.declared.improved
    if metric.less_is_better is not None and metric.declared.no_ratio is None:
        assert (metric.declared.worse, metric.declared.improved) != ("worse", "better")


def test_one_round_says_what_to_do() -> None:
    found = changes(rounds(run="old"), rounds(run="new", count=1))
    assert "not tested: 1 round in NEW" in printed(found)
    assert "fix: rounds: 3" in printed(found, 200)


def test_another_host_or_engine_is_named() -> None:
    found = changes(rounds(run="old"), rounds(host="b", engine="compile", run="new"), mapped=["engine=eager:compile"])
    assert "engine eager → compile" in printed(found).splitlines()
    assert any(line.startswith("a → b: ") for line in printed(found).splitlines())


def test_a_terminal_without_unicode_gets_ascii() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    terminal(a_comparison(), Console(file=out, width=120))
    out.flush()
    assert b"a: driver 580.1 -> 590.2" in out.buffer.getvalue()


def test_a_foreign_name_of_a_package_controls_no_terminal() -> None:
    facts: tuple[Jobs, Jobs] = ({"j": {"\x1b[31mevil": "1"}}, {"j": {"\x1b[31mevil": "2\x07"}})
    found = changes(rounds(run="old", job="j"), rounds(run="new", job="j"), jobs=facts)
    assert "evil 1 → 2" in printed(found)
    assert not {"\x1b", "\x07"} & set(printed(found) + to_markdown(found))


def test_markdown_folds_what_did_not_change() -> None:
    loud, folded = to_markdown(a_comparison()).split("<details>", 1)
    assert loud.startswith("**1 no longer runs, 1 slower")
    assert "slower" in loud.split("|")[-2]
    assert folded.startswith("<summary>2 other cases</summary>")
    assert "within 1%" in folded


def test_markdown_of_hostile_text_is_no_markup() -> None:
    hostile = "<img src=x onerror=alert(1)> [a](http://b) | **c**"
    found = changes(rounds(run="old", model=hostile, weights="w"), rounds(run=hostile, model=hostile, weights="w"))
    text = to_markdown(found)
    assert "<img" not in text
    assert "**c**" not in text
    assert "`[a](http://b)`" in text


@pytest.mark.parametrize("metric", [metric for metric in Metric if metric.declared.no_ratio is None])
def test_the_json_of_any_metric_is_what_its_schema_says(metric: Metric) -> None:
    value = json.loads(to_json(a_comparison(metric)))
    library("jsonschema").Draft202012Validator(changes_document.schema()).validate(value)


def test_the_json_of_an_untested_comparison_is_what_its_schema_says() -> None:
    run = [*rounds(run="r", count=1), *rounds(engine="graph", run="r", count=1)]
    value = json.loads(to_json(changes(run, run, mapped=["engine=eager:graph"])))
    library("jsonschema").Draft202012Validator(changes_document.schema()).validate(value)
    assert value["mapped"] == [{"axis": "engine", "base": "eager", "new": "graph"}]
    assert (value["tests"], value["cases"][0]["p"]) == (0, None)


def test_the_schema_ships_and_is_one() -> None:
    assert changes_document.FILE.read_text(encoding="utf-8") == changes_document.schema_text(), (
        "run: python -m orchestrator.report.changes_document"
    )
    library("jsonschema").Draft202012Validator.check_schema(changes_document.schema())


def test_the_json_has_every_verdict_in_words() -> None:
    value = json.loads(to_json(a_comparison()))
    assert value["regression"] is True
    assert [(case["verdict"], case["words"]) for case in value["cases"]] == [
        ("broken", "no longer runs"),
        ("worse", "slower"),
        ("within", "within 1%"),
        ("not comparable", "not comparable"),
    ]


def test_the_action_gets_name_unit_value_range_and_extra() -> None:
    entries = json.loads(to_action(a_comparison()))
    assert [set(entry) for entry in entries] == [{"name", "unit", "value", "range", "extra"}] * 2
    slower = entries[0]
    assert slower["name"].startswith("a / eager / half / 4 / ")
    assert slower["unit"] == "s per call"
    assert slower["value"] == pytest.approx(1.1)
    assert slower["range"].startswith("± ")
    assert slower["extra"].endswith("of old\nslower")


def test_a_name_for_the_action_is_the_same_however_many_cases_there_are() -> None:
    all_ = {entry["name"] for entry in json.loads(to_action(a_comparison()))}
    one = changes(rounds(samples=1, run="old"), rounds(samples=1, run="new"))
    assert {entry["name"] for entry in json.loads(to_action(one))} < all_


def test_the_action_gets_no_value_of_a_disturbed_row() -> None:
    old, new = rounds(samples=1, run="old"), rounds(samples=1, run="new")
    disturbed = [replace(row, validity=Validity.CONTENDED) for row in new]
    assert len(json.loads(to_action(changes(old, new)))) == 1
    assert json.loads(to_action(changes(old, disturbed))) == []


def test_the_action_is_told_which_direction_is_better() -> None:
    assert tool_of(a_comparison()) == "customSmallerIsBetter"
    assert tool_of(a_comparison(Metric.THROUGHPUT)) == "customBiggerIsBetter"
    with pytest.raises(InputError, match="-o action: of power, neither more nor less is better"):
        to_action(a_comparison(Metric.POWER))


def test_the_legend_explains_only_the_spreads_that_occur() -> None:
    old, new = (
        [a_row(trials=(time,), run=run, round=number) for number, time in enumerate((1.0, 1.5), start=1)]
        for run in ("old", "new")
    )
    skewed = changes(old, new)
    assert "±" not in "".join(changes_text(skewed).legend)
    assert "±" in "".join(changes_text(a_comparison()).legend)
