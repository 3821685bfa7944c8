from __future__ import annotations

import base64
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import PROGRAM, orchestrate, run_in_background, until, wait_for, write

from orchestrator.errors import ExitCode
from orchestrator.runs.folder import Run

GO = "prompt: say begun; python {code}\n"


@pytest.fixture
def matrix(here: Path) -> str:
    """A matrix whose job goes on until there is a file `go`."""
    code = f"import pathlib, time\nwhile not pathlib.Path({str(here / 'go')!r}).exists(): time.sleep(0.05)"
    return write("matrix: {engine: [eager]}\n" + GO.format(code=base64.b64encode(code.encode()).decode()))


def detached(*words: str) -> dict[str, Any]:
    command = [sys.executable, PROGRAM, *words, "--detach", "-o", "json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == ExitCode.OK, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def wait_for_end(told: dict[str, Any]) -> None:
    """Until the background process has said all it has to say: the line about the run's folder comes last."""
    until(lambda: f"Run: {told['folder']}" in Path(told["log"]).read_text())


def test_detach_returns_while_the_run_goes_on_in_its_own_session(here: Path, matrix: str) -> None:
    told = detached("submit", matrix)
    wait_for("begun")
    assert os.getsid(told["pid"]) == told["pid"] != os.getsid(0)
    assert Run(Path(told["folder"])).is_driven
    (here / "go").touch()
    wait_for_end(told)
    said = Path(told["log"]).read_text()
    assert json.loads(said[said.index("{") : said.rindex("}") + 1])["counts"] == {"ok": 1}


def test_a_detached_run_survives_the_end_of_its_terminal(here: Path, matrix: str) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, PROGRAM, "submit", matrix, "--detach"]
    shell = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    said = ""
    while "orchestrator resume" not in said:
        said += os.read(ours, 4096).decode()
    assert shell.wait(240) == ExitCode.OK
    wait_for("begun")
    os.close(ours)  # the terminal is gone, and whoever holds it hears a hang-up
    (run,) = map(Run, Path("runs").iterdir())
    assert f"orchestrator logs {run.name} -f" in " ".join(said.split())
    assert run.is_driven
    (here / "go").touch()
    wait_for_end({"folder": str(run.path), "log": str(run.driver_log)})
    assert [row.status for row in run.all_rows()] == ["ok"]
    assert "Latency" in run.driver_log.read_text()
    assert "\x1b" not in run.driver_log.read_text()


@pytest.mark.parametrize(
    ("text", "told"), [("engine: onxx\n", "did you mean 'onnxruntime'"), ("matrix: [\n", "matrix.yaml:2")]
)
def test_a_wrong_input_is_told_at_once_as_without_detach(here: Path, text: str, told: str) -> None:
    command = [sys.executable, PROGRAM, "submit", write(text), "--detach"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert ended.returncode == ExitCode.BAD_INPUT
    assert ended.stderr.count("error: ") >= 1
    assert told in ended.stderr
    assert (ended.stdout, Path("runs").exists()) == ("", False)


def test_a_host_that_cannot_be_used_is_told_at_once_too(here: Path) -> None:
    write("hosts: {a: {kind: docker, context: typo}}\n", "hosts.yaml")
    command = [sys.executable, PROGRAM, "submit", write("matrix: {engine: [eager]}\n"), "-d"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (ended.returncode, "typo" in ended.stderr) == (ExitCode.BAD_INPUT, True)


def test_a_killed_background_process_is_continued_by_a_detached_resume(here: Path, matrix: str) -> None:
    told = detached("submit", matrix)
    wait_for("begun")
    os.kill(told["pid"], signal.SIGKILL)
    until(lambda: not Run(Path(told["folder"])).is_driven)
    again = detached("resume")
    assert (again["run"], again["pid"] != told["pid"]) == (told["run"], True)
    (here / "go").touch()
    wait_for_end(again)
    assert [row.status for row in Run(Path(told["folder"])).all_rows()] == ["ok"]


def test_a_detached_resume_of_a_driven_run_says_who_has_it(here: Path, matrix: str) -> None:
    told = detached("submit", matrix)
    second = run_in_background("resume", "--detach")
    _, said = second.communicate(timeout=600)
    assert (second.returncode, f"process {told['pid']}" in said) == (ExitCode.BAD_INPUT, True)
    (here / "go").touch()
    wait_for_end(told)


@pytest.mark.parametrize(
    ("deeds", "code", "counts"),
    [("rows", ExitCode.OK, {"ok": 1}), ("no rows; exit 3", ExitCode.SOME_FAILED, {"failed": 1})],
)
def test_submit_and_resume_tell_their_outcome_as_json(
    here: Path, capsys: pytest.CaptureFixture[str], deeds: str, code: int, counts: dict[str, int]
) -> None:
    write(f"matrix: {{engine: [eager]}}\nprompt: {deeds}\n")
    documents = []
    for words in (["submit", "matrix.yaml"], ["resume"]):
        assert orchestrate(*words, "-o", "json") == code
        documents.append(json.loads(capsys.readouterr().out))
    assert documents[0] == documents[1]
    (run,) = Path("runs").iterdir()
    told = documents[0]
    assert (told["run"], told["folder"], told["exit"], told["finished"]) == (run.name, f"runs/{run.name}", code, True)
    assert (told["counts"], len(told["rows"]), told["rows"][0]["engine"]) == (counts, 1, "eager")
