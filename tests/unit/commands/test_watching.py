"""`report --watch`: what its page shows of a run that goes on, ends, or is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from builders import a_job, ok_row
from runfolders import BEGAN, a_run

from orchestrator.commands import watching
from orchestrator.commands.gathering import Asked
from orchestrator.commands.watching import LastLines, Page
from orchestrator.errors import HostUnreachable
from orchestrator.report.model import Live, Report
from orchestrator.runs import joblog
from orchestrator.runs.folder import Run
from orchestrator.runs.job_state import Entry, JobState, Kind
from orchestrator.runs.journal import Journal
from runner.schema import Job

FIGURES_LATER = "Figures are drawn when the run ends."
NAME, ID = "20260301-120000-abc123-quick", "3cac81a0b1c2"


class FakeLines(LastLines):
    watched: tuple[str, ...] = ()

    def watch(self, jobs: Sequence[JobState]) -> None:
        self.watched = tuple(state.job.id for state in jobs)

    def last(self) -> Mapping[str, str]:
        return dict.fromkeys(self.watched, "samples 2: trial 1 of 3, 0.5 s")


def job() -> Job:
    return a_job(samples=(1, 2), run=NAME, id=ID)


@pytest.fixture
def run(here: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """One of its job's two cases is done."""
    monkeypatch.setattr(watching, "LEAST_S", 0.0)
    monkeypatch.setattr(watching, "SHARE", 0)
    mine = job()
    return a_run(here / "runs", [(mine, [ok_row(mine, mine.cases[0])])])


def page_of(run: Run) -> Page:
    return Page(run, Asked(), FakeLines(run))


def shown(page: Page) -> Report:
    page.content()
    assert page.report is not None
    return page.report


def live(page: Page) -> Live:
    found = shown(page).live
    assert found is not None
    return found


def test_a_run_that_goes_on_shows_its_progress_and_a_log_line(run: Run) -> None:
    with run.lock():
        found = live(page_of(run))
    assert (found.done, found.total, found.is_open, found.notice) == (1, 2, True, "")
    assert [(each.job, each.host, each.phase) for each in found.jobs] == [(ID, "h", "running")]
    assert found.jobs[0].line == "samples 2: trial 1 of 3, 0.5 s"


def test_the_log_is_asked_for_before_anyone_opens_the_page(run: Run) -> None:
    lines = FakeLines(run)
    with run.lock():
        Page(run, Asked(), lines).has_ended()
    assert lines.watched == (ID,)


def test_the_table_fills_in_as_rows_are_committed(run: Run) -> None:
    page, mine = page_of(run), job()
    assert len(shown(page).table.cases) == 1
    run.add_rows(mine, [ok_row(mine, mine.cases[1])])
    run.merge()
    assert len(shown(page).table.cases) == 2


def test_a_run_that_ended_is_shown_without_progress(run: Run) -> None:
    page, mine = page_of(run), job()
    assert FIGURES_LATER in shown(page).notes
    assert not page.has_ended()
    run.add_rows(mine, [ok_row(mine, mine.cases[1])])
    run.merge()
    with closing(Journal.open(run.journal)) as journal:
        journal.record(Entry(BEGAN + 60, Kind.SETTLED, ID, 1, "cpu"))
    found = shown(page)
    assert found.live is None
    assert FIGURES_LATER not in found.notes
    assert page.has_ended()


def test_a_run_that_no_process_drives_says_how_to_resume_it(run: Run) -> None:
    assert live(page_of(run)).notice == f"No process drives this run; fix: orchestrator resume {NAME}"


def test_a_page_that_did_not_change_keeps_its_bytes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of(run)
    assert page.content() is page.content()


def test_a_journal_that_becomes_damaged_leaves_the_last_page_with_a_notice(run: Run) -> None:
    page = page_of(run)
    assert len(shown(page).table.cases) == 1
    for path in run.path.glob("journal.db*"):
        path.unlink()
    found = shown(page)
    assert len(found.table.cases) == 1
    assert found.live is not None
    assert "there is no journal" in found.live.notice


def test_the_last_line_of_a_log_is_worded_and_bounded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["Loading", '{"kind":"trial","at":1772366400.0,"case":"c1","trial":1,"of":3,"latency_s":0.5}', " "]
    monkeypatch.setattr(joblog, "lines", lambda *_, **__: iter(said))
    assert LastLines(run)._line(JobState(job())).endswith("samples 1: trial 1 of 3, 0.5 s")
    said[:] = ["\x1b[31m" + "x" * 9000]
    line = LastLines(run)._line(JobState(job()))
    assert line.isprintable()
    assert len(line) <= 400


def test_a_host_that_does_not_answer_gives_no_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise HostUnreachable("h: connection refused")

    monkeypatch.setattr(joblog, "lines", fails)
    assert LastLines(run)._line(JobState(job())) == ""
