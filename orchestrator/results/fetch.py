"""Where an attempt's files come from: the store that it delivered to, or else its host. One of them, whole."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from orchestrator.errors import BadResult, HostUnreachable
from orchestrator.executors.contract import Attempt, Executor
from orchestrator.sanitize import printable
from orchestrator.store import ResultStore
from runner.wire.result_bundle import Receipt, ResultBundle, UploadStatus


@dataclass(frozen=True)
class Files:
    """results.csv and environment.json, None where there is no such file.

    not_delivered: why they are not from the store, where the attempt was to deliver there and says why it did not.
    """

    results: bytes | None = None
    environment: bytes | None = None
    not_delivered: str = ""


def bring_home(executor: Executor, result_store: ResultStore | None, attempt: Attempt) -> Files:
    """The files of an attempt that has exited.

    What is in the store goes first, since it stays there. What never came there (the container was killed, the store
    refused) is still on the host, in the very files that would have been delivered. Raises what `ResultStore.take` and
    `Executor.fetch` raise.
    """
    receipt = executor.receipt(attempt) if result_store else None
    bundle = _delivered(result_store, attempt, receipt) if result_store else None
    if bundle is not None:
        return Files(bundle.results.encode(), bundle.environment.encode())
    environment = None
    with suppress(BadResult):  # it is no part of the rows, and costs none
        environment = executor.fetch(attempt, "environment.json")
    why = printable(receipt.error) if receipt is not None and receipt.outcome is UploadStatus.FAILED else ""
    return Files(executor.fetch(attempt, "results.csv"), environment, why)


def _delivered(result_store: ResultStore, attempt: Attempt, receipt: Receipt | None) -> ResultBundle | None:
    try:
        return result_store.take(attempt, receipt)
    except HostUnreachable:
        if receipt is not None and receipt.outcome is not UploadStatus.FAILED:
            raise  # it is there: worth waiting for
        return None
