"""Child programs (ssh, credential plugins and helpers, runners): their environment, and bounds on their output."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence

from orchestrator.sanitize import harmless
from runner.wire.tokens import TOKEN_VARIABLES

SAID_LIMIT_CHARS = 500
# A program that writes more than this many times the accepted size is killed.
ROOM = 16


class ChildFailed(Exception):
    """A program did not produce its output. The message says how it ended and quotes its last line."""


def without_tokens(ours: Mapping[str, str]) -> dict[str, str]:
    """Returns our environment without tokens, for a child process. A program that needs a token gets it another way."""
    return {name: value for name, value in ours.items() if name not in TOKEN_VARIABLES}


def output_of(command: Sequence[str], environment: Mapping[str, str], timeout_s: float, limit_bytes: int) -> bytes:
    """Runs a program without a terminal and returns its output. Raises ChildFailed, which does not quote that output.

    Time and size are bounded. Output goes into files, so that a grandchild that keeps them open cannot block us.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, start_new_session=True
            )
        except (OSError, ValueError) as error:
            raise ChildFailed(f"could not be started: {getattr(error, 'strerror', None) or error}") from error
        code = _exit_code(process, timeout_s, (out.fileno(), err.fileno()), ROOM * limit_bytes)
        out.seek(0)
        err.seek(0)
        words = harmless(err.read(SAID_LIMIT_CHARS * 4).decode(errors="replace"), SAID_LIMIT_CHARS)
        printed = out.read(limit_bytes + 1)
    said = f": {words}" if words else ""
    if len(printed) > limit_bytes:
        raise ChildFailed(f"printed more than {limit_bytes} bytes{said}")
    if code is None:
        raise ChildFailed(f"did not end within {timeout_s:.0f} s{said}")
    if code != 0:
        raise ChildFailed(f"failed with exit code {code}{said}")
    return printed


def _exit_code(
    process: subprocess.Popen[bytes], timeout_s: float, outputs: Sequence[int], limit_bytes: int
) -> int | None:
    """Returns None if the program was killed, for its time or the size of its output."""
    deadline = time.monotonic() + timeout_s
    try:
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=min(0.2, timeout_s))
            if max(os.fstat(file).st_size for file in outputs) > limit_bytes:
                break
        return None
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
