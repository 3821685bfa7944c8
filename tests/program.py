"""The command with the fake runner in place of this machine's: `python program.py WORDS`."""

import os
import sys
from pathlib import Path

from orchestrator.cli import main
from orchestrator.executors.process import executor as process
from orchestrator.executors.process import machine
from orchestrator.scheduling import limits

FAKE_RUNNER = (sys.executable, str(Path(__file__).parent / "fake_runner" / "__main__.py"))

if __name__ == "__main__":
    process.RUNNER = FAKE_RUNNER
    machine.NEEDED = ()
    if grace := os.environ.get("TESTS_STOP_GRACE_S"):
        limits.STOP_GRACE_S = float(grace)
    main()
