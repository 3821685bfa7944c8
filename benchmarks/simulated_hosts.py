"""Hosts that exist only in this process: an executor whose jobs take scaled-down time, and 1% of whose attempts fail.

`submit` runs the program's own submit over them: configuration, plan, journal on disk, scheduler, collection, judging,
merge, report. Only the entry `process` in the list of host kinds is replaced. The hosts run in real time.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.config import Host
from orchestrator.errors import HostUnreachable, Incomplete, StartError
from orchestrator.executors.contract import Attempt, Executor, Observation, Slot, State, Task
from orchestrator.executors.wakeups import Wakeups
from orchestrator.hosts.kinds import KINDS
from orchestrator.hosts.process import PROCESS
from orchestrator.scheduling.retries import ASK_AGAIN_S, backoff_s
from runner.schema import Case, Event, EventKind, Job, Row, Status, Validity, format_rows
from runner.wire.result_bundle import Receipt

ROOT = Path(__file__).parent.parent
ENVIRONMENT = (ROOT / "docs/results/2026-11-24-h200/environment.json").read_bytes()
SLOT = Slot("cpu")
TRIALS = 5
# What a Docker engine needs for them beside a job of a minute, in seconds of that job's time.
STAGE_S, START_S, FETCH_S, REMOVE_S = 0.1, 0.2, 0.02, 0.1
JOB_S = 60.0
FAULTS = ("refused", "vanished", "killed", "unanswered", "incomplete")
FAULT_RATE = 0.01


@contextmanager
def repeated(every_s: float, work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Inside, a thread does the work again and again. work: is told of the event that ends it."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(every_s):
            work(over)

    thread = threading.Thread(target=go_on, name="repeated", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True)
class Delays:
    """job_s: how long a job takes on average. The delays of the engine are in proportion."""

    job_s: float

    def of(self, seconds: float) -> float:
        return seconds * self.job_s / JOB_S

    def runs_s(self, attempt: Attempt) -> float:
        """How long an attempt runs, between half of the average and one and a half."""
        return self.job_s * (0.5 + _drawn(attempt).random())


def _drawn(attempt: Attempt) -> random.Random:
    """The job's id differs from run to run where its name does not: the host and the number are what is drawn from."""
    return random.Random(f"{attempt.job}-{attempt.number}")


def fault_of(attempt: Attempt) -> str | None:
    """A job is hit once at most."""
    draw = _drawn(attempt)
    draw.random()
    return draw.choice(FAULTS) if attempt.number == 1 and draw.random() < FAULT_RATE else None


class Alarms:
    """One thread that wakes hosts when their jobs end."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        threading.Thread(target=self._ring, name="alarms", daemon=True).start()

    def at(self, moment: float, wake: Callable[[], None]) -> None:
        with self._changed:
            heapq.heappush(self._due, (moment, next(self._count), wake))
            if self._due[0][0] == moment:
                self._changed.notify()

    def _ring(self) -> None:
        while True:
            with self._changed:
                while not self._due or self._due[0][0] > time.monotonic():
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                wake = heapq.heappop(self._due)[2]
            wake()


@dataclass
class Tally:
    """The processor time that the simulated hosts themselves take, which is none of the orchestrator's.

    ended: jobs whose results were fetched.
    """

    seconds: float = 0.0
    ended: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def counted(self) -> Iterator[None]:
        began = time.thread_time()
        try:
            yield
        finally:
            took = time.thread_time() - began
            with self.lock:
                self.seconds += took


@dataclass
class _Container:
    job: Job
    fault: str | None
    started: float | None = None
    ends: float = 0.0
    has_refused: bool = False

    def state(self, now: float) -> State:
        if self.started is None:
            return State.STAGED
        return State.EXITED if self.ends <= now else State.RUNNING


class SimulatedExecutor:
    """The executor's contract over one host with one slot, in real time."""

    def __init__(self, host: Host, delays: Delays, alarms: Alarms, tally: Tally) -> None:
        self.host = host
        self._delays, self._alarms, self._tally = delays, alarms, tally
        self._containers: dict[Attempt, _Container] = {}
        self._changes = Wakeups()
        self._lock = threading.Lock()
        self.down = threading.Event()

    def slots(self) -> tuple[Slot, ...]:
        self._answer(0.0)
        return (SLOT,)

    def stage(self, task: Task) -> None:
        self._answer(STAGE_S)
        with self._tally.counted(), self._lock:
            self._containers.setdefault(task.attempt, _Container(task.job, fault_of(task.attempt)))

    @contextmanager
    def hold(self, attempt: Attempt, slot: Slot) -> Iterator[None]:
        yield

    def start(self, attempt: Attempt, token: str | None = None, upload_grant: str | None = None) -> None:
        self._answer(START_S)
        with self._tally.counted(), self._lock:
            container = self._containers.get(attempt)
            if container is None:
                raise StartError(f"{attempt.name} is not there")
            if container.fault == "refused":
                raise StartError("the engine did not start it")
            if container.started is None:
                container.started = time.monotonic()
                container.ends = container.started + self._delays.runs_s(attempt)
                self._alarms.at(container.ends, self._changes.bump)

    def observe(self) -> Mapping[Attempt, Observation]:
        self._answer(0.0)
        with self._tally.counted(), self._lock:
            now = time.monotonic()
            return {
                attempt: self._observation(container, now)
                for attempt, container in self._containers.items()
                if not (container.fault == "vanished" and container.state(now) is State.EXITED)
            }

    @staticmethod
    def _observation(container: _Container, now: float) -> Observation:
        state = container.state(now)
        code = None if state is not State.EXITED else 137 if container.fault == "killed" else 0
        return Observation(state, SLOT.name, code, devices=SLOT.devices)

    def wait(self, timeout_s: float) -> None:
        self._answer(0.0)
        self._changes.wait(timeout_s)

    def fetch(self, attempt: Attempt, file: str, instance: str = "") -> bytes | None:
        self._answer(FETCH_S)
        with self._tally.counted(), self._lock:
            container = self._containers.get(attempt)
            if container is None or container.started is None:
                return None
            if file == "environment.json":
                return ENVIRONMENT
            if container.fault == "unanswered" and not container.has_refused:
                container.has_refused = True
                raise HostUnreachable(f"host {self.host.name}: the connection was reset")
            if container.fault == "incomplete":
                raise Incomplete(f"host {self.host.name}: part of results.csv did not arrive")
            if container.fault == "killed":
                return None
            self._tally.ended += 1
            return results(container.job)

    def receipt(self, attempt: Attempt, instance: str = "") -> Receipt | None:
        return None

    def log(self, attempt: Attempt, *, follow: bool = False, instance: str = "") -> Iterator[str]:
        container = self._containers.get(attempt)
        if container is None or container.started is None:
            return
        span_s = container.ends - container.started
        for share, event in EVENTS:
            if follow and (left := container.started + share * span_s - time.monotonic()) > 0:
                time.sleep(left)
            with self._tally.counted():
                line = event % container.job.cases[0].id if "%s" in event else event
            yield line

    def stop(self, attempt: Attempt, grace_s: float) -> None:
        with self._lock:
            if (container := self._containers.get(attempt)) is not None and container.started is not None:
                container.ends = min(container.ends, time.monotonic())

    def remove(self, attempt: Attempt) -> None:
        self._answer(REMOVE_S)
        with self._lock:
            self._containers.pop(attempt, None)
        self._changes.bump()

    def close(self) -> None:
        pass

    def _answer(self, seconds: float) -> None:
        if seconds:
            time.sleep(self._delays.of(seconds))
        if self.down.is_set():
            raise HostUnreachable(f"host {self.host.name}: no route to host")


def _line(kind: EventKind, **more: Any) -> str:
    return Event(kind=kind, at=0.0, **more).to_json()


# What a runner prints, and at which share of a job's time.
EVENTS: Sequence[tuple[float, str]] = (
    (0.0, _line(EventKind.LOADING)),
    (0.2, _line(EventKind.LOADED)),
    (0.2, _line(EventKind.CASE_STARTED, case="%s")),
    (0.4, _line(EventKind.WARMED_UP, case="%s")),
    *((0.5 + i / 10, _line(EventKind.TRIAL, case="%s", trial=i + 1, of=TRIALS, latency_s=0.1)) for i in range(TRIALS)),
    (0.98, _line(EventKind.CASE_ENDED, case="%s", status=Status.OK)),
    (0.99, _line(EventKind.JOB_ENDED)),
)


def results(job: Job) -> bytes:
    """A good results.csv: one row for each case, made from one that was formatted before."""
    template, shape = _template(replace(job, run="RUN", id="JOB", host="HOST", steps=1, cases=()))
    lines = [
        shape.replace("CASE", case.id)
        .replace("JOB", job.id)
        .replace("HOST", job.host)
        .replace("RUN", job.run)
        .replace("STEPS", str(job.steps))
        .replace("WORK", job.work(1, 64, 64))
        for case in job.cases
    ]
    return (template + "".join(lines)).encode()


@functools.lru_cache(maxsize=64)
def _template(job: Job) -> tuple[str, str]:
    """Returns the header, and a row with capitals where a job puts its own."""
    seconds = tuple(0.5 + i / 1000 for i in range(TRIALS))
    measured: dict[str, Any] = {
        "device": "Simulated CPU", "xformers": False, "latency": 0.502, "memory": 1.5, "height": 64, "width": 64,
        "repeats": TRIALS, "latency_median": 0.502, "latency_p90": 0.504, "latency_min": 0.5, "latency_std": 0.0016,
        "latency_ci_low": 0.5, "latency_ci_high": 0.504, "throughput": 60 / 0.502, "steps_per_s": 1.9, "load_s": 0.1,
        "memory_peak": 1.2, "memory_host": 2.5, "first_call_s": 0.9, "trials": seconds, "validity": Validity.VALID,
        "python": "3.12.3", "torch": "2.11.0", "diffusers": "0.36.0", "cpu": "Simulated CPU", "threads": 2,
        "started": "2026-11-29T00:00:00+00:00",
    }  # fmt: skip
    row = replace(Row.of(job, Case("CASE", 1), Status.OK, **measured), work="WORK")
    text = format_rows([replace(row, steps=None)])
    header, line = text.splitlines(keepends=True)
    cells = line.split(",")
    cells[header.split(",").index("steps")] = "STEPS"
    return header, ",".join(cells)


@contextmanager
def hosts_are(delays: Delays) -> Iterator[tuple[Tally, dict[str, SimulatedExecutor]]]:
    """Inside, a host of the kind `process` is a simulated one. Yields its tally, and the executors made, by host."""
    alarms, tally, made = Alarms(), Tally(), dict[str, SimulatedExecutor]()

    def executor(host: Any, connection: object, pinned: Mapping[str, str]) -> Executor:
        return made.setdefault(host.name, SimulatedExecutor(host, delays, alarms, tally))

    kinds: Any = KINDS
    kinds["process"] = replace(PROCESS, executor=executor, must_fit=lambda host, connection: None, shared=None)
    try:
        yield tally, made
    finally:
        kinds["process"] = PROCESS


def hosts_yaml(names: Collection[str]) -> str:
    return "hosts:\n" + "".join(f"  {name}: {{kind: process}}\n" for name in names)


def matrix_yaml(jobs: int, name: str = "simulated") -> str:
    """Jobs of one case each, which differ in their steps."""
    steps = ", ".join(map(str, range(1, jobs + 1)))
    return (
        f"name: {name}\nmodel: synthetic:tiny\nmatrix: {{steps: [{steps}]}}\nrepeats: {TRIALS}\nrounds: 1\nretries: 2\n"
    )


def critical_path_s(jobs: Sequence[Job], delays: Delays) -> float:
    """How long one host's jobs take with an orchestrator that takes no time: the same attempts, faults and pauses."""
    free, last = delays.of(STAGE_S), 0.0
    waiting: list[tuple[float, int, int]] = [(0.0, place, 1) for place in range(len(jobs))]
    while waiting:
        due = [each for each in waiting if each[0] <= free]
        chosen = min(due, key=lambda each: each[1]) if due else min(waiting)
        waiting.remove(chosen)
        ready, place, number = chosen
        attempt = Attempt(jobs[place].run, jobs[place].id, number)
        fault = fault_of(attempt)
        free = max(free, ready) + delays.of(START_S) + (0.0 if fault == "refused" else delays.runs_s(attempt))
        last = max(last, free + 2 * delays.of(FETCH_S) + (ASK_AGAIN_S if fault == "unanswered" else 0.0))
        if fault not in (None, "unanswered"):
            waiting.append((free + backoff_s(1), place, 2))
    return last
