"""Exit codes, and errors named for the response that they call for. A message says what, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every command.

    OK: all cases have an outcome that is no fault (`ok`, `oom`, `unsupported`). SOME_FAILED: a case, host or check
    failed, or something to remove stays. BAD_INPUT: an error that the user can fix; nothing ran. INTERRUPTED: work is
    left, and `resume` continues it. ABORTED: a second Ctrl-C, or the first one before anything ran.
    """

    OK = 0
    SOME_FAILED = 1
    BAD_INPUT = 2
    INTERRUPTED = 3
    ABORTED = 130


# What a host, cluster or store says of one thing, as far as it is told or kept: it may say 8 MiB at every look.
LONGEST_SAID = 4000


def shortened(said: str) -> str:
    """The text itself, where it is no longer than anything that is worth reading."""
    return said if len(said) <= LONGEST_SAID else f"{said[: LONGEST_SAID - 1]}…"


class InputError(Exception):
    """Fix the input: a file, an option, a name, a key that is not there. Exit code 2, before anything ran.

    problems: every one that was found, each a message of its own.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class HostUnreachable(Exception):
    """Try again: the host did not answer. It may come back, and what runs there may still be running."""


class NoRoom(HostUnreachable):
    """Wait: the host answers, and takes no more just now (a quota is used up). It will once something there has ended.

    The message is the same for every job that waits for this.
    """


class HostUnfit(Exception):
    """The host answered, and cannot do what is asked of it (no toolkit, no such GPU); trying again will not help."""


class ImageError(Exception):
    """An image did not build, load, or arrive."""


class StartError(Exception):
    """One container or process would not start on a host that answers. Its job is a fault; others may go on."""


class TaskUnfit(StartError):
    """The host answers, and would refuse this task again however often it is tried; others may go on."""


class BadResult(Exception):
    """What a job handed back is not the rows that were asked for. Nothing of it is used."""


class Incomplete(Exception):
    """Part of what a job handed back got lost on its way. Its job is a fault, and is tried again."""
