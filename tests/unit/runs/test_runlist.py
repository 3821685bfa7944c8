from __future__ import annotations

import json
import os
import pty
import signal
from io import StringIO
from pathlib import Path

import pytest
from commands import orchestrate, run_in_background, wait_for, write
from paths import DATA
from rich.console import Console

from orchestrator.commands.runs import show_run_list
from orchestrator.errors import ExitCode
from orchestrator.runs.summary import summaries

ONE = "matrix: {engine: [eager]}\n"


def listed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert orchestrate("runs", "-o", "json") == ExitCode.OK
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def runs_here() -> list[str]:
    return sorted(path.name for path in Path("runs").iterdir())


def test_runs_lists_each_run_with_its_state_cases_and_size(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orchestrate("submit", write("matrix: {engine: [eager], samples: [1, 2]}\n"), "--name", "good")
    orchestrate("submit", write(ONE + "prompt: no rows; exit 3\n"), "--name", "bad")
    orchestrate("import", str(DATA / "lambda-benchmark.csv"), "--name", "lambda")
    bad, good, imported = sorted(listed(capsys), key=lambda run: str(run["name"])[23:])
    assert (good["state"], good["cases"], good["hosts"]) == ("done", {"ok": 2}, ["local"])
    assert (bad["state"], bad["cases"]) == ("done", {"failed": 1})
    assert (imported["state"], imported["problem"]) == ("imported", "")
    on_disk = sum(path.lstat().st_size for path in Path(str(good["folder"])).rglob("*") if not path.is_dir())
    assert 0 < int(str(good["size_bytes"])) <= on_disk
    assert orchestrate("runs") == ExitCode.OK
    assert str(good["name"]) in capsys.readouterr().out


def test_runs_without_any_says_how_to_start_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("runs") == ExitCode.OK
    assert "orchestrator submit" in capsys.readouterr().out
    assert listed(capsys) == []


def test_a_damaged_run_is_listed_as_such_and_can_be_deleted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orchestrate("submit", write(ONE))
    (name,) = runs_here()
    Path("runs", name, "results.csv").write_text("garbage\n")
    (run,) = listed(capsys)
    assert (run["state"], "results.csv" in str(run["problem"])) == ("damaged", True)
    assert orchestrate("runs", "delete", name, "--yes") == ExitCode.OK
    assert runs_here() == []


def test_delete_removes_the_named_runs_and_no_other(here: Path) -> None:
    for name in ("one", "two", "three"):
        orchestrate("submit", write(ONE), "--name", name)
    one = next(Path("runs").glob("*-one"))
    assert orchestrate("runs", "delete", f"{one}/", "-three", "--yes") == ExitCode.BAD_INPUT, "an unknown option"
    assert orchestrate("runs", "delete", f"{one}/", "three", "--yes") == ExitCode.OK
    assert [name[-3:] for name in runs_here()] == ["two"]


def test_only_a_run_of_this_folders_runs_is_deleted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orchestrate("submit", write(ONE))
    Path("data").mkdir()
    write("device\n", "data/results.csv")
    for path in ("data", ".", "..", str(here)):
        assert orchestrate("runs", "delete", path, "--yes") == ExitCode.BAD_INPUT, path
    assert Path("data/results.csv").exists()
    assert len(runs_here()) == 1


def test_without_a_terminal_delete_needs_yes(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    orchestrate("submit", write(ONE))
    with open(os.devnull) as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        assert orchestrate("runs", "delete", "bench") == ExitCode.BAD_INPUT
    assert "add --yes" in capsys.readouterr().err
    assert len(runs_here()) == 1


@pytest.mark.parametrize(("answer", "left", "code"), [("y\n", 0, ExitCode.OK), ("\n", 1, ExitCode.SOME_FAILED)])
def test_on_a_terminal_delete_asks(
    here: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: int, code: int
) -> None:
    orchestrate("submit", write(ONE))
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        assert orchestrate("runs", "delete", "bench") == code
    os.close(ours)
    assert len(runs_here()) == left


def test_a_driven_run_is_not_deleted_nor_one_whose_host_holds_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(ONE + "prompt: say running; hang\n")
    first = run_in_background("submit", "matrix.yaml")
    wait_for("running")
    assert [run["state"] for run in listed(capsys)] == ["running"]
    assert orchestrate("runs", "delete", "bench", "--yes", "--force") == ExitCode.BAD_INPUT
    assert f"driven by process {first.pid}" in capsys.readouterr().err
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=600)
    assert [run["state"] for run in listed(capsys)] == ["interrupted"]
    (name,) = runs_here()
    assert orchestrate("runs", "delete", "bench", "--yes") == ExitCode.BAD_INPUT
    said = capsys.readouterr().err
    assert "host local still holds 1 of its attempts" in said
    assert f"orchestrator clean {name}" in said
    assert runs_here() == [name]
    assert orchestrate("runs", "delete", "bench", "--yes", "--force") == ExitCode.OK
    assert runs_here() == []
    assert orchestrate("clean", name, "--running") == ExitCode.OK


def test_on_a_narrow_terminal_no_runs_name_is_folded(here: Path) -> None:
    orchestrate("submit", write(ONE), "--name", "a-run-of-some-length")
    console = Console(file=StringIO(), width=80)
    show_run_list(list(summaries(Path("runs"))), Path("runs"), console)
    (name,) = runs_here()
    assert name in console.file.getvalue()  # type: ignore[attr-defined]
