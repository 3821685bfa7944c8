"""Exit codes, and errors named for the response that they call for. A message says what, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of the commands. meaning: for a command that runs a matrix, as its help says it.

    Other commands exit with SOME_FAILED if a host or a check failed, if something to remove stays, or on a regression.
    """

    meaning: str

    OK = 0, "no case failed (`oom` and `unsupported` are results)"
    SOME_FAILED = 1, "some case failed"
    BAD_INPUT = 2, "the input is wrong and nothing ran, or the run's folder cannot be written"
    INTERRUPTED = 3, "interrupted with work left"
    ABORTED = 130, "a second Ctrl-C, or the first one before anything runs"

    def __new__(cls, value: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


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
