"""`clean`: what a run left on its hosts goes, and nothing that is still worth something."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from builders import a_job
from commands import end_running_job, orchestrate, run_in_background, wait_for, write
from lying_engine import LyingEngine, as_json, ended_container

from orchestrator.commands.leftovers import Fate, fate
from orchestrator.errors import ExitCode
from orchestrator.executors.contract import Attempt, Observation, State
from orchestrator.hosts.process import processes_folder
from orchestrator.runs.folder import Run
from orchestrator.runs.job_state import JobState, Phase
from orchestrator.runs.journal import Journal

ATTEMPT = Attempt("r", "a", 2)


def job_state(phase: Phase, attempt: int = 2) -> JobState:
    job = a_job(samples=(1,), id="a")
    return JobState(job, phase, attempt)


@pytest.mark.parametrize(
    ("state", "job", "expected"),
    [
        (State.RUNNING, None, Fate.RUNS),
        (State.RUNNING, job_state(Phase.SETTLED), Fate.RUNS),
        (State.EXITED, job_state(Phase.STARTING), Fate.NOT_HOME),
        (State.EXITED, job_state(Phase.STARTING, attempt=3), Fate.REMOVED),
        (State.EXITED, job_state(Phase.SETTLED), Fate.REMOVED),
        (State.EXITED, None, Fate.REMOVED),
        (State.STAGED, job_state(Phase.STAGING), Fate.REMOVED),
        (State.LOST, job_state(Phase.STARTING), Fate.REMOVED),
    ],
)
def test_what_runs_or_has_rows_that_are_not_home_stays(state: State, job: JobState | None, expected: Fate) -> None:
    assert fate(ATTEMPT, Observation(state, "cpu"), job, running=False) is expected


def test_what_runs_ends_where_that_is_asked_for() -> None:
    assert fate(ATTEMPT, Observation(State.RUNNING, "cpu"), None, running=True) is Fate.REMOVED


@pytest.fixture
def killed(here: Path) -> Run:
    """A run whose orchestrator was killed while its job, which has written its rows, runs on."""
    write("matrix: {engine: [eager]}\nprompt: rows; say running; sleep 600\n")
    orchestrator = run_in_background("submit", "matrix.yaml")
    wait_for("running")
    orchestrator.kill()
    orchestrator.communicate()
    (folder,) = (here / "runs").iterdir()
    return Run(folder)


def left() -> list[str]:
    return [path.name for path in processes_folder().glob("orchestrator-*")]


def test_what_still_runs_is_removed_only_when_asked_for(killed: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("clean", killed.name) == ExitCode.SOME_FAILED
    assert "--running" in capsys.readouterr().out
    assert len(left()) == 1
    assert orchestrate("clean", killed.name, "--running", "--dry-run") == ExitCode.OK
    assert len(left()) == 1
    assert orchestrate("clean", killed.name, "--running") == ExitCode.OK
    assert left() == []


def test_rows_that_are_not_home_are_kept_until_resume_has_brought_them(
    killed: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    end_running_job()
    assert orchestrate("clean", killed.name, "--running") == ExitCode.SOME_FAILED
    assert "resume" in capsys.readouterr().out
    assert orchestrate("resume", killed.name) == ExitCode.OK
    assert orchestrate("clean", killed.name) == ExitCode.OK
    assert left() == []
    assert [row.status.value for row in killed.all_rows() if row.status] == ["ok"]


def test_what_a_run_left_whose_folder_is_gone_is_found_and_removed_by_its_name(
    killed: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(killed.path)
    end_running_job()
    assert orchestrate("clean") == ExitCode.OK
    listed = capsys.readouterr().out
    assert killed.name in listed
    assert "not here" in listed
    assert len(left()) == 1
    assert orchestrate("clean", killed.name, "-o", "json") == ExitCode.OK
    (gone,) = json.loads(capsys.readouterr().out)
    assert (gone["run"], gone["fate"]) == (killed.name, "removed")
    assert left() == []
    assert orchestrate("clean") == ExitCode.OK
    assert "Nothing" in capsys.readouterr().out


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[LyingEngine]:
    engine = LyingEngine(tmp_path / "liar.sock")
    yield engine
    engine.close()


def test_a_hosts_listing_removes_nothing_on_another_host(
    killed: Run, liar: LyingEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(Journal.open(killed.journal)) as journal:
        (running,) = [progress.key for progress in journal.states()]
    said_dead = [ended_container(running), ended_container(running._replace(number=7))]
    liar.answers["/containers/json"] = as_json([{**each, "State": "dead"} for each in said_dead])
    write(f"hosts: {{local: {{kind: process}}, liar: {{kind: docker, url: '{liar.url}', gpus: none}}}}\n", "hosts.yaml")
    assert orchestrate("clean", killed.name, "--inventory", "hosts.yaml") == ExitCode.SOME_FAILED
    assert [Path(folder).name for folder in left()] == [running.name]
    end_running_job()


@pytest.mark.parametrize("job", ["/../shop-db", "../../here", "a\0b", "a b", ""])
def test_a_label_that_is_no_name_reaches_no_path_and_no_address(
    killed: Run, liar: LyingEngine, job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    end_running_job()
    liar.answers["/containers/json"] = as_json([ended_container(Attempt(killed.name, job, 1))])
    write(f"hosts: {{local: {{kind: process}}, liar: {{kind: docker, url: '{liar.url}', gpus: none}}}}\n", "hosts.yaml")
    orchestrate("clean", killed.name, "--running", "--inventory", "hosts.yaml")
    orchestrate("clean", "--inventory", "hosts.yaml")
    assert "Traceback" not in capsys.readouterr().err
    assert not [path for path in liar.asked if "shop-db" in path or "here" in path]
    assert killed.path.exists()


def test_a_run_that_is_being_driven_is_not_cleaned(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("matrix: {engine: [eager]}\nprompt: rows; say running; sleep 600\n")
    orchestrator = run_in_background("submit", "matrix.yaml")
    wait_for("running")
    (run,) = (here / "runs").iterdir()
    assert orchestrate("clean", run.name, "--running") == ExitCode.BAD_INPUT
    assert f"process {orchestrator.pid}" in capsys.readouterr().err
    end_running_job()
    _, said = orchestrator.communicate(timeout=600)
    assert orchestrator.returncode == ExitCode.OK, said


def test_a_folder_that_a_kill_left_half_made_is_removed_with_its_run(here: Path) -> None:
    assert orchestrate("submit", write("matrix: {engine: [eager]}\n")) == ExitCode.OK
    run = Run(next((here / "runs").iterdir()))
    journal = Journal.open(run.journal)
    (job,) = journal.states()
    journal.close()
    draft = processes_folder() / f".{job.key.name}.x1y2z3"
    draft.mkdir()
    assert orchestrate("clean", run.name) == ExitCode.OK
    assert not draft.exists()


def test_a_host_that_does_not_answer_is_told_and_is_not_called_clean(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("hosts: {dead: {kind: docker, url: 'unix:///nowhere/docker.sock', gpus: none}}\n", "hosts.yaml")
    for words in (("clean",), ("clean", "20260101-000000-sd")):
        assert orchestrate(*words) == ExitCode.SOME_FAILED
        assert "engine's socket does not exist" in capsys.readouterr().err
