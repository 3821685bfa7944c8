"""What a host is, behind one small Protocol. An executor holds no state of jobs: all it knows, it asks the host."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from runner.catalog import SYNTHETIC
from runner.schema import Job, Status

if TYPE_CHECKING:
    from orchestrator.config import Host
    from runner.wire.result_bundle import Receipt

# Names go into paths and addresses: these cannot leave what they are put into. Our own are shorter.
RUN_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
JOB_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
NUMBER_PATTERN = re.compile(r"[1-9][0-9]{0,5}")
# What carries it, and what is named after it, is ours: containers, Jobs, pods.
LABEL = "sd-orchestrator"
# The longest file of an attempt that is taken.
FILE_LIMIT_BYTES = 16 * 2**20


class Attempt(NamedTuple):
    """One try at one job. Its name is that of the container or process folder, and within a run it is unique."""

    run: str
    job: str
    number: int

    @property
    def name(self) -> str:
        return f"orchestrator-{self.run}-{self.job}-{self.number}"

    @staticmethod
    def named(run: object, job: object, number: object) -> Attempt | None:
        """The attempt that a host's words name; None where one of them is no name of ours."""
        words = ((RUN_PATTERN, run), (JOB_PATTERN, job), (NUMBER_PATTERN, number))
        if not all(isinstance(word, str) and pattern.fullmatch(word) for pattern, word in words):
            return None
        return Attempt(str(run), str(job), int(str(number)))


@dataclass(frozen=True)
class Slot:
    """What one job occupies on a host.

    gpus: device ids as the engine wants them; empty on the CPU's slot.
    devices: every name by which what it occupies is known, such as a GPU's index and its UUID. Two slots that have one
        in common are never in use at once, whatever they are called. Without any: its gpus, or else its name.
    exclusive_per_run: each run has this slot for itself, for the host's own scheduler keeps jobs apart; the same slot
        of other runs is another one.
    """

    name: str
    gpus: tuple[str, ...] = ()
    devices: frozenset[str] = field(default=frozenset(), compare=False)
    exclusive_per_run: bool = False

    def __post_init__(self) -> None:
        if not self.devices:
            object.__setattr__(self, "devices", frozenset(self.gpus or (self.name,)))


class State(Enum):
    STAGED = "staged"
    QUEUED = "queued"
    RUNNING = "running"
    EXITED = "exited"
    LOST = "lost"


@dataclass(frozen=True)
class Observation:
    """What a host says of one attempt.

    QUEUED is started and does not run yet: the host has no room for it, or brings its image.

    exit_code: None until it exited, and where a host has forgotten. slot: the slot's name. reason: what the host adds
        of its own (OOM-killed, a failed start, what it waits for), for a human. devices: the slot's; without any: its
        name.
    status: where the host itself has given it up (it can never start; its own deadline came): what that makes of the
        cases without a row.
    instance: which start of the attempt this is, where a host may start one anew by itself. Results are of one alone.
    for_s: about how long it has been running, where the host tells.
    """

    state: State
    slot: str
    exit_code: int | None = None
    oom_killed: bool = False
    reason: str = ""
    devices: frozenset[str] = field(default=frozenset(), compare=False)
    status: Status | None = None
    instance: str = ""
    for_s: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.devices:
            object.__setattr__(self, "devices", frozenset((self.slot,)))


@dataclass(frozen=True)
class Task:
    """An attempt with all that an executor needs to run it. image: tag or id; empty for a process.

    job.json in the container is `job.to_json()`; the runner writes its rows to results.csv beside it.
    """

    attempt: Attempt
    job: Job
    slot: Slot
    image: str = ""


def needs_download(model: str, host: Host) -> bool:
    """Whether a job may ask the hub, and so is given the token: its model is a hub id, and not among weights.

    A process may also download what its host's weights lack.
    """

    return is_hub_id(model) and (host.weights is None or host.DOWNLOADS_BESIDE_WEIGHTS)


def is_hub_id(model: str) -> bool:
    """Whether a model is one of the hub, and neither made on the spot nor a folder."""
    return not model.startswith((SYNTHETIC, "/", ".", "~"))


class Executor(Protocol):
    """Every method may raise HostUnreachable, after which it may be called again: each one is idempotent.

    A method may be called from any thread, and several at once.
    """

    @property
    def host(self) -> Host:
        """The entry of the inventory that this is about."""

    def slots(self) -> tuple[Slot, ...]:
        """Connects, and finds out what jobs can occupy. Raises HostUnfit with what is missing and how to fix it."""

    def stage(self, task: Task) -> None:
        """Does all that can be done before the slot is free. If the attempt exists already, that is success.

        Raises StartError where this task cannot be created, or the host can tell that it exists with another job;
        HostUnfit where none could.
        """

    def hold(self, attempt: Attempt, slot: Slot) -> AbstractContextManager[None]:
        """While it is held, nobody else holds a device of this slot, from wherever. Waits for who does.

        A slot that is each run's own needs no holding.

        attempt: one that is staged. Who starts it holds its slot and first looks whether that is free. A slot is taken
        over from a holder that died, or that is not staged any more.
        """

    def start(self, attempt: Attempt, token: str | None = None, upload_grant: str | None = None) -> None:
        """Starts what was staged. What runs or has exited is never started again: that is success too.

        Call `stage` of this same executor before: an executor may take what a host stores for changed by others.
        What runs is handed token and upload grant again: whoever started it may have died before.

        token: the Hugging Face token. upload_grant: the right to put the attempt's one object into a store, where the
        host collects so. Both are handed over so that they appear in no file, argument, label or environment.
        Raises StartError; nothing of the attempt is then left running.
        """

    def observe(self) -> Mapping[Attempt, Observation]:
        """All attempts of any run that are on this host now, by one listing. What is not in it is not there."""

    def wait(self, timeout_s: float) -> None:
        """Returns when something may have changed, at the latest after `timeout_s`."""

    def fetch(self, attempt: Attempt, file: str) -> bytes | None:
        """One file (`results.csv`, `environment.json`) of an attempt that has exited; None where there is no such file.

        Raises BadResult where it is not one regular file of bounded size, Incomplete where not all of it arrived. The
        content is not judged here.
        """

    def receipt(self, attempt: Attempt) -> Receipt | None:
        """What an attempt that has exited said of its delivery to a store; None where it said nothing."""

    def log(self, attempt: Attempt, *, follow: bool = False) -> Iterator[str]:
        """Lines of standard output and error; with follow, until it exits. No such attempt: no lines."""

    def stop(self, attempt: Attempt, grace_s: float) -> None:
        """Asks it to end, and after `grace_s` seconds ends it. What has ended or is not there is success."""

    def remove(self, attempt: Attempt) -> None:
        """Leaves nothing of the attempt on the host. What is not there is success."""

    def close(self) -> None:
        """Lets go of connections; jobs are left as they are."""
