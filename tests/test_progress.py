from __future__ import annotations

from io import StringIO

import pytest
from fake_executor import ok_row
from rich.console import Console

from orchestrator.progress import Board, in_words, table, watched
from orchestrator.scheduler import Update
from runner.schema import Case, Device, Event, EventKind, Job, Precision, Row, Status

JOB = Job(
    run="r",
    id="j",
    host="box",
    device=Device.CPU,
    engine="eager",
    precision=Precision.SINGLE,
    model="synthetic:tiny",
    cases=(Case("c1", 1), Case("c2", 2)),
    prompt="p",
    steps=1,
)
STARTED = Update("box", JOB)


def event(kind: EventKind, **fields: object) -> Update:
    return Update("box", JOB, Event(kind=kind, at=0.0, **fields))  # type: ignore[arg-type]


def drawn(board: Board) -> str:
    console = Console(file=StringIO(), width=100)
    with console.capture() as captured:
        console.print(table(board))
    return " ".join(captured.get().split())


def test_a_host_shows_what_is_done_what_runs_and_how_long_it_may_take() -> None:
    now = [100.0]
    board = Board([JOB], [], clock=lambda: now[0])
    assert drawn(board) == "box 0/2 waiting"
    board.update(STARTED)
    board.update(event(EventKind.TRIAL, case="c1", trial=2, of=3))
    assert drawn(board) == "box 0/2 eager single samples 1: trial 2 of 3"
    now[0] = 130.0
    board.update(event(EventKind.CASE_ENDED, case="c1", status=Status.OK))
    board.update(event(EventKind.CASE_STARTED, case="c2"))
    assert drawn(board) == "box 1/2 eager single samples 2: warming up about 30 s left"
    board.update(Update("box", JOB, rows=tuple(ok_row(JOB, case) for case in JOB.cases)))
    assert drawn(board) == "box 2/2 done"


def test_a_host_that_is_silent_says_so() -> None:
    board = Board([JOB], [])
    board.update(Update("box", message="does not answer: no route"))
    assert drawn(board) == "box 0/2 does not answer: no route"


def test_what_was_done_before_a_resume_counts() -> None:
    assert drawn(Board([JOB], [ok_row(JOB, JOB.cases[0])])) == "box 1/2 waiting"


def test_without_a_terminal_each_case_that_ends_and_each_fault_is_one_line() -> None:
    said = StringIO()
    failed = Row.of(JOB, JOB.cases[1], Status.OOM, "out of memory")
    with watched(Board([JOB], []), Console(file=said, width=200)) as tell:
        tell(STARTED)
        tell(event(EventKind.TRIAL, case="c1", trial=1, of=3))
        tell(event(EventKind.CASE_ENDED, case="c1", status=Status.OK))
        tell(Update("box", message="attempt 1 of j: the engine stopped"))
        tell(Update("box", JOB, rows=(ok_row(JOB, JOB.cases[0]), failed)))
    assert [line[9:] for line in said.getvalue().splitlines()] == [
        "box: eager single samples 1: ok",
        "box: attempt 1 of j: the engine stopped",
        "box: eager single samples 2: oom: out of memory",
    ]


def test_a_job_that_says_without_end_that_a_case_has_ended_is_heard_once() -> None:
    said = StringIO()
    with watched(Board([JOB], []), Console(file=said, width=200)) as tell:
        for _ in range(3):
            tell(event(EventKind.CASE_ENDED, case="c1", status=Status.OK))
    assert said.getvalue().count("ok") == 1


def test_on_a_terminal_the_table_fills_in_below_the_progress() -> None:
    screen = StringIO()
    console = Console(file=screen, width=100, height=40, force_terminal=True)
    with watched(Board([JOB], []), console) as tell:
        tell(STARTED)
        tell(Update("box", JOB, rows=tuple(ok_row(JOB, case) for case in JOB.cases)))
    assert "2/2" in screen.getvalue()
    assert "Latency" in screen.getvalue()


@pytest.mark.parametrize(("seconds", "words"), [(3, "3 s"), (89, "89 s"), (720, "12 min"), (11_100, "3 h 05 min")])
def test_durations_read_as_one_says_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
