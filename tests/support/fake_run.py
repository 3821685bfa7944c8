"""A run on a fake host, driven step by step in one thread."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor as Pool
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from builders import a_job
from fake_executor import (
    FakeExecutor,
    FakeHost,
)

from orchestrator.executors.contract import Slot
from orchestrator.runs import folder as runs
from orchestrator.runs.folder import Run
from orchestrator.runs.journal import Journal
from orchestrator.scheduling.host_loop import HostLoop
from orchestrator.scheduling.limits import Limits
from orchestrator.scheduling.updates import Update
from runner.schema import Case, Job, Row


class Inline(Pool):
    """Runs each action at once, so that a test has one order of events."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Later(Inline):
    """Runs nothing until it is told to: what was decided before then was decided without knowing of each other."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.waiting.append((Future(), lambda: fn(*args, **kwargs)))
        return self.waiting[-1][0]

    def catch_up(self) -> None:
        while self.waiting:
            future, work = self.waiting.pop(0)
            future.set_result(work())


def make_job(run: str, name: str, cases: int = 1, model: str = "synthetic:tiny") -> Job:
    numbered = tuple(Case(f"{name}{n}", n + 1) for n in range(cases))
    return a_job(run=run, id=name, host="fake", model=model, cases=numbered, timeout_s=100)


@dataclass
class FakeRun:
    """A run on one fake host, and the orchestrator that drives it; `restart` is another one on the same run."""

    host: FakeHost
    run: Run
    journal: Journal
    updates: list[Update] = field(default_factory=list)

    def loop(self, **options: Any) -> HostLoop:
        return HostLoop(
            FakeExecutor(self.host),
            self.host.slots,
            self.journal,
            self.run,
            Inline(),
            Limits(retries=2, lost_after_s=900),
            tell=self.updates.append,
            clock=self.host.clock,
            **options,
        )

    def finish(self, loop: HostLoop | None = None) -> dict[str, Row]:
        """Steps until done; time passes between looks. Returns the rows by case."""
        loop = loop or self.loop()
        for _ in range(2000):
            if loop.step():
                return self.rows()
            if loop.late is not None and loop.late.answer is not None:  # time here passes faster than its thread runs
                concurrent.futures.wait([loop.late.answer], 30)
            self.host.clock.advance(1.0)
        raise AssertionError("the run did not end")

    def restart(self) -> None:
        self.journal.close()
        self.journal = Journal.open(self.run.journal)

    def rows(self) -> dict[str, Row]:
        from orchestrator.runs.rows import read_rows

        rows = read_rows(self.run.results)
        assert len({row.case for row in rows}) == len(rows), "a case has two rows"
        return {str(row.case): row for row in rows}


@pytest.fixture
def fake_run(tmp_path: Path) -> Iterator[Any]:
    open_journals: list[FakeRun] = []

    def make(
        *names: str, cases: int = 1, slots: Sequence[Slot] = (Slot("cpu"),), model: str = "synthetic:tiny"
    ) -> FakeRun:
        host = FakeHost(slots=tuple(slots))
        run = runs.create(tmp_path, "sd", datetime(2026, 1, 1, tzinfo=timezone.utc))
        jobs = [make_job(run.name, name, cases, model) for name in names]
        open_journals.append(FakeRun(host, run, Journal.create(run.journal, run.name, jobs, {})))
        return open_journals[-1]

    yield make
    for each in open_journals:
        each.journal.close()
