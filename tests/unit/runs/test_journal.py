from __future__ import annotations

import gc
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from builders import a_job

from orchestrator.errors import InputError
from orchestrator.runs.job_state import Entry, JobState, Kind, Phase
from orchestrator.runs.journal import Journal
from runner.schema import Job


def job(name: str, host: str = "h") -> Job:
    return a_job(samples=(1,), id=name, host=host, case=f"{name}-")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.create(tmp_path / "journal.db", "r", [job("b", "h1"), job("a", "h2")], {"retries": 2})


def reopened(journal: Journal) -> Journal:
    journal.close()
    return Journal.open(journal.path)


def test_the_plan_is_remembered_in_its_order(journal: Journal) -> None:
    again = reopened(journal)
    assert [p.job for p in again.states()] == [job("b", "h1"), job("a", "h2")]
    assert (again.run, again.options) == ("r", {"retries": 2})


def test_progress_after_a_restart_is_what_it_was(journal: Journal) -> None:
    journal.record(Entry(1.0, Kind.STAGING, "a", 1, "cpu"))
    journal.record(Entry(2.0, Kind.STARTING, "a", 1, "cpu"))
    journal.record(Entry(3.0, Kind.FAULT, "a", 1, "cpu", "the host rebooted"))
    before = journal.record(Entry(4.0, Kind.STAGING, "a", 2, "cpu"))
    (after,) = reopened(journal).states("h2")
    assert after == before
    assert (after.phase, after.attempt, after.faults, after.reason) == (Phase.STAGING, 2, 1, "the host rebooted")


def test_a_job_whose_host_answered_late_keeps_the_image_that_it_got(journal: Journal) -> None:
    journal.record(Entry(1.0, Kind.IMAGE_READY, "a", reason="sd:1@sha256:2"))
    journal.record(Entry(2.0, Kind.STAGING, "a", 1, "cpu"))
    (after,) = reopened(journal).states("h2")
    assert (after.job.image, after.phase, after.attempt) == ("sd:1@sha256:2", Phase.STAGING, 1)


@pytest.mark.parametrize(
    ("faults", "refusals"),
    [
        ([(Kind.REFUSED, "no"), (Kind.REFUSED, "no")], 2),
        ([(Kind.REFUSED, "no"), (Kind.REFUSED, "not now")], 1),
        ([(Kind.REFUSED, "no"), (Kind.FAULT, "no"), (Kind.REFUSED, "no")], 1),
        ([(Kind.FAULT, "no"), (Kind.FAULT, "no")], 0),
        ([(Kind.REFUSED, "no"), (Kind.LOST, "no"), (Kind.REFUSED, "no")], 1),
    ],
)
def test_refusals_in_the_same_words_are_counted(
    journal: Journal, faults: list[tuple[Kind, str]], refusals: int
) -> None:
    for number, (kind, reason) in enumerate(faults, 1):
        journal.record(Entry(1.0, Kind.STAGING, "a", number, "cpu"))
        journal.record(Entry(2.0, kind, "a", number, "cpu", reason))
    (after,) = reopened(journal).states("h2")
    assert (after.refusals, after.faults) == (refusals, len(faults))


def test_history_keeps_the_reason_of_every_attempt(journal: Journal) -> None:
    entries = (Entry(1.0, Kind.STAGING, "a", 1, "cpu"), Entry(3.0, Kind.FAULT, "a", 1, "cpu", "unplugged"))
    for entry in entries:
        journal.record(entry)
    assert reopened(journal).history("a") == entries


def test_events_recorded_together_are_folded_in_their_order(journal: Journal) -> None:
    entries = [Entry(1.0, Kind.STAGING, "a", 1, "cpu"), Entry(2.0, Kind.FAULT, "a", 1, "cpu", "unplugged")]
    states = journal.record_all([*entries, Entry(3.0, Kind.STAGING, "b", 1, "cpu")])
    assert [(state.job.id, state.phase) for state in states] == [
        ("a", Phase.STAGING),
        ("a", Phase.PENDING),
        ("b", Phase.STAGING),
    ]
    assert journal.histories() == {"a": entries, "b": [Entry(3.0, Kind.STAGING, "b", 1, "cpu")]}
    assert reopened(journal).states() == (states[2], states[1])


def test_events_of_many_threads_and_two_processes_all_count(journal: Journal) -> None:
    """Another connection stands for the other process: SQLite treats both alike."""
    with closing(Journal.open(journal.path)) as other, ThreadPoolExecutor(8) as pool:
        for number in range(1, 41):
            writer = other if number % 4 == 0 else journal
            pool.submit(writer.record, Entry(float(number), Kind.FAULT, "ab"[number % 2], 1, "cpu", "unplugged"))
        pool.shutdown()
        assert {state.faults for state in journal.states()} == {20}
        assert other.states() == journal.states()
        after = journal.states()
    assert reopened(journal).states() == after


def test_the_states_of_a_host_are_of_its_jobs_alone_in_order(journal: Journal) -> None:
    journal.add([job("z", "h2"), job("c", "h2"), job("d", "h3")])
    assert [state.job.id for state in journal.states("h2")] == ["a", "z", "c"]
    assert journal.states("nowhere") == ()
    assert [state.job.id for state in reopened(journal).states("h2")] == ["a", "z", "c"]


def test_a_failed_write_changes_no_state(journal: Journal) -> None:
    before = journal.states()
    journal._db.execute("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(InputError, match="disk full"):
        journal.record(Entry(1.0, Kind.STARTING, "a", 1, "cpu"))
    assert journal.states() == before
    journal._db.execute("DROP TRIGGER full")
    assert journal.record(Entry(2.0, Kind.STARTING, "a", 1, "cpu")).since == 2.0
    assert len(reopened(journal).history("a")) == 1


def test_a_cancel_from_another_process_is_seen(journal: Journal) -> None:
    other = Journal.open(journal.path)
    other.record(Entry(1.0, Kind.CANCEL, "a"))
    assert [p.cancelled for p in journal.states()] == [False, True]


def test_jobs_that_are_added_stand_last_and_are_seen_by_another_process(journal: Journal) -> None:
    with closing(Journal.open(journal.path)) as other:
        before = [state.job.id for state in other.states()]
        journal.add([job("later"), job("last")])
        journal.add([job("later")])
        journal.record(Entry(1.0, Kind.CANCEL, "later"))
        assert [state.job.id for state in other.states()] == [*before, "later", "last"]
        assert [state.job.id for state in other.states() if state.cancelled] == ["later"]


def test_an_event_outlives_a_process_that_is_killed_right_after_it(journal: Journal) -> None:
    script = (
        "import os, sys; from pathlib import Path; from orchestrator.runs.journal import *\n"
        f"Journal.open(Path({str(journal.path)!r})).record(Entry(1.0, Kind.STARTING, 'a', 1, 'cpu'))\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    assert journal.states("h2")[0].phase is Phase.STARTING


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.CANCEL, Kind.IMAGE_READY, Kind.RUNNING)])
def test_an_event_sets_the_fields_of_a_state_that_it_tells_of_alone(kind: Kind) -> None:
    before = JobState(
        job("a"), Phase.RUNNING, 1, "cpu", 1.0, 2, is_lost=True, refusals=3, reason="old", cancelled=True, instance="p"
    )
    after = before.after(Entry(5.0, kind, "a", 1, "gpu"))
    assert (after.slot, after.since, after.attempt) == ("gpu", 5.0, 1)
    assert (after.job, after.cancelled, after.reason, after.instance) == (before.job, True, "old", "p")


def test_what_threads_were_told_is_recorded_outlives_a_kill(journal: Journal) -> None:
    script = (
        "import threading; from pathlib import Path; from orchestrator.runs.journal import *\n"
        f"journal = Journal.open(Path({str(journal.path)!r}))\n"
        "def work(thread):\n"
        "    for number in range(1, 1_000_000):\n"
        "        journal.record(Entry(1.0, Kind.STARTING, 'a', number, f'slot{thread}'))\n"
        "        print(f'slot{thread} {number}\\n', end='', flush=True)\n"
        "for thread in range(8): threading.Thread(target=work, args=(thread,)).start()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline() for _ in range(200)]
        writer.kill()
        told += [line for line in writer.stdout if line.endswith("\n")]
    recorded = {(entry.slot, entry.attempt) for entry in reopened(journal).history("a")}
    missing = {(slot, int(number)) for slot, number in map(str.split, told)} - recorded
    assert len(told) >= 200
    assert not missing


def test_a_second_journal_is_never_made_over_the_first(journal: Journal) -> None:
    with pytest.raises(InputError, match="orchestrator resume r"):
        Journal.create(journal.path, "r", [], {})


@pytest.mark.parametrize("content", [b"", b"not a database" * 100])
def test_a_damaged_journal_is_one_clear_message(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.db").write_bytes(content)
    with pytest.raises(InputError, match=r"journal\.db: .*(damaged|version)"):
        Journal.open(tmp_path / "journal.db")


def test_a_journal_that_another_process_holds_is_one_clear_message(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = sqlite3.connect(journal.path)
    blocker.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr("orchestrator.runs.journal.BUSY_TIMEOUT_S", 0.05)
    with pytest.raises(InputError, match="locked"):
        Journal.open(journal.path).record(Entry(1.0, Kind.STAGING, "a", 1, "cpu"))
    blocker.close()


def test_a_job_that_is_opened_again_has_all_its_tries_again(journal: Journal) -> None:
    journal.record(Entry(1.0, Kind.FAULT, "a", 1, "cpu", "unplugged"))
    journal.record(Entry(2.0, Kind.SETTLED, "a", 1, "cpu"))
    again = journal.record(Entry(3.0, Kind.REOPENED, "a", 1))
    assert (again.phase, again.attempt, again.faults) == (Phase.PENDING, 1, 0)


def test_an_event_is_on_the_disk_when_it_is_recorded(journal: Journal) -> None:
    assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,), "FULL: https://sqlite.org/pragma.html"


def test_a_start_that_was_seen_running_is_known_until_the_next_attempt(journal: Journal) -> None:
    journal.record(Entry(1.0, Kind.STARTING, "a", 1, "1"))
    seen = journal.record(Entry(2.0, Kind.RUNNING, "a", 1, "1", "pod-1"))
    assert (seen.phase, seen.since, seen.instance, seen.reason) == (Phase.RUNNING, 2.0, "pod-1", "")
    assert journal.record(Entry(3.0, Kind.STOPPING, "a", 1, "1", "too long")).instance == "pod-1"
    assert journal.record(Entry(4.0, Kind.STAGING, "a", 2, "1")).instance == ""


def test_why_jobs_wait_is_kept_by_its_newest_word_and_by_host(journal: Journal) -> None:
    assert journal.waits() == {}, "a journal of an older version has none"
    journal.note_waits("h1", {"b": ("no node", None)})
    journal.note_waits("h2", {"a": ("held", 5.0)})
    journal.note_waits("h1", {"b": ("still no node", 7.0)})
    assert reopened(journal).waits() == {"b": ("still no node", 7.0), "a": ("held", 5.0)}


def test_a_job_that_waits_no_more_has_no_reason(journal: Journal) -> None:
    journal.note_waits("h1", {"b": ("no node", None)})
    journal.note_waits("h1", {})
    assert journal.waits() == {}


def test_a_journal_is_closed_to_other_users_whose_locks_would_hold_it(journal: Journal) -> None:
    files = sorted(journal.path.parent.iterdir())
    assert [file.name for file in files] == ["journal.db", "journal.db-shm", "journal.db-wal"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    for file in files:
        file.chmod(0o644)  # as an older version made them
    with closing(Journal.open(journal.path)) as again:
        again.record(Entry(1.0, Kind.STAGING, "a", 1, "cpu"))
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    journal.close()


def test_an_event_of_an_unknown_job_is_refused_and_the_journal_goes_on(journal: Journal) -> None:
    with pytest.raises(InputError, match="there is no job ghost in this run"):
        journal.record(Entry(1.0, Kind.STAGING, "ghost", 1))
    journal.record(Entry(2.0, Kind.STAGING, "a", 1))
    assert journal.history("ghost") == ()
    assert reopened(journal).states("h2")[0].phase is Phase.STAGING


def test_events_that_were_not_folded_in_are_read_again(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(state: JobState, entry: Entry) -> JobState:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(JobState, "after", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.record(Entry(1.0, Kind.STAGING, "a", 1))
    journal.record(Entry(2.0, Kind.STARTING, "a", 1))
    assert [entry.kind for entry in journal.history("a")] == [Kind.STAGING, Kind.STARTING]
    assert [(state.job.id, state.phase) for state in journal.states()] == [("b", Phase.PENDING), ("a", Phase.STARTING)]


def test_a_closed_journal_holds_no_states(journal: Journal) -> None:
    state = journal.states()[0]
    assert any(isinstance(each, dict) for each in gc.get_referrers(state))
    journal.close()
    assert not any(isinstance(each, dict) for each in gc.get_referrers(state))
