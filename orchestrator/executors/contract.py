"""The Protocol that every kind of host implements. An executor stores no job state: it asks the host each time."""

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

# Names become parts of paths and URLs: these characters cannot escape from them. Our own names are shorter.
RUN_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
JOB_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
NUMBER_PATTERN = re.compile(r"[1-9][0-9]{0,5}")
# Containers, Jobs and pods with this label, or named after it, are ours.
LABEL = "sd-orchestrator"
# The largest file of an attempt that is accepted.
FILE_LIMIT_BYTES = 16 * 2**20


class Attempt(NamedTuple):
    """One try at one job. Its name is unique within a run, and names the container or the process folder."""

    run: str
    job: str
    number: int

    @property
    def name(self) -> str:
        return f"orchestrator-{self.run}-{self.job}-{self.number}"

    @staticmethod
    def named(run: object, job: object, number: object) -> Attempt | None:
        """Returns the attempt that a host's labels name; None if one of them is not a valid name."""
        words = ((RUN_PATTERN, run), (JOB_PATTERN, job), (NUMBER_PATTERN, number))
        if not all(isinstance(word, str) and pattern.fullmatch(word) for pattern, word in words):
            return None
        return Attempt(str(run), str(job), int(str(number)))


@dataclass(frozen=True)
class Slot:
    """What one job occupies on a host.

    gpus: device ids in the engine's form; empty for the CPU slot.
    devices: all names of the devices that it occupies, such as a GPU's index and its UUID. Two slots that share a
        device name are never in use at the same time. Default: its gpus, or else its name.
    exclusive_per_run: each run has its own copy of this slot, because the host's own scheduler keeps jobs apart.
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
    ENDING = "ending"
    EXITED = "exited"
    LOST = "lost"


@dataclass(frozen=True)
class Observation:
    """What a host reports about one attempt.

    QUEUED means started but not running yet: the host has no room for it, or is pulling its image. ENDING means that
    all its processes have ended, so its slot is free; how it ended is not known yet, and a later look shows EXITED.

    exit_code: None until it has exited, and if the host no longer knows it. slot: the slot's name. reason: the host's
        explanation (OOM-killed, a failed start, what it waits for), for people. devices: the slot's devices; default:
        the slot's name.
    status: set if the host itself gave up on it (it can never start; the host's deadline passed): the status of the
        cases without a row.
    instance: identifies the start, on hosts that may restart an attempt by themselves. Results come from one start.
    ended_before: how an earlier instance was ended, if the host tells, and nobody saw how.
    for_s: how long it has been running, approximately, if the host tells.
    """

    state: State
    slot: str
    exit_code: int | None = None
    oom_killed: bool = False
    reason: str = ""
    devices: frozenset[str] = field(default=frozenset(), compare=False)
    status: Status | None = None
    instance: str = ""
    ended_before: str = ""
    for_s: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.devices:
            object.__setattr__(self, "devices", frozenset((self.slot,)))


@dataclass(frozen=True)
class Task:
    """An attempt with everything that an executor needs to run it. image: tag or id; empty for a process.

    job.json in the container is `job.to_json()`; the runner writes its rows to results.csv in the same folder.
    """

    attempt: Attempt
    job: Job
    slot: Slot
    image: str = ""


def needs_download(model: str, host: Host) -> bool:
    """Whether a job may download from the hub, and so gets the token.

    True if its model is a hub id and the host has no `weights`. A process host may also download what its weights lack.
    """
    return is_hub_id(model) and (host.weights is None or host.DOWNLOADS_BESIDE_WEIGHTS)


def is_hub_id(model: str) -> bool:
    """Whether a model is a hub id: neither synthetic nor a folder."""
    return not model.startswith((SYNTHETIC, "/", ".", "~"))


class Executor(Protocol):
    """Runs attempts on one host. Every method is idempotent and may raise HostUnreachable; then call it again.

    Methods may be called from any thread, and concurrently.
    """

    @property
    def host(self) -> Host:
        """The host's entry in the inventory."""

    def slots(self) -> tuple[Slot, ...]:
        """Connects and lists the slots. Raises HostUnfit with what is missing and how to fix it."""

    def stage(self, task: Task) -> None:
        """Does all work that can precede a free slot. Succeeds if the attempt already exists.

        Raises StartError if this task cannot be created, or if the host can tell that it exists with another job;
        HostUnfit if no task could be created.
        """

    def hold(self, attempt: Attempt, slot: Slot) -> AbstractContextManager[None]:
        """Locks the slot's devices against every other process and machine. Waits for the current holder.

        An `exclusive_per_run` slot needs no lock.

        attempt: one that is staged. To start it, hold its slot, then check that the slot is free, then call `start`.
        A lock is taken over if its holder died or is no longer staged.
        """

    def start(self, attempt: Attempt, token: str | None = None, upload_grant: str | None = None) -> None:
        """Starts a staged attempt. Succeeds without a second start if it runs or has exited.

        Call `stage` on the same executor first: an executor may assume that others changed what the host stores.
        A running attempt gets token and upload grant again: its orchestrator may have died before it delivered them.

        token: the Hugging Face token. upload_grant: the right to put the attempt's one object into a store, if the
        host collects results through one. Neither appears in a file, argument, label or environment.
        Raises StartError; then nothing of the attempt is left running.
        """

    def observe(self) -> Mapping[Attempt, Observation]:
        """Lists all attempts of all runs on this host, in one request. An attempt that is not listed does not exist."""

    def wait(self, timeout_s: float) -> None:
        """Returns when something may have changed, after `timeout_s` at the latest."""

    def fetch(self, attempt: Attempt, file: str, instance: str = "") -> bytes | None:
        """Returns one file (`results.csv`, `environment.json`) of an attempt that has exited; None if it is missing.

        instance: as in the observation that it has exited; the files of another start count as missing.
        Raises BadResult if it is not one regular file of bounded size, Incomplete if part of it did not arrive. Does
        not check the content.
        """

    def receipt(self, attempt: Attempt, instance: str = "") -> Receipt | None:
        """Returns the upload receipt of an attempt that has exited; None if it wrote none. instance: as for `fetch`."""

    def log(self, attempt: Attempt, *, follow: bool = False, instance: str = "") -> Iterator[str]:
        """Yields lines of standard output and error; with follow, until it exits. An unknown attempt has no lines.

        instance: only of this start, as for `fetch`; default: of the start that the host shows.
        """

    def stop(self, attempt: Attempt, grace_s: float) -> None:
        """Asks the attempt to end, and kills it after `grace_s` seconds. Succeeds if it has ended or does not exist."""

    def remove(self, attempt: Attempt) -> None:
        """Deletes everything of the attempt from the host. Succeeds if nothing is there."""

    def close(self) -> None:
        """Closes connections; jobs keep running."""
