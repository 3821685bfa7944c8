"""The command with the fake runner in place of this machine's: `python program.py [--stop-grace=SECONDS] WORDS`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli import main
from orchestrator.executors.process import executor as process
from orchestrator.executors.process import machine
from orchestrator.scheduling import limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.commands.gathering import Gathered
    from orchestrator.report.model import Report
    from orchestrator.runs.folder import Run

FAKE_RUNNER = (sys.executable, str(Path(__file__).parent / "fake_runner" / "__main__.py"))


def without_figures(gathered: Gathered, runs: Sequence[Run], quality: object = ()) -> Report:
    """Drawing takes 1.7 s of a CPU, at the end of every run."""
    return gathered.report


if __name__ == "__main__":
    if {"submit", "resume"} & set(sys.argv):
        from orchestrator.commands import reporting

        reporting.drawn = without_figures
    process.RUNNER = FAKE_RUNNER
    machine.NEEDED = ()
    if len(sys.argv) > 1 and sys.argv[1].startswith("--stop-grace="):
        limits.STOP_GRACE_S = float(sys.argv.pop(1).partition("=")[2])
    main()
