"""How a comparison is laid out: which axes lie down and across, and that no layout changes what was computed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import pytest
from builders import a_row, around, columns, rounds
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InputError
from orchestrator.table import Baseline, Cell, Comparison, Metric, View, compare
from runner.schema import Row, Status, Validity

ROWS = [
    *rounds("a", "eager", 1, 2.0),
    *rounds("a", "compile", 1, 1.0),
    *rounds("b", "eager", 1, 4.0),
    *rounds("b", "eager", 4, 8.0),
]


def values(comparison: Comparison) -> dict[tuple[object, ...], list[float | None]]:
    return {
        line.labels: [None if cell.value is None else round(cell.value, 6) for cell in line.cells]
        for line in comparison.lines
    }


def test_cases_lie_down_and_hosts_across_if_nothing_is_asked() -> None:
    found = compare(ROWS)
    assert (found.axes, found.across, columns(found)) == (("engine", "precision", "samples"), ("host",), ("a", "b"))
    assert values(found) == {
        ("eager", "half", 1): [2.0, 4.0],
        ("eager", "half", 4): [None, 8.0],
        ("compile", "half", 1): [1.0, None],
    }


def test_any_axis_lies_across_and_hosts_down() -> None:
    found = compare(ROWS, view=View(rows=("host", "samples"), columns=("engine",)))
    assert (found.axes, columns(found)) == (("host", "samples", "precision"), ("eager", "compile"))
    assert values(found) == {("a", 1, "half"): [2.0, 1.0], ("b", 1, "half"): [4.0, None], ("b", 4, "half"): [8.0, None]}


def test_several_axes_across_name_their_columns_by_all_values() -> None:
    found = compare(ROWS, view=View(columns=("host", "samples")))
    assert columns(found) == ("a, samples 1", "b, samples 1", "b, samples 4")
    assert found.columns[2].labels == {"host": "b", "samples": 4}
    assert found.axes == ("engine", "precision")


def test_with_no_axis_across_all_values_are_in_one_column() -> None:
    found = compare(ROWS, view=View(columns=()))
    assert (found.axes[-1], columns(found)) == ("host", ("value",))
    assert [line.cells[0].value is not None for line in found.lines] == [True] * 4


def test_axes_that_differ_and_are_not_asked_for_are_appended_down() -> None:
    rows = [*rounds("a", steps=20, work="short"), *rounds("a", steps=50)]
    found = compare(rows, view=View(rows=("precision",), columns=("engine",)))
    assert found.axes == ("precision", "samples", "steps", "host")
    assert [line.labels[2] for line in found.lines] == [20, 50]


def test_an_axis_that_is_asked_for_twice_is_an_error() -> None:
    with pytest.raises(
        InputError, match="axis 'engine' is asked for twice; fix: name it once, in --rows or in --columns"
    ):
        compare(ROWS, view=View(rows=("engine",), columns=("engine", "host")))


def test_an_unknown_axis_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"these rows have no axis 'engin'; did you mean 'engine'\?"):
        compare(ROWS, view=View(rows=("engin",)))


def test_an_axis_that_the_metric_spans_is_an_error() -> None:
    with pytest.raises(InputError, match="largest-batch is one value of all samples; fix: leave samples out of rows"):
        compare(ROWS, Metric.LARGEST_BATCH, view=View(rows=("samples",)))


def test_columns_whose_values_read_the_same_have_different_names() -> None:
    rows = [
        *rounds("a, b", model="c", work="one"),
        *rounds("a", model="b, c", work="two"),
        *rounds("a, b, c", model="", work="three"),
    ]
    found = compare(rows, view=View(columns=("host", "model")))
    assert len(set(columns(found))) == len(found.columns) == 3


def test_a_cell_knows_its_value_on_every_axis() -> None:
    found = compare(ROWS, view=View(columns=("engine",)))
    for line in found.lines:
        for column, cell in zip(found.columns, line.cells):
            assert cell.key == {**dict(zip(found.axes, line.labels)), **column.labels}
    assert [cell.status for cell in found.cells()].count(None) == 2


def test_the_size_of_max_is_in_the_heading_if_samples_lie_across() -> None:
    rows = [
        *rounds("a", samples=28, middle=9.0, samples_asked="max"),
        *rounds("b", samples=12, middle=9.0, samples_asked="max"),
    ]
    found = compare(rows, view=View(rows=("host",), columns=("samples",)))
    assert columns(found) == ("max (12–28)",)
    assert found.lines[0].cells[0].key["samples"] == "max"


some_rows = st.lists(
    st.builds(
        lambda host, engine, samples, middle, count, columns: rounds(host, engine, samples, middle, count, **columns),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["eager", "compile"]),
        st.sampled_from([1, 4]),
        st.sampled_from([1.0, 1.002, 2.0]),
        st.sampled_from([1, 3]),
        st.fixed_dictionaries(
            {},
            optional={
                "precision": st.sampled_from(["single", "half"]),
                "steps": st.sampled_from([None, 5, 50]),
                "run": st.sampled_from(["first", "second"]),
                "samples_asked": st.just("max"),
                "validity": st.sampled_from(Validity),
                "status": st.sampled_from([Status.OK, Status.OOM]),
                "threads": st.sampled_from([1, 2]),
            },
        ),
    ),
    max_size=6,
).map(lambda groups: [row for group in groups for row in group])
axes = ["engine", "precision", "host", "steps", "threads", "run", "device"]
layouts = st.permutations(axes).flatmap(
    lambda order: st.tuples(st.integers(0, 7), st.integers(0, 7)).map(
        lambda ends: View(rows=tuple(order[: min(ends)]), columns=tuple(order[min(ends) : max(ends)]))
    )
)


def computed(comparison: Comparison, axes: Sequence[str]) -> dict[object, Any]:
    """All that a table claims of each planned cell, by the cell's key."""
    cells = [cell for cell in comparison.cells() if cell.status]
    found: dict[object, Any] = {tuple(cell.key[axis] for axis in axes): claims(cell) for cell in cells}
    assert len(found) == len(cells)
    return found


def claims(cell: Cell) -> object:
    marks = (cell.best, cell.tied_best, cell.best_of_case, cell.tied_best_of_case, cell.is_baseline)
    return (cell.status, cell.reason, cell.figure, cell.validity, cell.ratio, cell.no_ratio, marks, cell.pays_off_after)


@given(
    some_rows,
    layouts,
    st.sampled_from([each for each in Metric if not each.declared.spans]),
    st.sampled_from([None, "engine=eager", "host=a", "eager,precision=half", "a,eager"]),
)
def test_no_layout_changes_a_number_a_verdict_or_a_mark(
    rows: Sequence[Row], view: View, metric: Metric, baseline: str | None
) -> None:
    try:
        default = compare(rows, metric, baseline)
    except InputError:  # these rows have no such baseline
        return
    axes = (*default.axes, *default.across)
    assert computed(compare(rows, metric, baseline, view=view), axes) == computed(default, axes)


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        ("precision=single", {"single": "the baseline", "half": 0.5}),
        ("precision=half", {"single": 2.0, "half": "the baseline"}),
    ],
)
def test_a_ratio_is_to_the_cell_that_differs_in_the_baselines_axis(
    baseline: str, expected: dict[str, float | str]
) -> None:
    rows = [*rounds("a", middle=2.0, precision="single"), *rounds("a", middle=1.0)]
    found = {cell.key["precision"]: cell for cell in compare(rows, baseline=baseline).cells()}
    assert {
        name: cell.no_ratio or (cell.ratio and pytest.approx(cell.ratio.value)) for name, cell in found.items()
    } == expected


def test_a_batch_of_one_is_the_baseline_of_per_image_metrics_alone() -> None:
    rows = [a_row("a", samples=n, trials=around(float(n) ** 0.5), work="one") for n in (1, 4)]
    throughput = compare(rows, Metric.THROUGHPUT, baseline="samples=1").lines[1].cells[0]
    assert throughput.ratio is not None
    assert throughput.ratio.value == pytest.approx(2.0)
    assert compare(rows, baseline="samples=1").lines[1].cells[0].no_ratio == "unequal work: batch size 4 against 1"


def test_other_steps_have_no_ratio_and_say_so() -> None:
    rows = [*rounds("a", steps=10, work="short"), *rounds("a", steps=50)]
    found = compare(rows, Metric.THROUGHPUT, baseline="steps=50").lines[0].cells[0]
    assert (found.ratio, found.no_ratio) == (None, "unequal work: steps 10 against 50")


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("precison=single", "these rows do not differ in 'precison'; did you mean 'precision'?"),
        ("precision=singl", "no row has it; did you mean 'single'?"),
        ("samples=16", "no row has it; the rows have 1"),
    ],
)
def test_a_baseline_that_no_row_has_is_an_error(baseline: str, message: str) -> None:
    rows = [*rounds("a", precision="single"), *rounds("a")]
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        compare(rows, baseline=baseline)


# A baseline on several axes

ENGINES_AND_PRECISIONS = [
    row
    for host, factor in (("a", 1.0), ("b", 2.0))
    for engine, precision, middle in (("eager", "single", 4.0), ("eager", "half", 2.0), ("graph", "half", 1.0))
    for row in rounds(host, engine, 1, middle * factor, precision=precision)
]


def ratios(comparison: Comparison) -> dict[tuple[object, ...], float | str | None]:
    return {
        (cell.key["host"], cell.key["engine"], cell.key["precision"]): (
            round(cell.ratio.value, 6) if cell.ratio else cell.no_ratio
        )
        for cell in comparison.cells()
    }


@pytest.mark.parametrize(
    "baseline", ["engine=eager,precision=single", "eager,precision=single", "precision=single, eager"]
)
def test_every_case_of_a_host_is_compared_with_one_engine_and_precision(baseline: str) -> None:
    assert ratios(compare(ENGINES_AND_PRECISIONS, baseline=baseline)) == {
        (host, *case): ratio
        for host in ("a", "b")
        for case, ratio in {
            ("eager", "single"): "the baseline",
            ("eager", "half"): 0.5,
            ("graph", "half"): 0.25,
        }.items()
    }


def test_one_case_of_one_host_may_be_the_baseline_of_all() -> None:
    found = ratios(compare(ENGINES_AND_PRECISIONS, baseline="b,eager,precision=half"))
    assert found == {
        ("a", "eager", "single"): 1.0,
        ("a", "eager", "half"): 0.5,
        ("a", "graph", "half"): 0.25,
        ("b", "eager", "single"): 2.0,
        ("b", "eager", "half"): "the baseline",
        ("b", "graph", "half"): 0.5,
    }


def test_a_case_that_a_host_lacks_is_not_replaced_by_another() -> None:
    rows = [row for row in ENGINES_AND_PRECISIONS if (row.host, row.precision) != ("b", "single")]
    found = ratios(compare(rows, baseline="eager,precision=single"))
    assert found["b", "graph", "half"] == "no baseline: eager, precision single has no row of this case"
    assert found["a", "graph", "half"] == 0.25


def test_a_case_without_a_baseline_names_one_that_it_has() -> None:
    rows = [
        *rounds("a", "eager", 1, 4.0, precision="single", model="/srv/a b"),
        *rounds("a", "eager", 1, 2.0, precision="half", model="/srv/a b"),
        *rounds("a", "graph", 1, 1.0, precision="fp8", model="/srv/a b"),
        *rounds("a", "graph", 1, 1.0, precision="half", model="/srv/c", work="other"),
        *rounds("a", "graph", 4, 1.0, precision="half", model="/srv/a b", work="larger"),
    ]
    found = {
        (cell.key["engine"], cell.key["precision"], cell.key["samples"], cell.key["model"]): cell.no_ratio
        for cell in compare(rows).cells()
    }
    lacks = "no baseline: eager has no row of this case"
    assert found["graph", "fp8", 1, "/srv/a b"] == f"{lacks}; fix: --baseline engine=eager,precision=single"
    assert found["graph", "half", 1, "/srv/c"] == lacks  # another model's work is another
    assert found["graph", "half", 4, "/srv/a b"] == lacks
    throughput = {cell.key["samples"]: cell.no_ratio for cell in compare(rows, Metric.THROUGHPUT).cells()}
    assert throughput[4] == f"{lacks}; fix: --baseline engine=eager,samples=1"  # per image, batch sizes may differ
    at_one_precision = [row for row in rows if row.work != "other"]
    models = compare(at_one_precision, baseline="precision=fp8").cells()
    assert {cell.no_ratio for cell in models if cell.key["precision"] == "single"} == {
        "no baseline: precision fp8 has no row of this case; fix: --baseline precision=fp8,engine=graph"
    }


@given(some_rows, st.sampled_from([None, "engine=eager", "host=a", "precision=half"]))
def test_the_baseline_that_a_case_is_told_of_gives_it_a_ratio(rows: Sequence[Row], baseline: str | None) -> None:
    try:
        cells = list(compare(rows, baseline=baseline).cells())
    except InputError:  # these rows have no such baseline
        return
    for each in cells:
        _, is_told, fix = (each.no_ratio or "").partition("; fix: --baseline ")
        if is_told:
            (again,) = (cell for cell in compare(rows, baseline=shlex.split(fix)[0]).cells() if cell.key == each.key)
            assert again.ratio is not None, again.no_ratio


def test_a_baselines_axes_are_compared_with_the_work_of_each_case() -> None:
    rows = [*rounds("a", "eager", 1, 2.0, work="one"), *rounds("a", "graph", 4, 4.0, work="one")]
    assert (
        compare(rows, baseline="eager,samples=1").lines[1].cells[0].no_ratio == "unequal work: batch size 4 against 1"
    )
    found = compare(rows, Metric.THROUGHPUT, baseline="eager,samples=1").lines[1].cells[0].ratio
    assert found is not None
    assert found.value == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("eager,precision=singl", "baseline precision=singl: no row has it; did you mean 'single'?"),
        ("egaer,precision=single", "baseline 'egaer' is neither a host nor an engine .*; did you mean 'eager'?"),
        ("eager,graph", "baseline 'eager,graph' has two values of engine; fix: leave one out"),
        ("a,host=b", "baseline 'a,host=b' has two values of host; fix: leave one out"),
        ("eager,", "baseline '' is neither a host nor an engine"),
    ],
)
def test_each_part_of_a_baseline_must_be_known_and_of_its_own_axis(baseline: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        compare(ENGINES_AND_PRECISIONS, baseline=baseline)


@pytest.mark.parametrize(("part", "column"), [("threads=2", "desk (threads 2)"), ("threads=1", "desk (threads 1)")])
def test_of_a_hosts_columns_the_other_parts_choose(part: str, column: str) -> None:
    rows = [*rounds("desk", threads=1), *rounds("desk", threads=2), *rounds("desk", "graph", threads=2)]
    found = {(cell.key["host"], cell.key["engine"]): cell for cell in compare(rows, baseline=f"desk,{part}").cells()}
    assert [key[0] for key, cell in found.items() if cell.is_baseline and key[1] == "eager"] == [column]


def test_a_combination_that_no_row_has_is_an_error() -> None:
    rows = [*rounds("a", "eager", precision="half"), *rounds("a", "graph", precision="int8")]
    with pytest.raises(InputError, match="'eager,precision=int8': rows have each of these, and no row has all"):
        compare(rows, baseline="eager,precision=int8")


@pytest.mark.parametrize("model", ["/srv/one,two", "/srv/one,eager", "three ", " four"])
def test_a_part_may_have_commas_and_spaces_of_its_own(model: str) -> None:
    rows = [*rounds("a", model=model, work="w"), *rounds("a", "graph", model="/srv/one", work="w")]
    for baseline in (f"model={model}", f"eager,model={model}", f"model={model},eager"):
        found = compare(rows, baseline=baseline).baseline
        assert found is not None
        assert found.values["model"] == model


def test_a_host_that_has_an_engines_name_is_told_apart_from_it() -> None:
    rows = [*rounds("eager", "eager", precision="half"), *rounds("eager", "graph", precision="fp8")]
    lacks = "no baseline: eager has no row of this case; fix: --baseline engine=eager,precision=half"
    assert ratios(compare(rows, baseline="engine=eager"))["eager", "graph", "fp8"] == lacks
    assert Baseline({"engine": "eager", "autocast": True}).option == "engine=eager,autocast=yes"


def test_what_a_baseline_fixes_is_not_a_difference_to_note() -> None:
    threads = [*rounds("desk", threads=2), *rounds("desk", threads=1), *rounds("desk", "graph", threads=1)]
    hosts = [*rounds("a", cpu="one"), *rounds("b", "graph", cpu="other")]
    for rows, baseline in ((threads, "eager,threads=2"), (hosts, "a,eager")):
        cells = compare(rows, baseline=baseline).cells()
        assert [cell.ratio_notes for cell in cells if cell.ratio and cell.key["engine"] == "graph"] == [()]


def test_other_weights_are_named_if_host_and_engine_are_the_baseline() -> None:
    rows = [*rounds("a", weights="w1"), *rounds("b", "graph", weights="w2"), *rounds("b", "graph", weights="w3")]
    found = {cell.key["weights"]: cell.no_ratio for cell in compare(rows, baseline="a,eager").cells() if cell.status}
    assert found["w1"] == "the baseline"
    assert found["w2"] == "unequal work: other weights of synthetic:tiny"


def test_a_value_with_a_comma_may_be_the_baseline() -> None:
    rows = [*rounds("a", middle=2.0, model="/srv/one,two", work="w"), *rounds("a", model="/srv/three", work="w")]
    for baseline in ("model=/srv/one,two", "model=/srv/three"):
        found = compare(rows, baseline=baseline).baseline
        assert found is not None
        assert found.values == {"model": baseline.removeprefix("model=")}


# Axes that divide a host, or that all rows share


def test_threads_that_divide_a_host_may_lie_across() -> None:
    rows = [*rounds("a", middle=2.0, threads=1), *rounds("a", middle=1.0, threads=2), *rounds("b", threads=2)]
    assert columns(compare(rows)) == ("a (threads 1)", "a (threads 2)", "b")
    found = compare(rows, view=View(rows=("host",), columns=("threads",)))
    assert columns(found) == ("threads 1", "threads 2")
    assert values(found) == {("a", "eager", "half", 1): [2.0, 1.0], ("b", "eager", "half", 1): [None, 1.0]}
    assert [cell.key["host"] for cell in found.cells()][:2] == ["a (threads 1)", "a (threads 2)"]


def test_runs_of_one_host_may_lie_across() -> None:
    rows = [*rounds("a", middle=2.0), *rounds("a", middle=1.0, run="second")]
    found = compare(rows, view=View(rows=("host",), columns=("run",)))
    assert (columns(found), list(values(found).values())) == (("first", "second"), [[2.0, 1.0]])


@pytest.mark.parametrize(("baseline", "base"), [("threads=2", "a (threads 2)"), ("run=second", "a@second")])
def test_what_divides_a_host_may_be_the_baseline(baseline: str, base: str) -> None:
    column, value = baseline.split("=")
    other: dict[str, Any] = {"threads": 1} if column == "threads" else {"run": "first"}
    same: dict[str, Any] = {"threads": 2} if column == "threads" else {"run": "second"}
    found = compare([*rounds("a", middle=4.0, **other), *rounds("a", middle=2.0, **same)], baseline=baseline)
    cells = {cell.key["host"]: cell for cell in found.cells()}
    assert cells.pop(base).is_baseline
    (against,) = cells.values()
    assert against.ratio is not None
    assert (round(against.ratio.value, 6), against.ratio_notes) == (2.0, ())
    assert found.baseline is not None
    assert found.baseline.name == f"{column} {value}"


RUNS = ("20260301-120000-abc123-quick", "20260302-120000-def456-night")


@pytest.mark.parametrize("part", ["night", "def456", "20260302", RUNS[1]])
def test_a_run_as_baseline_is_named_as_in_every_command(part: str) -> None:
    found = compare([row for run in RUNS for row in rounds("a", run=run)], baseline=f"run={part}")
    assert found.baseline is not None
    assert found.baseline.values == {"run": RUNS[1]}


@pytest.mark.parametrize(
    ("part", "message"), [("0000", "several runs fit: .*-quick, .*-night"), ("day", "no row has it"), ("", "no row")]
)
def test_a_part_of_no_or_two_run_names_is_an_error(part: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare([row for run in RUNS for row in rounds("a", run=run)], baseline=f"run={part}")


def test_an_axis_that_all_rows_share_leaves_the_caption_if_asked() -> None:
    found = compare(ROWS, view=View(rows=("steps",)))
    assert (found.axes[0], {line.labels[0] for line in found.lines}, "steps" in found.caption) == ("steps", {50}, False)
    assert {cell.key["steps"] for cell in found.cells()} == {50}


# Which rows are compared


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ({"engine": ("compile",)}, [("a", "compile", 1)]),
        ({"engine": ("compile", "eager"), "host": ("b",)}, [("b", "eager", 1), ("b", "eager", 4)]),
        ({"samples": ("4.0",)}, [("b", "eager", 4)]),
        ({"size": ("512x512",), "autocast": ("no",), "status": ("ok",), "host": ("b",), "n_samples": ("1",)},
         [("b", "eager", 1)]),
    ],
)  # fmt: skip
def test_only_rows_with_these_values_are_compared(
    where: dict[str, tuple[str, ...]], kept: list[tuple[object, ...]]
) -> None:
    found = compare(ROWS, view=View(where=where))
    shown = [tuple(cell.key[name] for name in ("host", "engine", "samples")) for cell in found.cells() if cell.status]
    assert shown == kept
    assert found.where == where


def test_rows_are_chosen_before_the_best_is_found() -> None:
    rows = [*rounds("a", middle=1.0), *rounds("b", middle=2.0), *rounds("c", middle=3.0)]
    assert [cell.key["host"] for cell in compare(rows).cells() if cell.best] == ["a"]
    assert [cell.key["host"] for cell in compare(rows, view=View(where={"host": ("b", "c")})).cells() if cell.best] == [
        "b"
    ]


def test_a_host_is_chosen_with_or_without_its_run_and_threads() -> None:
    rows = [*rounds("a", threads=1), *rounds("a", threads=2), *rounds("b")]
    for name, count in (("a", 2), ("a (threads 2)", 1), ("b", 1)):
        assert len(columns(compare(rows, view=View(where={"host": (name,)})))) == count


def test_a_value_with_a_comma_is_one_value() -> None:
    rows = [*rounds("a", device="A10, 24 GB"), *rounds("b")]
    assert columns(compare(rows, view=View(where={"device": ("A10", " 24 GB")}))) == ("a",)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"engin": ("eager",)}, "--where engin: rows have no axis or column 'engin'; did you mean 'engine'?"),
        ({"engine": ("eagre",)}, "--where engine=eagre: no row has it; did you mean 'eager'?"),
        ({"samples": ("16",)}, "--where samples=16: no row has it; the rows have 1, 4"),
        ({"engine": ("compile",), "host": ("b",)}, "--where engine=compile, host=b: no row has all of these"),
    ],
)
def test_a_key_or_value_that_no_row_has_is_an_error(where: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(InputError) as raised:
        compare(ROWS, view=View(where=where))
    assert str(raised.value) == message


def test_a_baseline_that_where_leaves_out_is_an_error_that_says_so() -> None:
    with pytest.raises(InputError, match="rows that --where leaves out are no baseline"):
        compare(ROWS, baseline="eager", view=View(where={"engine": ("compile",)}))


def test_a_cell_whose_row_may_be_left_out_does_not_claim_it_was_not_planned() -> None:
    rows = [*rounds("a"), a_row("b", status=Status.OOM), *rounds("b", samples=4)]
    found = compare(rows, view=View(where={"status": ("ok",)}))
    assert [cell.reason for cell in found.cells()] == [None, "no row", "no row", None]


# Sorting and limiting lines


@pytest.mark.parametrize(
    ("sort", "samples"),
    [
        ("samples", [1, 2, 4]),
        ("-samples", [4, 2, 1]),
        ("value", [2, 1, 4]),
        ("-value", [4, 1, 2]),
        ("a", [1, 4, 2]),
        ("-a", [4, 1, 2]),
    ],
)
def test_lines_are_sorted_by_an_axis_a_column_or_the_best_value(sort: str, samples: list[int]) -> None:
    rows = [*rounds("a", samples=1, middle=3.0), *rounds("b", samples=2, middle=1.0), *rounds("a", samples=4, middle=5)]
    assert [line.labels[2] for line in compare(rows, view=View(sort=sort)).lines] == samples


@pytest.mark.parametrize("sort", ["value", "-value"])
def test_lines_without_a_valid_value_come_last_in_both_directions(sort: str) -> None:
    rows = [
        a_row(samples=1, status=Status.OOM),
        *rounds(samples=2, middle=9.0, validity=Validity.THROTTLED),
        *rounds(samples=4),
    ]
    assert [line.labels[2] for line in compare(rows, view=View(sort=sort)).lines] == [4, 2, 1]


def test_an_unknown_sort_key_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(InputError, match=r"--sort speed: expected an axis .*; there are engine, precision, samples,"):
        compare(ROWS, view=View(sort="speed"))


def test_a_limit_shows_the_first_lines_and_compares_all() -> None:
    rows = [*rounds("a", samples=1, middle=1.0), *rounds("a", samples=4, middle=2.0)]
    whole = compare(rows, Metric.THROUGHPUT, baseline="samples=4")
    found = compare(rows, Metric.THROUGHPUT, baseline="samples=4", view=View(limit=1))
    assert (found.lines, found.left_out) == (whole.lines[:1], 1)
    assert found.lines[0].cells[0].ratio is not None


def test_the_ratios_that_are_tested_together_include_those_left_out() -> None:
    rows = [*rounds("a", samples=1), *rounds("a", samples=4), *rounds("b", samples=1), *rounds("b", samples=4)]
    found = compare(rows, view=View(limit=1))
    assert (found.tested, sum(cell.ratio is not None for cell in found.cells())) == (2, 1)


def test_an_axis_that_lies_across_is_not_in_the_caption() -> None:
    assert "steps" not in compare(ROWS, view=View(columns=("host", "steps"))).caption
