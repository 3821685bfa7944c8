"""What `orchestrator.load` accepts, and the frame that it makes of it."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import polars
import polars.testing
import pytest
from builders import a_row, around
from paths import ROOT

import orchestrator
from orchestrator import library
from orchestrator.errors import InputError
from orchestrator.library.sources import COLUMNS, of_frame
from orchestrator.results import from_store
from orchestrator.runs.folder import Run
from orchestrator.table.cases import canonical
from runner.schema import Row, Status, Validity, format_rows

ROWS = [
    a_row("gpu1", "eager", 1, around(2.0), run="one", seed=0, work="f1", settings=None, xformers=True),
    a_row("gpu1", "graph", 1, run="one", status=Status.OOM, error="tried to allocate 20 GB"),
]
OTHERS = [a_row("gpu2", "eager", 1, around(1.0), run="two", validity=Validity.THROTTLED)]
LAMBDA = "device,precision,autocast,xformers,runtime,n_samples,latency,memory\nA100,half,False,False,pytorch,1,1.5,3\n"
BOTH = pytest.mark.parametrize("library_name", ["polars", "pandas"])


@pytest.fixture
def runs(here: Path) -> Path:
    for name, rows in {"20260101-000000-aaaaaa-one": ROWS, "20260102-000000-bbbbbb-two": OTHERS}.items():
        (here / "runs" / name).mkdir(parents=True)
        (here / "runs" / name / "results.csv").write_text(format_rows(rows))
    (here / "lambda.csv").write_text(LAMBDA)
    return here


def hosts(*sources: str) -> list[str]:
    found: list[str] = orchestrator.load(*sources, frame="polars")["host"].to_list()
    return found


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ((), ["gpu2"]),
        (("two",), ["gpu2"]),
        (("runs/20260101-000000-aaaaaa-one",), ["gpu1", "gpu1"]),
        (("runs/20260102-000000-bbbbbb-two/results.csv",), ["gpu2"]),
        (("runs",), ["gpu1", "gpu1", "gpu2"]),
        (("runs/*two",), ["gpu2"]),
        (("runs/*/results.csv",), ["gpu1", "gpu1", "gpu2"]),
        (("two", "runs", "one"), ["gpu2", "gpu1", "gpu1"]),
        (("lambda.csv", "two"), ["A100", "gpu2"]),
    ],
)
def test_a_run_a_folder_a_pattern_and_a_file_are_read(
    runs: Path, sources: tuple[str, ...], expected: list[str]
) -> None:
    assert hosts(*sources) == expected


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("three", r"runs: there is no run 'three'; the last ones are"),
        ("nothing.csv", r"nothing\.csv: there is no such file or folder"),
        ("no/such", r"no/such: there is no such file or folder"),
        ("*.tsv", r"\*\.tsv: no file or folder fits this pattern"),
        ("empty", r"empty: expected a run or a folder of runs; no results\.csv is in it"),
        ("broken.csv", r"broken\.csv:2: column latency: "),
        ("runs/broken", r"runs/broken/results\.csv: line 2, column n_samples"),
    ],
)
def test_a_source_that_cannot_be_read_is_named(runs: Path, source: str, said: str) -> None:
    (runs / "empty").mkdir()
    (runs / "broken.csv").write_text(LAMBDA.replace("1.5", "fast"))
    (runs / "runs" / "broken").mkdir()
    (runs / "runs" / "broken" / "results.csv").write_text(format_rows(ROWS).replace("pytorch,1", "pytorch,one"))
    with pytest.raises(orchestrator.InputError, match=said):
        orchestrator.load(source)


def test_a_results_csv_that_a_program_wrote_again_is_imported(runs: Path) -> None:
    pandas.read_csv(runs / "runs" / "20260101-000000-aaaaaa-one" / "results.csv").to_csv(runs / "again.csv")
    assert orchestrator.load("one", frame="polars")["imported"].to_list() == [False, False]
    assert orchestrator.load("again.csv", frame="polars")["imported"].to_list() == [True, True]


def test_two_files_of_one_name_are_two_runs(runs: Path) -> None:
    (runs / "other").mkdir()
    (runs / "other" / "lambda.csv").write_text(LAMBDA.replace("1.5", "1.6"))
    frame = orchestrator.load("lambda.csv", "other/lambda.csv", "lambda.csv", frame="polars")
    assert frame["run"].to_list() == ["lambda", "other/lambda.csv"]
    assert frame["source"].to_list() == ["lambda.csv", "other/lambda.csv"]


@BOTH
def test_a_frame_has_the_documented_columns_and_types(runs: Path, library_name: Any) -> None:
    frame = orchestrator.load("runs", frame=library_name)
    assert list(frame.columns) == [*(column.name for column in COLUMNS), "source", "imported"]
    types = {
        "polars": {
            "n_samples": "Int64",
            "latency": "Float64",
            "xformers": "Boolean",
            "host": "String",
            "trials": "List(Float64)",
            "status": f"Enum(categories={[each.value for each in Status]})",
            "validity": f"Enum(categories={[each.value for each in Validity]})",
            "imported": "Boolean",
        },
        "pandas": {
            "n_samples": "Int64",
            "latency": "Float64",
            "xformers": "boolean",
            "host": "string",
            "trials": "object",
            "status": "category",
            "validity": "category",
            "imported": "boolean",
        },
    }
    assert {name: str(frame[name].dtype) for name in types[library_name]} == types[library_name]


def test_missing_is_null_and_never_nan_or_zero(runs: Path) -> None:
    frame = orchestrator.load("runs", frame="polars")
    nulls = frame.null_count().row(0, named=True)
    assert {name: nulls[name] for name in ("latency", "trials", "validity", "error", "seed")} == {
        "latency": 1,
        "trials": 1,
        "validity": 1,
        "error": 2,
        "seed": 2,
    }
    assert not any(frame[name].is_nan().any() for name, kind in frame.schema.items() if kind == polars.Float64)
    other = orchestrator.load("runs", frame="pandas")
    assert {name: int(other[name].isna().sum()) for name in nulls} == nulls
    assert other["latency"].sum() == pytest.approx(frame["latency"].sum())


@BOTH
def test_a_frames_rows_are_the_rows_that_it_was_made_of(runs: Path, library_name: Any) -> None:
    assert of_frame(orchestrator.load("runs", frame=library_name)) == [*ROWS, *OTHERS]


def test_a_filtered_frame_is_a_source(runs: Path) -> None:
    frame = orchestrator.load("runs", frame="polars")
    again = orchestrator.load(frame.filter(polars.col("host") == "gpu2"), frame="polars")
    polars.testing.assert_frame_equal(again.drop("source"), frame.filter(polars.col("host") == "gpu2").drop("source"))
    filtered = orchestrator.load("runs", frame="pandas").query("host == 'gpu1'")
    assert orchestrator.load(filtered, frame="pandas")["engine"].tolist() == ["eager", "graph"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"latency": ["fast"]}, r"row 0 of the frame, column latency: 'fast'; expected a number"),
        ({"latency": [math.inf]}, r"row 0 of the frame, column latency: 'inf'; expected a number"),
        ({"n_samples": [1.5]}, r"column n_samples: '1.5'; expected a whole number"),
        ({"status": ["fine"]}, r"column status: 'fine'; expected one of ok, oom, "),
        ({"xformers": [1]}, r"column xformers: '1'; expected a truth"),
        ({"trials": [["x"]]}, r"column trials: .*; expected a list of numbers"),
        ({"status": None}, r"the frame has no column 'status'; fix: give a frame that orchestrator\.load made"),
    ],
)
def test_a_changed_frame_is_checked_like_a_file(changed: dict[str, Any], said: str) -> None:
    values = {"status": ["ok"], "n_samples": [1], **changed}
    frame = polars.DataFrame({name: value for name, value in values.items() if value is not None})
    with pytest.raises(InputError, match=said):
        of_frame(frame)


def test_nan_in_a_frame_is_missing_as_pandas_writes_it() -> None:
    frame = pandas.DataFrame({"status": ["ok"], "n_samples": [4.0], "latency": [math.nan], "trials": [None]})
    assert of_frame(frame) == [Row(status=Status.OK, n_samples=4)]


def test_an_integer_of_more_than_64_bits_is_refused(here: Path) -> None:
    (here / "big.csv").write_text(LAMBDA.replace("memory", "seed").replace(",3", f",{2**64}"))
    with pytest.raises(InputError, match="column seed: a frame's integers have 64 bits; 18446744073709551616 has more"):
        orchestrator.load("big.csv")


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def hide(*names: str) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else find(name))

    return hide


def test_polars_is_preferred_and_pandas_is_the_fallback(runs: Path, without: Callable[..., None]) -> None:
    assert isinstance(orchestrator.load("two"), polars.DataFrame)
    without("polars")
    assert isinstance(orchestrator.load("two"), pandas.DataFrame)


@pytest.mark.parametrize(
    ("hidden", "frame", "said"),
    [
        (("polars", "pandas"), None, r"neither polars nor pandas is installed; fix: .*polars"),
        (("polars",), "polars", r"polars is not installed; fix: .*polars"),
        (("pandas",), "pandas", r"pandas is not installed; fix: .* -m pip install pandas"),
        ((), "arrow", r"frame='arrow': expected 'polars' or 'pandas'"),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_its_command(
    runs: Path, without: Callable[..., None], hidden: tuple[str, ...], frame: Any, said: str
) -> None:
    without(*hidden)
    with pytest.raises(InputError, match=said) as raised:
        orchestrator.load("two", frame=frame)
    assert isinstance(raised.value, ImportError) == bool(hidden)


@pytest.mark.parametrize(
    "read",
    [
        lambda address: orchestrator.load(address),
        lambda address: orchestrator.tabulate(address),
        lambda address: orchestrator.compare(address, "one"),
    ],
    ids=["load", "tabulate", "compare"],
)
def test_a_warning_names_the_callers_line(
    runs: Path, read: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = from_store.Stored("r", (replace(ROWS[0], run="r"),), ("job2",))
    monkeypatch.setattr(from_store, "read", lambda address: stored)
    with pytest.warns(library.LoadWarning, match="r is not complete yet; missing: job2") as caught:
        read("s3://bench/sd/r")
    assert [each.filename for each in caught] == [__file__]


def test_what_a_store_refuses_or_lacks_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = from_store.Stored(
        "r", tuple(OTHERS), ("job2",), tuple(f"row {number} is rejected" for number in range(22))
    )
    monkeypatch.setattr(from_store, "read", lambda address: stored)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = orchestrator.load("s3://bench/sd/r", frame="polars")
    assert frame["source"].to_list() == ["s3://bench/sd/r"]
    assert {(each.category, each.filename) for each in caught} == {(library.LoadWarning, __file__)}
    said = [str(each.message) for each in caught]
    assert (said[0], len(said)) == ("row 0 is rejected", 22)
    assert said[-2:] == ["… and 2 more rows are refused", "r is not complete yet; missing: job2"]


def test_importing_the_package_imports_nothing_until_a_name_is_used() -> None:
    code = (
        "import sys, orchestrator\n"
        "before = len([n for n in sys.modules if n.startswith(('orchestrator.', 'runner'))])\n"
        "orchestrator.load\n"
        "print(before, 'polars' in sys.modules, 'pandas' in sys.modules, 'boto3' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ended.stdout == "0 False False False\n"


def test_each_public_name_is_listed_and_others_are_refused() -> None:
    assert set(orchestrator._PUBLIC) <= set(dir(orchestrator))
    assert all(getattr(orchestrator, name) is getattr(library, name) for name in orchestrator._PUBLIC)
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        _ = orchestrator.lode  # type: ignore[attr-defined]


def test_loading_a_run_keeps_every_row_of_its_results(runs: Path) -> None:
    run = Run(runs / "runs" / "20260101-000000-aaaaaa-one")
    assert canonical(of_frame(orchestrator.load(run.path))) == canonical(run.all_rows())
