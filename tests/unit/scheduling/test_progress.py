from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from builders import a_job, ok_row
from rich.console import Console

from orchestrator.planning.estimate import History, Span
from orchestrator.runs.labels import Labels
from orchestrator.scheduling import progress
from orchestrator.scheduling.progress import Board, HostBoard, clock_time, in_words, remaining_in_words
from orchestrator.scheduling.updates import Update
from orchestrator.terminal import live
from orchestrator.terminal.live import Screen, summary, table, watched
from runner.schema import Case, Event, EventKind, Job, Row, Status

JOB = a_job(samples=(1, 2), host="box", warmup=2)
STARTED = Update("box", JOB)


def event(kind: EventKind, **fields: object) -> Update:
    return Update("box", JOB, Event(kind=kind, at=0.0, **fields))  # type: ignore[arg-type]


def drawn(board: Board, height: int = 1000, width: int = 100) -> str:
    console = Console(file=StringIO(), width=width)
    with console.capture() as captured:
        console.print(table(board, height))
    return captured.get()


def words(text: str) -> str:
    return " ".join(text.split())


def row(case: Case, latency: float, job: Job = JOB, **other: Any) -> Row:
    return replace(Row.of(job, case, Status.OK, latency_median=latency, first_call_s=0.0, load_s=10.0), **other)


class Clock:
    """now: the board's time; a runner's events carry the same."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_host_shows_what_is_done_what_runs_and_since_when() -> None:
    clock = Clock()
    board = Board([JOB], [], clock=clock)
    assert words(drawn(board)) == "box 0/2 waiting time left unknown"
    board.update(STARTED)
    clock.now = 130.0
    board.update(event(EventKind.TRIAL, case="c1", trial=2, of=3))
    assert words(drawn(board)) == "box 0/2 eager single: samples 1: trial 2 of 3, 0:30 time left unknown"
    board.update(event(EventKind.CASE_ENDED, case="c1", status=Status.OK))
    board.update(Update("box", JOB, rows=tuple(ok_row(JOB, case) for case in JOB.cases)))
    assert words(drawn(board)) == "box 2/2 done"


def test_before_the_first_case_ends_the_time_left_is_known_from_earlier_runs() -> None:
    clock = Clock()
    history = History([row(JOB.cases[0], 1.0), row(JOB.cases[1], 2.0)], [("box", 5.0)])
    board = Board([JOB], [], clock=clock, history=history)
    # a start of 5 s, a load of 10 s, and two warm-up and three timed calls of 1 s and of 2 s
    assert remaining_in_words(board.remaining()) == "about 30 s left"
    board.update(STARTED)
    clock.now += 5
    board.update(at(clock, EventKind.LOADING))
    clock.now += 10
    assert remaining_in_words(board.remaining()) == "about 15 s left"
    board.update(at(clock, EventKind.LOADED))
    board.update(at(clock, EventKind.CASE_STARTED, case="c1"))
    clock.now += 5
    board.update(at(clock, EventKind.CASE_ENDED, case="c1", status=Status.OK))
    assert remaining_in_words(board.remaining()) == "about 10 s left"


def at(clock: Clock, kind: EventKind, **fields: object) -> Update:
    return Update("box", JOB, Event(kind=kind, at=clock.now + 1e9, **fields))  # type: ignore[arg-type]


def test_the_load_of_a_job_is_not_counted_again_for_each_of_its_cases() -> None:
    clock = Clock()
    many = a_job(samples=range(1, 11), host="box", warmup=2)
    board = Board([many], [], clock=clock)
    for kind, wait, fields in (
        (None, 60, {}),
        (EventKind.LOADING, 300, {}),
        (EventKind.LOADED, 0, {}),
        (EventKind.CASE_STARTED, 2, {"case": "c1"}),
        (EventKind.WARMED_UP, 0, {"case": "c1"}),
        (EventKind.TRIAL, 1, {"case": "c1", "trial": 1, "of": 3, "latency_s": 1.0}),
        (EventKind.CASE_ENDED, 0, {"case": "c1", "status": Status.OK}),
    ):
        board.update(Update("box", many) if kind is None else replace(at(clock, kind, **fields), job=many))
        clock.now += wait
    left = board.remaining()
    assert left.high is not None
    assert 100 < left.low < 5 * sum(range(2, 11)) < left.high < 500, "9 cases of 5 s an image, without 6 min of load"


def test_a_trials_own_times_tell_what_is_left_of_its_case() -> None:
    clock = Clock()
    one = replace(JOB, cases=JOB.cases[:1])
    board = Board([one], [], clock=clock)
    board.update(Update("box", one))
    board.update(replace(at(clock, EventKind.CASE_STARTED, case="c1"), job=one))
    board.update(replace(at(clock, EventKind.TRIAL, case="c1", trial=1, of=3, latency_s=40.0), job=one))
    assert remaining_in_words(board.remaining()) == "about 80 s left"


def test_jobs_are_spread_over_a_hosts_slots_and_hosts_of_one_machine_wait() -> None:
    jobs = [replace(JOB, id=f"{host}{n}", host=host) for host in ("a", "b") for n in range(4)]
    history = History(
        [row(case, 1.0, job) for job in jobs for case in JOB.cases], [("a", 0.0), ("b", 0.0)]
    )  # 20 s a job
    board = Board(jobs, [], clock=Clock(), history=history, slots={"a": 2, "b": 1})
    middle = {name: (board.remaining(name).low + (board.remaining(name).high or 0)) / 2 for name in ("a", "b")}
    assert middle == {"a": pytest.approx(40), "b": pytest.approx(80)}
    shared = Board(jobs, [], clock=Clock(), history=history, pools={"a": "one", "b": "one"}).remaining()
    assert (shared.low + (shared.high or 0)) / 2 == pytest.approx(160)


def test_an_event_read_late_is_taken_for_when_it_was() -> None:
    clock = Clock()
    board = Board([JOB], [], clock=clock, history=History([row(JOB.cases[0], 60.0), row(JOB.cases[1], 60.0)]))
    long_ago = replace(JOB, cases=JOB.cases[:1])
    first = Event(kind=EventKind.CASE_STARTED, at=1000.0, case="c1")
    later = Event(kind=EventKind.WARMED_UP, at=1050.0, case="c1")
    for each in (first, later):
        board.update(Update("box", long_ago, each))
    assert board.hosts["box"].running["j"].time_of(later, clock.now) == clock.now


@pytest.mark.parametrize("when", [0.0, -1e300, 1e300])
def test_no_time_that_a_runner_claims_makes_the_time_left_negative(when: float) -> None:
    clock = Clock()
    board = Board([JOB], [], clock=clock, history=History([row(JOB.cases[0], 1.0)], [("box", 1.0)]))
    board.update(STARTED)
    for kind in (EventKind.LOADING, EventKind.LOADED, EventKind.CASE_STARTED):
        board.update(Update("box", JOB, Event(kind=kind, at=when, case="c1")))
    left = board.remaining()
    assert left.low >= 0
    assert left.high is None or left.high >= left.low


def test_a_host_that_has_become_slow_is_expected_to_stay_so() -> None:
    history = History([], [("box", 2.0)] * 20 + [("box", 30.0)] * 5)
    left = history.startup("box")
    assert (left.low + (left.high or 0)) / 2 == pytest.approx(30)


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (Span(0, None), "time left unknown"),
        (Span(125, None), "over 2 min left"),
        (Span(55, 60), "about 58 s left"),
        (Span(120, 300), "2 to 5 min left"),
        (Span(30, 300), "30 s to 5 min left"),
        (Span(3600, 3 * 3600), "60 min to 3 h 00 min left"),
        (Span(0, 0), "about 0 s left"),
    ],
)
def test_the_time_left_is_a_number_a_range_or_unknown(span: Span, said: str) -> None:
    assert remaining_in_words(span) == said


def test_what_takes_far_longer_than_expected_ends_nobody_knows_when() -> None:
    assert Span(10, 20).minus(15) == Span(0, 5)
    assert Span(10, 20).minus(100) == Span(0, None)


def test_one_line_tells_the_elapsed_time_the_cases_and_what_is_left() -> None:
    clock = Clock()
    failed = Row.of(JOB, JOB.cases[0], Status.FAILED, "no")
    board = Board([JOB], [failed], clock=clock)
    clock.now += 125
    assert summary(board) == "2:05 elapsed, 1 of 2 cases, 1 failed, time left unknown"


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (125.9, "2:05"), (3723, "1:02:03")])
def test_elapsed_time_is_shown_as_a_watch_does(seconds: float, shown: str) -> None:
    assert clock_time(seconds) == shown


def many_hosts() -> Board:
    jobs = [replace(JOB, id=f"j{n}", host=f"host{n:02d}") for n in range(40)]
    board = Board(jobs, [ok_row(jobs[0], case) for case in JOB.cases])
    board.update(Update("host07", replace(JOB, id="j7", host="host07")))
    board.update(Update("host39", message="does not answer: no route"))
    return board


@pytest.mark.parametrize("height", [3, 10, 23])
def test_a_tall_board_shows_what_runs_first_and_counts_the_rest(height: int) -> None:
    lines = drawn(many_hosts(), height, width=80).splitlines()
    assert len(lines) == height
    assert "host07" in lines[0]
    assert "host39" in lines[1]
    assert lines[-1].split() == ["…", "and", str(40 - height + 1), "hosts", "more"]


def test_a_line_wider_than_the_terminal_is_cut_and_not_folded() -> None:
    board = Board([JOB], [])
    board.update(Update("box", message="does not answer: " + "x" * 300))
    (line,) = drawn(board, width=60).splitlines()
    assert "…" in line


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (200, 50)])
def test_what_is_drawn_fits_the_terminal(width: int, height: int) -> None:
    console = Console(file=StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(Screen(many_hosts(), console))
    lines = captured.get().splitlines()
    assert len(lines) < height
    assert max(map(len, lines)) <= width


def test_the_jobs_of_a_host_with_several_slots_have_a_line_each() -> None:
    jobs = [replace(JOB, id=f"j{n}") for n in range(3)]
    board = Board(jobs, [], slots={"box": 2})
    for job in jobs[:2]:
        board.update(Update("box", job))
    first, *rest = drawn(board).splitlines()
    assert "2 jobs running, 1 waiting" in first
    assert [words(line) for line in rest] == ["eager single: starting, 0:00"] * 2


def test_a_host_that_is_silent_says_so() -> None:
    board = Board([JOB], [])
    board.update(Update("box", message="does not answer: no route"))
    assert words(drawn(board)) == "box 0/2 does not answer: no route time left unknown"


def test_what_was_done_before_a_resume_counts() -> None:
    assert words(drawn(Board([JOB], [ok_row(JOB, JOB.cases[0])]))).startswith("box 1/2 waiting")


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


@pytest.mark.parametrize(
    ("error", "said"),
    [("cancelled", "cancelled"), (None, "cancelled"), ("stopped while it ran", "cancelled: stopped while it ran")],
)
def test_an_outcome_says_its_status_once(error: str | None, said: str) -> None:
    row = Row(engine="eager", status=Status.CANCELLED, error=error)
    assert Labels([]).outcome(row).endswith(f" {said}")


def test_the_board_keeps_the_rows_of_a_small_run_and_counts_those_of_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "MOST_ROWS", 2)
    board = Board([JOB], [])
    board.update(Update("box", JOB, rows=tuple(row(case, 1.0) for case in JOB.cases)))
    assert len(board.rows) == 2
    more = replace(JOB, id="k", cases=(Case("d", 4),))
    board.update(Update("box", more, rows=(replace(row(more.cases[0], 1.0, more), status=Status.FAILED),)))
    assert board.rows == {}
    assert board.outcomes() == [("box", Status.OK), ("box", Status.OK), ("box", Status.FAILED)]
    assert (board.hosts["box"].done, board.hosts["box"].total, board.hosts["box"].faults) == (3, 3, 1)


def test_a_case_that_runs_again_counts_once_and_its_fault_no_more() -> None:
    board = Board([JOB], [replace(row(JOB.cases[0], 1.0), status=Status.LOST)])
    assert (board.hosts["box"].done, board.hosts["box"].faults) == (1, 1)
    board.update(Update("box", JOB, rows=tuple(row(case, 1.0) for case in JOB.cases)))
    assert (board.hosts["box"].done, board.hosts["box"].faults) == (2, 0)


def test_only_hosts_that_are_shown_are_formatted(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [replace(JOB, id=f"j{number}", host=f"host{number}") for number in range(100)]
    formatted: list[str] = []
    plain = live._host_lines

    def noted(board: Board, name: str, host: HostBoard) -> list[live.BoardLine]:
        formatted.append(name)
        return plain(board, name, host)

    monkeypatch.setattr(live, "_host_lines", noted)
    text = drawn(Board(jobs, []), height=5)
    assert len(formatted) == 4
    assert "… and 96 hosts more" in text


def test_a_slow_drawing_is_shown_again_until_the_terminal_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SLOW_DRAWING_S", 0.0)
    monkeypatch.setattr(live, "DRAWING_SHARE", 1e-9)
    board, console = Board([JOB], []), Console(file=StringIO(), width=100, height=20)
    screen = Screen(board, console)

    def shown() -> str:
        with console.capture() as captured:
            console.print(screen)
        return captured.get()

    assert "0 of 2 cases" in shown()
    board.update(Update("box", JOB, rows=tuple(row(case, 1.0) for case in JOB.cases)))
    assert "0 of 2 cases" in shown()
    console.width = 90
    assert "2 of 2 cases" in shown()


def test_rows_of_a_run_are_found_by_their_work_and_not_by_their_cases() -> None:
    history, own = History(), replace(row(JOB.cases[0], 1.0), work=JOB.work(1))
    history.add([own], by_case=False)
    # a first call, two warm-up calls and three that are timed
    assert history.case(JOB, JOB.cases[0]).high == pytest.approx((own.first_call_s or 0.0) + 5)
    history.add([replace(own, work=None)], by_case=False)
    assert sum(map(len, history._rows.values())) == 2, "by work, on its host and on any"
