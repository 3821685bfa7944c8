"""What the process executor promises beyond the contract that it shares with the others (test_executor_contract)."""

from __future__ import annotations

import fcntl
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from builders import a_job, a_task
from program import FAKE_RUNNER

from orchestrator import installation
from orchestrator.config import ProcessHost
from orchestrator.errors import HostUnfit, StartError
from orchestrator.executors.contract import Attempt, Observation, Slot, State, Task
from orchestrator.executors.environment import HUB_CACHES, WORK_CACHES
from orchestrator.executors.process import executor as process
from orchestrator.executors.process import machine
from orchestrator.executors.process.executor import LONGEST_LINE, ProcessExecutor
from orchestrator.executors.process.machine import check_paths, find_slots, job_environment
from runner.wire.tokens import TOKEN_VARIABLES

pytestmark = pytest.mark.usefixtures("fake_packages")
HOST = ProcessHost(name="here")
FOLDER = Path("/state/attempt")
ATTEMPT = Attempt("run", "job", 1)


def task(deeds: str) -> Task:
    return a_task(a_job(deeds, (1,), run="run", id="job", model="owner/gated"))


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[ProcessExecutor]:
    made = ProcessExecutor(HOST, tmp_path, FAKE_RUNNER)
    yield made
    for attempt in made.observe():
        made.remove(attempt)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ATTEMPT.name


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_long_line_is_cut_at_the_same_bytes_however_it_grows(
    executor: ProcessExecutor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor.stage(task("rows"))
    parts = [b"a" * 10, b"b" * LONGEST_LINE, b"c" * 10 + b"\n"]
    with (folder / "lock").open("rb") as lock, (folder / "log.txt").open("ab", buffering=0) as log:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "started").touch()
        steps = iter([*(partial(log.write, part) for part in parts), partial((folder / "exit").write_text, "0")])
        monkeypatch.setattr(time, "sleep", lambda _: next(steps)())
        followed = list(executor.log(ATTEMPT, follow=True))
    assert followed == list(executor.log(ATTEMPT)) == ["a" * 10 + "b" * (LONGEST_LINE - 10), "b" * 10 + "c" * 10]


def begin(executor: ProcessExecutor, deeds: str = "", token: str | None = None) -> None:
    """Returns once the process has said that it is there."""
    executor.stage(task(deeds))
    executor.start(ATTEMPT, token)
    until(lambda: (executor.state_dir / ATTEMPT.name / "log.txt").read_bytes())


def start(executor: ProcessExecutor, deeds: str, token: str | None = None) -> psutil.Process:
    """The runner's process; its deeds must let it live until it is looked at."""
    begin(executor, deeds, token)
    return psutil.Process(int((executor.state_dir / ATTEMPT.name / "pid").read_text()))


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def script(executor: ProcessExecutor, code: str) -> ProcessExecutor:
    return ProcessExecutor(HOST, executor.state_dir, (sys.executable, "-c", code))


def seen(executor: ProcessExecutor) -> Observation:
    return executor.observe()[ATTEMPT]


def test_a_token_is_in_no_file_argument_or_environment(
    executor: ProcessExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TOKEN_VARIABLES:
        monkeypatch.setenv(name, "hf_secret")
    process = start(executor, "token; say done; hang", "hf_secret")
    until(lambda: "done" in list(executor.log(ATTEMPT)))
    for one in [process, *process.parents()[:1], *process.children(recursive=True)]:
        assert "hf_secret" not in " ".join(one.cmdline())
        assert "hf_secret" not in str(one.environ())
    assert all(b"hf_secret" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_process_outlives_the_orchestrator_and_its_exit_code_is_kept(
    executor: ProcessExecutor, tmp_path: Path
) -> None:
    executor.stage(task("wait; exit 7"))
    starter = (
        "from pathlib import Path\nimport os, sys\n"
        "from orchestrator.executors.contract import Attempt\n"
        "from orchestrator.executors.process.executor import ProcessExecutor\n"
        "from orchestrator.config import ProcessHost\n"
        "ProcessExecutor(ProcessHost(name='here'), Path(sys.argv[1]), sys.argv[2:]).start(Attempt('run', 'job', 1))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", starter, str(tmp_path), *FAKE_RUNNER], check=False)
    assert done.returncode == -signal.SIGKILL
    assert seen(executor).state is State.RUNNING
    (tmp_path / ATTEMPT.name / "go").touch()
    until(lambda: seen(executor).state is State.EXITED)
    assert seen(executor).exit_code == 7


@pytest.mark.parametrize("before", [None, 0o755])
def test_the_jobs_folder_is_closed_to_other_users(tmp_path: Path, before: int | None) -> None:
    state = tmp_path / "state"
    if before is not None:
        state.mkdir(mode=before)
    made = ProcessExecutor(ProcessHost(name="here"), state)
    made.stage(task(""))
    assert state.stat().st_mode & 0o777 == 0o700
    assert list(made.observe()) == [ATTEMPT]


def test_a_process_that_a_signal_ended_has_a_shells_exit_code(executor: ProcessExecutor) -> None:
    process = start(executor, "say here; sleep 60")
    process.kill()
    until(lambda: seen(executor).state is State.EXITED)
    assert seen(executor).exit_code == 128 + signal.SIGKILL


@pytest.mark.parametrize("is_done", [False, True])
def test_what_is_removed_while_it_is_looked_at_is_gone(
    executor: ProcessExecutor, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    executor.stage(task("exit 3"))
    if is_done:
        executor.start(ATTEMPT)
        until(lambda: seen(executor).state is State.EXITED)
    look = process._observation

    def removed_meanwhile(*about: Any) -> Observation:
        executor.remove(ATTEMPT)
        return look(*about)

    monkeypatch.setattr(process, "_observation", removed_meanwhile)
    assert executor.observe() == {}


def test_what_vanished_with_its_shim_has_exited_and_nobody_knows_how(executor: ProcessExecutor) -> None:
    process = start(executor, "hang")
    shim = process.parent()
    assert shim is not None
    shim.kill()
    process.kill()
    until(lambda: seen(executor).state is State.EXITED)
    assert seen(executor).exit_code is None
    assert "vanished" in seen(executor).reason
    executor.start(ATTEMPT)
    assert seen(executor).state is State.EXITED


def test_a_process_without_its_shim_still_runs_and_can_be_stopped(executor: ProcessExecutor) -> None:
    process = start(executor, "hang")
    shim = process.parent()
    assert shim is not None
    shim.kill()
    until(lambda: not is_alive(shim.pid))
    assert seen(executor).state is State.RUNNING
    executor.stop(ATTEMPT, grace_s=0.1)
    assert seen(executor).state is State.EXITED


def test_a_shim_that_is_asked_to_end_stays_until_its_process_has(executor: ProcessExecutor, folder: Path) -> None:
    process = start(executor, "say here; wait; exit 5")
    shim = process.parent()
    assert shim is not None
    shim.terminate()
    assert seen(executor).state is State.RUNNING
    (folder / "go").touch()
    until(lambda: seen(executor).state is State.EXITED)
    assert seen(executor).exit_code == 5


def test_a_recycled_process_id_is_never_signalled(
    executor: ProcessExecutor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.executors.process.executor.KILL_TIMEOUT_S", 0.1)
    start(executor, "hang")
    real = (folder / "pid").read_text()
    with subprocess.Popen(["sleep", "60"]) as bystander:
        (folder / "pid").write_text(str(bystander.pid))
        executor.stop(ATTEMPT, grace_s=0)
        assert bystander.poll() is None
        bystander.kill()
    (folder / "pid").write_text(real)


def test_what_a_killed_process_started_ends_with_it(executor: ProcessExecutor, tmp_path: Path) -> None:
    """Even in a session of its own, as the runner's children are, and deaf to TERM."""
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    begin(script(executor, code))
    child = int(next(executor.log(ATTEMPT)))
    executor.stop(ATTEMPT, grace_s=0.2)
    assert seen(executor).exit_code == 137
    until(lambda: not is_alive(child))


def test_what_a_process_leaves_in_its_group_ends_with_it(executor: ProcessExecutor) -> None:
    code = (
        "import subprocess, sys\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True)\n"
    )
    begin(script(executor, code))
    child = int(next(executor.log(ATTEMPT, follow=True)))
    until(lambda: seen(executor).state is State.EXITED)
    assert seen(executor).exit_code == 0
    until(lambda: not is_alive(child))


def test_a_runner_that_cannot_be_executed_is_a_start_error_and_stays_staged(executor: ProcessExecutor) -> None:
    executor.stage(task(""))
    with pytest.raises(StartError, match="nowhere/python"):
        ProcessExecutor(HOST, executor.state_dir, ("/nowhere/python",)).start(ATTEMPT)
    assert seen(executor).state is State.STAGED
    executor.start(ATTEMPT)
    until(lambda: seen(executor).state is State.EXITED)
    assert seen(executor).exit_code == 0


def test_a_start_that_was_interrupted_before_the_process_is_not_tried_again(
    executor: ProcessExecutor, folder: Path
) -> None:
    executor.stage(task(""))
    (folder / "started").touch()
    assert seen(executor) == Observation(
        State.EXITED, "cpu", reason="it vanished: killed together with its shim, or the machine went down"
    )


def test_staging_that_was_interrupted_is_no_attempt_and_is_removed_with_it(
    executor: ProcessExecutor, tmp_path: Path
) -> None:
    (tmp_path / f".{ATTEMPT.name}.x1y2").mkdir()
    assert executor.observe() == {}
    executor.stage(task(""))
    executor.remove(ATTEMPT)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_start_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="cannot be made"):
        ProcessExecutor(HOST, tmp_path / "file" / "processes", FAKE_RUNNER).stage(task(""))


def test_a_job_that_is_followed_before_it_has_said_anything_is_heard(executor: ProcessExecutor, folder: Path) -> None:
    """Its shim opens the log after it holds the lock: between the two it runs, and has no log of its own yet."""
    executor.stage(task("say hello"))
    (folder / "started").touch()
    with (folder / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = executor.log(ATTEMPT, follow=True)
        threading.Timer(0.2, lambda: (folder / "log.txt").write_text("hello\n")).start()
        assert next(lines) == "hello"


def test_a_log_without_newlines_comes_in_pieces(executor: ProcessExecutor) -> None:
    executor.stage(task("chat 200000"))
    executor.start(ATTEMPT)
    lines = list(executor.log(ATTEMPT, follow=True))
    assert max(map(len, lines)) <= 64 * 1024
    assert sum(map(len, lines)) >= 200_000


def test_a_log_that_is_not_utf_8_is_read_all_the_same(executor: ProcessExecutor) -> None:
    begin(script(executor, "import sys; sys.stdout.buffer.write(b'\\xffa')"))
    until(lambda: seen(executor).state is State.EXITED)
    assert list(executor.log(ATTEMPT)) == ["\ufffda"]


def test_a_job_sees_the_gpus_of_its_slot_alone() -> None:
    ours = {"PATH": "/bin", "HF_TOKEN": "hf_secret", "CUDA_VISIBLE_DEVICES": "7"}
    theirs = job_environment(ours, HOST, ("0", "2"), None, FOLDER)
    assert theirs["CUDA_VISIBLE_DEVICES"] == "0,2"
    assert theirs["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert (theirs["PATH"], "HF_TOKEN" in theirs) == ("/bin", False)
    assert job_environment(ours, HOST, (), None, FOLDER)["CUDA_VISIBLE_DEVICES"] == ""


def test_a_jobs_environment_has_the_hosts_weights_and_threads(executor: ProcessExecutor, folder: Path) -> None:
    theirs = job_environment({}, ProcessHost(name="here", weights="/data/hf"), (), 3, FOLDER)
    assert (theirs["HF_HOME"], theirs["OMP_NUM_THREADS"]) == ("/data/hf", "3")
    print_threads = "import os; print(os.environ['OMP_NUM_THREADS'])"
    threaded = ProcessExecutor(
        ProcessHost(name="here", threads=2), executor.state_dir, (sys.executable, "-c", print_threads)
    )
    begin(threaded)
    assert list(executor.log(ATTEMPT, follow=True)) == ["2"]


def test_the_hosts_weights_go_before_every_variable_of_the_user() -> None:
    ours = {**dict.fromkeys((*HUB_CACHES, *WORK_CACHES), "/other"), "HF_TOKEN_PATH": "/home/me/token"}
    theirs = job_environment(ours, ProcessHost(name="here", weights="/data/hf"), (), None, FOLDER)
    assert {theirs[name] for name in HUB_CACHES} == {"/data/hf/hub"}
    assert "/other" not in theirs.values()
    users = job_environment(ours, HOST, (), None, FOLDER)
    assert users["HF_HUB_CACHE"] == "/other", "without weights the user's own cache is meant"


@pytest.mark.parametrize("weights", ["/data/hf", None])
def test_a_stored_login_of_the_user_is_not_looked_for(weights: str | None) -> None:
    ours = {"HF_TOKEN_PATH": "/home/me/token", "NETRC": "/home/me/.netrc"}
    theirs = job_environment(ours, ProcessHost(name="here", weights=weights), (), None, FOLDER)
    assert theirs["HF_TOKEN_PATH"].startswith(f"{FOLDER}/")
    assert (theirs["HF_HUB_DISABLE_IMPLICIT_TOKEN"], theirs["NETRC"]) == ("1", "/dev/null")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("weights", "the weights folder {}/none is not there; fix: make `weights` the folder that HF_HOME names"),
        ("ca_bundle", "the file of authorities {}/none is not there; fix: make `ca_bundle` a PEM file"),
    ],
)
def test_a_missing_path_of_the_entry_is_told_before_a_job_begins(key: str, said: str, tmp_path: Path) -> None:
    host = host_with(**{key: str(tmp_path / "none")})
    with pytest.raises(HostUnfit, match=re.escape(f"host here: {said.format(tmp_path)}")):
        ProcessExecutor(host, tmp_path / "state").slots()


def test_weights_that_are_a_file_are_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostUnfit, match=r"/file is no folder; fix: "):
        check_paths(host_with(weights=str(tmp_path / "file")))
    check_paths(host_with(weights=str(tmp_path), ca_bundle=str(tmp_path / "file")))


def probing(report: object) -> tuple[str, ...]:
    return (sys.executable, "-c", f"print('a library says hello'); print({json.dumps(report)!r})")


TWO = {"gpus": [{"index": 0, "uuid": "GPU-a0", "name": "A"}, {"index": 1, "uuid": "GPU-b1", "name": "B"}]}


@pytest.mark.parametrize(
    ("fields", "slots"),
    [
        ({"gpus": "none"}, (Slot("cpu"),)),
        ({"gpus": "all"}, (Slot("gpu0", ("0",)), Slot("gpu1", ("1",)))),
        ({"gpus": (1,)}, (Slot("gpu1", ("1",)),)),
        ({"gpus": ("GPU-b1",)}, (Slot("gpu1", ("1",)),)),
        ({"gpus": "all", "gpus_per_job": 2}, (Slot("gpu0+gpu1", ("0", "1")),)),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else f"{len(value)} slots",  # no set: its order varies
)
def test_gpus_make_slots(fields: dict[str, object], slots: tuple[Slot, ...]) -> None:
    found = find_slots(host_with(**fields), probing(TWO))
    assert [slot.gpus for slot in found] == [slot.gpus for slot in slots]
    assert len({slot.name for slot in found}) == len(slots)


def host_with(**fields: object) -> ProcessHost:
    return ProcessHost.model_validate({"name": "here", **fields})


@pytest.mark.parametrize(
    ("fields", "runner", "message"),
    [
        ({"gpus": "all"}, probing({"gpus": []}), "no GPU is found there"),
        ({"gpus": (7,)}, probing(TWO), "no GPU 7.*GPU-a0"),
        ({"gpus": "all", "gpus_per_job": 3}, probing(TWO), "gpus_per_job is 3"),
        ({"gpus": "all"}, probing("nonsense"), "probe for GPUs failed"),
        ({"gpus": "all"}, (sys.executable, "-c", "raise SystemExit('no driver')"), "no driver"),
        ({"gpus": "all"}, ("/nowhere/python",), "probe for GPUs failed"),
    ],
    ids=str,
)
def test_gpus_that_are_not_there_are_said_to_be(
    fields: dict[str, object], runner: tuple[str, ...], message: str
) -> None:
    with pytest.raises(HostUnfit, match=message):
        find_slots(host_with(**fields), runner)


def test_a_runner_whose_packages_are_not_installed_is_unfit_and_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "NEEDED", ("json", "no_such_package"))
    monkeypatch.setattr(installation, "lacking", lambda *_: [])  # else PyTorch too, where it is not installed
    with pytest.raises(HostUnfit, match=r"no_such_package not installed.* install .*no_such_package"):
        find_slots(HOST, FAKE_RUNNER)


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a GPU")
def test_the_real_runners_probe_is_understood() -> None:
    with pytest.raises(HostUnfit, match="no GPU is found there"):
        find_slots(host_with(gpus="all"), (sys.executable, "-m", "runner"))
