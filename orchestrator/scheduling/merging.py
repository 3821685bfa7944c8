"""Merges a run's rows while it runs: in one thread, and only so often that merging takes a small share of the time.

All that time the run is marked `unmerged`: a reader of the run of an orchestrator that was killed merges it first
(`Run.all_rows`). A mark that came with each commit would miss a kill between the two.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.runs.folder import Run
from orchestrator.scheduling.recording import own_files

# A merge reads the rows of all jobs. Once for each job that ends it took 83% of the processor time at 100 hosts, and
# the time of a run grew with the square of its jobs (docs/performance.md). After a merge that took 5 ms, as that of a
# small run does, the next one waits for 0.1 s.
SHARE = 0.05


class Merging:
    """Call `soon` after rows were committed."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._changed = threading.Condition()
        self._is_due = self._is_over = False
        self._problem: Exception | None = None
        self._thread = threading.Thread(target=self._go_on, name="merging", daemon=True)

    def soon(self) -> None:
        """Raises the InputError of an earlier merge: the run's folder is for the user to fix."""
        with self._changed:
            if self._problem is not None:
                raise self._problem
            if not self._is_due:
                self._is_due = True
                self._changed.notify()

    def _go_on(self) -> None:
        pause_s = 0.0
        while self._is_wanted(pause_s):
            began = time.monotonic()
            try:
                self._merge()
            except Exception as error:
                self._problem = error
                return
            pause_s = (time.monotonic() - began) * (1 / SHARE - 1)

    def _is_wanted(self, pause_s: float) -> bool:
        """Waits until the pause is over and a merge is due. False once the run is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over, pause_s)
            self._changed.wait_for(lambda: self._is_over or self._is_due)
            return not self._is_over

    def _merge(self) -> None:
        with self._changed:
            self._is_due = False
        with own_files(self._run):
            self._run.merge()

    def _end(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._thread.join()


@contextmanager
def merging(run: Run) -> Iterator[Merging]:
    """Inside, rows are merged as they come. All are merged when the block ends.

    The run is to be locked (`Run.lock`): otherwise a reader takes it for one that nobody drives, and removes its mark.
    """
    with own_files(run):
        run.mark_unmerged()
    found = Merging(run)
    found._thread.start()
    try:
        yield found
    finally:
        found._end()
        found._merge()
        run.mark_merged()
