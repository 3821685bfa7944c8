"""`--detach`: a background process drives the run; the process that started it returns once the run is driven."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.commands.options import Shape
from orchestrator.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.runs.folder import Run


class NotStartedError(Exception):
    """The background process ended before it drove a run, and has printed why. code: its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


def start(words: Sequence[str]) -> dict[str, Any]:
    """Runs `orchestrator WORDS` in the background. Returns run, folder, log and process id once it drives the run.

    Until then the process uses this terminal: errors, the progress of images and Ctrl-C are as without --detach.
    Raises NotStartedError if it ends before that.
    """
    read_end, write_end = os.pipe()
    command = [*_program(), *words, "--tell", str(write_end)]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[write_end])
    os.close(write_end)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child receives it too, and decides
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
    """The command line that started this program, with the interpreter's own flags."""
    return [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]]


def leave_terminal(run: Run, tell: int) -> None:
    """In the background process: from here on the terminal may close, and output goes to the run's driver.log.

    tell: the pipe on which the process that started this one waits.
    """
    os.setsid()
    log = os.open(run.driver_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for standard in (1, 2):
        os.dup2(log, standard)
    os.close(log)
    told = {"run": run.name, "folder": str(run.path), "log": str(run.driver_log), "pid": os.getpid()}
    with contextlib.suppress(BrokenPipeError), os.fdopen(tell, "w") as pipe:
        json.dump(told, pipe)


def start_and_exit(words: Sequence[str], output: Shape) -> None:
    """Starts the background process, prints how to follow the run, and exits."""
    from orchestrator.terminal.console import console
    from orchestrator.terminal.output import print_json

    try:
        told = start(words)
    except NotStartedError as error:
        raise typer.Exit(error.code) from None
    if output is Shape.JSON:
        print_json(told)
    else:
        show_started(told, console())
    raise typer.Exit(ExitCode.OK)


def show_started(told: Mapping[str, Any], out: Console) -> None:
    run = told["run"]
    out.print(f"Process {told['pid']} drives {run} in the background.", soft_wrap=True)
    out.print(f"Its output: {told['log']}", soft_wrap=True)
    out.print(f"  orchestrator status {run}    show its progress", soft_wrap=True)
    out.print(f"  orchestrator logs {run} -f   follow the log of a job", soft_wrap=True)
    out.print(f"  orchestrator cancel {run}    cancel it", soft_wrap=True)
    out.print(f"  orchestrator resume {run}    continue after a crash", soft_wrap=True)


def leaver(tell: int | None) -> Callable[[Run], Console] | None:
    """For the background process: what leaves the terminal once the run is ready to be driven."""
    if tell is None:
        return None

    def leave(run: Run) -> Console:
        from orchestrator.terminal.console import console

        leave_terminal(run, tell)
        return console(stderr=True)

    return leave
