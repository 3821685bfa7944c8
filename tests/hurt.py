"""The orchestrator's command line with a fault in it, for a process of its own: hurt.py FAULTS WORDS...

FAULTS is JSON. die_after: SIGKILL, by its own hand, once that many events are in the journal of this process. clock: a
file that holds by how many seconds the wall clock is wrong. grace_s, backoff_s: the policy's, to be shorter.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def wrong_clock(by: Path) -> None:
    right = time.time
    time.time = lambda: right() + float(by.read_text())


def die_after(events: int) -> None:
    from orchestrator.journal import Entry, Journal

    record, written = Journal.record, [0]

    def fatal(journal: Journal, entry: Entry) -> Any:
        progress = record(journal, entry)
        written[0] += 1
        if written[0] == events:
            os.kill(os.getpid(), signal.SIGKILL)
        return progress

    Journal.record = fatal  # type: ignore[method-assign]


def main(faults: dict[str, Any], words: list[str]) -> None:
    if "clock" in faults:  # before anybody keeps a name of the clock
        wrong_clock(Path(faults["clock"]))
    from orchestrator import cli, policy

    policy.GRACE_S = faults.get("grace_s", policy.GRACE_S)
    policy.BACKOFF_S = faults.get("backoff_s", policy.BACKOFF_S)
    if "die_after" in faults:
        die_after(faults["die_after"])
    cli.main(words)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2:])
