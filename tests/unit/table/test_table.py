from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from builders import a_row, around, columns, rounds
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InputError
from orchestrator.table import Baseline, Cell, Comparison, Metric, compare
from orchestrator.table.declaration import Price
from orchestrator.table.statistics import Interval
from runner.schema import Row, Status, Validity


def priced(**prices: float) -> dict[tuple[str | None, str | None], Price]:
    """Of hosts, in any of the runs of these tests."""
    runs = (None, "first", "second")
    return {(run, host): Price(price, "hosts.yaml") for run in runs for host, price in prices.items()}


def cell(comparison: Comparison, host: str, *labels: object) -> Cell:
    line = next(line for line in comparison.lines if line.labels[: len(labels)] == labels)
    return line.cells[columns(comparison).index(host)]


def test_an_engine_is_compared_down_its_own_column() -> None:
    rows = [*rounds("a", "eager", 1, 2.0), *rounds("a", "onnxruntime", 1, 1.0), *rounds("b", "eager", 1, 9.0)]
    found = cell(compare(rows), "a", "onnxruntime").ratio
    assert found is not None
    assert found.value == pytest.approx(0.5)
    assert found.interval is not None
    assert 0.48 < found.interval.low < 0.5 < found.interval.high < 0.52


def test_a_host_is_compared_along_the_line() -> None:
    rows = [a_row("a", trials=around(2.0)), a_row("b", trials=around(3.0))]
    comparison = compare(rows, baseline="a")
    assert comparison.baseline is not None
    assert comparison.baseline == Baseline({"host": "a"})
    assert cell(comparison, "a", "eager").is_baseline
    found = cell(comparison, "b", "eager").ratio
    assert found is not None
    assert found.value == pytest.approx(1.5)


def test_one_engine_alone_on_several_hosts_is_compared_to_the_first_host() -> None:
    comparison = compare([a_row("host10", trials=around(1)), a_row("host2", trials=around(2))])
    assert comparison.baseline is not None
    assert comparison.baseline.name == "host2"


def test_an_unknown_baseline_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"baseline 'egaer' is neither a host nor an engine.*did you mean 'eager'"):
        compare([a_row(trials=around(1))], baseline="egaer")


def test_an_interval_that_contains_1_shows_no_difference() -> None:
    found = cell(compare([*rounds("a", middle=1.0), *rounds("b", middle=1.001)]), "b", "eager").ratio
    assert found is not None
    assert found.shows_difference is False


def test_one_round_gives_a_ratio_and_claims_no_difference() -> None:
    found = cell(compare([a_row("a", trials=around(1.0)), a_row("b", trials=around(2.0))]), "b", "eager")
    assert found.ratio is not None
    assert (found.interval, found.ratio.value, found.ratio.interval) == (None, 2.0, None)
    assert found.ratio.shows_difference is None


def test_throughput_and_latency_rank_alike() -> None:
    rows = [*rounds("a", middle=2.0), *rounds("b", middle=3.0)]
    latency = cell(compare(rows), "b", "eager")
    throughput = cell(compare(rows, Metric.THROUGHPUT), "b", "eager")
    assert throughput.value == pytest.approx(20)
    assert latency.ratio is not None
    assert throughput.ratio is not None
    assert throughput.ratio.value == pytest.approx(1 / latency.ratio.value)
    assert latency.ratio.interval is not None
    low, high = latency.ratio.interval
    assert throughput.ratio.interval == pytest.approx((1 / high, 1 / low))


def test_cost_is_for_1000_images_at_the_hosts_price() -> None:
    comparison = compare(
        [a_row("a", samples=2, trials=around(7.2)), a_row("b", samples=2)], Metric.COST, prices=priced(a=3.0)
    )
    assert cell(comparison, "a", "eager").value == pytest.approx(3.0)


def test_cost_without_a_price_says_where_to_set_it() -> None:
    found = cell(compare([a_row(trials=around(1))], Metric.COST), "a", "eager")
    assert found.value is None
    assert found.reason == "no price: set price_per_hour of this host in hosts.yaml, or list it in --prices FILE"


def test_memory_that_was_not_measured_is_no_value_and_never_0() -> None:
    found = cell(compare([a_row(trials=around(1))], Metric.MEMORY), "a", "eager")
    assert (found.value, found.reason) == (None, "memory was not measured")


@pytest.mark.parametrize("validity", [v for v in Validity if v is not Validity.VALID])
def test_a_row_that_is_not_valid_neither_ranks_nor_gets_a_ratio(validity: Validity) -> None:
    rows = [*rounds("a", middle=2), *rounds("b", middle=1, validity=validity), *rounds("c", middle=3)]
    comparison = compare(rows, baseline="a")
    found = cell(comparison, "b", "eager")
    assert (found.ratio, found.no_ratio, found.best, found.best_of_case) == (None, validity.value, False, False)
    assert cell(comparison, "a", "eager").best


def test_unequal_work_gets_no_ratio() -> None:
    rows = [a_row("a", trials=around(2)), a_row("b", trials=around(1), work="other")]
    found = cell(compare(rows, baseline="a"), "b", "eager")
    assert found.ratio is None
    assert found.no_ratio == "unequal work: `work` differs, by the prompt or by a size left to the model"


def test_work_that_a_source_does_not_state_equals_nothing_of_another_source() -> None:
    rows = [a_row("a", trials=around(2)), a_row("b", trials=around(1), work=None, run="published", model=None)]
    comparison = compare(rows, baseline="a")
    assert len(comparison.lines) == 1
    assert cell(comparison, "b", "eager").no_ratio == "equal work is not known: a source does not state it"


def test_a_baseline_without_a_value_is_named_as_the_reason() -> None:
    rows = [a_row("a", status=Status.OOM), a_row("b", trials=around(1))]
    assert cell(compare(rows, baseline="a"), "b", "eager").no_ratio == "no baseline: a is oom"


def test_a_case_that_one_host_lacks_was_not_in_its_matrix() -> None:
    comparison = compare([a_row("a", trials=around(1)), a_row("b", samples=2, trials=around(1))])
    found = cell(comparison, "b", "eager", "half", 1)
    assert (found.status, found.reason) == (None, "not in the matrix")


def test_a_cells_value_is_the_geometric_mean_of_its_processes_medians() -> None:
    rows = [a_row(trials=(1.0, 3.0), round=1), a_row(trials=(1.0, 8.0, 9.0), round=2)]
    found = cell(compare(rows), "a", "eager")
    assert found.value == pytest.approx(4.0)
    assert found.rows == 2


def test_the_same_row_twice_is_one_row() -> None:
    assert cell(compare([a_row(trials=(1.0, 2.0))] * 2), "a", "eager").rows == 1


def test_a_round_that_failed_is_left_out_and_said_so() -> None:
    rows = [a_row(trials=around(1)), a_row(error="CUDA error"), a_row(trials=around(9), validity=Validity.THROTTLED)]
    found = cell(compare(rows), "a", "eager")
    assert found.value == pytest.approx(1)
    assert found.notes == (
        "left out 1 of 3 rows of this case: failed: CUDA error",
        "left out 1 of 3 rows of this case: throttled",
    )


def test_one_host_in_two_runs_stands_in_two_columns() -> None:
    rows = [a_row(trials=around(2)), a_row(trials=around(3), run="second")]
    comparison = compare(rows, baseline="a")
    assert columns(comparison) == ("a@first", "a@second")
    assert cell(comparison, "a@first", "eager").is_baseline


def test_only_what_varies_names_a_line() -> None:
    rows = [a_row(trials=around(1), steps=20), a_row(trials=around(2), steps=50)]
    comparison = compare(rows)
    assert comparison.axes == ("engine", "precision", "samples", "steps")
    assert comparison.caption["model"] == "synthetic:tiny"


def test_two_prompts_on_one_host_are_two_lines_and_no_rounds() -> None:
    rows = [a_row(trials=around(1), work="aaaaaaaaaa"), a_row(trials=around(2), work="bbbbbbbbbb")]
    assert [line.labels[-1] for line in compare(rows).lines] == ["aaaaaa", "bbbbbb"]


def test_lines_are_sorted_by_number_and_not_by_digits() -> None:
    rows = [a_row(samples=n, trials=around(n)) for n in (16, 2, 1)]
    assert [line.labels[2] for line in compare(rows).lines] == [1, 2, 16]


def test_a_mean_stands_in_for_a_median_only_with_a_note() -> None:
    found = cell(compare([a_row(status=Status.OK, latency=2.5)]), "a", "eager")
    assert found.value == 2.5
    assert "the mean latency: the source gives neither median nor trials" in found.notes


def test_a_slower_first_call_pays_off_after_so_many_images() -> None:
    slow = rounds("a", "eager", 4, 8.0, load_s=3.0, first_call_s=10.0)
    fast = rounds("a", "onnxruntime", 4, 4.0, load_s=13.0, first_call_s=50.5)
    assert cell(compare([*slow, *fast]), "a", "onnxruntime").pays_off_after == 51  # 50.5 s more, 1 s saved an image


@pytest.mark.parametrize(("baseline", "after"), [("eager,precision=single", 51), ("b,eager,precision=single", None)])
def test_a_slow_start_pays_off_against_an_engine_on_the_same_host_alone(baseline: str, after: int | None) -> None:
    start: dict[str, Any] = {"load_s": 3.0, "first_call_s": 4.5, "precision": "single"}
    slow = [row for host in ("a", "b") for row in rounds(host, "eager", 1, 2.0, **start)]
    fast = rounds("a", "onnxruntime", 1, 1.0, load_s=3.0, first_call_s=55.0)
    found = compare([*slow, *fast], baseline=baseline)
    assert cell(found, "a", "onnxruntime").pays_off_after == after


def test_a_slower_engine_never_pays_off() -> None:
    slow = rounds("a", "onnxruntime", 1, 4.0, load_s=13.0, first_call_s=50.0)
    fast = rounds("a", "eager", 1, 2.0, load_s=3.0, first_call_s=10.0)
    assert cell(compare([*slow, *fast]), "a", "onnxruntime").pays_off_after is None


def test_no_rows_make_an_empty_table() -> None:
    assert compare([]).lines == ()


def test_the_control_plane_starts_without_the_numeric_libraries() -> None:
    code = """if True:
        import sys, orchestrator.table, orchestrator.results.foreign
        import orchestrator.report.terminal, orchestrator.report.text
        print(sorted({"numpy", "scipy", "polars", "torch", "docker"} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def largest(host: str, found: int | None, trials: Sequence[float] | None = None, **columns: Any) -> Row:
    return a_row(host, samples=found or 0, trials=trials, samples_asked="max", **{"n_samples": found, **columns})


def test_what_max_came_to_stands_in_the_label_after_the_numbers() -> None:
    comparison = compare([largest("a", 28, around(9.0)), a_row("a", samples=4, trials=around(2.0))])
    assert [line.labels[2] for line in comparison.lines] == [4, "max (28)"]


def test_hosts_that_fit_different_batches_share_a_line_and_say_which() -> None:
    rows = [largest("a", 28, around(9.0)), largest("b", 12, around(5.0)), largest("c", None, status=Status.OOM)]
    comparison = compare(rows, baseline="a")
    assert [line.labels[2] for line in comparison.lines] == ["max (12–28)"]
    first, second, third = comparison.lines[0].cells
    assert (first.notes, second.notes) == (("max is 28 here",), ("max is 12 here",))
    assert second.no_ratio == "unequal work: batch size 12 against 28"
    assert (third.status, third.notes) == (Status.OOM, ())
    assert not any(found.best_of_case for found in (first, second))


def test_equal_batches_of_max_compare_as_any_others() -> None:
    comparison = compare([largest("a", 28, around(9.0)), largest("b", 28, around(4.5))], baseline="a")
    found = comparison.lines[0].cells[1].ratio
    assert found is not None
    assert found.value == pytest.approx(0.5)


def test_rounds_that_found_different_batches_are_not_pooled() -> None:
    found = compare([largest("a", 28, around(9.0)), largest("a", 27, around(1.0))]).lines[0].cells[0]
    assert (found.value, found.rows, found.samples) == (9.0, 1, 28)
    assert found.notes == ("left out 1 of 2 rows of this case: valid, max (27)",)


seconds = st.floats(0.001, 1000)
any_rows = st.lists(
    st.builds(
        lambda host, engine, samples, trials, columns: replace(a_row(host, engine, samples, trials), **columns),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["eager", "onnxruntime", "compile"]),
        st.sampled_from([1, 2]),
        st.lists(seconds, max_size=4),
        st.fixed_dictionaries(
            {},
            optional={
                "status": st.sampled_from(Status),
                "validity": st.none() | st.sampled_from(Validity),
                "error": st.none() | st.text(max_size=5),
                "work": st.none() | st.sampled_from(["w1", "w2"]),
                "run": st.none() | st.sampled_from(["r1", "r2"]),
                "steps": st.none() | st.sampled_from([20, 50]),
                "precision": st.none() | st.sampled_from(["single", "half"]),
                "xformers": st.none() | st.booleans(),
                "latency_ci_low": seconds,
                "latency_ci_high": seconds,
                "memory": st.floats(0, 100),
                "n_samples": st.none(),
                "engine": st.none(),
            },
        ),
    ),
    max_size=8,
)


@given(any_rows, st.sampled_from(Metric))
def test_every_cell_has_a_value_or_a_reason(rows: Sequence[Row], metric: Metric) -> None:
    comparison = compare(rows, metric, prices=priced(a=1.5, b=0.0))
    for line in comparison.lines:
        assert len(line.cells) == len(columns(comparison))
        for found in line.cells:
            assert (found.value is None) == bool(found.reason)
            if found.value is not None and comparison.baseline:
                assert (found.ratio is None) == bool(found.no_ratio)


@given(any_rows, st.sampled_from(Metric))
def test_a_ratio_times_its_baseline_is_the_value(rows: Sequence[Row], metric: Metric) -> None:
    comparison = compare(
        rows, metric, baseline=None if not rows else columns(compare(rows))[0], prices=priced(a=1.5, b=1)
    )
    for line in comparison.lines:
        for found in line.cells:
            if found.ratio:
                base = line.cells[0].value
                assert base is not None
                assert found.ratio.value * base == pytest.approx(found.value)
                assert found.ratio.interval is None or isinstance(found.ratio.interval, Interval)


@given(any_rows.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))))
def test_the_order_of_the_rows_changes_nothing(orders: tuple[list[Row], list[Row]]) -> None:
    assert compare(orders[0]) == compare(orders[1])
