from __future__ import annotations

import contextlib
import gzip
import re
from pathlib import Path

import pytest
from builders import a_row, around, columns
from hypothesis import given
from hypothesis import strategies as st
from memory import grows_by_less_than
from paths import DATA

from orchestrator.errors import InputError
from orchestrator.results.foreign import read_file, read_rows
from orchestrator.table import Metric, compare
from runner.schema import COLUMNS, LAMBDA_COLUMNS, Row, Status, format_rows

LAMBDA = DATA / "lambda-benchmark.csv"
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
    assert len(columns(comparison)) == 5
    line = next(line for line in comparison.lines if line.labels == ("eager", "half", 1))
    found = line.cells[columns(comparison).index("NVIDIA A100-SXM4-40GB")].ratio
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
    rows = [a_row(trials=around(1.5), error='a "quoted", cell'), a_row("b", status=Status.TIMEOUT, run=None)]
    assert read_rows(format_rows(rows), "results.csv") == rows


@pytest.mark.parametrize(
    ("latency", "memory", "status", "kept"),
    [
        ("2.5", "-1", Status.OK, (2.5, None)),
        ("-1", "-1", Status.OOM, (None, None)),
        ("OOM", "", Status.OOM, (None, None)),
        ("", "Out of Memory", Status.OOM, (None, None)),
        ("-1", "3.0", Status.OOM, (None, 3.0)),
        ("nan", "0", Status.SKIPPED, (None, None)),
    ],
)
def test_a_row_with_a_latency_ran_whatever_stands_for_its_memory(
    latency: str, memory: str, status: Status, kept: tuple[float | None, ...]
) -> None:
    (found,) = read_rows(f"device,n_samples,latency,memory\nA,1,{latency},{memory}\n", "x.csv")
    assert (found.status, (found.latency, found.memory)) == (status, kept)


@pytest.mark.parametrize("words", ["PyTorch,Half,Eager", "pytorch,FP16,EAGER", "PYTORCH,float16,eager"])
def test_our_own_words_are_read_in_any_case(words: str) -> None:
    (found,) = read_rows(f"device,n_samples,latency,runtime,precision,engine\nA,1,2,{words}\n", "x.csv")
    assert (found.runtime, found.precision, found.engine) == ("pytorch", "half", "eager")
    (onnx,) = read_rows("device,n_samples,latency,runtime\nA,1,2,ONNX\n", "x.csv")
    assert (onnx.runtime, onnx.engine) == ("onnx", "onnxruntime")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("A;1;1.234;2,5", "column latency: '1.234' may be 1234 or 1.234; write it without '.'"),
        ("A;1;2.5;3,5", "column memory: '3,5' has a decimal ',' in a file whose decimal sign is '.'"),
        ("A;1;1.234,56;2,5", None),
        ("A;1;1 234,56;2,5", None),
        ("A;1;1234.56;2.5", None),
        ("A;1;1,234.56;2.5", None),
        ("A;1;1'234.56;2.5", None),
        ("A;1;1.23456E+03;2.5", None),
        ("A;1;1,234;2.5", "column latency: '1,234' may be 1234 or 1.234"),
        ("A;1;1,23,4;2.5", "column latency: '1,23,4' is not a number"),
        ("A;1;2 kg;2.5", "column latency: '2 kg' is not a number"),
        ("A;1;1234.56 s;2.5G", None),
        ("A;1;1234560 ms;2500 MB", None),
        ("A;1;1.234,56 s;2,5 GB", None),
    ],
)
def test_a_number_is_read_by_its_files_decimal_sign_or_refused(line: str, message: str | None) -> None:
    text = f"device;n_samples;latency;memory\n{line}\n"
    if message is None:
        assert read_rows(text, "x.csv")[0].latency == 1234.56
        return
    with pytest.raises(InputError, match=message):
        read_rows(text, "x.csv")


def test_three_digits_after_a_comma_alone_are_ambiguous_but_where_semicolons_part_the_cells() -> None:
    assert read_rows("device;n_samples;latency\nA;1;1,234\n", "x.csv")[0].latency == 1.234
    with pytest.raises(InputError, match="may be 1234 or 1"):
        read_rows('device,n_samples,latency\nA,1,"1,234"\n', "x.csv")


@pytest.mark.parametrize("name", ["host", "engine", "model", "device", "cpu", "error", "attention", "started"])
def test_no_formula_of_a_foreign_file_is_imported(name: str) -> None:
    line = 'x,1,2,"=cmd|calc!A1"\n'
    text = f"python,n_samples,latency,{name}{',host' if name not in ('host', 'device') else ''}\n"
    text += line.replace("\n", ",h\n") if name not in ("host", "device") else line
    if name == "started":
        with pytest.raises(InputError, match="is not an ISO 8601 time"):
            read_rows(text, "x.csv")
        return
    assert getattr(read_rows(text, "x.csv")[0], name) == "'=cmd|calc!A1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",".join(f"column{i}" for i in range(20_000)) + "\n", "20000 columns; no table of benchmarks"),
        ("a" * (2 << 20), "a row is longer than 1 MiB"),
        (f"{HEADER}\n" + ",".join("a" * 600_000) + "\n", "a row is longer than 1 MiB"),
        (f"{HEADER}\n" + ('"' + "a," * 100 + "\n") * 10_000, r"a row is longer than 1 MiB|expected"),
        ("device,n_samples,latency\n" + "A,1,2\n" * 50_001, "more than 50000 rows"),
    ],
    ids=["columns", "header", "cells", "lines", "rows"],
)
def test_a_file_without_end_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_rows(text, "x.csv")


def test_thousands_of_rows_of_one_case_are_never_compared_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = read_rows("device,n_samples,latency\n" + "".join(f"A,1,{1 + i / 1e4}\n" for i in range(500)), "x.csv")
    calls = list[int]()
    equal = Row.__eq__

    def counted(ours: Row, other: object) -> bool:
        calls.append(1)
        return equal(ours, other)

    monkeypatch.setattr(Row, "__eq__", counted)
    (line,) = compare(rows).lines
    assert line.cells[0].rows == 500
    assert len(calls) < 10 * len(rows)


@pytest.mark.live
def test_32_mib_of_the_smallest_rows_take_bounded_memory(tmp_path: Path) -> None:
    read_rows(f"{HEADER}\n{LINE}\n", "x.csv")
    line = b"NVIDIA A10,half,FALSE,TRUE,pytorch,1,2.01,3.13\n"
    (tmp_path / "x.csv").write_bytes(HEADER.encode() + b"\n" + line * ((32 << 20) // len(line) - 8))
    (tmp_path / "bad.csv").write_bytes(HEADER.encode() + b"\n" + b"\xc3\xbc,\n" * (6 << 20))
    with grows_by_less_than(300), pytest.raises(InputError):
        read_file(tmp_path / "x.csv")
    with grows_by_less_than(100), pytest.raises(InputError):
        read_file(tmp_path / "bad.csv")


def test_every_problem_is_reported_at_its_line() -> None:
    text = f"{HEADER}\n{LINE}\nA,half,perhaps,TRUE,pytorch,0,fast,3\nA,half\nA,half,FALSE,TRUE,pytorch,1,inf,-7\n"
    with pytest.raises(InputError) as caught:
        read_rows(text, "x.csv")
    assert caught.value.problems == (
        "x.csv:3: column autocast: 'perhaps' is neither TRUE nor FALSE",
        "x.csv:3: column latency: 'fast' is not a number",
        "x.csv:3: column n_samples: 0 is less than 1",
        "x.csv:4: 2 cells instead of 8",
        "x.csv:5: column latency: 'inf' is not a finite number",
        "x.csv:5: column memory: -7 is negative",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"x\.csv:1: the file is empty"),
        (
            "device,n_samples,latncy\n",
            r"x\.csv:1: column 'latncy' is unknown; did you mean 'latency'\? fix: rename it, or",
        ),
        ("device,n_samples,latency_ms\n", r"'latency_ms' is unknown; did you mean 'latency', in s\?"),
        ("device,n_samples,latency,memory (GiB)\n", r"'memory \(gib\)' is unknown; .* --ignore 'memory \(gib\)'"),
        ("device,n_samples,latency,latency\n", r"x\.csv:1: column 'latency' appears 2 times"),
        ("hello\nworld\n", r"x\.csv:1: no column device or host in the header, the first line; every row needs it"),
        (f"{HEADER}\n", r"x\.csv: a header and no rows"),
        (f'{HEADER}\n"A10', r"x\.csv:2: unexpected end of data"),
        (",".join(COLUMNS) + "\nA10\n", rf"x\.csv:2: 1 cells instead of {len(COLUMNS)}"),
    ],
)
def test_a_bad_file_is_one_clear_message(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_rows(text, "x.csv")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'[{"device": "A"}]', "x.csv: no column n_samples in any row; every row needs it; fix: add it"),
        (b'{"device": ["A"]}', "is JSON without rows; fix: "),
        (b"<html>", "is HTML or XML; fix: "),
        ("device,n_samples,latency\nA,1,2\n".encode("utf-32"), "is UTF-32 text; fix: "),
        (gzip.compress(gzip.compress(b"device", mtime=0), mtime=0), "is compressed by gzip twice; fix: "),
        (gzip.compress(b"PK\x03\x04", mtime=0), "is an Excel or OpenDocument workbook"),
        ("device,n_samples,latency\nÄ,1,2\n".encode("latin-1"), "x.csv:2: is not UTF-8 text; fix: "),
        ("device,n_samples,latency\nÄ,1,2\n\ufffd,1,2\n".encode() + b"\xff,1,2\n", "x.csv:4: is not UTF-8 text"),
    ],
)
def test_what_is_no_csv_is_named_with_the_fix(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(InputError, match=re.escape(what)):
        read_file(tmp_path / "x.csv")


@pytest.mark.parametrize("text", ["[0.5, 0.6]", "[np.float64(0.5), np.float64(0.6)]", "(np.float32(0.5),0.6)"])
def test_trials_are_read_as_numpy_writes_a_list(text: str) -> None:
    assert read_rows(f'device,n_samples,trials\nA,1,"{text}"\n', "x.csv")[0].trials == (0.5, 0.6)


def test_a_column_that_looks_misspelt_is_left_out_where_asked() -> None:
    (found,) = read_rows("device,n_samples,latency,latency_p95\nA,1,2,3\n", "x.csv", ["*_P95"])
    assert (found.latency, found.settings) == (2.0, None)


def test_a_long_list_of_problems_is_cut() -> None:
    with pytest.raises(InputError) as caught:
        read_rows(HEADER + "\nbad" * 100, "x.csv")
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1] == "x.csv: and 80 more problems"


def settings_of(text: str, *ignored: str) -> list[dict[str, str]]:
    return [dict(row.other_settings) for row in read_rows(text, "x.csv", ignored)]


def test_columns_of_other_names_are_settings_of_the_row() -> None:
    text = "device,n_samples,latency,Image Size,Note\nA,1,2.5,512,=1+1\nA,1,4.1,768,\n"
    assert settings_of(text) == [{"image size": "512", "note": "'=1+1"}, {"image size": "768"}]
    assert settings_of(text, "Image*", "note") == [{}, {}]
    assert settings_of("device,n_samples,latency,[a]\nA,1,2,3\n", "[A]") == [{}]


@pytest.mark.parametrize(
    ("header", "first", "second"),
    [
        (",x", "0,", "1,"),
        ("index,x", "0,", "1,"),
        ("nr,x", "1.0,", "2.0,"),
        ("x,y", ",nan", ",NULL"),
        (",", "7,", "9,"),
    ],
)
def test_an_index_and_an_empty_column_are_no_settings(header: str, first: str, second: str) -> None:
    assert settings_of(f"{header},device,n_samples,latency\n{first},A,1,2\n{second},A,1,2\n") == [{}, {}]


def test_whole_numbers_that_a_missing_cell_made_floats_are_whole() -> None:
    text = "device,n_samples,latency,size,torch_wheel\nA,1,2,512.0,2.0\nA,1,2,,2.10\n"
    assert settings_of(text) == [{"size": "512", "torch_wheel": "2.0"}, {"torch_wheel": "2.10"}]


def test_settings_that_differ_behind_what_is_kept_stay_different() -> None:
    text = f"device,n_samples,latency,scene\nA,1,2,{'p' * 300}1\nA,1,2,{'p' * 300}2\n"
    first, second = (found["scene"] for found in settings_of(text))
    assert first != second
    assert max(len(first), len(second)) <= 80


def test_too_many_settings_are_refused_with_the_option_that_helps() -> None:
    header = ",".join(f"parameter_number_{i}" for i in range(90))
    text = f"device,n_samples,latency,{header}\nA,1,2,{','.join(['7'] * 90)}\n"
    with pytest.raises(InputError, match=r"90 columns of unknown names.*--ignore '\*'"):
        read_rows(text, "x.csv")
    assert settings_of(text, "parameter_*") == [{}]


def test_settings_that_were_imported_once_are_imported_again() -> None:
    (found,) = read_rows("device,n_samples,latency,size\nA,1,2,512\n", "x.csv")
    assert read_rows(format_rows([found]), "x.csv") == [found]
    with pytest.raises(InputError, match="column settings: '512' is not a JSON object of strings"):
        read_rows("device,n_samples,latency,settings\nA,1,2,512\n", "x.csv")


cells = st.text(max_size=6) | st.sampled_from(["1", "-1", "TRUE", "pytorch", "half", "1.5", "", '"', ";", "\n"])
tables = st.tuples(
    st.lists(st.sampled_from([*COLUMNS, "other", ""]), max_size=8), st.lists(st.lists(cells, max_size=8), max_size=4)
).map(lambda table: "\n".join(",".join(line) for line in (table[0], *table[1])))


@given(st.text() | tables | st.text().map(lambda text: f"{HEADER}\n{text}"))
def test_any_text_is_rows_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        rows = read_rows(text, "x.csv")
        assert rows
        compare(rows)
