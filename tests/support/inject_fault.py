"""Runs the command line with a fault injected into its process: inject_fault.py FAULTS WORDS...

FAULTS is JSON. The `die_` faults kill the process with SIGKILL. die_after: once it wrote that many events into its
journal. die_at: once it wrote the first event of that kind. die_after_calls: once a store answered that many calls.
die_after_writes: once a cluster answered that many calls that may change something. die_before_handing_over: after a
container started, and before it is sent a secret. clock: a file that holds by how many seconds the wall clock is wrong.
grace_s, backoff_s: shorter values of `limits.GRACE_S` and `retries.BACKOFF_S`. forgotten_s: the age from which a test
object in a store belongs to nobody.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def wrong_clock(by: Path) -> None:
    right = time.time
    time.time = lambda: right() + float(by.read_text())


def die_after(events: int = 0, kind: str = "") -> None:
    from orchestrator.runs.job_state import Entry
    from orchestrator.runs.journal import Journal

    record_all, written = Journal.record_all, [0]

    def fatal(journal: Journal, entries: Sequence[Entry]) -> Any:
        after = record_all(journal, entries)
        before = written[0]
        written[0] += len(entries)
        if before < events <= written[0] or any(entry.kind.value == kind for entry in entries):
            os.kill(os.getpid(), signal.SIGKILL)
        return after

    Journal.record_all = fatal  # type: ignore[method-assign, assignment]


def die_after_calls(calls: int) -> None:
    from botocore.client import BaseClient

    ask, answered = BaseClient._make_api_call, itertools.count(1)

    def fatal(*question: Any) -> Any:
        try:
            return ask(*question)
        finally:  # a refusal is an answer too
            if next(answered) == calls:
                os.kill(os.getpid(), signal.SIGKILL)

    BaseClient._make_api_call = fatal


def die_after_writes(writes: int) -> None:
    from orchestrator.executors.kubernetes.cluster import Cluster

    call, answered = Cluster.call, itertools.count(1)

    def fatal(cluster: Cluster, method: str, *rest: Any, **more: Any) -> Any:
        try:
            return call(cluster, method, *rest, **more)
        finally:
            if method != "GET" and next(answered) == writes:
                os.kill(os.getpid(), signal.SIGKILL)

    Cluster.call = fatal  # type: ignore[method-assign, assignment]


def die_before_handing_over() -> None:
    from orchestrator.executors.docker import executor as docker

    docker.hand_over = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[attr-defined]


def main(faults: dict[str, Any], words: list[str]) -> None:
    if "clock" in faults:  # before anybody keeps a name of the clock
        wrong_clock(Path(faults["clock"]))
    from orchestrator import cli
    from orchestrator.scheduling import limits, retries

    limits.GRACE_S = faults.get("grace_s", limits.GRACE_S)
    retries.BACKOFF_S = faults.get("backoff_s", retries.BACKOFF_S)
    if "die_after" in faults:
        die_after(faults["die_after"])
    if "die_at" in faults:
        die_after(kind=faults["die_at"])
    if "die_after_calls" in faults:
        die_after_calls(faults["die_after_calls"])
    if "die_after_writes" in faults:
        die_after_writes(faults["die_after_writes"])
    if "die_before_handing_over" in faults:
        die_before_handing_over()
    if "forgotten_s" in faults:
        from orchestrator.store import bucket

        bucket.FORGOTTEN_S = faults["forgotten_s"]
    cli.main(words)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
