from __future__ import annotations

import base64
import json
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from builders import a_job
from commands import orchestrate, read_until, run_in_background, wait_for, write

from orchestrator.errors import ExitCode, HostUnreachable
from orchestrator.runs import joblog
from runner.schema import Event, EventKind, Status

NOON = datetime(2026, 3, 1, 12, 0, 5)
JOB = a_job(samples=(1, 2), host="box")
TWO = "matrix: {engine: [eager, onnxruntime]}\n"


def said(kind: EventKind, at: float = NOON.timestamp(), **fields: object) -> str:
    return joblog.in_words(JOB, Event(kind=kind, at=at, **fields).to_json(), NOON)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (said(EventKind.LOADING), "12:00:05  loading synthetic:tiny"),
        (said(EventKind.LOADED), "12:00:05  model loaded"),
        (said(EventKind.CASE_STARTED, case="c2"), "12:00:05  samples 2: started"),
        (said(EventKind.TRIAL, case="c1", trial=2, of=3, latency_s=0.5), "12:00:05  samples 1: trial 2 of 3, 0.5 s"),
        (said(EventKind.CASE_ENDED, case="c1", status=Status.OOM), "12:00:05  samples 1: oom"),
        (said(EventKind.JOB_ENDED), "12:00:05  job ended"),
    ],
)  # fmt: skip
def test_an_event_reads_as_words_with_its_local_time(line: str, words: str) -> None:
    assert line == words


def test_an_event_of_another_day_has_its_date() -> None:
    assert said(EventKind.LOADED, NOON.timestamp() - 86400) == "2026-02-28 12:00:05  model loaded"


@pytest.mark.parametrize("at", [1e300, -1e300, 1e17])
def test_an_event_of_no_possible_time_is_shown_without_one(at: float) -> None:
    assert said(EventKind.LOADED, at) == "??:??:??  model loaded"


def test_what_is_no_event_is_printed_as_it_is() -> None:
    for line in ("a warning", "{", '{"kind": "unheard of"}', ""):
        assert joblog.in_words(JOB, line, NOON) == line


def test_as_json_every_line_is_an_object() -> None:
    event = Event(kind=EventKind.LOADED, at=1.5)
    first, second = map(json.loads, joblog.as_json([event.to_json(), 'a "warning"']))
    assert first == {"kind": "loaded", "at": 1.5}
    assert second == {"kind": "output", "text": 'a "warning"'}


def test_logs_needs_no_run_and_no_job_where_there_is_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orchestrate("submit", write("matrix: {engine: [eager]}\nprompt: say well done\n"))
    (run,) = Path("runs").iterdir()
    (job,) = (run / "jobs").iterdir()
    capsys.readouterr()
    for words in ([], [job.name[:5]], [run.name], [run.name, job.name], ["bench", job.name[:5]]):
        assert orchestrate("logs", *words) == ExitCode.OK, words
        printed = capsys.readouterr().out
        assert "well done" in printed
        assert "loading synthetic:tiny" in printed
        assert '"kind"' not in printed


def test_of_several_jobs_logs_lists_the_ids(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orchestrate("submit", write(TWO))
    (run,) = Path("runs").iterdir()
    capsys.readouterr()
    assert orchestrate("logs") == ExitCode.BAD_INPUT
    told = capsys.readouterr().err
    assert all(job.name in told for job in (run / "jobs").iterdir())
    assert orchestrate("logs", "nothing") == ExitCode.BAD_INPUT


def test_tail_prints_the_last_lines_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orchestrate("submit", write("matrix: {engine: [eager]}\nprompt: say a; say b; say c\n"))
    capsys.readouterr()
    for words, expected in ((["--tail", "2"], ["b", "c"]), (["--tail", "1", "-f"], ["c"]), (["--tail", "0"], [])):
        assert orchestrate("logs", *words) == ExitCode.OK
        assert capsys.readouterr().out.split() == expected


def test_follow_waits_for_a_job_and_says_how_it_ended(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(TWO + f"prompt: python {wait_code(here)}; say at last\n")
    driver = run_in_background("submit", "matrix.yaml")
    wait_for("loading")
    orchestrate("status", "-o", "json")
    jobs = json.loads(capsys.readouterr().out)["jobs"]
    (waiting,) = [job["job"] for job in jobs if job["phase"] not in ("running", "starting")]
    reader = run_in_background("logs", waiting, "-f")
    assert reader.stderr
    assert "waits for a free slot" in reader.stderr.readline()
    (here / "go").touch()
    out, told = reader.communicate(timeout=600)
    assert (reader.returncode, "at last" in out, "has ended: 1 ok" in told) == (ExitCode.OK, True, True)
    driver.communicate(timeout=600)


def wait_code(here: Path) -> str:
    """A deed of the fake runner: waits until there is a file `go`."""
    code = f"import pathlib, time\nwhile not pathlib.Path({str(here / 'go')!r}).exists(): time.sleep(0.05)"
    return base64.b64encode(code.encode()).decode()


def test_follow_tells_that_nobody_drives_the_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(TWO + f"prompt: python {wait_code(here)}\n")
    driver = run_in_background("submit", "matrix.yaml")
    wait_for("loading")
    driver.kill()
    driver.communicate()
    orchestrate("status", "-o", "json")
    jobs = json.loads(capsys.readouterr().out)["jobs"]
    (waiting,) = [job["job"] for job in jobs if job["phase"] not in ("running", "starting")]
    assert orchestrate("logs", waiting, "-f") == ExitCode.OK
    assert "no process drives its run. fix: orchestrator resume" in capsys.readouterr().err
    assert orchestrate("logs", waiting) == ExitCode.BAD_INPUT
    assert "add -f to wait for it" in capsys.readouterr().err
    (here / "go").touch()
    assert orchestrate("resume") == ExitCode.OK


def test_a_job_collected_between_two_looks_is_followed_from_its_kept_log(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [SimpleNamespace(job=JOB, is_settled=done, is_at_work=not done, attempt=1) for done in (False, True, True)]
    monkeypatch.setattr(joblog, "_jobs", lambda run: (looks.pop(0),))
    monkeypatch.setattr(joblog, "_on_host", lambda *args, **options: iter(()))
    monkeypatch.setattr(joblog, "_kept", lambda *args: ["first", "last"])
    monkeypatch.setattr(joblog, "_ending", lambda *args: "")
    monkeypatch.setattr(joblog, "LOOK_EVERY_S", 0.0)
    assert list(joblog.lines(None, JOB, follow=True)) == ["first", "last"]  # type: ignore[arg-type]


@pytest.mark.parametrize(("attempt", "wanted"), [(1, ["first", "last"]), (2, ["first", "of 2: first", "of 2: last"])])
def test_what_a_cut_follower_has_not_shown_comes_from_the_kept_log(
    monkeypatch: pytest.MonkeyPatch, attempt: int, wanted: list[str]
) -> None:
    """The job ends, or its next attempt, before its host answers again."""
    seen = [
        SimpleNamespace(job=JOB, is_settled=done, is_at_work=not done, attempt=attempt if done else 1)
        for done in (False, False, True)
    ]

    def on_host(*args: object, **options: object) -> Iterator[str]:
        yield "first"
        raise HostUnreachable("host lab: its API server did not answer")

    kept = {1: ["first", "last"], 2: ["of 2: first", "of 2: last"]}
    monkeypatch.setattr(joblog, "_jobs", lambda run: (seen.pop(0),))
    monkeypatch.setattr(joblog, "_on_host", on_host)
    monkeypatch.setattr(joblog, "_kept", lambda run, job, number: kept[number])
    monkeypatch.setattr(joblog, "_ending", lambda *args: "")
    monkeypatch.setattr(joblog, "LOOK_EVERY_S", 0.0)
    assert list(joblog.lines(SimpleNamespace(is_driven=True), JOB, follow=True)) == wanted  # type: ignore[arg-type]


def test_ctrl_c_ends_a_follower_without_a_word(here: Path) -> None:
    write("matrix: {engine: [eager]}\n" + f"prompt: say begun; python {wait_code(here)}\n")
    driver = run_in_background("submit", "matrix.yaml")
    wait_for("begun")
    reader = run_in_background("logs", "-f")
    read_until(reader.stdout, "begun")
    reader.send_signal(signal.SIGINT)
    _, told = reader.communicate(timeout=600)
    assert (reader.returncode, told) == (130, "")
    (here / "go").touch()
    driver.communicate(timeout=600)


def test_a_follower_goes_on_where_it_was_once_a_silent_host_answers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [
        SimpleNamespace(job=JOB, is_settled=done, is_at_work=not done, attempt=1)
        for done in (False, False, False, True, True)
    ]
    reads: list[list[str]] = [["first"], ["first", "last"]]

    def on_host(*args: object, **options: object) -> Iterator[str]:
        yield from reads.pop(0)
        if reads:
            raise HostUnreachable("host lab: its API server did not answer")

    monkeypatch.setattr(joblog, "_jobs", lambda run: (looks.pop(0),))
    monkeypatch.setattr(joblog, "_on_host", on_host)
    monkeypatch.setattr(joblog, "_kept", lambda *args: ["first", "last"])
    monkeypatch.setattr(joblog, "_ending", lambda *args: "it has ended")
    monkeypatch.setattr(joblog, "LOOK_EVERY_S", 0.0)
    said: list[str] = []
    lines = joblog.lines(SimpleNamespace(is_driven=True), JOB, follow=True, say=said.append)  # type: ignore[arg-type]
    assert list(lines) == ["first", "last"]
    assert said == [
        "host lab: its API server did not answer; retrying",
        f"host {JOB.host} answers again",
        "it has ended",
    ]
