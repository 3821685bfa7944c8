"""Our own CSV after other programs read it and wrote it again: the same rows come back, or words say what was lost."""

from __future__ import annotations

import csv
import gzip
import importlib
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import a_job
from engines import missing

from orchestrator.errors import InputError
from orchestrator.results.foreign import read_file
from runner.schema import COLUMN, COLUMNS, Case, Row, Status, Validity, format_rows

JOB = replace(a_job(), image="cpu:0a1b", cases=(Case("1234e5678901", 1), Case("012345678901", 4), Case("cmax", "max")))
TRIALS = (0.5314559160000272, 0.53, 0.5401)


def measured(case: Case, trials: Sequence[float], samples: int) -> Row:
    ordered = sorted(trials)
    median = ordered[len(ordered) // 2]
    return Row.of(
        JOB,
        case,
        Status.OK,
        "contended: other processes took 67% of the CPUs; 'see' \"log\", 1,5",
        n_samples=samples,
        device="AMD EPYC 7352 24-Core, überall",
        xformers=True,
        latency=sum(trials) / len(trials),
        latency_median=median,
        latency_min=ordered[0],
        throughput=60 * samples / median,
        trials=tuple(trials),
        repeats=len(trials),
        memory=0.42872832,
        psnr=-1.5,
        energy_j=1e-07,
        sm_clock_mhz=123456789.0,
        validity=Validity.CONTENDED,
        python="3.11.7",
        torch="2.13.0+cpu",
        diffusers="0.42.1",
        cuda="13.0",
        cpu="AMD EPYC",
        started="2026-11-28T13:49:12.700+00:00",
    )


ROWS = [
    measured(JOB.cases[0], TRIALS, 1),
    Row.of(JOB, JOB.cases[1], Status.OOM, "tried to allocate 20.1 GB", load_s=0.6199341530000311),
    measured(JOB.cases[2], (2.0,), 28),
    Row.of(JOB, JOB.cases[2], Status.UNSUPPORTED, "no kernels", device="NVIDIA A100"),
]


def saved(tmp_path: Path, text: str | bytes, name: str = "results.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return saved(tmp_path, format_rows(ROWS), "ours.csv")


def library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(f"{name} is not installed")


PANDAS: dict[str, Callable[[Any, Any, Path], None]] = {
    "plain": lambda pd, frame, to: frame.to_csv(to, index=False),
    "with its index": lambda pd, frame, to: frame.to_csv(to),
    "with its index twice": lambda pd, frame, to: frame.reset_index().to_csv(to),
    "semicolons and commas": lambda pd, frame, to: frame.to_csv(to, index=False, sep=";", decimal=","),
    "tabs in UTF-16": lambda pd, frame, to: frame.to_csv(to, index=False, sep="\t", encoding="utf-16"),
    "BOM and CRLF": lambda pd, frame, to: frame.to_csv(to, encoding="utf-8-sig", lineterminator="\r\n"),
    "nan and quotes": lambda pd, frame, to: frame.to_csv(to, index=False, na_rep="nan", quoting=csv.QUOTE_ALL),
    "NULL": lambda pd, frame, to: frame.to_csv(to, index=False, na_rep="NULL"),
    "exponents": lambda pd, frame, to: frame.to_csv(to, index=False, float_format="%.16e"),
    "times": lambda pd, frame, to: frame.assign(started=pd.to_datetime(frame["started"])).to_csv(to, index=False),
    "own types": lambda pd, frame, to: frame.convert_dtypes().to_csv(to, index=False),
    "put together twice": lambda pd, frame, to: pd.concat([frame, frame.assign(more=1)]).iloc[: len(ROWS)].to_csv(to),
    "columns in another order": lambda pd, frame, to: frame[sorted(frame.columns)].to_csv(to, index=False),
}


@pytest.mark.parametrize("way", PANDAS)
def test_our_rows_come_back_from_pandas(way: str, ours: Path, tmp_path: Path) -> None:
    pandas = library("pandas")
    PANDAS[way](pandas, pandas.read_csv(ours, dtype={"case": str}), tmp_path / "results.csv")
    assert read_file(tmp_path / "results.csv") == ROWS


def test_our_rows_come_back_from_pandas_by_gzip(ours: Path, tmp_path: Path) -> None:
    library("pandas").read_csv(ours, dtype=str).to_csv(tmp_path / "results.csv.gz")
    assert read_file(tmp_path / "results.csv.gz") == ROWS


@pytest.mark.parametrize(
    "options",
    [{}, {"include_bom": True}, {"separator": ";"}, {"null_value": "null"}, {"quote_style": "always"}],
    ids=str,
)
def test_our_rows_come_back_from_polars(options: dict[str, Any], ours: Path, tmp_path: Path) -> None:
    polars = library("polars")
    polars.read_csv(ours, infer_schema_length=None).write_csv(tmp_path / "results.csv", **options)
    assert read_file(tmp_path / "results.csv") == ROWS


def test_times_that_polars_understood_come_back(ours: Path, tmp_path: Path) -> None:
    polars = library("polars")
    frame = polars.read_csv(ours, infer_schema_length=None, try_parse_dates=True)
    frame.with_columns(python=polars.lit("3.11.7")).write_csv(tmp_path / "results.csv")
    assert [row.started for row in read_file(tmp_path / "results.csv")] == [row.started for row in ROWS]
    frame.write_csv(tmp_path / "results.csv")  # Python 3.11.7 is now the third of November in the year 7
    with pytest.raises(InputError, match=r"'0007-11-03' is not a version; a spreadsheet turned it into a date"):
        read_file(tmp_path / "results.csv")


def as_spreadsheet(
    *, truths: tuple[str, str], decimal: str, delimiter: str, head: str = "", short: bool = False
) -> str:
    """As a spreadsheet saves the sheet: numbers and truths in the desktop's language, texts as they were."""
    out = io.StringIO()
    out.write(head)
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow([*COLUMNS, "", ""])
    for row in ROWS:
        cells = []
        for name in COLUMNS:
            value = getattr(row, name)
            if isinstance(value, bool):
                cells.append(truths[0] if value else truths[1])
            elif isinstance(value, float):
                cells.append((f"{value:.0f}" if value.is_integer() else repr(value)).replace(".", decimal))
            elif name == "trials" and value:
                text = ";".join(map(repr, value))
                cells.append(text if ";" in text else text.removesuffix(".0").replace(".", decimal))
            elif name == "cuda" and value:
                cells.append(value.removesuffix(".0"))
            elif name == "case":
                cells.append(value.lstrip("0"))
            elif COLUMN[name].is_text or value is None:
                cells.append(value or "")
            else:
                cells.append(str(getattr(value, "value", value)))
        while short and not cells[-1]:
            cells.pop()
        writer.writerow(cells if short else [*cells, "", ""])
    writer.writerow([""] * len(COLUMNS))
    return out.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        as_spreadsheet(truths=("TRUE", "FALSE"), decimal=".", delimiter=","),
        as_spreadsheet(truths=("WAHR", "FALSCH"), decimal=",", delimiter=";"),
        as_spreadsheet(truths=("VRAI", "FAUX"), decimal=",", delimiter=";", head="sep=;\r\n"),
        as_spreadsheet(truths=("DOĞRU", "YANLIŞ"), decimal=",", delimiter="\t"),
        as_spreadsheet(truths=("1", "0"), decimal=".", delimiter=",", head="\ufeffsep=,\n\n"),
        as_spreadsheet(truths=("true", "false"), decimal=".", delimiter="|"),
        as_spreadsheet(truths=("TRUE", "FALSE"), decimal=".", delimiter=",", short=True),
    ],
    ids=["English", "German", "French", "Turkish", "numbers", "bars", "short rows"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gzip"])
def test_our_rows_come_back_from_a_spreadsheet(text: str, encoding: str, tmp_path: Path) -> None:
    text = text.removeprefix("\ufeff")
    data = gzip.compress(text.encode()) if encoding == "gzip" else text.encode(encoding)
    assert read_file(saved(tmp_path, data, "results.csv.gz" if encoding == "gzip" else "results.csv")) == ROWS


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"case": "1.23457E+16"}, "is a number and was a hash"),
        ({"work": "inf"}, "is a number and was a hash"),
        ({"started": "11/28/2026 13:49"}, "is not an ISO 8601 time"),
        ({"started": "28.11.2026 13:49"}, "is not an ISO 8601 time"),
        ({"started": "0001-01-01T00:00:00+14:00"}, "is out of the calendar's range"),
        ({"started": "2026-13-28T13:49:12+00:00"}, "month must be in 1..12"),
        ({"latency": "0e" + "0" * 5000}, "is not a number"),
        ({"cuda": "12. Aug"}, "a spreadsheet turned it into a date"),
        ({"steps": "1.5"}, "is not a whole number"),
        ({"seed": "1.23E+05"}, "may have been rounded"),
        ({"repeats": "2"}, "2 repeats and 3 trials"),
        ({"latency_median": "0.25"}, "its trials give 0.531456"),
        ({"trials": "0.5;-0.5;0.6"}, "-0.5 is negative"),
        ({"memory": "inf"}, "is not a finite number"),
        ({"memory": "-1"}, "-1 is negative"),
        ({"latency": "fast"}, "'fast' is not a number"),
        ({"status": "fine"}, "none of ok, oom"),
    ],
    ids=str,
)
def test_what_a_program_lost_is_refused_with_words(cells: dict[str, str], message: str, tmp_path: Path) -> None:
    lines = list(csv.reader(io.StringIO(format_rows(ROWS))))
    for name, cell in cells.items():
        lines[1][COLUMNS.index(name)] = cell
    out = io.StringIO()
    csv.writer(out).writerows(lines)
    with pytest.raises(InputError, match=rf":2: column {next(iter(cells))}.*{message}"):
        read_file(saved(tmp_path, out.getvalue()))


def test_rows_of_ten_thousand_trials_come_back(tmp_path: Path) -> None:
    rows = [measured(JOB.cases[0], [0.1234567890123456] * 10_000, 1)]
    assert read_file(saved(tmp_path, format_rows(rows))) == rows


def test_values_that_were_rounded_to_be_shown_agree_with_their_trials(tmp_path: Path) -> None:
    text = "device,n_samples,latency,latency_median,throughput,trials\nA,1,0.53,0.5,113,0.53;0.54;0.52\n"
    (found,) = read_file(saved(tmp_path, text))
    assert (found.latency, found.latency_median, found.trials) == (0.53, 0.5, (0.53, 0.54, 0.52))


@pytest.mark.parametrize("trials", ["[0.5, 0.6]", "(0.5, 0.6)", "[0.5 0.6]", "0.5; 0.6", "0,5;0,6", "[0.5;0.6]"])
def test_a_list_in_a_cell_is_read_however_it_is_written(trials: str, tmp_path: Path) -> None:
    (found,) = read_file(saved(tmp_path, f'device,n_samples,trials\nA,1,"{trials}"\n'))
    assert found.trials == (0.5, 0.6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04rest", "workbook.*fix: save the sheet as 'CSV UTF-8'"),
        (b"\xd0\xcf\x11\xe0rest", "old Excel workbook"),
        (b"PAR1rest", "Parquet"),
        (gzip.compress(b"x" * 1000)[:-10], "cut off"),
        (b"\x1f\x8b\x00 not gzip", "not a complete gzip file"),
        (gzip.compress(b"x" * (33 << 20)), "larger than 32 MiB"),
        ("device,n_samples,latency\nüber,1,2\n".encode("cp1252"), "is not UTF-8 text; fix: save it as 'CSV UTF-8'"),
    ],
    ids=["xlsx", "xls", "parquet", "cut off", "no gzip", "bomb", "cp1252"],
)
def test_what_is_no_text_is_refused_with_what_to_do(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_file(saved(tmp_path, data))
