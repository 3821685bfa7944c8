"""`--detach`: a run is driven by a background process, and the one that started it returns once it is driven."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from orchestrator.run import Run


class NotStartedError(Exception):
    """The background process ended before it drove a run, and has said why. code: its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


def start(words: Sequence[str]) -> dict[str, Any]:
    """Runs `orchestrator WORDS` in the background. Returns run, folder, log and process id once it drives the run.

    Until then it has this terminal: errors, the images' progress and Ctrl-C are as without --detach. Raises
    NotStartedError where it ended before that.
    """
    read_end, write_end = os.pipe()
    command = [*_program(), *words, "--tell", str(write_end)]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[write_end])
    os.close(write_end)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child hears it too, and what it makes of it counts
    try:
        with os.fdopen(read_end) as pipe:
            said = pipe.read()
        if not said:
            code = child.wait()
            raise NotStartedError(128 - code if code < 0 else code)
    finally:
        signal.signal(signal.SIGINT, before)
    child.returncode = 0  # it goes on alone: nobody waits for it
    told: dict[str, Any] = json.loads(said)
    return told


def _program() -> list[str]:
    """This program as it was started itself, by whichever of its names and with the interpreter's own flags."""
    return [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]]


def leave_terminal(run: Run, tell: int) -> None:
    """In the background process: from here on the terminal may close. What it prints goes to the run's driver.log.

    tell: the pipe on which whoever started this process waits.
    """
    os.setsid()
    log = os.open(run.driver_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for standard in (1, 2):
        os.dup2(log, standard)
    os.close(log)
    told = {"run": run.name, "folder": str(run.path), "log": str(run.driver_log), "pid": os.getpid()}
    with contextlib.suppress(BrokenPipeError), os.fdopen(tell, "w") as pipe:
        json.dump(told, pipe)
