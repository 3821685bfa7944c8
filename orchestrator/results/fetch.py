"""Fetches an attempt's files from one source: the object store that it uploaded to, or else its host."""

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
    """results.csv and environment.json; None if the file does not exist.

    not_delivered: the attempt's reason for not uploading to the store, if it was supposed to and gave one.
    """

    results: bytes | None = None
    environment: bytes | None = None
    not_delivered: str = ""


def bring_home(executor: Executor, result_store: ResultStore | None, attempt: Attempt, instance: str) -> Files:
    """Fetches the files of an attempt that has exited. instance: as in the observation that it has.

    Tries the store first, because its files persist. If the upload never happened (the container was killed, the store
    refused it), the same files are still on the host. Raises what `ResultStore.take` and `Executor.fetch` raise.
    """
    receipt = executor.receipt(attempt, instance) if result_store else None
    bundle = _delivered(result_store, attempt, receipt) if result_store else None
    if bundle is not None:
        return Files(bundle.results.encode(), bundle.environment.encode())
    environment = None
    with suppress(BadResult):  # the environment is not part of the rows; a bad one must not lose them
        environment = executor.fetch(attempt, "environment.json", instance)
    why = printable(receipt.error) if receipt is not None and receipt.outcome is UploadStatus.FAILED else ""
    return Files(executor.fetch(attempt, "results.csv", instance), environment, why)


def _delivered(result_store: ResultStore, attempt: Attempt, receipt: Receipt | None) -> ResultBundle | None:
    try:
        return result_store.take(attempt, receipt)
    except HostUnreachable:
        if receipt is not None and receipt.outcome is not UploadStatus.FAILED:
            raise  # the result is in the store: retry instead of falling back to the host
        return None
