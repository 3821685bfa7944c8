from __future__ import annotations

import io
from collections.abc import Iterable

import pytest

from orchestrator.executors.contract import Attempt
from orchestrator.executors.docker.logged_files import (
    FILES_KEPT,
    KEPT_CHARACTERS,
    LoggedFiles,
    for_people,
    stream,
)
from runner.wire.frames import FrameWriter

ATTEMPT = Attempt("run", "job", 1)
ROWS = "a,b\n1,é\n"


def log(attempt: Attempt = ATTEMPT, results: str = ROWS, *, environment: str = "{}", ends: bool = True) -> list[str]:
    """What a runner's log has: frames between lines for people."""
    out = io.StringIO()
    writer = FrameWriter(out, stream(attempt))
    print("loading", file=out)
    if environment:
        writer.put("environment.json", environment)
    if results:
        writer.put("results.csv", results)
    print("done", file=out)
    if ends:
        writer.end()
    return out.getvalue().splitlines()


def read(lines: Iterable[str], attempt: Attempt = ATTEMPT) -> LoggedFiles:
    found = LoggedFiles()
    list(found.taken_from(attempt, lines))
    return found


def test_a_whole_log_holds_the_files_of_its_attempt() -> None:
    assert read(log()).of(ATTEMPT) == {"results.csv": ROWS.encode(), "environment.json": b"{}"}


def test_people_see_a_log_without_its_frames() -> None:
    assert list(LoggedFiles().taken_from(ATTEMPT, log())) == ["loading", "done"]
    assert list(for_people(log())) == ["loading", "done"]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["loading", "done"],
        log(ends=False),
        log(results=""),
        [line for line in log() if " 1 " not in line],
        [line.replace("a,b", "a,c") for line in log()],
        log() + log(),
        log(Attempt("run", "job", 2)),
        log(environment="x" * KEPT_CHARACTERS),
    ],
    ids=["empty", "no-frames", "killed", "no-rows", "rotated", "damaged", "started-twice", "another", "large"],
)
def test_files_that_a_log_does_not_hold_whole_are_copied_instead(lines: list[str]) -> None:
    assert read(lines).of(ATTEMPT) is None


def test_a_log_that_is_not_read_to_its_end_holds_no_files() -> None:
    found = LoggedFiles()
    next(found.taken_from(ATTEMPT, log()))
    assert found.of(ATTEMPT) is None


def test_a_later_read_takes_the_place_of_an_earlier_one() -> None:
    found = read(log())
    list(found.taken_from(ATTEMPT, log() + log()))
    assert found.of(ATTEMPT) is None


def test_files_are_kept_of_few_attempts_and_until_they_are_removed() -> None:
    attempts = [Attempt("run", f"job{number}", 1) for number in range(FILES_KEPT + 1)]
    found = LoggedFiles()
    for attempt in attempts:
        list(found.taken_from(attempt, log(attempt)))
    assert [found.of(attempt) is not None for attempt in attempts] == [False] + [True] * FILES_KEPT
    found.forget(attempts[-1])
    assert found.of(attempts[-1]) is None
