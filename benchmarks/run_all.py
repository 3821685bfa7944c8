"""Runs the script of every goal of speed and scale (goals.py), one after the other, and prints a summary of all goals.

Run it on a quiet machine. It takes at most 15 minutes on two cores. A script that needs root or an engine says so and
goes on; a script that takes much longer than its share is stopped. The exit code is 1 if a script failed or was
stopped, not if a target was missed.

  python benchmarks/run_all.py
  python benchmarks/run_all.py journal_rate.py plan_cases.py
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))

from goals import GOALS, RECORD, SECONDS, Figure, Goal, shown, table  # noqa: E402

SLACK_S = 40.0  # how much longer than its share a script may take before it is stopped
CLEANUP_S = 20.0  # after the interrupt, before it is killed


def ran(command: Sequence[str], seconds: float, record: Path, stdout: int | None = None) -> str:
    """Runs one script, whose output goes where ours goes. Returns what went wrong with it, or ''."""
    environment = {**os.environ, RECORD: str(record), "PYTHONUNBUFFERED": "1"}
    with start(command, environment, stdout) as script:
        try:
            code = script.wait(seconds)
            return f"it ended with exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            return f"it was stopped after {seconds:.0f} s"
        finally:
            stop(script)


def start(
    command: Sequence[str], environment: Mapping[str, str] | None = None, stdout: int | None = None
) -> subprocess.Popen[bytes]:
    """Starts a script in a process group of its own. A shell's background jobs ignore SIGINT: the script does not."""

    def listen() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(command, env=environment, stdout=stdout, start_new_session=True, preexec_fn=listen)


def stop(script: subprocess.Popen[bytes]) -> None:
    """Interrupts a script that still runs, so that it cleans up, and kills what is left of its process group."""
    if script.poll() is None:
        script.send_signal(signal.SIGINT)
        try:
            script.wait(CLEANUP_S)
        except subprocess.TimeoutExpired:
            script.kill()
        with contextlib.suppress(ProcessLookupError):  # processes that the script left
            os.killpg(script.pid, signal.SIGKILL)


def summary(figures: Sequence[Figure], failures: dict[str, str], scripts: Sequence[str]) -> list[Figure]:
    """One figure for each goal of these scripts: the last one shown, or why there is none."""
    last = {figure.goal: figure for figure in figures}

    def missing(goal: Goal) -> Figure:
        why = failures.get(goal.script, "it shows no figure")
        return Figure.not_run(goal, f"{goal.script}: {why}")

    return [last.get(goal) or missing(goal) for goal in GOALS if goal.script in scripts]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"of {', '.join(SECONDS)} (default: all)")
    scripts = parser.parse_args().scripts or list(SECONDS)
    if unknown := set(scripts) - set(SECONDS):
        parser.error(f"no such script: {', '.join(sorted(unknown))}")
    began = time.monotonic()
    failures = {}
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "figures"
        for script in scripts:
            print(f"\n{script}, about {SECONDS[script]} s at most:\n", flush=True)
            before = time.monotonic()
            if (FOLDER / script).exists():
                wrong = ran([sys.executable, str(FOLDER / script)], SECONDS[script] + SLACK_S, record)
            else:
                wrong = "there is no such script"
            if wrong:
                failures[script] = wrong
                print(f"\n{script}: {wrong}")
            print(f"\n{script} took {time.monotonic() - before:.0f} s", flush=True)
        figures = summary(shown(record), failures, scripts)
    print(f"\nSummary, {date.today()}, {os.cpu_count()} cores:\n\n{table(figures)}")
    print(f"\nAll took {(time.monotonic() - began) / 60:.1f} minutes.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
