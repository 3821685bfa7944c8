"""The goals of speed and scale: each is declared here once, with the script that measures it.

A script makes one `Figure` for each of its goals, with the values of several repetitions, and shows them as a table. A
goal that cannot be measured here (no root, no engine) is a `Figure` without values that says why.

  from goals import Figure, RESUME, show
  show(Figure(RESUME, [0.61, 0.58, 0.64], "2.1 s against 3.4 s"))
  show(Figure.not_run(RESUME, "needs root"))
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RECORD = "BENCHMARK_FIGURES"  # the environment variable with the file to which `show` appends, for run_all.py


@dataclass(frozen=True)
class Goal:
    """What is measured, as a ratio to the thing named in `against`, or in a unit of its own if nothing is named."""

    script: str
    what: str
    against: str
    bound: float | None
    at_least: bool = False
    unit: str = "×"

    @property
    def target(self) -> str:
        if self.bound is None:
            return ""
        unit = "" if self.unit == "×" else f" {self.unit}"
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}{unit}"

    def verdict(self, value: float) -> str:
        if self.bound is None:
            return ""
        return "met" if (value >= self.bound if self.at_least else value <= self.bound) else "not met"


@dataclass(frozen=True)
class Figure:
    """The values of one goal in one run. detail: what the values are made of, such as both times in seconds.

    interval: of their geometric mean, where the values are a sample: the target is then met or missed only if the whole
    interval is on one side of it.
    """

    goal: Goal
    values: Sequence[float]
    detail: str = ""
    why_not_run: str = ""
    interval: Sequence[float] | None = None

    @classmethod
    def not_run(cls, goal: Goal, why: str) -> Figure:
        return cls(goal, [], why_not_run=why)

    @property
    def value(self) -> str:
        """The median, the range and the number of values; with an interval, the geometric mean and that."""
        if not self.values:
            return ""
        if self.interval:
            low, high = self.interval
            return f"{statistics.geometric_mean(self.values):.4f} [{low:.4f}–{high:.4f}], 95%, of {len(self.values)}"
        unit = "" if self.goal.unit == "×" else f" {self.goal.unit}"
        middle = rounded(statistics.median(self.values)) + unit
        if len(self.values) == 1:
            return middle
        return f"{middle} [{rounded(min(self.values))}–{rounded(max(self.values))}] of {len(self.values)}"

    @property
    def verdict(self) -> str:
        if not self.values:
            return f"not run: {self.why_not_run}"
        if self.interval:
            verdicts = {self.goal.verdict(end) for end in self.interval}
            return verdicts.pop() if len(verdicts) == 1 else "not resolved"
        return self.goal.verdict(statistics.median(self.values))


def rounded(value: float) -> str:
    """Two decimals below 10, and at least three digits above."""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"


def table(figures: Sequence[Figure]) -> str:
    lines = ["| what | against | ratio or value | target | | |", "| --- | --- | --- | --- | --- | --- |"]
    for figure in figures:
        goal = figure.goal
        cells = (goal.what, goal.against, figure.value, goal.target, figure.verdict, figure.detail)
        lines.append(" ".join(["|", *(f"{cell} |".lstrip() for cell in cells)]))
    return "\n".join(lines)


def show(*figures: Figure) -> None:
    """Prints the table of these figures. Call it again for the goals that a script measures later."""
    print(table(figures), flush=True)
    if record := os.environ.get(RECORD):
        with Path(record).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(figure)) + "\n" for figure in figures)


def shown(record: Path) -> list[Figure]:
    """The figures that `show` appended to a file."""
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    found = [json.loads(line) for line in lines]
    return [Figure(**{**one, "goal": Goal(**one["goal"])}) for one in found]


# Each goal's script. Seconds: the most that the script may take without arguments, on two cores.

OVERHEAD = "overhead.py"

TWENTY = Goal(
    OVERHEAD, "20 short containers, one slot, wall time", "the loop of `docker run -d`, `wait`, `cp`, `rm`", 0.70
)

TWENTY_NO_NETWORK = Goal(OVERHEAD, "the same", "the loop with `--network none`", 0.80)

IDLE_SLOT = Goal(OVERHEAD, "idle time of a slot between two jobs", "the engine's own start of one container", 1.15)

TWO_ENGINES = Goal(OVERHEAD, "two engines, 20 jobs each", "one engine, 20 jobs", 1.15)

OVER_SSH = Goal(OVERHEAD, "20 short containers over a forwarded SSH socket", "over the local socket", 1.1)


IMAGES = "image_to_hosts.py"

IMAGE_TO_THREE = Goal(
    IMAGES, "a large image to three hosts without a registry", "one `docker save` piped to `docker load`", 1.3
)

IMAGE_MEMORY = Goal(IMAGES, "the same: memory of the orchestrator above that before", "", 40, unit="MB")


MANY_HOSTS = "many_hosts.py"

THOUSAND_HOSTS = Goal(MANY_HOSTS, "simulated hosts, wall time", "the plan's critical path", 1.05)

THOUSAND_HOSTS_MEMORY = Goal(MANY_HOSTS, "the same, resident memory", "", 400, unit="MB")

CPU_PER_JOB = Goal(MANY_HOSTS, "CPU time per job on the most hosts", "on the fewest hosts", 1.1)


DAY = "simulated_day.py"

DAY_MEMORY = Goal(DAY, "a simulated day: memory after its last hour", "after its first eight hours", 1.05)

DAY_LEAKS = Goal(DAY, "the same: threads, sockets and open files more than after its first eight hours", "", 0, unit="")


JOURNAL = "journal_rate.py"

EVENT_RATE = Goal(
    JOURNAL, "events that the journal records per second, 1,000 hosts", "bare SQLite inserts", 0.5, at_least=True
)

EVENT_RATE_ALONE = Goal(JOURNAL, "the same, one host", "bare SQLite inserts", None, at_least=True)

RESUME_S = Goal(JOURNAL, "resume of 100,000 jobs: reading the journal", "", 5, unit="s")

RESUME = Goal(JOURNAL, "the same", "reading the rows with bare sqlite3", None)

JOURNAL_MB = Goal(JOURNAL, "the journal of 100,000 jobs", "", None, unit="MB")


PLAN = "plan_cases.py"

PLAN_S = Goal(PLAN, "`plan` of 10,000 cases, wall time", "", 1, unit="s")

PLAN_CPU = Goal(PLAN, "the same, user CPU time", "`python -c 'import yaml, pydantic'`", None)


KUBERNETES = "kubernetes_scale.py"

CALLS_PER_JOB = Goal(KUBERNETES, "waiting Kubernetes Jobs: API calls per Job", "", 4, unit="calls")

BYTES_PER_JOB = Goal(KUBERNETES, "the same: bytes read per Job", "", 20, unit="kB")

CALLS_PER_MINUTE = Goal(KUBERNETES, "the same: API calls per minute when nothing changes", "", 10, unit="calls")

BYTES_PER_MINUTE = Goal(KUBERNETES, "the same: bytes read per minute when nothing changes", "", 1, unit="MB")

KUBERNETES_MEMORY = Goal(KUBERNETES, "the same: memory of the orchestrator, at most", "", None, unit="MB")


MERGING = "merge_rows.py"

MERGE = Goal(MERGING, "merging 10,000 CSVs, 1,000,000 rows", "`pandas.concat` of `read_csv`", 0.5)

MERGE_MEMORY = Goal(MERGING, "the same, peak memory", "", 1000, unit="MB")

RESULTS_S = Goal(MERGING, "`results` of 10,000 rows, 50 hosts", "", 1, unit="s")


RUNNER = "runner_overhead.py"

CASE_OVERHEAD = Goal(RUNNER, "the runner's latency of a case, CPU", "a bare loop, interleaved processes", 1.01)

CASE_OVERHEAD_CONTROL = Goal(RUNNER, "control: a bare loop", "the same bare loop, interleaved processes", None)

CASE_CPU = Goal(RUNNER, "CPU time of the runner's trials", "a bare loop, interleaved processes", 1.01)

CASE_CPU_CONTROL = Goal(RUNNER, "control: CPU time of a bare loop", "the same bare loop, interleaved processes", None)

CASE_OWN = Goal(RUNNER, "a trial with a pipeline that does nothing, CPU time", "a call of the bare loop", 1, unit="%")

RUNNER_START = Goal(RUNNER, "runner start to the first timed trial, tiny model", "importing torch and diffusers", 1.3)

RUNNER_START_CPU = Goal(RUNNER, "the same, CPU time", "importing torch and diffusers", 1.3)

RUNNER_START_CLASS = Goal(
    RUNNER,
    "runner start to the first timed trial",
    "importing torch and StableDiffusionPipeline, which is not lazy",
    None,
)

RUNNER_START_CLASS_CPU = Goal(RUNNER, "the same, CPU time", RUNNER_START_CLASS.against, None)


SECONDS = {
    OVERHEAD: 165,
    IMAGES: 75,
    MANY_HOSTS: 130,
    DAY: 60,
    JOURNAL: 45,
    PLAN: 15,
    KUBERNETES: 150,
    MERGING: 90,
    RUNNER: 150,
}
GOALS = tuple(value for value in globals().values() if isinstance(value, Goal))
