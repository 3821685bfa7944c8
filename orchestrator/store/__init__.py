"""An object store for results: each attempt puts one object there, whether or not an orchestrator is running.

`bucket` speaks to the store, and alone knows boto3; `result_store` is what lies where in it, and what it means; `check`
says whether a host's jobs can use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from orchestrator.executors.contract import Attempt
from runner.schema import Job, Row
from runner.wire.result_bundle import Receipt, ResultBundle


class ResultStore(Protocol):
    """What a run needs of a store. Every method may raise HostUnreachable, after which it may be called again."""

    def upload_grant(self, attempt: Attempt, valid_s: float) -> str:
        """What the attempt's container is handed at its start: the right to put its one object. It is a secret."""

    def take(self, attempt: Attempt, receipt: Receipt | None = None) -> ResultBundle | None:
        """What an attempt has delivered; None where that is nothing (yet).

        receipt: what its container said of it. Raises Incomplete where the object is not what the container delivered,
        BadResult where it is no result bundle of this attempt.
        """

    def announce(self, run: str, jobs: Sequence[Job]) -> None:
        """Writes down what the run's objects are to be judged by. Raises InputError where the name is another run's."""

    def keep_rows(self, run: str, rows: Iterable[Row]) -> None:
        """Writes down the run's rows, in place of those it had."""

    def remove(self, run: str) -> int:
        """Deletes all objects of a run; how many there were."""

    def describe(self) -> str:
        """Where it is, and what a write may rely on there, for a human."""
