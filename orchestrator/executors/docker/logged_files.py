"""Takes files out of a container's log, where the runner writes them as frames beside what it prints for people.

The log is read anyway when an attempt is collected. To copy a file out of a container, the engine mounts its file
system and starts a program: half the CPU time of a container's start (docs/overhead.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from orchestrator.executors.contract import Attempt
from runner.wire import frames

# Attempts whose files are kept until they are fetched, and the most that is kept of one. A real runner's files have
# some 10 kB, and a picture that is kept with them up to 1 MB.
FILES_KEPT, KEPT_CHARACTERS = 16, 2 * 2**20


def stream(attempt: Attempt) -> str:
    """Returns the name of the frames' stream in an attempt's log."""
    return attempt.name


def for_people(lines: Iterable[str]) -> Iterator[str]:
    return (line for line in lines if not frames.is_frame(line))


class LoggedFiles:
    """The files in the logs that were read last. Only whole ones: with all frames, the last one included.

    The log of an attempt that was killed, was started twice, or whose log the engine has rotated has no whole files.
    """

    def __init__(self) -> None:
        self._files: dict[Attempt, Mapping[str, str]] = {}

    def taken_from(self, attempt: Attempt, lines: Iterable[str]) -> Iterator[str]:
        """Yields the lines for people. Keeps the files once the log is read to its end."""
        self.forget(attempt)
        framed, characters = [], 0
        for line in lines:
            if not frames.is_frame(line):
                yield line
            elif (characters := characters + len(line)) <= KEPT_CHARACTERS:
                framed.append(line)
        found = frames.read(framed, stream(attempt)) if framed else frames.Framed()
        if found.is_whole and "results.csv" in found.files:
            self._files = {**dict(list(self._files.items())[1 - FILES_KEPT :]), attempt: found.files}

    def of(self, attempt: Attempt) -> Mapping[str, bytes] | None:
        """Returns an attempt's files by name; None if they are to be copied out of the container."""
        found = self._files.get(attempt)
        # a lone surrogate cannot be encoded
        return None if found is None else {file: text.encode(errors="replace") for file, text in found.items()}

    def forget(self, attempt: Attempt) -> None:
        self._files = {key: files for key, files in self._files.items() if key != attempt}
