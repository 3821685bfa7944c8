from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import around, row

from orchestrator.errors import InputError
from orchestrator.foreign import read_rows
from orchestrator.table import Metric, compare
from runner.schema import COLUMNS, LAMBDA_COLUMNS, Status, format_rows

LAMBDA = Path(__file__).parent / "data" / "lambda-benchmark.csv"
HEADER = ",".join(LAMBDA_COLUMNS)
LINE = "NVIDIA A10,half,FALSE,TRUE,pytorch,1,2.01,3.13"


def test_the_published_lambda_table_is_read_whole() -> None:
    rows = read_rows(LAMBDA.read_text(), LAMBDA.name)
    assert len(rows) == 80
    assert sum(row.status is Status.OOM for row in rows) == 7
    assert {row.run for row in rows} == {"lambda-benchmark"}
    first = rows[0]
    assert (first.host, first.device, first.engine, first.precision) == ("NVIDIA A10", "NVIDIA A10", "eager", "half")
    assert (first.autocast, first.xformers, first.n_samples) == (False, True, 1)
    assert (first.latency, first.latency_median, first.trials, first.memory) == (2.01, None, None, 3.13)


def test_the_published_lambda_table_compares_its_own_hosts() -> None:
    comparison = compare(read_rows(LAMBDA.read_text(), LAMBDA.name), Metric.THROUGHPUT, baseline="NVIDIA A10")
    assert len(comparison.hosts) == 5
    line = next(line for line in comparison.lines if line.labels == ("eager", "half", 1))
    found = line.cells[comparison.hosts.index("NVIDIA A100-SXM4-40GB")].ratio
    assert found is not None
    assert found.value == pytest.approx(2.01 / 1.18)


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeff{HEADER}\r\n{LINE}\r\n",
        f"{HEADER},\n{LINE},\n",
        f"{HEADER},\n{LINE}\n\n",
        f"{HEADER}\n{LINE}\n".replace(",", ";"),
        f"{HEADER}\n{LINE}\n".replace(",", ";").replace(".", ","),
        f"{HEADER}\n{LINE}\n".replace(",", "\t"),
        f"{HEADER.upper()}\n{LINE.replace('FALSE', 'False')}",
        f'"{HEADER.replace(",", chr(34) + "," + chr(34))}"\n{LINE}',
    ],
)
def test_the_same_row_in_other_dialects_is_the_same_row(text: str) -> None:
    assert read_rows(text, "x.csv") == read_rows(f"{HEADER}\n{LINE}\n", "x.csv")


def test_minus_one_is_out_of_memory_and_no_number() -> None:
    (found,) = read_rows(f"{HEADER}\nT4,single,FALSE,TRUE,onnx,64,-1.0,-1\n", "x.csv")
    assert (found.status, found.latency, found.memory, found.engine) == (Status.OOM, None, None, "onnxruntime")


def test_a_memory_of_0_was_not_measured() -> None:
    (found,) = read_rows(f"{HEADER}\nAMD EPYC 7352,single,FALSE,FALSE,onnx,1,223.19,0.0\n", "x.csv")
    assert (found.status, found.latency, found.memory) == (Status.OK, 223.19, None)


def test_an_empty_latency_is_skipped_with_its_reason() -> None:
    (found,) = read_rows("device,n_samples,latency\nT4,1,\n", "x.csv")
    assert (found.status, found.error) == (Status.SKIPPED, "the file gives no latency")


def test_our_own_csv_is_read_back_exactly() -> None:
    rows = [row(trials=around(1.5), error='a "quoted", cell\nof two lines'), row("b", status=Status.TIMEOUT, run=None)]
    assert read_rows(format_rows(rows), "results.csv") == rows


def test_every_problem_is_reported_at_its_line() -> None:
    text = f"{HEADER}\n{LINE}\nA,half,perhaps,TRUE,pytorch,0,fast,3\nA,half\nA,half,FALSE,TRUE,pytorch,1,nan,-7\n"
    with pytest.raises(InputError) as caught:
        read_rows(text, "x.csv")
    assert caught.value.problems == (
        "x.csv:3: column autocast: 'perhaps' is neither TRUE nor FALSE",
        "x.csv:3: column latency: could not convert string to float: 'fast'",
        "x.csv:3: column n_samples: 0 is less than 1",
        "x.csv:4: 2 cells instead of 8",
        "x.csv:5: column latency: 'nan' is not a finite number",
        "x.csv:5: column memory: -7 is negative",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"x\.csv:1: the file is empty"),
        ("device,n_samples,latncy\n", r"x\.csv:1: column 'latncy' is unknown; did you mean 'latency'\?"),
        ("device,n_samples,latency,latency\n", r"x\.csv:1: column 'latency' stands there 2 times"),
        ("hello\nworld\n", r"x\.csv:1: no column device or host: a row must say it"),
        (f"{HEADER}\n", r"x\.csv: a header and no rows"),
        (f'{HEADER}\n"A10', r"x\.csv:2: unexpected end of data"),
        (",".join(COLUMNS) + "\nA10\n", rf"x\.csv:2: 1 cells instead of {len(COLUMNS)}"),
    ],
)
def test_a_bad_file_is_one_clear_message(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_rows(text, "x.csv")


def test_a_long_list_of_problems_is_cut() -> None:
    with pytest.raises(InputError) as caught:
        read_rows(HEADER + "\nbad" * 100, "x.csv")
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1] == "x.csv: and 80 more problems"


cells = st.text(max_size=6) | st.sampled_from(["1", "-1", "TRUE", "pytorch", "half", "1.5", "", '"', ";", "\n"])
tables = st.tuples(
    st.lists(st.sampled_from([*COLUMNS, "other", ""]), max_size=8), st.lists(st.lists(cells, max_size=8), max_size=4)
).map(lambda table: "\n".join(",".join(line) for line in (table[0], *table[1])))


@settings(deadline=None)  # the first example imports numpy
@given(st.text() | tables | st.text().map(lambda text: f"{HEADER}\n{text}"))
def test_any_text_is_rows_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        rows = read_rows(text, "x.csv")
        assert rows
        compare(rows)
