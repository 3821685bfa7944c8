"""`orchestrator import` from the command line: several files, their origin, and what a table says of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from builders import a_row, around
from commands import orchestrate, write
from paths import DATA

from orchestrator.errors import ExitCode
from orchestrator.runs.rows import read_rows
from runner.schema import Row, format_rows

PUBLISHED = DATA / "lambda-benchmark.csv"
REPORT = DATA / "optimum-benchmark" / "benchmark.json"
URL = "https://github.com/LambdaLabsML/lambda-diffusers/blob/main/benchmarks/benchmark.csv"
DIGEST = hashlib.sha256(PUBLISHED.read_bytes()).hexdigest()


def the_run(name: str) -> Path:
    (found,) = Path("runs").glob(f"*-{name}")
    return found


def rows_of(name: str) -> list[Row]:
    return read_rows(the_run(name) / "results.csv")


def test_an_import_says_how_many_rows_ran_and_how_many_did_not(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("import", str(PUBLISHED), "--name", "lambda") == ExitCode.OK
    assert capsys.readouterr().out.startswith("80 rows (73 ok, 7 oom) in runs/")


def test_a_run_keeps_the_imported_file_its_hash_and_its_address(here: Path) -> None:
    assert orchestrate("import", str(PUBLISHED), "--name", "lambda", "--source", URL) == ExitCode.OK
    sources = the_run("lambda") / "sources"
    assert (sources / "1-lambda-benchmark.csv").read_bytes() == PUBLISHED.read_bytes()
    about = json.loads((sources / "1-source.json").read_text())
    assert about == {"file": "lambda-benchmark.csv", "bytes": 4703, "sha256": DIGEST, "url": URL}
    assert {row.imported_from for row in rows_of("lambda")} == {f"lambda-benchmark.csv (sha256 {DIGEST[:12]}) of {URL}"}


def test_a_table_says_which_of_its_hosts_are_imported_and_from_where(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.csv").write_text(format_rows([a_row(trials=around(1.5), run="mine")]))
    assert orchestrate("import", str(PUBLISHED), "--name", "lambda") == ExitCode.OK
    capsys.readouterr()
    for output in ("table", "json", "md"):
        assert orchestrate("results", "lambda", "-o", output) == ExitCode.OK
        said = " ".join(capsys.readouterr().out.split())
        assert f"imported from lambda-benchmark.csv (sha256 {DIGEST[:12]})" in said


def test_an_imported_row_has_no_ratio_to_work_that_it_does_not_state(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine").mkdir()
    ours = a_row("mine", device="NVIDIA A10", trials=around(1.5), run="mine", prompt="p")
    Path("mine/results.csv").write_text(format_rows([ours]))
    assert orchestrate("import", str(PUBLISHED), "--name", "lambda") == ExitCode.OK
    capsys.readouterr()
    assert orchestrate("results", "lambda", "mine", "--baseline", "mine", "-o", "json") == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    cells = [cell for case in document["cases"] for cell in cells_of(case) if cell["rows"]]
    foreign = [cell for cell in cells if "imported_from" in cell["rows"][0]]
    assert len(foreign) == 80
    assert {cell["ratio"] for cell in foreign} == {None}
    assert not any(cell["best"] or cell["tied_best"] for cell in foreign)
    assert "equal work is not known: a source does not state it" in {cell["no_ratio"] for cell in foreign}


def cells_of(case: dict[str, Any]) -> list[dict[str, Any]]:
    cells = case["cells"]
    return list(cells.values() if isinstance(cells, dict) else cells)


def test_several_reports_make_one_run_that_compares_them(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = json.loads(REPORT.read_text())
    value["config"]["backend"]["torch_compile"] = True
    Path("compiled").mkdir()
    Path("compiled/benchmark.json").write_text(json.dumps(value))
    assert orchestrate("import", str(REPORT), "compiled/benchmark.json", "--name", "both") == ExitCode.OK
    assert [row.engine for row in rows_of("both")] == ["compile", "eager"]
    assert len({row.imported_from for row in rows_of("both")}) == 2
    capsys.readouterr()
    assert orchestrate("results", "both", "--baseline", "eager") == ExitCode.OK
    assert "(1 round)" in capsys.readouterr().out


def test_files_that_state_no_work_are_never_joined_in_one_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = DATA / "lambda" / "benchmark-2022.csv"
    assert orchestrate("import", str(PUBLISHED), str(old)) == ExitCode.BAD_INPUT
    assert "fix: import each file as a run of its own" in " ".join(capsys.readouterr().err.split())
    assert not Path("runs").exists()


def test_a_row_imported_twice_names_both_files(here: Path) -> None:
    assert orchestrate("import", str(PUBLISHED), "--name", "once") == ExitCode.OK
    assert orchestrate("import", str(the_run("once") / "results.csv"), "--name", "twice") == ExitCode.OK
    (source,) = {row.imported_from for row in rows_of("twice")}
    assert source is not None
    assert source.startswith("results.csv (sha256 ")
    assert source.endswith(f", there from lambda-benchmark.csv (sha256 {DIGEST[:12]})")


@pytest.mark.parametrize(
    "url",
    ["ftp://x/y", "benchmark.csv", "https://", "https://user:secret@host/x", f"https://x/{'a' * 400}", "http://x/\x1b"],
)
def test_a_source_is_a_plain_address_without_a_login(url: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("import", str(PUBLISHED), "--source", url) == ExitCode.BAD_INPUT
    said = capsys.readouterr().err
    assert "--source" in said
    assert "secret" not in said
    assert not Path("runs").exists()


def test_a_file_of_a_hostile_name_stays_in_its_folder(here: Path) -> None:
    file = write("device,n_samples,latency\nA,1,2\n", "..\x1b[2J=evil;rm.csv")
    assert orchestrate("import", file, "--name", "odd") == ExitCode.OK
    kept = sorted(path.name for path in (the_run("odd") / "sources").iterdir())
    assert kept == ["1-2J-evil-rm.csv", "1-source.json"]
    (row,) = rows_of("odd")
    assert row.imported_from is not None
    assert row.imported_from.isprintable()


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("csv", "is a table that `results -o csv` printed"),
        ("md", "is a table in Markdown; fix: "),
        ("html", "is HTML or XML; fix: "),
        ("json", None),
    ],
)
def test_a_printed_table_is_imported_if_it_has_the_rows(
    output: str, told: str | None, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orchestrate("import", str(PUBLISHED), "--name", "lambda") == ExitCode.OK
    capsys.readouterr()
    assert orchestrate("results", "lambda", "-o", output) == ExitCode.OK
    Path("printed").write_text(capsys.readouterr().out)
    if told is None:
        assert orchestrate("import", "printed", "--name", "again") == ExitCode.OK
        assert len(rows_of("again")) == 80
        return
    assert orchestrate("import", "printed") == ExitCode.BAD_INPUT
    assert told in " ".join(capsys.readouterr().err.split())
