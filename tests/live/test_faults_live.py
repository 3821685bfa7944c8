"""Faults that a run meets, each on the real thing: engines, processes, kills (docs/faults.md).

What is claimed of every one: after it each case has one row, nothing is left on the hosts, and nothing ran twice that
was not lost before.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import engines
import pytest
from commands import read_until
from engines import Engine
from live_run import LiveRun, Witness, witnessed

from orchestrator import images
from orchestrator.errors import ExitCode
from orchestrator.runs.job_state import Kind
from runner.schema import Status

pytestmark = [
    pytest.mark.docker,
    pytest.mark.group("faults"),  # on engines of their own
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]
KILLS = int(os.environ.get("KILLS", "20"))
SEED = int(os.environ.get("SEED", "5"))


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """The Docker client leaks the sockets of engines that are down: they are found here, not in another test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def two(docker_host: Engine) -> Iterator[dict[str, Engine]]:
    """Two engines that nobody else uses: they are stopped, killed and filled."""
    with engines.private_engine() as near, engines.private_engine() as far:
        for engine in (near, far):
            engines.furnish(engine, docker_host)
        yield {"far": far, "near": near}


@pytest.fixture
def live_run(two: dict[str, Engine], tmp_path: Path) -> Iterator[LiveRun]:
    with closing(LiveRun(tmp_path, two)) as made:
        yield made


@pytest.fixture
def alone(two: dict[str, Engine], tmp_path: Path) -> Iterator[LiveRun]:
    """On one engine."""
    with closing(LiveRun(tmp_path, {"near": two["near"]})) as made:
        yield made


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A file system of its own at this folder."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", *(["-o", ",".join(options)] if options else []), "none", str(folder)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        engines.missing("a file system of its own needs root and mount")
    try:
        yield folder
    finally:
        engines.quietly("umount", "-l", str(folder))


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A real disk, in a file, that can be filled."""
    image, mount = folder / "disk", folder / "small"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(megabytes * 2**20)
    made = subprocess.run(["mkfs.ext4", "-q", str(image)], capture_output=True)
    if made.returncode or subprocess.run(["mount", "-o", "loop", image, mount], capture_output=True).returncode:
        engines.missing("a small disk needs root, mkfs.ext4 and loop devices")
    try:
        yield mount
    finally:
        engines.quietly("umount", "-l", str(mount))


def assert_one_message(said: str, pattern: str) -> None:
    assert "Traceback" not in said
    assert said.count("error:") == 1, said
    assert re.search(pattern, said), said


# --- the orchestrator dies

# One job that works, one that is lost twice, one that hangs: every kind of event that a host that answers gives.
EVERY_KIND = {
    "matrix": {"prompt": ["say well", "no rows; exit 137", "no rows; sleep 60"]},
    "samples": 2,
    "retries": 1,
    "timeout": "15s",  # long enough for a job that works, even on a busy machine
}
QUICK = {"grace_s": 0.5, "backoff_s": 0.1}
EVENTS = 13


@pytest.fixture(scope="module")
def undisturbed(two: dict[str, Engine], tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    live_run = LiveRun(tmp_path_factory.mktemp("undisturbed"), {"near": two["near"]})
    live_run.write(**EVERY_KIND)
    assert live_run.did("submit", "matrix.yaml", **QUICK).returncode == ExitCode.SOME_FAILED
    assert len(live_run.kinds()) == EVENTS
    by_users, by_hosts_that_queue = {Kind.CANCEL, Kind.REOPENED}, {Kind.QUEUED, Kind.RUNNING}
    by_hosts_that_refuse_or_were_silent = {Kind.REFUSED, Kind.IMAGE_READY, Kind.LOST}
    assert {*live_run.kinds()} == {*Kind} - by_users - by_hosts_that_queue - by_hosts_that_refuse_or_were_silent
    return live_run.table()


@pytest.mark.parametrize("events", range(1, EVENTS + 1))
def test_killed_after_any_event_of_its_journal_it_is_resumed_to_the_undisturbed_table(
    alone: LiveRun, undisturbed: list[tuple[object, ...]], events: int
) -> None:
    alone.write(**EVERY_KIND)
    with witnessed(list(alone.engines.values())) as starts:
        assert alone.did("submit", "matrix.yaml", die_after=events, **QUICK).returncode == -signal.SIGKILL
        ended = alone.did("resume", **QUICK)
    assert ended.returncode == ExitCode.SOME_FAILED, ended.stderr
    assert alone.table() == undisturbed
    assert alone.containers() == []
    assert alone.ran_twice(starts) == []


def test_killed_at_random_moments_again_and_again_it_loses_nothing_and_runs_nothing_twice(live_run: LiveRun) -> None:
    chance = random.Random(SEED)
    live_run.write(matrix={"prompt": [f"say {n}; sleep 0.3" for n in range(KILLS)], "samples": [1, 2]})
    killed = 0
    with witnessed(list(live_run.engines.values())) as starts:
        process = live_run.start("submit", "matrix.yaml")
        while killed < KILLS:
            live_run.wait_until_driven(process)
            time.sleep(chance.uniform(0.0, 1.0))
            process.kill()
            _, said = process.communicate()
            if process.returncode != -signal.SIGKILL:
                break
            killed += 1
            process = live_run.start("resume")
        else:
            _, said = process.communicate(timeout=600)
    assert process.returncode == ExitCode.OK, said
    assert killed >= KILLS * 3 // 4, "the run ended before enough kills"
    table = live_run.table()
    assert len(table) == len({case for _, _, _, case, *_ in table}) == KILLS * 4
    assert {row[-1] for row in table} == {Status.OK}
    assert live_run.containers() == []
    assert live_run.ran_twice(starts) == []
    assert sum(starts.values()) == KILLS * 2


# --- a container does


def test_a_container_that_somebody_kills_runs_again_and_its_reason_is_told(alone: LiveRun) -> None:
    alone.write(matrix={"prompt": ["say here; sleep 30; rows"]}, samples=1)  # with rows it would have done its work
    orchestrator = alone.start("submit", "matrix.yaml")
    alone.wait_for_running(1)
    (name,) = alone.running()
    with closing(alone.engines["near"].client()) as api:
        api.kill(name)
    _, said = orchestrator.communicate(timeout=600)
    assert orchestrator.returncode == ExitCode.OK, said
    (faults,) = [job["faults"] for job in json.loads(alone.did("status", "-o", "json").stdout)["jobs"]]
    assert [fault["attempt"] for fault in faults] == [1]
    assert "137" in faults[0]["reason"]
    assert alone.containers() == []


def test_whatever_becomes_of_a_container_its_cases_have_one_row_each_that_says_it(alone: LiveRun) -> None:
    hosts = {"near": {"kind": "docker", "url": alone.engines["near"].url, "gpus": "none", "memory": "64m"}}
    alone.write_hosts(hosts)
    fates = {
        "no rows": (Status.FAILED, Status.FAILED),
        "half a line": (Status.OK, Status.FAILED),
        "no rows; bloat 200": (Status.OOM, Status.OOM),
        "no rows; hog 200": (Status.OOM, Status.OOM),
        "no rows; say deaf; hang": (Status.TIMEOUT, Status.TIMEOUT),
    }
    alone.write(matrix={"prompt": list(fates), "samples": [1, 2]}, timeout="15s")
    ended = alone.did("submit", "matrix.yaml", grace_s=1)
    assert ended.returncode == ExitCode.SOME_FAILED, ended.stderr
    assert alone.outcomes() == fates
    assert Kind.FAULT not in alone.kinds(), "none of these is worth a second try"
    assert all(row.error for row in alone.rows() if row.status is not Status.OK)
    assert alone.containers() == []


def test_a_container_that_fills_its_hosts_disk_fails_alone(docker_host: Engine, tmp_path: Path) -> None:
    with small_disk(tmp_path, megabytes=700) as data, engines.private_engine("--data-root", str(data)) as engine:
        engines.furnish(engine, docker_host)
        live_run = LiveRun(tmp_path, {"near": engine})
        live_run.write(matrix={"prompt": ["no rows; fill", "say next"]}, samples=1, retries=1)
        ended = live_run.did("submit", "matrix.yaml", backoff_s=0.1)
        assert ended.returncode == ExitCode.SOME_FAILED, ended.stderr
        assert live_run.outcomes() == {"no rows; fill": (Status.FAILED,), "say next": (Status.OK,)}
        assert live_run.containers() == []
        assert live_run.volumes() == 0


# --- a host does


SLOW = {"matrix": {"prompt": ["say a; sleep 5", "say b; sleep 5"]}, "samples": 1}
# Long enough that two are seen at once on a busy machine.
SLOWER = {"matrix": {"prompt": ["say a; sleep 20", "say b; sleep 20"]}, "samples": 1}


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_an_engine_that_goes_down_under_its_jobs_and_comes_back_runs_them_again(live_run: LiveRun, end: str) -> None:
    daemon = live_run.engines["near"].daemon
    assert daemon is not None
    live_run.write(**SLOWER)
    with witnessed(list(live_run.engines.values())) as starts:
        orchestrator = live_run.start("submit", "matrix.yaml")
        live_run.wait_for_running(2)
        getattr(daemon, end)()
        read_until(orchestrator.stderr, "near: does not answer")
        daemon.start()
        _, said = orchestrator.communicate(timeout=600)
    assert orchestrator.returncode == ExitCode.OK, said
    assert len(live_run.rows()) == 4
    assert live_run.containers() == []
    assert live_run.ran_twice(starts) == []


def test_a_host_that_is_down_at_submit_gets_its_image_and_its_jobs_when_it_is_back(live_run: LiveRun) -> None:
    daemon = live_run.engines["near"].daemon
    assert daemon is not None
    with closing(live_run.engines["near"].client()) as api:
        api.remove_image(images.reference("cpu"))
    live_run.vouch_for("far", images.reference("cpu"))
    daemon.stop()
    live_run.write(**SLOW)
    with witnessed(list(live_run.engines.values())[:1]) as starts:
        orchestrator = live_run.start("submit", "matrix.yaml")
        live_run.wait_for_event(Kind.STARTING)
        read_until(orchestrator.stderr, "near: does not answer")
        daemon.start()
        _, said = orchestrator.communicate(timeout=600)
    assert orchestrator.returncode == ExitCode.OK, said
    assert "near: answers now" in said
    assert len(live_run.rows()) == 4
    assert {row.status for row in live_run.rows()} == {Status.OK}
    assert live_run.containers() == []
    assert live_run.ran_twice(starts) == []


def test_killed_once_a_late_host_has_its_image_it_resumes_to_the_whole_table(live_run: LiveRun) -> None:
    daemon = live_run.engines["near"].daemon
    assert daemon is not None
    daemon.stop()
    live_run.write(**SLOW)
    with witnessed(list(live_run.engines.values())[:1]) as starts:
        orchestrator = live_run.start("submit", "matrix.yaml", die_at=Kind.IMAGE_READY.value)
        live_run.wait_for_event(Kind.STARTING)
        daemon.start()
        orchestrator.communicate(timeout=600)
        assert orchestrator.returncode == -signal.SIGKILL
        ended = live_run.did("resume")
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert [row.status for row in live_run.rows()] == [Status.OK] * 4
    assert live_run.kinds().count(Kind.IMAGE_READY) == len({row.job for row in live_run.rows() if row.host == "near"})
    assert live_run.containers() == []
    assert live_run.ran_twice(starts) == []


def test_with_live_restore_an_engine_that_restarts_costs_its_jobs_nothing(docker_host: Engine, tmp_path: Path) -> None:
    with engines.private_engine("--live-restore") as engine:
        engines.furnish(engine, docker_host)
        live_run = LiveRun(tmp_path, {"near": engine})
        live_run.write(**SLOW)
        with witnessed([engine]) as starts:
            orchestrator = live_run.start("submit", "matrix.yaml")
            live_run.wait_for_running(1)
            assert engine.daemon is not None
            engine.daemon.stop()
            read_until(orchestrator.stderr, "does not answer")
            engine.daemon.start()
            _, said = orchestrator.communicate(timeout=600)
        assert orchestrator.returncode == ExitCode.OK, said
        assert Kind.FAULT not in live_run.kinds()
        assert sorted(starts.values()) == [1, 1]
        assert live_run.containers() == []


def test_an_ssh_link_that_is_cut_and_restored_costs_nothing(alone: LiveRun) -> None:
    with engines.ssh_in_front_of(alone.engines["near"]) as ssh:
        alone.write_hosts({"near": {"kind": "docker", "url": ssh.url, "gpus": "none"}})
        alone.write(**SLOW)
        with witnessed(list(alone.engines.values())) as starts:
            orchestrator = alone.start("submit", "matrix.yaml")
            alone.wait_for_running(1)
            ssh.sshd.kill()
            read_until(orchestrator.stderr, "does not answer")
            ssh.sshd.start()
            _, said = orchestrator.communicate(timeout=600)
        assert orchestrator.returncode == ExitCode.OK, said
        assert Kind.FAULT not in alone.kinds()
        assert sorted(starts.values()) == [1, 1]
        assert alone.containers() == []


def test_a_host_whose_network_is_down_for_a_while_comes_back_with_what_it_finished(alone: LiveRun) -> None:
    with engines.far_away(alone.engines["near"]) as (ssh, cable):
        alone.write_hosts({"near": {"kind": "docker", "url": ssh.url, "gpus": "none"}})
        alone.write(**SLOW)
        with witnessed(list(alone.engines.values())) as starts:
            orchestrator = alone.start("submit", "matrix.yaml")
            alone.wait_for_running(1)
            cable("down")
            read_until(orchestrator.stderr, "does not answer")
            engines.wait_until(lambda: alone.running() == [], 240, "it does not end meanwhile")
            cable("up")
            _, said = orchestrator.communicate(timeout=600)
        assert orchestrator.returncode == ExitCode.OK, said
        assert Kind.FAULT not in alone.kinds()
        assert sorted(starts.values()) == [1, 1]
        assert alone.containers() == []


def test_a_host_that_never_comes_back_costs_its_own_cases_and_what_it_holds_is_cleaned_later(live_run: LiveRun) -> None:
    with engines.far_away(live_run.engines["near"]) as (ssh, cable):
        far = {"kind": "docker", "url": live_run.engines["far"].url, "gpus": "none"}
        live_run.write_hosts({"near": {"kind": "docker", "url": ssh.url, "gpus": "none"}, "far": far})
        live_run.write(**SLOWER)
        orchestrator = live_run.start("submit", "matrix.yaml", "--lost-after", "10s")
        live_run.wait_for_running(2)
        cable("down")
        _, said = orchestrator.communicate(timeout=600)
        assert orchestrator.returncode == ExitCode.SOME_FAILED, said
        by_host = sorted((row.host, row.status) for row in live_run.rows())
        assert by_host == [("far", Status.OK)] * 2 + [("near", Status.LOST)] * 2
        assert live_run.containers()  # its jobs' and their locks
        cable("up")
        assert live_run.did("clean", live_run.run.name).returncode == ExitCode.OK
        assert live_run.containers() == []


# --- this machine does


def test_a_full_disk_here_is_one_message_and_once_there_is_room_resume_goes_on(alone: LiveRun) -> None:
    alone.write(**SLOW)
    with mounted(alone.folder / "runs", "size=400k"):
        orchestrator = alone.start("submit", "matrix.yaml")
        alone.wait_for_running(1)
        ballast = alone.folder / "runs" / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
        _, said = orchestrator.communicate(timeout=600)
        assert orchestrator.returncode == ExitCode.BAD_INPUT, said
        assert_one_message(said, "full|No space left")
        ballast.unlink()
        assert alone.did("resume").returncode == ExitCode.OK
        assert [row.status for row in alone.rows()] == [Status.OK, Status.OK]
        assert alone.containers() == []


def test_a_read_only_run_folder_is_one_message_and_nothing_in_it_is_lost(alone: LiveRun) -> None:
    alone.write(**SLOW)
    with mounted(alone.folder / "runs") as runs:
        orchestrator = alone.start("submit", "matrix.yaml")
        alone.wait_for_running(1)
        orchestrator.kill()
        orchestrator.communicate()
        subprocess.run(["mount", "-o", "remount,ro", str(runs)], check=True)
        ended = alone.did("resume")
        assert ended.returncode == ExitCode.BAD_INPUT, ended.stderr
        assert_one_message(ended.stderr, "[Rr]ead-only")
        subprocess.run(["mount", "-o", "remount,rw", str(runs)], check=True)
        assert alone.did("resume").returncode == ExitCode.OK
        assert [row.status for row in alone.rows()] == [Status.OK, Status.OK]
        assert alone.containers() == []


def test_a_damaged_journal_is_one_message_with_what_to_do_and_nothing_is_destroyed(alone: LiveRun) -> None:
    alone.write(matrix={"prompt": ["say a", "no rows; sleep 600"]}, samples=1)
    orchestrator = alone.start("submit", "matrix.yaml")
    alone.wait_for_event(Kind.SETTLED)
    orchestrator.kill()
    orchestrator.communicate()
    journal = alone.run.journal
    for file in (journal, *journal.parent.glob("journal.db-*")):
        file.write_bytes(file.read_bytes()[:100] + os.urandom(max(0, file.stat().st_size - 100)))
    damaged = journal.read_bytes()
    for words in (("resume",), ("clean", alone.run.name)):
        ended = alone.did(*words)
        assert ended.returncode == ExitCode.BAD_INPUT, ended.stderr
        assert_one_message(ended.stderr, "damaged.*move it away.*orchestrator clean")
    assert journal.read_bytes() == damaged
    assert alone.did("results").returncode == ExitCode.OK  # it merges what the killed orchestrator had not
    assert len(alone.rows()) == 1
    journal.rename(journal.with_suffix(".damaged"))
    assert alone.did("clean", alone.run.name, "--running").returncode == ExitCode.OK
    assert alone.containers() == []


@pytest.mark.parametrize("hours", [-24, 24])
def test_a_clock_that_is_set_while_jobs_run_ends_none_and_lets_none_hang(alone: LiveRun, hours: int) -> None:
    wrong = alone.folder / "clock"
    wrong.write_text("0")
    alone.write(matrix={"prompt": ["say a; sleep 2", "no rows; sleep 60"]}, samples=1, timeout="15s")
    orchestrator = alone.start("submit", "matrix.yaml", clock=str(wrong), grace_s=2)
    alone.wait_for_running(1)
    wrong.write_text(str(hours * 3600))
    _, said = orchestrator.communicate(timeout=600)
    assert orchestrator.returncode == ExitCode.SOME_FAILED, said
    assert alone.outcomes() == {"say a; sleep 2": (Status.OK,), "no rows; sleep 60": (Status.TIMEOUT,)}


def test_a_clock_that_was_set_back_before_resume_lets_nothing_hang(alone: LiveRun) -> None:
    wrong = alone.folder / "clock"
    wrong.write_text("86400")
    alone.write(matrix={"prompt": ["no rows; sleep 60"]}, samples=1, timeout="15s")
    orchestrator = alone.start("submit", "matrix.yaml", clock=str(wrong), grace_s=2)
    alone.wait_for_running(1)
    orchestrator.kill()
    orchestrator.communicate()
    wrong.write_text("0")
    assert alone.did("resume", clock=str(wrong), grace_s=2).returncode == ExitCode.SOME_FAILED
    assert alone.outcomes() == {"no rows; sleep 60": (Status.TIMEOUT,)}


def test_two_runs_on_one_host_take_turns(alone: LiveRun, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = LiveRun(tmp_path / "other", alone.engines)
    for one in (alone, other):
        one.write(matrix={"prompt": [f"say {n}; sleep 0.3" for n in range(5)]}, samples=1)
    with Witness(alone.engines["near"]) as witness:
        both = [one.start("submit", "matrix.yaml") for one in (alone, other)]
        for orchestrator in both:
            _, said = orchestrator.communicate(timeout=600)
            assert orchestrator.returncode == ExitCode.OK, said
    assert len(witness.starts) == 10
    assert witness.most_at_once == 1
