"""The commands as a user types them: in this process, or as one of their own that can be interrupted and killed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from orchestrator import cli
from orchestrator.errors import ExitCode

PROGRAM = str(Path(__file__).with_name("program.py"))


IN_BACKGROUND: list[subprocess.Popen[str]] = []


def orchestrate(*words: str) -> int:
    """The exit code of `orchestrator WORDS`."""
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    return int(ended.value.code or 0)


def write(text: str, name: str = "matrix.yaml") -> str:
    """A file of that name; a matrix has one round, unless the text says otherwise."""
    if name == "matrix.yaml" and "rounds" not in text:
        if text.startswith('{"'):
            text = json.dumps({"rounds": 1, **json.loads(text)})
        elif "matrix: " in text and text.count("[") == text.count("]"):
            text += "rounds: 1\n"
    Path(name).write_text(text)
    return name


def run_in_background(*words: str) -> subprocess.Popen[str]:
    """As from a terminal: it hears Ctrl-C, even where this suite itself runs in a shell's background and would not."""
    command = [sys.executable, PROGRAM, *words]
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        IN_BACKGROUND.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    finally:
        signal.signal(signal.SIGINT, before)
    return IN_BACKGROUND[-1]


def read_until(stream: IO[str] | None, word: str, then: float = 120) -> str:
    """What a process says there until it says this; what comes after is left to `communicate`."""
    assert stream is not None
    said = b""
    while word.encode() not in said:
        ready, _, _ = select.select([stream], [], [], then)
        assert ready, f"it does not say {word!r}: {said.decode()}"
        piece = os.read(stream.fileno(), 65536)
        assert piece, f"it ended without {word!r}: {said.decode()}"
        said += piece
    return said.decode(errors="replace")


def until(true: Callable[[], object], then: float = 120, what: str = "it did not come true") -> None:
    deadline = time.monotonic() + then
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def wait_for(what: str, then: float = 120) -> None:
    """Until a job's log on this machine says so; not where the command that was started last has refused to run it."""
    folders = Path(os.environ["XDG_STATE_HOME"]) / "orchestrator" / "processes"

    def said() -> bool:
        refused = bool(IN_BACKGROUND) and IN_BACKGROUND[-1].poll() == ExitCode.BAD_INPUT
        found = False
        with contextlib.suppress(FileNotFoundError):  # of a folder that is removed meanwhile
            found = any(what in path.read_text() for path in folders.glob("orchestrator-*/log.txt"))
        assert found or not refused, f"no job said {what!r}: {IN_BACKGROUND[-1].communicate()}"
        return found

    until(said, then, f"no job said {what!r}")


def end_running_job() -> None:
    """The one that runs on this machine; it has ended when this returns."""
    folders = Path(os.environ["XDG_STATE_HOME"]) / "orchestrator" / "processes"
    (folder,) = [path.parent for path in folders.glob("*/pid") if not (path.parent / "exit").exists()]
    os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
    # who drives its run removes the folder soon after
    until(lambda: (folder / "exit").exists() or not folder.exists())
