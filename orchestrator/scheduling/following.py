"""Passes on what running jobs print, each followed by a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from orchestrator.errors import HostUnfit, HostUnreachable, InputError
from orchestrator.executors.contract import Attempt, Executor, Observation, State
from orchestrator.runs.job_state import JobState
from orchestrator.scheduling.updates import Update
from runner.schema import Event

# Each followed job holds a connection and a thread. The events of jobs beyond this many are not shown while they run.
MOST_FOLLOWED = 64


class Followers:
    """The threads that follow the jobs of one host."""

    def __init__(self, tell: Callable[[Update], None]) -> None:
        self._tell = tell
        self._followed: set[Attempt] = set()
        self._free = threading.Semaphore(MOST_FOLLOWED)

    def follow(self, executor: Executor, jobs: Sequence[JobState], seen: Mapping[Attempt, Observation]) -> None:
        """Starts to follow the running jobs that are not followed yet; after a restart also those of before.

        jobs: those that are open or listed; what it knows of others is forgotten.
        """
        self._followed -= self._followed - {state.key for state in jobs}
        for state in jobs:
            observation = seen.get(state.key)
            is_new = observation and observation.state is State.RUNNING and state.key not in self._followed
            if is_new and self._free.acquire(blocking=False):
                self._followed.add(state.key)
                arguments = (executor, state)
                threading.Thread(target=self._pass_on, args=arguments, name=state.key.name, daemon=True).start()

    def _pass_on(self, executor: Executor, state: JobState) -> None:
        try:
            for line in executor.log(state.key, follow=True):
                event = Event.from_line(line)
                if event is not None:
                    self._tell(Update(state.job.host, state.job, event=event))
        except (HostUnreachable, HostUnfit, InputError):
            self._followed.discard(state.key)  # followed again once the host is back, if it still runs then
        finally:
            self._free.release()
