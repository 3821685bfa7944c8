"""Rows are merged while a run goes on, and all of them at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import pytest
from builders import a_job, ok_row

from orchestrator.errors import InputError
from orchestrator.runs import folder as runs
from orchestrator.runs.folder import Run
from orchestrator.scheduling.merging import merging


@dataclass(frozen=True)
class Watched(Run):
    """Notes each merge, which waits until it may go on."""

    may_merge: threading.Event = field(default_factory=threading.Event)
    has_begun: threading.Event = field(default_factory=threading.Event)
    merges: list[float] = field(default_factory=list)

    def merge(self) -> None:
        self.has_begun.set()
        assert self.may_merge.wait(30)
        self.merges.append(time.monotonic())
        super().merge()


@pytest.fixture
def run(tmp_path: Path) -> Watched:
    found = Watched(runs.create(tmp_path, "sd", datetime(2026, 1, 1, tzinfo=timezone.utc)).path)
    found.may_merge.set()
    return found


def end(run: Run, number: int) -> None:
    job = a_job(samples=(1,), id=f"{number:06x}", run=run.name, case=f"c{number}-")
    run.add_rows(job, [ok_row(job, job.cases[0])])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_rows_are_merged_while_the_run_goes_on(run: Watched) -> None:
    with merging(run) as merged:
        for number in range(1, 4):
            end(run, number)
            merged.soon()
            wait_until(lambda: len(run.all_rows()) == number)  # noqa: B023


def test_jobs_that_end_during_a_merge_share_the_next_one(run: Watched) -> None:
    run.may_merge.clear()
    with merging(run) as merged:
        for number in range(50):
            end(run, number)
            merged.soon()
        run.may_merge.set()
    assert (len(run.merges) <= 3, len(run.all_rows())) == (True, 50)


def test_all_rows_are_merged_at_the_end_even_after_an_error(run: Watched) -> None:
    def interrupted() -> None:
        with merging(run):
            end(run, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(run.all_rows()) == 1


def test_a_merge_that_fails_stops_the_run(run: Watched) -> None:
    end(run, 1)
    (run.job("000001") / "results.csv").write_text("garbage\n")

    def tell_until_it_is_refused() -> None:
        with merging(run) as merged:
            while True:
                merged.soon()

    with pytest.raises(InputError, match="000001"):
        tell_until_it_is_refused()


def test_what_a_killed_orchestrator_did_not_merge_is_read(run: Watched) -> None:
    end(run, 1)
    run.mark_unmerged()
    assert len(run.all_rows()) == 1
    end(run, 2)
    assert len(run.all_rows()) == 1  # it is merged, and not marked: nothing is read again


def test_a_reader_does_not_merge_a_run_that_is_driven(run: Watched) -> None:
    end(run, 1)
    run.mark_unmerged()
    with run.lock():
        assert run.all_rows() == []
    assert len(run.all_rows()) == 1


def test_rows_of_an_orchestrator_killed_right_after_a_commit_are_read(run: Watched) -> None:
    with merging(run):
        end(run, 1)  # and nothing after it: as after kill -9, nobody holds the run's lock
        assert len(run.all_rows()) == 1


def test_a_reader_leaves_the_mark_of_a_run_that_is_driven_meanwhile(run: Watched) -> None:
    run.mark_unmerged()
    run.may_merge.clear()
    reader = threading.Thread(target=run.all_rows)
    reader.start()
    assert run.has_begun.wait(30)
    with run.lock():
        run.may_merge.set()
        reader.join(30)
        assert (run.path / ".unmerged").exists()
    run.all_rows()
    assert not (run.path / ".unmerged").exists()


def test_a_run_is_marked_until_its_last_merge(run: Watched) -> None:
    run.may_merge.clear()
    with run.lock(), merging(run) as merged:
        end(run, 1)
        merged.soon()
        run.may_merge.set()
        wait_until(lambda: len(run.all_rows()) == 1)
        assert (run.path / ".unmerged").exists()
    assert not (run.path / ".unmerged").exists()
