"""The commands as a user types them, on this machine's processes, with a runner that measures nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from builders import a_job
from commands import PROGRAM, end_running_job, orchestrate, run_in_background, until, wait_for, write
from paths import DATA

import sd_orchestrator
from orchestrator.commands import driving, outcome, root
from orchestrator.errors import ExitCode
from orchestrator.runs.folder import Run
from orchestrator.runs.job_state import Entry, Kind
from orchestrator.runs.journal import Journal
from orchestrator.runs.rows import read_rows
from orchestrator.scheduling import limits
from runner.schema import Status

PUBLISHED = DATA / "lambda-benchmark.csv"
MATRIX = "name: demo\nmatrix: {engine: [eager, onnxruntime], samples: [1, 2]}\nprompt: say hello\nrepeats: 6\n"


def test_until_adds_rounds_until_the_values_are_known(here: Path) -> None:
    matrix = "name: demo\nmatrix: {samples: [1, 2]}\nprompt: rows\nrounds: 1\nuntil: {rel_ci: 0.05, max_repeats: 6}\n"
    assert orchestrate("submit", write(matrix + "repeats: 6\n")) == ExitCode.OK
    (run,) = (here / "runs").iterdir()
    rows = read_rows(run / "results.csv")  # of the fake runner all calls take as long: two rounds are enough
    assert sorted((row.n_samples, row.round) for row in rows) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_a_matrix_becomes_a_table_and_a_run_that_holds_all_of_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orchestrate("submit", write(MATRIX)) == ExitCode.OK
    printed = capsys.readouterr()
    (run,) = (here / "runs").iterdir()
    rows = read_rows(run / "results.csv")
    assert [(row.engine, row.n_samples, row.status) for row in rows] == [
        (engine, samples, Status.OK) for engine in ("eager", "onnxruntime") for samples in (1, 2)
    ]
    assert "onnxruntime" in printed.out
    assert f"Run: runs/{run.name}" in printed.err
    assert {path.name for path in run.iterdir()} >= {"matrix.yaml", "hosts.yaml", "journal.db", "comparison.md", "jobs"}
    for row in rows:
        folder = run / "jobs" / str(row.job)
        assert {path.name for path in folder.iterdir()} >= {"results.csv", "log.txt", "attempts"}
        assert "hello" in (folder / "log.txt").read_text()


def test_a_run_of_too_many_rows_ends_with_their_counts_and_no_table(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (driving, outcome):
        monkeypatch.setattr(module, "MOST_ROWS_COMPARED", 1)
    assert orchestrate("submit", write("name: demo\nmatrix: {samples: [1, 2]}\n")) == ExitCode.OK
    printed = capsys.readouterr()
    (run,) = (here / "runs").iterdir()
    assert printed.out == ""
    assert f"2 rows: 2 ok. Too many to compare at once; fix: orchestrator results {run.name}\n" in printed.err
    assert not (run / "comparison.md").exists()
    assert len(read_rows(run / "results.csv")) == 2


def test_what_init_writes_can_be_planned_as_it_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("init") == ExitCode.OK
    assert orchestrate("plan", "matrix.yaml", "-o", "json") == ExitCode.OK
    plan = json.loads(capsys.readouterr().out.partition("matrix.yaml")[2])
    assert {line["host"] for line in plan["lines"]} == {"local"}
    assert not (here / "runs").exists(), "plan runs nothing"


def test_every_format_shows_the_same_cases(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orchestrate("submit", write(MATRIX))
    capsys.readouterr()
    printed = {}
    for shape in ("table", "csv", "json", "md"):
        assert orchestrate("results", "-o", shape) == ExitCode.OK
        printed[shape] = capsys.readouterr().out
    assert len(json.loads(printed["json"])["cases"]) == 4
    assert all(text.count("onnxruntime") >= 2 for text in printed.values())


def test_a_case_that_fails_is_a_row_with_its_reason_and_exit_code_1(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orchestrate("submit", write("matrix: {samples: [1]}\nprompt: no rows; exit 3\n")) == ExitCode.SOME_FAILED
    printed = capsys.readouterr()
    assert "exited with 3" in printed.out
    (row,) = read_rows(next((here / "runs").iterdir()) / "results.csv")
    assert row.status is Status.FAILED


def test_status_and_logs_tell_of_a_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orchestrate("submit", write("matrix: {engine: [eager]}\nprompt: say well done\n"))
    capsys.readouterr()
    assert orchestrate("status", "-o", "json") == ExitCode.OK
    status = json.loads(capsys.readouterr().out)
    (job,) = status["jobs"]
    assert (status["hosts"], job["phase"], job["attempts"]) == ({"local": {"ok": 1}}, "settled", 1)
    assert orchestrate("logs", status["run"], job["job"][:6]) == ExitCode.OK
    assert "well done" in capsys.readouterr().out


def test_the_overrides_of_a_submission_are_kept_with_it(here: Path) -> None:
    assert (
        orchestrate("submit", write(MATRIX), "--set", "engine=eager", "--set", "samples=4", "--name", "quick")
        == ExitCode.OK
    )
    (run,) = (here / "runs").iterdir()
    assert run.name.endswith("-quick")
    assert [row.n_samples for row in read_rows(run / "results.csv")] == [4]
    assert "# submitted with --set samples=4" in (run / "matrix.yaml").read_text()


BAD_INPUT = {
    "an unknown key": ({"matrix.yaml": "engin: eager\n"}, ["submit", "matrix.yaml"], "did you mean 'engine'"),
    "an unknown engine": ({"matrix.yaml": "engine: onxx\n"}, ["submit", "matrix.yaml"], "did you mean 'onnxruntime'"),
    "a missing file": ({}, ["submit", "matrix.yaml"], "matrix.yaml"),
    "a YAML syntax error": ({"matrix.yaml": "matrix: [\n"}, ["submit", "matrix.yaml"], "matrix.yaml:2"),
    "no samples": ({"matrix.yaml": "samples: [0]\n"}, ["submit", "matrix.yaml"], "matrix.yaml:1"),
    "an unknown host": (
        {"matrix.yaml": "matrix: {engine: [eager]}\n"},
        ["submit", "matrix.yaml", "--hosts", "nowhere"],
        "nowhere",
    ),
    "two hosts of one name": (
        {
            "matrix.yaml": "matrix: {engine: [eager]}\n",
            "hosts.yaml": "hosts:\n  a: {kind: process}\n  a: {kind: docker}\n",
        },
        ["submit", "matrix.yaml"],
        "hosts.yaml:3",
    ),
    "a cyclic matrix": ({"matrix.yaml": "matrix: &m {engine: [*m]}\n"}, ["submit", "matrix.yaml"], "matrix.yaml:1"),
    "an empty matrix": ({"matrix.yaml": "matrix: {engine: []}\n"}, ["submit", "matrix.yaml"], "matrix.yaml:1"),
    "exclude that excludes all": (
        {"matrix.yaml": "matrix: {engine: [eager]}\nexclude: [{engine: eager}]\n"},
        ["submit", "matrix.yaml"],
        "exclude",
    ),
    "a context that is not there": (
        {"matrix.yaml": "matrix: {engine: [eager]}\n", "hosts.yaml": "hosts: {a: {kind: docker, context: typo}}\n"},
        ["submit", "matrix.yaml"],
        "typo",
    ),
    "a key that is not there": (
        {
            "matrix.yaml": "matrix: {engine: [eager]}\n",
            "hosts.yaml": "hosts: {a: {kind: docker, url: 'tcp://10.0.0.1:2376', tls: {ca: x, cert: y, key: z}}}\n",
        },
        ["submit", "matrix.yaml"],
        "host a",
    ),
    "an empty list of hosts": (
        {"matrix.yaml": "matrix: {engine: [eager]}\n"},
        ["submit", "matrix.yaml", "--hosts", ""],
        "names no host",
    ),
    "an empty name": ({"matrix.yaml": "matrix: {engine: [eager]}\n"}, ["submit", "matrix.yaml", "--name", ""], "name"),
    "a folder of wheels that is not there": (
        {"matrix.yaml": "matrix: {engine: [eager]}\n"},
        ["submit", "matrix.yaml", "--wheels", "nowhere"],
        "nowhere",
    ),
    "no runs yet": ({}, ["results"], "no runs yet"),
    "a bad duration": (
        {"matrix.yaml": "matrix: {engine: [eager]}\n"},
        ["submit", "matrix.yaml", "--lost-after", "soon"],
        "is not a duration",
    ),
    "an output format that is not there": ({}, ["results", "-o", "xml"], "'-o': 'xml' is not one of 'table', 'csv'"),
    "a shape that a group does not have": ({}, ["runs", "-o", "xml"], "'-o': 'xml' is not one of 'table', 'json'"),
    "a metric that is not there": ({}, ["results", "--metric", "speed"], "'--metric': 'speed' is not one of"),
    "a metric of several cases on the page": (
        {},
        ["report", "--metric", "largest-batch"],
        "the page one per case; fix: orchestrator results --metric largest-batch",
    ),
    "a misspelt metric": ({}, ["results", "--metric", "latancy"], "'latancy' is unknown; did you mean 'latency'?"),
    "a count that is no number": ({}, ["logs", "--tail", "x"], "'--tail': expected a whole number, got 'x'"),
    "a count below zero": ({}, ["logs", "--tail", "-1"], "'--tail': expected at least 0, got '-1'"),
}


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_is_one_message_and_exit_code_2_before_anything_ran(
    here: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    files, words, told = BAD_INPUT[what]
    for name, text in files.items():
        write(text, name)
    assert orchestrate(*words) == ExitCode.BAD_INPUT
    printed = capsys.readouterr()
    assert told in printed.err
    assert "Traceback" not in printed.err
    assert "Value error" not in printed.err
    assert printed.out == ""
    assert not (here / "runs").exists()


def test_all_errors_of_a_file_come_together(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write("engine: onxx\nsteps: -1\nmatrix: {samples: [0]}\nreapeats: 3\n")
    assert orchestrate("submit", "matrix.yaml") == ExitCode.BAD_INPUT
    assert capsys.readouterr().err.count("error: matrix.yaml:") == 4


def test_ctrl_c_leaves_the_jobs_running_and_resume_brings_them_home(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write('matrix: {prompt: ["rows; say running; sleep 600", "say next"]}\n')
    orchestrator = run_in_background("submit", "matrix.yaml")
    wait_for("running")
    orchestrator.send_signal(signal.SIGINT)
    _, said = orchestrator.communicate(timeout=600)
    assert orchestrator.returncode == ExitCode.INTERRUPTED
    assert "orchestrator resume" in said
    assert "No rows" not in said, "a table of nothing says nothing"
    capsys.readouterr()
    orchestrate("status")
    assert "running" in capsys.readouterr().out.split("job ")[1], "started, and its end is not known"
    end_running_job()
    assert orchestrate("resume") == ExitCode.OK
    (run,) = (here / "runs").iterdir()
    assert [row.status for row in read_rows(run / "results.csv")] == [Status.OK, Status.OK]
    capsys.readouterr()
    orchestrate("status", "-o", "json")
    assert [job["attempts"] for job in json.loads(capsys.readouterr().out)["jobs"]] == [1, 1]


def test_an_orchestrator_that_was_killed_is_resumed_without_loss(here: Path) -> None:
    write('matrix: {prompt: ["rows; say running; sleep 600", "say next"]}\n')
    orchestrator = run_in_background("submit", "matrix.yaml")
    wait_for("running")
    orchestrator.kill()
    orchestrator.communicate()
    end_running_job()
    assert orchestrate("resume") == ExitCode.OK
    (run,) = (here / "runs").iterdir()
    assert [row.status for row in read_rows(run / "results.csv")] == [Status.OK, Status.OK]


def test_status_says_who_drives_a_run_and_after_a_kill_that_nobody_does(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("matrix: {engine: [eager]}\nprompt: say running; sleep 600\n")
    orchestrator = run_in_background("submit", "matrix.yaml")
    wait_for("running")
    orchestrate("status")
    assert f"Driven by process {orchestrator.pid}; " in capsys.readouterr().out
    second = run_in_background("submit", "matrix.yaml", "--name", "second")
    (first,) = [run for run in (here / "runs").iterdir() if not run.name.endswith("second")]

    def reason() -> str:
        capsys.readouterr()
        orchestrate("status", "second", "-o", "json")
        (job,) = json.loads(capsys.readouterr().out or '{"jobs": [{}]}')["jobs"]
        return str(job.get("waiting_for"))

    until(lambda: f"held by run {first.name}, job " in reason(), 240, "nothing says what the second run waits for")
    orchestrate("status", "second")
    assert "since " in capsys.readouterr().out
    for process in (orchestrator, second):
        process.kill()
        process.communicate()
    orchestrate("status", first.name)
    said = capsys.readouterr().out
    assert "No process drives it; " in said
    assert f"orchestrator resume {first.name}" in said
    orchestrate("status", first.name, "-o", "json")
    value = json.loads(capsys.readouterr().out)
    assert value["driven_by"] is None
    assert value["elapsed_s"] > 0
    end_running_job()


def test_what_is_gone_or_damaged_in_a_runs_folder_is_made_again_by_resume(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("matrix: {engine: [eager, onnxruntime]}\n")
    assert orchestrate("submit", "matrix.yaml") == ExitCode.OK
    (run,) = (here / "runs").iterdir()
    (run / "results.csv").write_text("garbage\n")
    assert orchestrate("resume") == ExitCode.OK
    next(run.glob("jobs/*/results.csv")).unlink()
    assert orchestrate("resume") == ExitCode.OK
    assert [row.status for row in read_rows(run / "results.csv")] == [Status.OK, Status.OK]
    capsys.readouterr()
    orchestrate("status", "-o", "json")
    assert sorted(job["attempts"] for job in json.loads(capsys.readouterr().out)["jobs"]) == [1, 2]


def test_a_damaged_earlier_run_keeps_no_new_one_from_starting(here: Path) -> None:
    write("matrix: {engine: [eager]}\n")
    assert orchestrate("submit", "matrix.yaml") == ExitCode.OK
    (run,) = (here / "runs").iterdir()
    (run / "results.csv").write_text("garbage\n")
    assert orchestrate("plan", "matrix.yaml") == ExitCode.OK


def test_cancel_ends_the_jobs_of_a_host_that_does_not_answer(here: Path) -> None:
    name = "20260101-000000-sd"
    run = Run(here / "runs" / name)
    run.path.mkdir(parents=True)
    run.hosts.write_text("hosts:\n  dead: {kind: docker, url: 'unix:///nowhere/docker.sock', gpus: none}\n")
    run.matrix.write_text("")
    job = a_job(samples=(1,), run=name, id="a", host="dead")
    Journal.create(run.journal, name, [job], {"retries": 2, "lost_after_s": 900.0}).close()
    assert orchestrate("resume") == ExitCode.INTERRUPTED
    assert orchestrate("cancel", name) == ExitCode.SOME_FAILED
    (row,) = run.all_rows()
    assert (row.status, "engine's socket does not exist" in str(row.error)) == (Status.CANCELLED, True)


def test_resume_ends_only_the_cancelled_jobs_of_a_silent_host(here: Path) -> None:
    name = "20260101-000000-sd"
    run = Run(here / "runs" / name)
    run.path.mkdir(parents=True)
    run.hosts.write_text(f"hosts:\n  {DEAD}\n")
    run.matrix.write_text("")
    jobs = [a_job(samples=(1,), run=name, id=each, host="dead") for each in ("a", "b")]
    with closing(Journal.create(run.journal, name, jobs, {"retries": 2, "lost_after_s": 900.0})) as journal:
        journal.record(Entry(1.0, Kind.CANCEL, "a"))
    assert orchestrate("resume") == ExitCode.INTERRUPTED
    (row,) = run.all_rows()
    assert (row.job, row.status) == ("a", Status.CANCELLED)
    assert str(row.error).startswith("given up while its host did not answer: ")
    with closing(Journal.open(run.journal)) as journal:
        assert [state.is_settled for state in journal.states()] == [True, False]


DEAD = "dead: {kind: docker, url: 'unix:///nowhere/docker.sock', gpus: none}"


def test_where_no_host_is_usable_nothing_starts_and_no_run_is_made(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(f"hosts:\n  {DEAD}\n", "hosts.yaml")
    assert orchestrate("submit", write("matrix: {engine: [eager]}\n")) == ExitCode.BAD_INPUT
    said = capsys.readouterr().err
    assert "host dead: the engine's socket does not exist" in said
    assert "start Docker" in said
    assert "no run was made" in said
    assert not list(here.glob("runs/*"))


def test_a_host_that_is_silent_at_submit_costs_the_others_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(f"hosts:\n  {DEAD}\n  local: {{kind: process}}\n", "hosts.yaml")
    submit = ("submit", write("matrix: {engine: [eager]}\n"), "--lost-after", "1s")
    assert orchestrate(*submit) == ExitCode.SOME_FAILED
    (run,) = (here / "runs").iterdir()
    assert {row.host: row.status for row in Run(run).all_rows()} == {"dead": Status.LOST, "local": Status.OK}
    assert f"orchestrator resume {run.name} --retry-lost" in capsys.readouterr().err
    for command in ("status", "results"):
        orchestrate(command, run.name)
        assert f"orchestrator resume {run.name} --retry-lost" in "".join(capsys.readouterr())


def test_lost_cases_are_tried_again_only_when_asked_and_keep_their_rows(here: Path) -> None:
    write(f"hosts:\n  {DEAD}\n  local: {{kind: process}}\n", "hosts.yaml")
    submit = ("submit", write("matrix: {engine: [eager]}\n"), "--lost-after", "1s")
    assert orchestrate(*submit) == ExitCode.SOME_FAILED
    (folder,) = (here / "runs").iterdir()
    assert orchestrate("resume") == ExitCode.SOME_FAILED
    assert orchestrate("resume", "--retry-lost", "--hosts", "dead") == ExitCode.INTERRUPTED
    assert {row.host: row.status for row in Run(folder).all_rows()} == {"dead": Status.LOST, "local": Status.OK}
    assert orchestrate("resume", "--lost-after", "1s") == ExitCode.SOME_FAILED
    assert len(Run(folder).all_rows()) == 2


def test_under_nohup_a_closed_terminal_ends_nothing(here: Path) -> None:
    write("matrix: {engine: [eager]}\nprompt: say running; sleep 5\n")
    command = ["nohup", sys.executable, PROGRAM, "submit", "matrix.yaml"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as orchestrator:
        wait_for("running")
        orchestrator.send_signal(signal.SIGHUP)
        assert orchestrator.wait(120) == ExitCode.OK


@pytest.mark.live
def test_two_runs_on_one_machine_never_share_a_gpu_however_they_group_them(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_GPUS", "2")
    write(
        "hosts:\n  singly: {kind: process, gpus: all}\n"
        "  both: {kind: process, gpus: [GPU-1, GPU-0], gpus_per_job: 2}\n",
        "hosts.yaml",
    )
    write(f"prompt: occupy {here}; rows\nmatrix: {{engine: [eager, compile, graph], precision: [single, half]}}\n")
    both = [run_in_background("submit", "matrix.yaml", "--hosts", host) for host in ("singly", "both")]
    for orchestrator in both:
        _, said = orchestrator.communicate(timeout=600)
        assert orchestrator.returncode == ExitCode.OK, said
    rows = [row for run in (here / "runs").iterdir() for row in read_rows(run / "results.csv")]
    assert [row.status for row in rows] == [Status.OK] * 12


def test_a_second_orchestrator_on_a_run_says_who_has_it(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("matrix: {engine: [eager]}\nprompt: no rows; say running; hang\n")
    first = run_in_background("submit", "matrix.yaml")
    wait_for("running")
    assert orchestrate("resume") == ExitCode.BAD_INPUT
    assert f"process {first.pid}" in capsys.readouterr().err
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=600)
    monkeypatch.setattr(limits, "STOP_GRACE_S", 0.5)
    assert orchestrate("cancel", next((here / "runs").iterdir()).name) == ExitCode.SOME_FAILED
    assert "cancelled" in capsys.readouterr().out


def test_published_results_stand_beside_ones_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("import", str(PUBLISHED), "--name", "lambda") == ExitCode.OK
    assert orchestrate("submit", write("matrix: {samples: [1, 2]}\n"), "--name", "mine") == ExitCode.OK
    capsys.readouterr()
    assert orchestrate("results", "lambda", "mine", "-o", "csv") == ExitCode.OK
    table = capsys.readouterr().out
    assert "NVIDIA A10" in table
    assert "local" in table


def test_an_imported_run_is_never_mistaken_for_one_that_can_go_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert orchestrate("submit", write("matrix: {engine: [eager]}\n"), "--name", "a-mine") == ExitCode.OK
    assert orchestrate("import", str(PUBLISHED), "--name", "z-lambda") == ExitCode.OK
    capsys.readouterr()
    assert orchestrate("status") == ExitCode.OK
    assert "a-mine" in capsys.readouterr().out
    assert orchestrate("resume", "lambda") == ExitCode.BAD_INPUT
    assert "has no journal" in capsys.readouterr().err


def test_a_part_of_a_runs_name_is_enough_where_it_is_one_runs_alone(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("lambda-2022", "lambda-2023"):
        assert orchestrate("import", str(PUBLISHED), "--name", name) == ExitCode.OK
    assert orchestrate("results", "bda-2022", "-o", "csv") == ExitCode.OK
    capsys.readouterr()
    assert orchestrate("results", "lambda") == ExitCode.BAD_INPUT
    assert "several runs fit 'lambda'" in capsys.readouterr().err


def test_where_nobody_draws_a_terminal_a_table_is_not_folded_to_80_columns() -> None:
    command = [
        sys.executable,
        "-c",
        "from orchestrator.terminal.console import console; console().print('x' * 80, 'y' * 70)",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    said = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    assert said.splitlines() == ["x" * 80 + " " + "y" * 70]


def test_a_file_of_any_name_makes_a_run_and_a_name_of_ones_own_is_judged(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = here / "my file (1).csv"
    odd.write_bytes(PUBLISHED.read_bytes())
    assert orchestrate("import", str(odd)) == ExitCode.OK
    assert [run.name for run in Path("runs").glob("*-my-file-1")]
    assert orchestrate("import", str(odd), "--name", "a b") == ExitCode.BAD_INPUT
    assert "--name 'a b': name must be 1 to 63 letters" in capsys.readouterr().err
    assert orchestrate("status") == ExitCode.BAD_INPUT
    assert "no runs of your own yet" in capsys.readouterr().err


def test_an_import_names_the_columns_that_it_took_as_settings(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("device,n_samples,latency,size,gpu_load\nA,1,2,512,97\nA,1,3,768,99\n", "sizes.csv")
    assert orchestrate("import", file) == ExitCode.OK
    assert "Taken as settings: 'size', 'gpu_load'" in capsys.readouterr().err
    assert orchestrate("import", file, "--ignore", "gpu_*", "--ignore", "size") == ExitCode.OK
    assert "Taken" not in capsys.readouterr().err


def test_an_import_that_means_nothing_is_one_message(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("import", write("a,b\n1,2\n", "odd.csv")) == ExitCode.BAD_INPUT
    assert "odd.csv:1" in capsys.readouterr().err
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("none.csv", "No such file or directory"),
        ("odd.csv", "not UTF-8 text"),
        ("big.csv", "larger than 32 MiB"),
        ("fifo.csv", "not a regular file"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_once(
    here: Path, capsys: pytest.CaptureFixture[str], file: str, told: str
) -> None:
    Path("odd.csv").write_bytes(b"device\xff\n")
    Path("big.csv").touch()
    os.truncate("big.csv", 10**10)
    os.mkfifo("fifo.csv")
    assert orchestrate("import", file) == ExitCode.BAD_INPUT
    printed = capsys.readouterr().err
    assert told in printed
    assert printed.count(file) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a file that is always full")
@pytest.mark.parametrize("shape", ["table", "csv"])
def test_a_full_disk_behind_the_table_is_one_message(here: Path, shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    orchestrate("submit", write("matrix: {engine: [eager]}\n"))
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, PROGRAM, "results", "-o", shape]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == ExitCode.BAD_INPUT
    assert ended.stderr == "error: standard output: No space left on device\n"


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["hosts", "-o", "json"]])
def test_a_reader_that_has_gone_is_no_error_message(here: Path, words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([sys.executable, PROGRAM, *words], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (ExitCode.SOME_FAILED, "")


def test_ctrl_c_while_a_command_is_imported_prints_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.cli.main", interrupted)
    with pytest.raises(SystemExit) as ended:
        sd_orchestrator.main()
    assert ended.value.code == ExitCode.ABORTED


def test_plan_prints_no_specs_where_no_job_runs_in_a_container(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write("matrix: {engine: [eager]}\n")
    assert orchestrate("plan", file, "--containers") == ExitCode.BAD_INPUT
    assert "no job runs in one; hosts: local" in capsys.readouterr().err


COMPLETION = {"_ORCHESTRATOR_COMPLETE": "complete_bash", "COMP_WORDS": "orchestrator su", "COMP_CWORD": "1"}


def test_version_is_the_installed_packages(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate("--version") == ExitCode.OK
    assert capsys.readouterr().out == f"orchestrator {version('sd-orchestrator')}\n"


def all_commands(group: Any = None, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every command and group of the program by its words."""
    group = group or root.program()
    found = {path: group}
    for name in group.list_commands(None) if hasattr(group, "list_commands") else ():
        found |= all_commands(group.get_command(None, name), (*path, name))
    return found


@pytest.mark.parametrize("words", all_commands(), ids=lambda words: " ".join(words) or "orchestrator")
def test_every_command_answers_h_and_help_alike(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    printed = []
    for flag in ("-h", "--help"):
        assert orchestrate(*words, flag) == ExitCode.OK
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert printed[0].startswith("Usage: ")


def test_as_a_module_it_imports_nothing_from_the_working_folder(here: Path) -> None:
    for name in ("typer", "rich", "queue", "yaml", "pydantic", "platform", "shlex", "readline"):
        write(f"raise SystemExit('took {name}.py of the working folder')\n", f"{name}.py")
    Path("runner").mkdir()
    write("raise SystemExit('took runner/ of the working folder')\n", "runner/__init__.py")
    command = [sys.executable, "-m", "orchestrator", "hosts"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (ExitCode.OK, "")
    assert "this machine" in said.stdout


def complete(line: str) -> list[str]:
    """What the shell is offered at the end of a line."""
    words = line.split(" ")
    environment = {**os.environ, **COMPLETION, "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    command = [
        sys.executable,
        "-c",
        "import sys; sys.argv = ['orchestrator']; from orchestrator.cli import main; main()",
    ]
    return subprocess.run(command, capture_output=True, text=True, env=environment).stdout.split()


def test_a_shell_completes_commands_and_options(here: Path) -> None:
    assert complete("orchestrator su") == ["submit"]
    assert "--lost-after" in complete("orchestrator submit --lo")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_for_the_program_by_its_name(here: Path, shell: str) -> None:
    words = ["orchestrator", "--show-completion", shell]
    code = f"import sys; sys.argv = {words}; from orchestrator.cli import main; main()"
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (said.returncode, "_ORCHESTRATOR_COMPLETE" in said.stdout) == (ExitCode.OK, True), said.stderr
