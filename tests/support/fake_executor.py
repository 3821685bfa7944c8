"""A host in memory, its executor, and a clock that moves only when told to: nothing here sleeps.

A `FakeHost` outlives the `FakeExecutor`s that look at it, as a real host outlives a crashed orchestrator: to test
resuming, drop the executor and make a new one on the same host. What happens to a job is its `Behaviour`; what happens
to calls is `FakeHost.unreachable_for` and `FakeHost.before` / `FakeHost.after`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

from builders import ok_row

from orchestrator.config import DockerHost, ProcessHost
from orchestrator.errors import HostUnreachable, StartError
from orchestrator.executors.contract import Attempt, Observation, Slot, State, Task
from runner.schema import Job, format_rows
from runner.wire.result_bundle import Receipt


class Crash(BaseException):
    """The orchestrator dies here. Nothing catches it but a test."""


class Clock:
    """Seconds since the epoch, called like time.time; `sleep` takes no time, and the clock never goes back."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds

    sleep = advance

    def reach(self, moment: float) -> None:
        with self._lock:
            self.now = max(self.now, moment)


@dataclass(frozen=True)
class Behaviour:
    """What becomes of one attempt once it is started.

    runs_s: None never ends. rows: how many of its cases get a good row, evenly over the time; None is all.
    results, environment: what results.csv and environment.json hold instead, byte for byte, or the error with which
        they are refused.
    vanishes: once it has ended, it is no longer on the host at all. receipt: what it says of its delivery to a store.
    is_replaced: once it was seen to have ended, only another start of it is on the host, whose files are whole.
    """

    runs_s: float | None = 1.0
    exit_code: int | None = 0
    rows: int | None = None
    results: bytes | Exception | None = None
    environment: bytes | Exception | None = None
    oom_killed: bool = False
    reason: str = ""
    vanishes: bool = False
    is_replaced: bool = False
    ignores_term: bool = False
    stage_error: Exception | None = None
    start_error: Exception | None = None
    receipt: Receipt | None = None
    log: tuple[str, ...] = ('{"kind":"loading","at":0}',)


WORKS = Behaviour()
NEVER_ENDS = Behaviour(runs_s=None, rows=0)
VANISHES = Behaviour(vanishes=True)
CRASHES = Behaviour(exit_code=1, rows=0)
IS_REPLACED = Behaviour(is_replaced=True, exit_code=143)
RUNS_OUT_OF_MEMORY = Behaviour(exit_code=137, oom_killed=True, rows=0)
DOES_NOT_START = Behaviour(start_error=StartError("it would not start"))


class Call(NamedTuple):
    """A call of an executor; attempt is None for slots, observe and wait."""

    method: str
    attempt: Attempt | None


@dataclass(frozen=True)
class _Container:
    task: Task
    behaviour: Behaviour
    started: float | None = None
    ends: float | None = None
    exit_code: int | None = None
    token: str | None = None
    has_files: bool = False


class FakeHost:
    """What is on the host. `calls` records every call made to it; `starts` how often each attempt really began."""

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        slots: tuple[Slot, ...] = (Slot("cpu"),),
        host: ProcessHost | DockerHost | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.slots = slots
        self.host = host or ProcessHost(name="fake")
        self.calls: list[Call] = []
        self.starts: dict[Attempt, int] = defaultdict(int)
        self.containers: dict[Attempt, _Container] = {}
        self.before: Callable[[Call], None] = lambda call: None
        self.after: Callable[[Call], None] = lambda call: None
        self.lock = threading.RLock()
        self._silent_until = 0.0
        self._scripts: dict[str, tuple[Behaviour, ...]] = {}
        self._default: Callable[[Task], Behaviour] = lambda task: WORKS

    def behave(self, job: str | Job, *behaviours: Behaviour) -> None:
        """What the job's first, second, … attempt does; the last one holds for those after it."""
        self._scripts[job.id if isinstance(job, Job) else job] = behaviours

    def behave_by(self, choose: Callable[[Task], Behaviour]) -> None:
        """For attempts of jobs that `behave` does not name."""
        self._default = choose

    def behaviour(self, task: Task) -> Behaviour:
        script = self._scripts.get(task.attempt.job)
        return script[min(task.attempt.number, len(script)) - 1] if script else self._default(task)

    def unreachable_for(self, seconds: float) -> None:
        """Every call raises HostUnreachable until then; what runs there runs on."""
        self._silent_until = self.clock() + seconds

    def reboot(self) -> None:
        """What ran has ended, and nobody knows how."""
        for attempt, container in self.containers.items():
            if self.state(container) is State.RUNNING:
                self.containers[attempt] = replace(container, ends=self.clock(), exit_code=None)

    def running(self) -> dict[Attempt, Task]:
        return {a: c.task for a, c in self.containers.items() if self.state(c) is State.RUNNING}

    def state(self, container: _Container) -> State:
        if container.started is None:
            return State.STAGED
        ended = container.ends is not None and container.ends <= self.clock()
        return State.EXITED if ended else State.RUNNING

    def sweep(self) -> None:
        """Forgets what vanished meanwhile."""
        gone = [a for a, c in self.containers.items() if c.behaviour.vanishes and self.state(c) is State.EXITED]
        for attempt in gone:
            del self.containers[attempt]

    @contextmanager
    def answering(self, method: str, attempt: Attempt | None = None) -> Iterator[None]:
        """Around every call: `before` may keep it from happening, `after` loses the answer to what has happened."""
        call = Call(method, attempt)
        with self.lock:
            self.calls.append(call)
            self.before(call)
            if self.clock() < self._silent_until:
                raise HostUnreachable(f"{self.host.name}: no answer to {method}")
            self.sweep()
            yield
            self.after(call)


class FakeExecutor:
    """The executor's contract over a FakeHost. `wait` moves the clock to the next end of a job, or by its timeout.

    The clock may be shared by several hosts; then one host's wait moves the time of all.
    """

    def __init__(self, world: FakeHost) -> None:
        self.world = world
        self.host = world.host

    def slots(self) -> tuple[Slot, ...]:
        with self.world.answering("slots"):
            return self.world.slots

    def stage(self, task: Task) -> None:
        with self.world.answering("create", task.attempt):
            behaviour = self.world.behaviour(task)
            if behaviour.stage_error:
                raise behaviour.stage_error
            self.world.containers.setdefault(task.attempt, _Container(task, behaviour))
        with self.world.answering("stage", task.attempt):
            self.world.containers[task.attempt] = replace(self.world.containers[task.attempt], has_files=True)

    @contextmanager
    def hold(self, attempt: Attempt, slot: Slot) -> Iterator[None]:
        with self.world.answering("hold", attempt):
            yield

    def start(self, attempt: Attempt, token: str | None = None, upload_grant: str | None = None) -> None:
        with self.world.answering("start", attempt):
            container = self.world.containers.get(attempt)
            if container is None:
                raise StartError(f"{attempt.name} is not there; stage it again")
            if container.started is None:
                self._begin(attempt, container)
        with self.world.answering("hand over", attempt):
            if (container := self.world.containers.get(attempt)) is not None:
                self.world.containers[attempt] = replace(container, token=token)

    def _begin(self, attempt: Attempt, container: _Container) -> None:
        if container.behaviour.start_error:
            raise container.behaviour.start_error
        if not container.has_files:
            container = replace(container, behaviour=CRASHES)
        now, runs_s = self.world.clock(), container.behaviour.runs_s
        self.world.starts[attempt] += 1
        ends = None if runs_s is None else now + runs_s
        self.world.containers[attempt] = replace(
            container, started=now, ends=ends, exit_code=container.behaviour.exit_code
        )

    def observe(self) -> Mapping[Attempt, Observation]:
        with self.world.answering("observe"):
            return {attempt: self._observation(c) for attempt, c in self.world.containers.items()}

    def _observation(self, container: _Container) -> Observation:
        state, slot = self.world.state(container), container.task.slot
        if state is not State.EXITED:
            return Observation(state, slot.name, devices=slot.devices)
        behaviour = container.behaviour
        code, oom, reason = container.exit_code, behaviour.oom_killed, behaviour.reason
        instance = "first" if behaviour.is_replaced else ""
        return Observation(state, slot.name, code, oom, reason, slot.devices, instance=instance)

    def wait(self, timeout_s: float) -> None:
        with self.world.answering("wait"):
            now = self.world.clock()
            ends = [c.ends for c in self.world.containers.values() if c.ends is not None and c.ends > now]
            self.world.clock.reach(min([now + timeout_s, *ends]))

    def fetch(self, attempt: Attempt, file: str, instance: str = "") -> bytes | None:
        with self.world.answering("fetch", attempt):
            container = self.world.containers.get(attempt)
            if container is None or container.started is None or instance:
                return None
            assert self.world.state(container) is State.EXITED, f"fetched {file} of {attempt.name} while it runs"
            environment = container.behaviour.environment
            if file != "environment.json":
                return self._results(container) if file == "results.csv" else None
            if isinstance(environment, Exception):
                raise environment
            return environment or json.dumps({"sha256": sha256(container.token)}).encode()

    def _results(self, container: _Container) -> bytes | None:
        behaviour, cases = container.behaviour, container.task.job.cases
        if isinstance(behaviour.results, Exception):
            raise behaviour.results
        if behaviour.results is not None:
            return behaviour.results
        rows = len(cases) if behaviour.rows is None else behaviour.rows
        if behaviour.runs_s and container.ends is not None and container.started is not None:
            rows = min(rows, int(len(cases) * (container.ends - container.started) / behaviour.runs_s + 1e-5))
        return format_rows(ok_row(container.task.job, case) for case in cases[:rows]).encode() if rows else None

    def receipt(self, attempt: Attempt, instance: str = "") -> Receipt | None:
        with self.world.answering("receipt", attempt):
            container = self.world.containers.get(attempt)
            return container.behaviour.receipt if container and not instance else None

    def log(self, attempt: Attempt, *, follow: bool = False, instance: str = "") -> Iterator[str]:
        with self.world.answering("log", attempt):
            container = self.world.containers.get(attempt)
            if container is None or container.started is None or instance:
                return
            if follow and container.ends is not None:
                self.world.clock.reach(container.ends)
        yield from container.behaviour.log

    def stop(self, attempt: Attempt, grace_s: float) -> None:
        with self.world.answering("stop", attempt):
            container = self.world.containers.get(attempt)
            if container is None or self.world.state(container) is not State.RUNNING:
                return
            ends = self.world.clock() + (grace_s if container.behaviour.ignores_term else 0.0)
            code = 137 if container.behaviour.ignores_term else 143
            if container.ends is None or container.ends > ends:
                self.world.containers[attempt] = replace(container, ends=ends, exit_code=code)
            self.world.clock.reach(ends)

    def remove(self, attempt: Attempt) -> None:
        with self.world.answering("remove", attempt):
            self.world.containers.pop(attempt, None)

    def close(self) -> None:
        self.world.calls.append(Call("close", None))


def sha256(token: str | None) -> str:
    """Of what a job reads where its token should be: nothing where there is none."""
    return hashlib.sha256((token or "").encode()).hexdigest()
