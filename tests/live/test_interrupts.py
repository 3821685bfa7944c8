"""Ctrl-C, SIGTERM and a closed terminal, on a real one: jobs keep running, and resume fetches their rows."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import PROGRAM, end_running_job, orchestrate, until, wait_for, write

from orchestrator.errors import ExitCode
from orchestrator.runs.job_state import Phase
from orchestrator.runs.journal import Journal
from orchestrator.runs.rows import read_rows
from orchestrator.scheduling import limits
from runner.schema import Status

pytestmark = pytest.mark.live  # each waits for a process to begin, and for its end


@dataclass
class Terminal:
    """A terminal of its own, with the orchestrator in its foreground."""

    keyboard: int
    process: subprocess.Popen[bytes]

    def press(self, key: bytes) -> None:
        os.write(self.keyboard, key)

    def close(self) -> None:
        """As when its window is closed, or the ssh to this machine drops: the kernel hangs up."""
        os.close(self.keyboard)
        self.keyboard = -1

    def read_until(self, word: str) -> str:
        """What is shown from now on, until it has this word, or ends."""
        shown = b""
        while self.keyboard >= 0 and word.encode() not in shown:
            try:
                shown += os.read(self.keyboard, 65536)
            except OSError:  # how Linux says that nobody has the other end open any more
                break
        return shown.decode(errors="replace")

    def end(self) -> tuple[int, str]:
        """The exit code, and what was shown."""
        shown = self.read_until("\0")
        return self.process.wait(240), shown


@contextmanager
def terminal(*words: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()

    def take() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    command = [sys.executable, PROGRAM, *words]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=take)
    os.close(theirs)
    made = Terminal(ours, process)
    try:
        yield made
    finally:
        process.kill()
        process.wait()
        with suppress(OSError):
            os.close(made.keyboard)


@pytest.fixture
def long(here: Path) -> Path:
    """A matrix of two jobs, of which the first runs on until it is ended, its rows written."""
    write('matrix: {prompt: ["rows; say running; sleep 600", "say next"]}\n')
    return here


def brought_home(here: Path) -> bool:
    end_running_job()
    assert orchestrate("resume") == ExitCode.OK
    (run,) = (here / "runs").iterdir()
    return [row.status for row in read_rows(run / "results.csv")] == [Status.OK, Status.OK]


def test_ctrl_c_on_a_terminal_leaves_and_says_how_to_go_on(long: Path) -> None:
    with terminal("submit", "matrix.yaml") as window:
        wait_for("running")
        window.press(b"\x03")
        code, shown = window.end()
    assert code == ExitCode.INTERRUPTED
    assert "keep running" in shown
    assert "orchestrator resume" in shown
    assert brought_home(long)


@pytest.mark.live
def test_a_second_ctrl_c_leaves_at_once_and_loses_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first waits for what is under way: here for a job that is deaf to its stop."""
    write("matrix: {engine: [eager]}\nprompt: no rows; say running; hang\n")
    with terminal("--stop-grace=600", "submit", "matrix.yaml") as window:  # only the second Ctrl-C ends it
        wait_for("running")
        (run,) = (here / "runs").iterdir()
        orchestrate("cancel", run.name)
        with closing(Journal.open(run / "journal.db")) as journal:
            until(lambda: journal.states()[0].phase is Phase.STOPPING)
        window.press(b"\x03")
        window.read_until("again to exit at once")
        window.press(b"\x03")
        code, _ = window.end()
    assert code == ExitCode.ABORTED
    monkeypatch.setattr(limits, "STOP_GRACE_S", 0.5)
    assert orchestrate("resume") == ExitCode.SOME_FAILED
    assert [row.status for row in read_rows(run / "results.csv")] == [Status.CANCELLED]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_termination_is_as_a_ctrl_c(long: Path, number: signal.Signals) -> None:
    with terminal("submit", "matrix.yaml") as window:
        wait_for("running")
        window.process.send_signal(number)
        code, shown = window.end()
    assert code == ExitCode.INTERRUPTED
    assert "orchestrator resume" in shown
    assert brought_home(long)


def test_a_terminal_that_is_closed_ends_the_orchestrator_and_not_its_jobs(long: Path) -> None:
    with terminal("submit", "matrix.yaml") as window:
        wait_for("running")
        window.close()
        code, _ = window.end()
    assert code == ExitCode.INTERRUPTED
    assert brought_home(long)


def test_ctrl_c_while_a_host_is_being_reached_leaves_at_once_and_says_how_to_go_on(long: Path) -> None:
    """The host takes the connection, and never says a word."""
    with terminal("submit", "matrix.yaml") as window:
        wait_for("running")
        window.press(b"\x03")
        window.end()
    (run,) = (long / "runs").iterdir()
    with socket.create_server(("127.0.0.1", 0)) as dumb:
        url = f"tcp://127.0.0.1:{dumb.getsockname()[1]}"
        (run / "hosts.yaml").write_text(f"hosts: {{local: {{kind: docker, url: '{url}', gpus: none}}}}\n")
        with terminal("resume") as window:
            dumb.accept()[0].detach()
            window.press(b"\x03")
            code, shown = window.end()
    assert code == ExitCode.INTERRUPTED
    assert f"orchestrator resume {run.name}" in shown
    end_running_job()
