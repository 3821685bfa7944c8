"""Collects results through an object store: each attempt uploads one object, even while no orchestrator runs.

`bucket` talks to the store and is the only user of boto3. `result_store` defines the objects and their meaning. `check`
tells whether a host's jobs can use the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from orchestrator.executors.contract import Attempt
from runner.schema import Job, Row
from runner.wire.result_bundle import Receipt, ResultBundle


class ResultStore(Protocol):
    """The store's operations for a run. Every method may raise HostUnreachable; then call it again."""

    def upload_grant(self, attempt: Attempt, valid_s: float) -> str:
        """Returns the right to upload the attempt's one object; its container gets it at the start. It is a secret."""

    def take(self, attempt: Attempt, receipt: Receipt | None = None) -> ResultBundle | None:
        """Returns what an attempt has uploaded; None if there is nothing (yet).

        receipt: the container's own record of the upload. Raises Incomplete if the object is not the one that the
        container uploaded, BadResult if it is no result bundle of this attempt.
        """

    def announce(self, run: str, jobs: Sequence[Job]) -> None:
        """Stores the jobs that the run's objects are checked against. Raises InputError if another run has the name."""

    def keep_rows(self, run: str, rows: Iterable[Row]) -> None:
        """Stores the run's rows, in place of the earlier ones."""

    def remove(self, run: str) -> int:
        """Deletes all objects of a run and returns their number."""

    def describe(self) -> str:
        """Returns, for people, where the store is and which write guarantees it gives."""
