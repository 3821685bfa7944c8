from __future__ import annotations

from typing import Any

from builders import a_row, around, rounds
from reports import a_table, rows

from orchestrator.report.model import MetricValues, RatioTo, Table, Value
from orchestrator.report.page.payload import Block, payload
from orchestrator.table import Metric
from runner.schema import Status, Validity


def at(blocks: dict[str, Block], **labels: str) -> int:
    """The number of the only cell with these labels."""
    axes = {axis["name"]: axis for axis in blocks["data"]["axes"]}
    found = [
        point
        for point in range(blocks["data"]["points"])
        if all(axes[name]["values"][axes[name]["at"][point]] == label for name, label in labels.items())
    ]
    assert len(found) == 1
    return found[0]


def words(blocks: dict[str, Block], block: str, point: int) -> dict[str, Any]:
    """What a block says of a cell, with the words that its numbers stand for."""
    data, found = blocks["data"], {name: each[point] for name, each in blocks[block].items() if name != "about"}
    lists = {"state": data["states"], "mark": data["marks"], "verdict": data["verdicts"]}
    said = {name: lists[name][value] if name in lists else value for name, value in found.items()}
    return {**said, "notes": [data["texts"][place] for place in found["notes"] or []]}


def test_a_cell_has_its_value_as_number_and_as_text() -> None:
    blocks = payload(a_table(rows()))
    found = words(blocks, "metric-0", at(blocks, engine="graph", samples="1", host="gpu1"))
    assert round(found["value"], 9) == 1.0
    assert found["text"] == "1.000"
    assert found["spread"].startswith("±0.0")
    assert (found["state"]["word"], found["mark"]) == ("valid", "best")


def test_a_ratio_has_its_interval_and_verdict() -> None:
    blocks = payload(a_table(rows()))
    found = words(blocks, "ratio-0-0", at(blocks, engine="graph", samples="1", host="gpu2"))
    assert round(found["value"], 6) == round(1.20 / 2.25, 6)
    assert found["text"] == "0.533×"
    assert found["interval"][0] + found["interval"][-1] == "[]"
    assert found["verdict"] == {"word": "better", "kind": "better"}


def test_more_is_better_turns_the_verdict() -> None:
    table = a_table([*rounds("a", "eager", 1, 1.0), *rounds("a", "graph", 1, 2.0)], [Metric.THROUGHPUT], [None])
    blocks = payload(table)
    found = words(blocks, "ratio-0-0", at(blocks, engine="graph"))
    assert (found["text"], found["verdict"]["word"]) == ("0.500×", "worse")


def test_equal_values_show_no_difference() -> None:
    table = a_table([*rounds("a", "eager", 1, 1.0), *rounds("a", "graph", 1, 1.0005)], [Metric.LATENCY], [None])
    blocks = payload(table)
    assert words(blocks, "ratio-0-0", at(blocks, engine="graph"))["verdict"]["word"] == "no difference shown"
    assert words(blocks, "metric-0", at(blocks, engine="graph"))["mark"] == "tied"


def test_a_single_round_claims_no_difference() -> None:
    table = a_table(
        [a_row("a", "eager", 1, around(1.0)), a_row("a", "graph", 1, around(0.5))], [Metric.LATENCY], [None]
    )
    blocks = payload(table)
    found = words(blocks, "ratio-0-0", at(blocks, engine="graph"))
    assert (found["text"], found["interval"], found["verdict"]["word"]) == ("0.500×", "", "1 round")


def test_a_missing_value_is_null_with_its_reason() -> None:
    blocks = payload(a_table(rows()))
    found = words(blocks, "metric-0", at(blocks, engine="graph", samples="4", host="gpu2"))
    assert (found["value"], found["text"]) == (None, "")
    assert (found["state"]["word"], found["state"]["kind"]) == ("oom", "missing")
    assert found["notes"] == ["tried to allocate 34.75 GiB"]
    assert words(blocks, "ratio-0-0", at(blocks, engine="graph", samples="4", host="gpu2"))["verdict"]["word"] == ""


def test_a_failure_is_a_fault_and_an_oom_is_not() -> None:
    failed = [a_row("a", "eager", 1, around(1.0)), a_row("a", "graph", status=Status.FAILED, error="RuntimeError")]
    blocks = payload(a_table(failed, [Metric.LATENCY], [None]))
    assert words(blocks, "metric-0", at(blocks, engine="graph"))["state"]["kind"] == "fault"


def test_an_invalid_value_is_shown_and_marked() -> None:
    blocks = payload(a_table(rows()))
    found = words(blocks, "metric-0", at(blocks, engine="compile"))
    assert found["value"] == 0.9
    assert (found["state"]["kind"], found["state"]["word"], found["mark"]) == ("invalid", "throttled", "")
    ratio = words(blocks, "ratio-0-0", at(blocks, engine="compile"))
    assert (ratio["verdict"]["word"], ratio["notes"]) == ("no ratio", [])


def test_an_imported_value_is_marked() -> None:
    imported = [a_row("a", "eager", 1, around(1.0)), a_row("b", "eager", 1, around(1.0), validity=None)]
    blocks = payload(a_table(imported, [Metric.LATENCY], [None]))
    assert words(blocks, "metric-0", at(blocks, host="b"))["state"]["word"] == "imported"


def test_axes_are_in_their_declared_order_not_the_alphabets() -> None:
    engines = [a_row("a", engine, size, around(1.0)) for engine in ("graph", "compile", "eager") for size in (10, 2)]
    axes = {axis["name"]: axis for axis in payload(a_table(engines, [Metric.LATENCY], [None]))["data"]["axes"]}
    assert axes["engine"]["values"] == ["eager", "compile", "graph"]
    assert axes["samples"]["values"] == ["2", "10"]
    assert axes["samples"]["numeric"]


def test_labels_that_become_equal_stay_apart() -> None:
    table = Table(axes=("model", "host"), cases=(("a\u202e", "x"), ("a", "x"), (None, "x")))
    first, second, unstated = payload(table)["data"]["axes"][0]["values"]
    assert first != second
    assert unstated == "not stated"


def test_a_note_of_every_value_is_stated_once() -> None:
    noted = [a_row("a", e, 1, latency=1.0, status=Status.OK, validity=Validity.VALID) for e in ("eager", "graph")]
    blocks = payload(a_table(noted, [Metric.LATENCY], [None]))
    assert blocks["metric-0"]["notes"] == [0, 0]
    assert blocks["metric-0"]["about"] == ["All values: the mean latency: the source gives neither median nor trials."]


def test_a_note_of_every_imported_value_is_stated_once() -> None:
    ours = Value(1.0, "1.00", "ok", validity="valid")
    theirs = Value(2.0, "2.00", "ok", notes=("the source states no steps", "one's own"))
    others = Value(3.0, "3.00", "ok", notes=("the source states no steps",))
    metric = MetricValues("latency", "s per call", True, (ours, theirs, others))
    blocks = payload(Table(("host",), (("a",), ("b",), ("c",)), ("host",), (metric,)))
    assert [words(blocks, "metric-0", point)["notes"] for point in range(3)] == [[], ["one's own"], []]
    assert blocks["metric-0"]["about"] == ["All imported values: the source states no steps."]


def test_a_device_that_is_its_hosts_name_is_not_said_twice() -> None:
    table = Table(("host",), (("NVIDIA A10",), ("b",)), hosts={"NVIDIA A10": "NVIDIA A10", "b": "NVIDIA H100"})
    assert payload(table)["data"]["axes"][0]["about"] == ["", "NVIDIA H100"]


def test_ratios_that_were_not_computed_have_no_block() -> None:
    table = a_table(rows(), [Metric.LATENCY], [None])
    assert [name for name in payload(table) if name.startswith("ratio")] == ["ratio-0-0"]


def test_baselines_have_the_names_that_the_command_takes() -> None:
    sized = [*rounds("a", "eager", 1, 1.0), *rounds("b", "eager", 1, 1.0, steps=20)]
    table = a_table(sized, [Metric.LATENCY], ["eager", "b", "steps=20", "b,steps=20"])
    assert [(each["name"], each["title"]) for each in payload(table)["data"]["baselines"]] == [
        ("eager", "engine eager"),
        ("b", "host b"),
        ("steps=20", "steps 20"),
        ("host=b,steps=20", "host b, steps 20"),
    ]


def test_the_first_baseline_is_chosen_by_its_name() -> None:
    assert payload(a_table(rows(), [Metric.LATENCY], [None]))["data"]["view"]["baseline"] == "eager"


def test_a_metric_without_a_direction_differs_and_is_not_better() -> None:
    values = tuple(Value(1.0, "1.00", "ok", ratios={"engine eager": RatioTo(x, f"{x}×", True)}) for x in (0.5, 2.0))
    metric = MetricValues("gpu-busy", "%", None, values)
    blocks = payload(
        Table(("engine", "host"), (("a", "x"), ("b", "x")), ("host",), (metric,), {"engine eager": "eager"})
    )
    assert [words(blocks, "ratio-0-0", point)["verdict"]["word"] for point in (0, 1)] == ["differs", "differs"]
    assert blocks["data"]["metrics"][0]["better"] == ""


def test_a_case_without_a_value_says_the_word_that_it_was_given() -> None:
    metric = MetricValues("break-even", "images", True, (Value(None, "baseline", "ok"),))
    blocks = payload(Table(("host",), (("a",),), ("host",), (metric,)))
    assert words(blocks, "metric-0", 0)["state"]["word"] == "baseline"


def test_a_table_without_cases_is_empty_json() -> None:
    data = payload(Table())["data"]
    assert (data["points"], data["view"]["baseline"], data["view"]["across"]) == (0, "none", "none")


def test_a_largest_batch_is_the_value_of_all_batch_sizes_of_a_case() -> None:
    table = a_table(rows(), [Metric.LATENCY, Metric.LARGEST_BATCH], [None])
    blocks = payload(table)
    assert blocks["data"]["metrics"][1]["spans"] == ["samples"]
    for samples in ("1", "4"):
        assert words(blocks, "metric-1", at(blocks, engine="graph", samples=samples, host="gpu2"))["text"] == "1"
        assert words(blocks, "metric-1", at(blocks, engine="graph", samples=samples, host="gpu1"))["text"] == "≥\u00a04"
    assert "ratio-1-0" not in blocks
