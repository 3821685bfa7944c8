"""How long `plan` of 10,000 cases takes: wall and user CPU time of the command, beside imports that it cannot avoid.

The matrix has 200 points that share no model load, on 50 hosts: 10,000 jobs, the longest table that 10,000 cases can
make. The commands take turns, each in a process of its own, in a folder without earlier runs.

  python benchmarks/plan_cases.py
  python benchmarks/plan_cases.py --turns 21 --width 80
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from goals import PLAN_CPU, PLAN_S, Figure, show

HOSTS, STEPS = 50, 20
MATRIX = f"""
name: many
matrix:
  engine: [eager, compile, graph, onnxruntime, deepspeed]
  precision: [single, half]
  steps: [{", ".join(str(10 + step) for step in range(STEPS))}]
rounds: 1
"""
BARE = [sys.executable, "-c", "import yaml, pydantic"]
PLAN = [sys.executable, "-m", "orchestrator", "plan", "matrix.yaml"]


def write_input(folder: Path) -> None:
    """Writes 50 hosts and a matrix of 200 points."""
    hosts = (f'  gpu{number:02}: {{kind: docker, url: "ssh://user@gpu{number:02}"}}\n' for number in range(HOSTS))
    (folder / "hosts.yaml").write_text("hosts:\n" + "".join(hosts))
    (folder / "matrix.yaml").write_text(MATRIX)


def times_s(words: Sequence[str], output: Path) -> tuple[float, float]:
    """The wall time and the user CPU time of one process, whose output goes to a file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    began = time.perf_counter()
    child = os.posix_spawn(
        words[0], list(words), os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, output, flags, 0o600)]
    )
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} ended with exit code {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - began, used.ru_utime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5, help="processes of each command (default: 5)")
    parser.add_argument("--width", type=int, default=160, help="columns of the terminal (default: 160)")
    asked = parser.parse_args()
    os.environ |= {"COLUMNS": str(asked.width), "PYTHONPATH": str(Path(__file__).parent.parent)}
    plans: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_input(Path())
        for turn in range(asked.turns + 1):
            pair = times_s(PLAN, Path("plan")), times_s(BARE, Path("nothing"))
            if turn:  # the first one fills the file cache
                plans.append(pair[0])
                bare.append(pair[1])
        jobs = sum(line.startswith("gpu") for line in Path("plan").read_text().splitlines()) - 2 * HOSTS
        os.chdir("/")
    if jobs != HOSTS * 10 * STEPS:
        raise SystemExit(f"the plan has {jobs} lines")
    cpu_s, bare_s = (statistics.median(cpu for _, cpu in each) for each in (plans, bare))
    show(
        Figure(PLAN_S, [wall for wall, _ in plans]),
        Figure(
            PLAN_CPU, [ours / theirs for (_, ours), (_, theirs) in zip(plans, bare)], f"{cpu_s:.2f} s, {bare_s:.2f} s"
        ),
    )


if __name__ == "__main__":
    main()
