"""The largest batch: what fitted, what did not, and a lower bound that says it is one."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from builders import a_row

from orchestrator.errors import InputError
from orchestrator.report.document import to_json
from orchestrator.report.records import records
from orchestrator.report.table_text import table_text
from orchestrator.report.text import to_csv
from orchestrator.table import Cell, Comparison, Metric, View, compare
from runner.jobs.search import BatchResult, Bounds
from runner.schema import IMPORT, Row, Status, Validity


def fits(samples: int, **columns: Any) -> Row:
    return a_row(samples=samples, trials=(1.0,), **columns)


def oom(samples: int | None, **columns: Any) -> Row:
    return a_row(status=Status.OOM, n_samples=samples, **columns)


def found_by_search(fitting: int, failing: int | None, status: Status = Status.OOM) -> Row:
    """The row of `max`, with what the search itself says of it."""
    bounds = Bounds()
    bounds.learn(fitting, BatchResult(Status.OK))
    if failing is not None:
        bounds.learn(failing, BatchResult(status, "CUDA out of memory. Tried to allocate 34.75 GiB"))
    return fits(fitting, samples_asked="max", error=f"power limited; {bounds.remark()}")


def largest(rows: list[Row], view: View | None = None) -> Comparison:
    return compare(rows, Metric.LARGEST_BATCH, view=view or View())


def only(rows: list[Row]) -> Cell:
    (found,) = largest(rows).cells()
    return found


def limit(rows: list[Row]) -> tuple[float | None, int | None]:
    found = only(rows)
    assert found.figure is not None
    assert found.figure.limit is not None
    return found.value, found.figure.limit.beyond


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([fits(1), fits(16), fits(4)], (16, None)),
        ([fits(1), fits(32), oom(128), oom(64)], (32, 64)),
        ([fits(16), found_by_search(273, 278)], (273, 278)),
        ([found_by_search(273, 278), oom(512)], (273, 278)),
        ([found_by_search(273, 278), fits(276)], (276, 278)),
        ([found_by_search(40, 80, Status.TIMEOUT)], (40, None)),
        ([found_by_search(4096, None)], (4096, None)),
        ([fits(8, validity=Validity.THROTTLED)], (8, None)),
        ([fits(4), fits(8, validity=Validity.SPILLED)], (4, 8)),
        ([fits(4), a_row(samples=8, error="a pod was evicted")], (4, None)),
        ([fits(4), oom(None)], (4, None)),
    ],
)
def test_the_frontier_is_between_the_largest_that_fits_and_the_next(
    rows: list[Row], expected: tuple[int, int | None]
) -> None:
    assert limit(rows) == expected


def test_batches_of_other_steps_and_seeds_share_a_frontier() -> None:
    assert limit([fits(16, steps=50, seed=1), found_by_search(273, 278)]) == (273, 278)


def test_guidance_and_size_have_a_frontier_each() -> None:
    rows = [fits(16, guidance=1.0), fits(8, guidance=7.5), fits(4, guidance=7.5, height=1024, width=1024)]
    assert sorted(each.value or 0 for each in largest(rows).cells() if each.figure) == [4, 8, 16]


def test_a_batch_that_fitted_beyond_one_that_did_not_is_noted() -> None:
    found = only([fits(8), oom(16), fits(32)])  # of a V100 in the published table
    assert (found.value, found.notes) == (8, ("32 fitted too, although 16 was out of memory",))


def test_a_batch_that_spilled_is_noted_as_beyond_the_gpus_memory() -> None:
    assert only([fits(4), fits(8, validity=Validity.SPILLED)]).notes == ("8 ran, in memory beyond the GPU's",)


@pytest.mark.parametrize("samples", [1, None])
def test_where_one_image_does_not_fit_there_is_no_largest_batch(samples: int | None) -> None:
    found = only([oom(samples, samples_asked="max" if samples is None else "1")])
    assert (found.value, found.status) == (None, Status.OOM)
    assert found.reason == "1, the smallest batch that was tried"


def test_a_failure_says_nothing_about_memory() -> None:
    found = only([a_row(samples=4, error="the network is down")])
    assert (found.value, found.status, found.reason) == (None, Status.FAILED, "the network is down")


def test_the_table_says_a_lower_bound_and_where_memory_ends() -> None:
    rows = [fits(16), *(fits(n, host="b") for n in (1, 2)), oom(4, host="b"), oom(1, host="c")]
    words = table_text(largest(rows))
    assert words.title == "Largest batch, images per call (more is better)"
    assert (words.axes, words.columns) == (("engine", "precision"), ("a", "b", "c"))
    assert [each.value for each in words.lines[0].cells] == ["≥ 16", "2 (oom at 4)", "oom [1]"]
    assert words.footnotes == ("oom: 1, the smallest batch that was tried",)
    assert "≥: no larger batch was tried" in words.legend
    assert "(oom at n): the smallest batch that is out of memory" in words.legend


def test_the_json_has_the_limit_and_a_lower_bound_has_none() -> None:
    document = json.loads(to_json(largest([fits(16), fits(2, host="b"), oom(4, host="b")])))
    (case,) = document["cases"]
    assert {host: (each["value"], each["limit"]) for host, each in case["cells"].items()} == {
        "a": (16, {"beyond": None}),
        "b": (2, {"beyond": 4}),
    }


def test_a_largest_batch_is_never_called_best() -> None:
    found = largest([found_by_search(273, 278), fits(2, host="b"), oom(4, host="b")])
    assert not any(each.best or each.tied_best or each.best_of_case or each.ratio for each in found.cells())


def test_a_published_frontier_is_not_called_valid() -> None:
    rows = [fits(32, job=IMPORT, validity=None), oom(64, job=IMPORT)]
    assert (limit(rows), only(rows).validity) == ((32, 64), None)


def test_an_axis_that_a_largest_batch_spans_cannot_be_laid_out() -> None:
    assert largest([fits(16)], View(rows=("precision",))).axes == ("precision", "engine")
    with pytest.raises(InputError, match="one value of all samples; fix: leave samples out"):
        largest([fits(16), fits(1)], View(rows=("samples",)))


def test_csv_says_that_a_value_is_a_lower_bound_or_what_is_out_of_memory() -> None:
    (line,) = csv.DictReader(io.StringIO(to_csv(largest([fits(16), fits(2, host="b"), oom(4, host="b")]))))
    assert line["a largest-batch [images per call]"] == "16"
    assert line["a reason"] == "a lower bound: no larger batch was tried"
    assert line["b reason"] == "4 is out of memory"
    assert line["baseline"] == ""


def test_records_have_the_smallest_batch_that_is_out_of_memory() -> None:
    columns, values = records(largest([fits(16), fits(2, host="b"), oom(4, host="b")]))
    assert (values["value"], values["beyond"]) == ([16, 2], [None, 4])
    assert next(column.kind for column in columns if column.name == "beyond") is int


def test_where_may_be_why_no_larger_batch_was_tried() -> None:
    found = largest([fits(1), fits(16)], View(where={"samples": ("1",)}))
    assert "≥: no larger batch was tried, or --where leaves it out" in table_text(found).legend
