"""Files that the Lambda benchmark's script and its forks really wrote, byte for byte (tests/data/README.md)."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from paths import DATA

from orchestrator.errors import InputError
from orchestrator.results.foreign import read_file, read_rows
from runner.schema import LAMBDA_COLUMNS, Row, Status

FILES = DATA / "lambda"
TODAY = DATA / "lambda-benchmark.csv"
OLD = ("device", "precision", "runtime", "n_samples", "latency", "memory")
LINES = (
    ("NVIDIA A10", "half", "False", "True", "pytorch", "1", "2.01", "3.13"),
    ("NVIDIA A10", "single", "False", "True", "pytorch", "64", "-1.0", "-1.0"),
)
READ = [
    ("NVIDIA A10", "half", False, True, "pytorch", 1, 2.01, 3.13, Status.OK),
    ("NVIDIA A10", "single", False, True, "pytorch", 64, None, None, Status.OOM),
]


def essence(row: Row) -> tuple[object, ...]:
    return (*(getattr(row, name) for name in LAMBDA_COLUMNS), row.status)


def written(header: tuple[str, ...] | None, *lines: tuple[str, ...]) -> str:
    """What `csv.writer` makes of them, as in the script: lines end in CR LF."""
    out = io.StringIO()
    csv.writer(out).writerows([*([header] if header else []), *lines])
    return out.getvalue()


@pytest.mark.parametrize(
    ("path", "rows", "out_of_memory", "devices"),
    [
        (TODAY, 80, 7, 5),
        (FILES / "benchmark_H100_MIG.csv", 64, 32, 4),
        (FILES / "benchmark_no_xformers.csv", 96, 35, 6),
        (FILES / "benchmark-2022.csv", 58, 11, 8),
        (FILES / "empty-boolean.csv", 40, 1, 5),
        (FILES / "no-header-units.csv", 14, 0, 2),
        (FILES / "no-header-5-values.csv", 6, 0, 2),
        (FILES / "milliseconds.csv", 4, 0, 1),
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else str(value),
)
def test_a_published_file_is_read_whole(path: Path, rows: int, out_of_memory: int, devices: int) -> None:
    found = read_file(path)
    assert len(found) == rows
    assert {row.status for row in found} <= {Status.OK, Status.OOM}
    assert sum(row.status is Status.OOM for row in found) == out_of_memory
    assert all((row.latency is None) == (row.status is Status.OOM) for row in found)
    assert all(row.latency is None or row.latency > 0 for row in found)
    assert len({row.device for row in found}) == devices
    assert {row.precision for row in found} <= {"single", "half"}
    assert not any(row.settings for row in found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no-header-5-values", ("Quadro RTX 8000", "half", None, None, None, 2, 12.62193338, 6.77)),
        ("no-header-units", ("Quadro RTX 8000", "single", None, None, "pytorch", 1, 12.5, 7.69)),
        ("milliseconds", ("NVIDIA RTX A6000", "single", None, None, None, 2, 8.75572952, 11.2)),
        ("benchmark-2022", ("AMD EPYC 7352 24-Core Processor", "single", None, None, "onnx", 1, 223.19, None)),
        ("benchmark_H100_MIG", ("NVIDIA H100 PCIe MIG 1g.10gb", "half", False, False, "pytorch", 4, 17.4, 6.8)),
        ("empty-boolean", ("Tesla V100-SXM2-16GB", "half", False, None, "pytorch", 128, None, None)),
    ],
)
def test_a_published_row_means_what_it_says(name: str, expected: tuple[object, ...]) -> None:
    assert expected in [essence(row)[:-1] for row in read_file(FILES / f"{name}.csv")]


MERGED = ("device", "precision", "autocast", "xformersruntime", "n_samples", "latency", "memory")


@pytest.mark.parametrize(
    "text",
    [
        written(LAMBDA_COLUMNS, *LINES),
        written((*LAMBDA_COLUMNS, ""), *LINES),
        written((*LAMBDA_COLUMNS, ""), *((*line, "") for line in LINES)),
        written(MERGED, *LINES),
        written(("", *MERGED), *LINES),
        written(("index", *MERGED), *LINES),
        written(None, *LINES),
        written(None, *LINES).replace(",", ";").replace(".", ","),
        written(("", *LAMBDA_COLUMNS), *((str(i), *line) for i, line in enumerate(LINES))),
        written(OLD, *LINES),
        written(LAMBDA_COLUMNS, *LINES).replace("False", "FALSE").replace("True", "TRUE"),
    ],
    ids=[
        "header",
        "trailing comma in the header",
        "trailing comma in all lines",
        "7 names over 8 values",
        "7 names over 8 values, saved by pandas",
        "7 names over 8 values, index reset by pandas",
        "no header",
        "no header, saved by a German Excel",
        "saved by pandas",
        "newer rows below an older header",
        "upper-case booleans",
    ],
)
def test_every_header_of_the_script_reads_the_same_rows(text: str) -> None:
    assert [essence(row) for row in read_rows(text, "results.py")] == READ


def test_a_header_that_lacks_runtime_names_six_values() -> None:
    header = ("device", "precision", "n_samples", "latency", "memory")
    line = ("Quadro RTX 8000", "half", "onnx", "1", "13.59", "0.0")
    (row,) = read_rows(written(header, line), "x.csv")
    assert essence(row) == ("Quadro RTX 8000", "half", None, None, "onnx", 1, 13.59, None, Status.OK)
    assert row.engine == "onnxruntime"


def test_rows_of_two_versions_of_the_script_stay_in_one_file() -> None:
    old, new = ("T4", "half", "onnx", "1", "13.59", "0.0"), LINES[0]
    assert [row.runtime for row in read_rows(written(OLD, old, new), "x.csv")] == ["onnx", "pytorch"]
    assert [row.runtime for row in read_rows(written(LAMBDA_COLUMNS, old, new), "x.csv")] == ["onnx", "pytorch"]


def test_a_row_of_no_version_of_the_script_is_a_problem_at_its_line() -> None:
    with pytest.raises(InputError, match=r"x\.csv:3: 7 cells instead of 8"):
        read_rows(written(MERGED, LINES[0], LINES[0][:7]), "x.csv")


def test_a_fork_without_batch_sizes_is_refused_with_what_to_add() -> None:
    with pytest.raises(InputError) as caught:
        read_file(FILES / "fork-sdxl.csv")
    assert any("no column n_samples in the header" in problem for problem in caught.value.problems)
    assert any("did you mean 'memory', in GB" in problem for problem in caught.value.problems)


def test_a_forks_word_error_is_a_failed_row_with_that_word(tmp_path: Path) -> None:
    text = (FILES / "fork-sdxl.csv").read_text().replace("memory_usage", "memory")
    header, *lines = text.splitlines()
    rows = read_rows("\n".join([f"{header},n_samples", *(f"{line},1" for line in lines)]), "x.csv")
    assert [row.status for row in rows] == [Status.OK] * 3 + [Status.FAILED] + [Status.OK] * 4
    assert (rows[3].latency, rows[3].memory, rows[3].error) == (None, None, "the file says 'error'")
    assert (rows[3].width, rows[3].height, dict(rows[3].other_settings)) == (1024, 1024, {"pipeline_type": "SDXL"})
