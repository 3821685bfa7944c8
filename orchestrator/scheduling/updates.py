"""The updates that the scheduler sends while it drives a run."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.errors import shortened
from runner.schema import Event, Job, Row


@dataclass(frozen=True)
class Update:
    """A message about a host; or a job's start, an event of it, or its rows at its end.

    A job without event, rows and message is one that was just started. planned: jobs that were added to the run.
    """

    host: str
    job: Job | None = None
    event: Event | None = None
    rows: tuple[Row, ...] = ()
    message: str = ""
    planned: tuple[Job, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", shortened(self.message))
