"""The command with the fake runner in place of this machine's: `python program.py [--stop-grace=SECONDS] WORDS`."""

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
    if len(sys.argv) > 1 and sys.argv[1].startswith("--stop-grace="):
        limits.STOP_GRACE_S = float(sys.argv.pop(1).partition("=")[2])
    main()
