"""What a command costs before it does anything: user CPU time, compared with a bare interpreter and `docker --help`.

The commands take turns, each in a process of its own, in a folder with one process host, a matrix of 10 cases, and a
run of it that has not started. The table shows the median of each command.

  python benchmarks/startup.py
  python benchmarks/startup.py --turns 51
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from orchestrator.runs.folder import Run

MATRIX = "name: ten\nmatrix: {engine: [eager, onnxruntime], samples: [1, 2, 3, 4, 5]}\nrounds: 1\n"
HOSTS = "hosts:\n  local: {kind: process}\n"
COMPLETE = {"_ORCHESTRATOR_COMPLETE": "complete_bash", "COMP_CWORD": "1", "COMP_WORDS": "orchestrator su"}
# The most user CPU time of a command: times that of `python -c pass`, and of `docker --help`.
TARGETS = {"orchestrator --help": (5.0, 3.0), "orchestrator status": (10.0, None), "orchestrator plan": (10.0, None)}


def commands() -> dict[str, tuple[Sequence[str], Mapping[str, str]]]:
    """The words and the environment of each command, by its name in the table. The baseline is the first one."""
    python = [sys.executable, "-c"]
    program = [sys.executable, "-m", "orchestrator"]
    if shutil.which("orchestrator", path=str(Path(sys.executable).parent)):
        program = [str(Path(sys.executable).parent / "orchestrator")]
    docker = shutil.which("docker")
    return {
        "python -c pass": ([*python, "pass"], {}),
        **({"docker --help": ([docker, "--help"], {})} if docker else {}),
        "orchestrator --help": ([*program, "--help"], {}),
        "orchestrator --version": ([*program, "--version"], {}),
        "completion of a command": (program, COMPLETE),
        "completion of an option": (program, {**COMPLETE, "COMP_CWORD": "2", "COMP_WORDS": "orchestrator plan --"}),
        "orchestrator plan --help": ([*program, "plan", "--help"], {}),
        "orchestrator runs": ([*program, "runs"], {}),
        "orchestrator status": ([*program, "status"], {}),
        "orchestrator results": ([*program, "results"], {}),
        "orchestrator hosts": ([*program, "hosts"], {}),
        "orchestrator plan": ([*program, "plan", "matrix.yaml"], {}),
        "import typer": ([*python, "import typer"], {}),
        "import rich.table": ([*python, "import rich.console, rich.table"], {}),
        "import yaml": ([*python, "import yaml"], {}),
        "a pydantic model": ([*python, "import pydantic\nclass Model(pydantic.BaseModel):\n  key: int"], {}),
    }


def user_s(words: Sequence[str], environment: Mapping[str, str]) -> float:
    """The user CPU time of one process, whose output is discarded."""
    discard = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
    child = os.posix_spawn(words[0], list(words), {**os.environ, **environment}, file_actions=discard)
    return os.wait4(child, 0)[2].ru_utime


def write_run(folder: Path) -> Run:
    """Writes the inventory, the matrix, and a run of it without an event into the current folder."""
    from orchestrator.commands.request import Request, planned
    from orchestrator.runs import folder as runs
    from orchestrator.runs.journal import Journal

    (folder / "hosts.yaml").write_text(HOSTS)
    (folder / "matrix.yaml").write_text(MATRIX)
    plan = planned(Request(Path("matrix.yaml"), Path("hosts.yaml"))).plan
    run = runs.create(runs.ROOT, "ten", datetime.now(timezone.utc), MATRIX, HOSTS)
    run.add_planned(plan.unsupported)
    run.merge()
    Journal.create(run.journal, run.name, plan.jobs, {"retries": 2, "lost_after_s": 900.0}).close()
    return run


def measured(turns: int) -> dict[str, float]:
    """The median user CPU time of each command, in seconds."""
    taken: dict[str, list[float]] = {name: [] for name in commands()}
    for turn in range(turns + 1):
        for name, (words, environment) in commands().items():
            seconds = user_s(words, environment)
            if turn:  # the first one fills the file cache
                taken[name].append(seconds)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def table(medians: Mapping[str, float]) -> str:
    bare, *_ = medians.values()
    docker = medians.get("docker --help")
    lines = [
        "| command | user CPU, ms | × `python -c pass` | × `docker --help` | target |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, seconds in medians.items():
        beside_docker = f"{seconds / docker:.1f}" if docker else ""
        of_bare, of_docker = TARGETS.get(name, (None, None))
        targets = [f"{of_bare:g}× python" if of_bare else "", f"{of_docker:g}× docker" if of_docker else ""]
        target = ", ".join(filter(None, targets))
        lines.append(f"| `{name}` | {seconds * 1000:.0f} | {seconds / bare:.1f} | {beside_docker} | {target} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=21, help="processes of each command (default: 21)")
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_run(Path())
        print(table(measured(turns)))
        os.chdir("/")


if __name__ == "__main__":
    main()
