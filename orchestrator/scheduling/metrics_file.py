"""`--metrics-file`: the progress of a run, for the textfile collector of Prometheus' node exporter.

https://prometheus.io/docs/instrumenting/exposition_formats/ · https://github.com/prometheus/node_exporter#textfile-collector
All hosts, states and outcomes are known from the plan: each series begins with 0, and none disappears.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from orchestrator.errors import InputError
from orchestrator.files import write_atomically
from orchestrator.runs.job_state import JobState, Phase
from orchestrator.runs.journal import Journal
from orchestrator.scheduling.progress import Outcome
from runner.schema import Row, Status

SUFFIX = ".prom"  # the collector reads no other file
# Prometheus scrapes the exporter every 15 s to a minute.
EVERY_S = 15.0
PREFIX = "sd_orchestrator"
STATES: Mapping[Phase, str] = {
    Phase.PENDING: "waiting",
    Phase.STAGING: "waiting",
    Phase.STARTING: "running",
    Phase.QUEUED: "queued",
    Phase.RUNNING: "running",
    Phase.STOPPING: "stopping",
    Phase.SETTLED: "ended",
}
WAITING = (Phase.PENDING, Phase.STAGING, Phase.QUEUED)
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


Samples: TypeAlias = Sequence[tuple[Mapping[str, str], float]]


@dataclass(frozen=True)
class Declared:
    """One metric: its type, the labels of its samples, and what it says; docs/metrics.md lists these."""

    kind: str
    labels: tuple[str, ...]
    means: str


RUN, HOST = ("run",), ("run", "host")
DECLARED: Mapping[str, Declared] = {
    "jobs": Declared("gauge", (*HOST, "state"), "Jobs by state."),
    "cases": Declared("gauge", HOST, "Rows that the run will have."),
    "rows": Declared("gauge", (*HOST, "status"), "Rows by outcome."),
    "retries_total": Declared("counter", HOST, "Attempts that ended in a fault."),
    "longest_wait_seconds": Declared(
        "gauge", HOST, "Longest time that a job of the host has waited, for a slot or in the cluster."
    ),
    "run_start_timestamp_seconds": Declared("gauge", RUN, "When the run began."),
    "run_updated_timestamp_seconds": Declared("gauge", RUN, "When the file was written."),
    "run_driven": Declared("gauge", RUN, "1 while the run is driven, 0 afterwards."),
}
VALUES: Mapping[str, Sequence[str]] = {
    "state": tuple(dict.fromkeys(STATES.values())),
    "status": tuple(status.value for status in Status),
}


@dataclass(frozen=True)
class Family:
    """One metric with its samples by their labels."""

    name: str
    samples: Samples


def families(
    run: str, states: Sequence[JobState], rows: Iterable[Row | Outcome], began: float, now: float, *, finished: bool
) -> Iterator[Family]:
    """began, now: seconds since the epoch. finished: whether the run is no longer driven."""
    hosts = sorted({each.job.host for each in states})
    by_state = Counter((each.job.host, STATES[each.phase]) for each in states)
    outcomes = Counter((row.host or "", row.status.value if row.status else "failed") for row in rows)
    retries, cases, waited = Counter[str](), Counter[str](), dict.fromkeys(hosts, 0.0)
    for each in states:
        retries[each.job.host] += each.faults
        cases[each.job.host] += len(each.job.cases)
        if each.phase in WAITING:
            waited[each.job.host] = max(waited[each.job.host], now - max(began, each.since))

    def by_host(values: Mapping[str, float]) -> Samples:
        return [({"run": run, "host": host}, values[host]) for host in hosts]

    def by(label: str, counts: Mapping[tuple[str, str], int]) -> Samples:
        return [
            ({"run": run, "host": host, label: name}, counts.get((host, name), 0))
            for host in hosts
            for name in VALUES[label]
        ]

    yield Family("jobs", by("state", by_state))
    yield Family("cases", by_host(cases))
    yield Family("rows", by("status", outcomes))
    yield Family("retries_total", by_host(retries))
    yield Family("longest_wait_seconds", by_host(waited))
    yield Family("run_start_timestamp_seconds", [({"run": run}, began)])
    yield Family("run_updated_timestamp_seconds", [({"run": run}, now)])
    yield Family("run_driven", [({"run": run}, 0 if finished else 1)])


def exposition(found: Iterable[Family]) -> str:
    """The metrics in version 0.0.4 of Prometheus' text format."""
    lines: list[str] = []
    for family in found:
        name, declared = f"{PREFIX}_{family.name}", DECLARED[family.name]
        lines += [f"# HELP {name} {declared.means}", f"# TYPE {name} {declared.kind}"]
        for labels, value in family.samples:
            named = ",".join(f'{label}="{text.translate(_ESCAPES)}"' for label, text in labels.items())
            lines.append(f"{name}{{{named}}} {value:.15g}")
    return "\n".join(lines) + "\n"


def check_usable(file: Path) -> None:
    """Raises InputError if the collector would not read the file, or it cannot be written."""
    if file.suffix != SUFFIX:
        raise InputError(f"--metrics-file {file}: must end in {SUFFIX}: the textfile collector reads no other file")
    try:
        write_atomically(file, b"")
    except OSError as error:
        raise InputError(f"--metrics-file {file}: cannot be written: {error.strerror}") from error


@contextmanager
def written(
    file: Path | None,
    journal: Journal,
    rows: Callable[[], Iterable[Row | Outcome]],
    clock: Callable[[], float],
    say: Callable[[str], None],
    every_s: float = EVERY_S,
) -> Iterator[None]:
    """Writes the file now, every few seconds, and once more at the end. file: None writes nothing.

    A problem with the file is reported once, and delays no job.
    """
    if file is None:
        yield
        return
    began = (journal.span or (clock(), 0.0))[0]
    ended = threading.Event()
    problems: set[str] = set()

    def write(finished: bool) -> None:
        try:
            found = families(journal.run, journal.states(), rows(), began, clock(), finished=finished)
            write_atomically(file, exposition(found).encode())
        except (OSError, InputError) as error:
            if not problems:
                why = error.strerror if isinstance(error, OSError) else error
                say(f"--metrics-file {file}: not written: {why}; the run goes on without it")
            problems.add(str(error))

    def work() -> None:
        while not ended.wait(every_s):
            write(finished=False)

    write(finished=False)
    thread = threading.Thread(target=work, name="metrics-file", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        write(finished=True)
