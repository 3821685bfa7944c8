"""The hosts of a run made ready: reached, their images there, their slots known. Nothing is scheduled before that."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator import images
from orchestrator.errors import HostUnfit, HostUnreachable, ImageError, InputError
from orchestrator.executors import Executor, Slot
from orchestrator.executors.connection import Connection, connect
from orchestrator.executors.docker import DockerExecutor
from orchestrator.executors.process import ProcessExecutor
from orchestrator.images.image import OnProgress
from orchestrator.model import DockerHost, Host, ProcessHost
from runner.schema import ENGINES, Job


@dataclass(frozen=True)
class Station:
    """One host, ready. images: what its containers are made from, by flavour, as `reference@id`.

    place: held while a job starts, where several entries of the inventory are one and the same machine.
    """

    executor: Executor
    slots: tuple[Slot, ...]
    images: Mapping[str, str] = field(default_factory=dict)
    place: threading.Lock | None = None


@dataclass(frozen=True)
class Fleet:
    """stations: by host. unreachable: why the others do not answer, by host."""

    stations: Mapping[str, Station]
    unreachable: Mapping[str, str]

    def equip(self, job: Job, run: str) -> Job:
        """The job as it will run: with its run's name, and with what its container is made from."""
        station = self.stations.get(job.host)
        return replace(job, run=run, image=station.images.get(job.image_flavour, "") if station else "")


def processes_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where this machine's process hosts keep their jobs: one place for all runs, so that they see one another's."""
    state = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "orchestrator" / "processes"


@contextmanager
def executor(host: Host) -> Iterator[Executor]:
    """A host's executor, to look at what is there. Raises InputError (a context or key that is not found)."""
    made = ProcessExecutor(host, processes_folder()) if isinstance(host, ProcessHost) else DockerExecutor(host)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def ready(
    hosts: Sequence[Host],
    jobs: Iterable[Job],
    *,
    registry: str | None = None,
    wheels: Path | None = None,
    progress: OnProgress = lambda _: None,
) -> Iterator[Fleet]:
    """Reaches the hosts, brings the images of their jobs to them, and finds their slots: all at once.

    jobs: those that have their image already keep it. A host that does not answer is told in the fleet. Raises
    InputError, with all problems together, where one cannot do what is asked of it, or an image cannot be had.
    """
    needed: dict[str, set[str]] = {host.name: set() for host in hosts}
    pinned: dict[str, dict[str, str]] = {host.name: {} for host in hosts}
    for job in jobs:
        if job.image:
            pinned[job.host][job.image_flavour] = job.image
        else:
            needed[job.host].add(job.image_flavour)
    with ExitStack() as open_now:
        connections = _connections([h for h in hosts if isinstance(h, DockerHost)], open_now)
        flavours = {name: needed[name] for name in connections}
        had = images.ensure(connections, flavours, registry=registry, wheels=wheels, progress=progress)
        problems = [error for error in had.values() if isinstance(error, (ImageError, HostUnfit, InputError))]
        if problems:
            raise InputError(dict.fromkeys(str(error) for error in problems))
        unreachable = {name: str(error) for (name, _), error in had.items() if isinstance(error, HostUnreachable)}
        for (name, flavour), image in had.items():
            if isinstance(image, images.ImageInfo):
                pinned[name][flavour] = image.pinned
        executors: dict[str, Executor] = {}
        for host in hosts:
            if host.name not in unreachable:
                executors[host.name] = _executor(host, connections, pinned[host.name])
                open_now.callback(executors[host.name].close)
        yield _with_slots(executors, pinned, _places(hosts, connections), unreachable)


def build(
    hosts: Iterable[Host], *, registry: str | None = None, wheels: Path | None = None, progress: OnProgress
) -> Mapping[tuple[str, str], images.ImageInfo | Exception]:
    """Brings every image that some engine needs there to each Docker host: built once, and then moved."""
    with ExitStack() as open_now:
        docker_hosts = [host for host in hosts if isinstance(host, DockerHost)]
        if not docker_hosts:
            raise InputError("none of these hosts runs containers; name a Docker host with --hosts")
        needed = {host.name: flavours(host) for host in docker_hosts}
        connections = _connections(docker_hosts, open_now)
        return images.ensure(connections, needed, registry=registry, wheels=wheels, progress=progress)


def flavours(host: Host) -> list[str]:
    """The images that some engine needs on a host of its kind."""
    return sorted({engine.images[host.device] for engine in ENGINES.values() if host.device in engine.images})


def _connections(hosts: Collection[DockerHost], open_now: ExitStack) -> dict[str, Connection]:
    connections: dict[str, Connection] = {}
    problems: list[str] = []
    for host in hosts:
        try:
            connections[host.name] = open_now.enter_context(connect(host))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return connections


def _executor(host: Host, connections: Mapping[str, Connection], pinned: Mapping[str, str]) -> Executor:
    if isinstance(host, ProcessHost):
        return ProcessExecutor(host, processes_folder())
    probe_image = next((image.rpartition("@")[2] for image in pinned.values()), "")
    return DockerExecutor(host, probe_image=probe_image, connection=connections[host.name])


def _places(hosts: Iterable[Host], connections: Mapping[str, Connection]) -> dict[str, threading.Lock | None]:
    """A lock for each machine that stands in the inventory more than once, by host."""
    machine = {h.name: connections[h.name].endpoint.url if h.name in connections else "this machine" for h in hosts}
    shared = {where: threading.Lock() for where, count in Counter(machine.values()).items() if count > 1}
    return {name: shared.get(where) for name, where in machine.items()}


def _with_slots(
    executors: Mapping[str, Executor],
    pinned: Mapping[str, Mapping[str, str]],
    places: Mapping[str, threading.Lock | None],
    unreachable: dict[str, str],
) -> Fleet:
    def slots(name: str) -> tuple[Slot, ...] | Exception:
        try:
            return executors[name].slots()
        except (HostUnreachable, HostUnfit, InputError) as error:
            return error

    with ThreadPoolExecutor(max_workers=max(1, len(executors))) as pool:
        found = dict(zip(executors, pool.map(slots, executors)))
    problems = [str(error) for error in found.values() if isinstance(error, (HostUnfit, InputError))]
    if problems:
        raise InputError(dict.fromkeys(problems))
    unreachable |= {name: str(error) for name, error in found.items() if isinstance(error, HostUnreachable)}
    stations = {
        name: Station(executors[name], slots, pinned[name], places[name])
        for name, slots in found.items()
        if not isinstance(slots, Exception)
    }
    return Fleet(stations, unreachable)
