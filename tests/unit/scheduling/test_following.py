from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from builders import a_job

from orchestrator.executors.contract import Attempt, Observation, State
from orchestrator.runs.job_state import JobState, Phase
from orchestrator.scheduling.following import Followers

JOB = JobState(a_job(samples=(1,)), Phase.RUNNING, 1, "cpu")
RUNS = Observation(State.RUNNING, "cpu")


def follow_each(*looks: tuple[JobState, ...]) -> list[Attempt]:
    """The attempts that are followed over some looks at a host where all jobs run."""
    followed: list[Attempt] = []

    def log(attempt: Attempt, *, follow: bool) -> Iterator[str]:
        followed.append(attempt)
        return iter(())

    executor: Any = SimpleNamespace(log=log)
    followers = Followers(lambda update: None)
    for jobs in looks:
        before = {*threading.enumerate()}
        followers.follow(executor, jobs, {state.key: RUNS for state in jobs})
        for thread in {*threading.enumerate()} - before:
            thread.join()
    return followed


def test_a_running_job_is_followed_once() -> None:
    assert follow_each((JOB,), (JOB,)) == [JOB.key]


def test_a_job_that_is_no_longer_looked_at_is_forgotten() -> None:
    other = replace(JOB, attempt=2)
    assert follow_each((JOB,), (other,), (JOB,)) == [JOB.key, other.key, JOB.key]
