"""The hosts of a run made ready: reached, their images there, their slots known. Nothing is scheduled before that."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from orchestrator import images
from orchestrator.errors import HostUnfit, HostUnreachable, InputError
from orchestrator.executors import Executor, Slot
from orchestrator.executors.connection import Connection, connect
from orchestrator.executors.docker import DockerExecutor
from orchestrator.executors.probe import require_gpus
from orchestrator.executors.process import ProcessExecutor
from orchestrator.images.image import OnProgress
from orchestrator.model import S3, DockerHost, Host, KubernetesHost, ProcessHost
from orchestrator.pod_images import provide
from orchestrator.store import Inbox
from runner.schema import ENGINES, Device, Job

if TYPE_CHECKING:
    from orchestrator.executors.kubernetes.cluster import Cluster

AnyConnection: TypeAlias = "Connection | Cluster"
T = TypeVar("T")


@dataclass(frozen=True)
class Station:
    """One host, ready.

    images: what its containers are made from, by flavour, as `reference@id`. inbox: the store that they deliver to.
    """

    executor: Executor
    slots: tuple[Slot, ...]
    images: Mapping[str, str] = field(default_factory=dict)
    inbox: Inbox | None = None


@dataclass(frozen=True)
class Fleet:
    """stations: by host. unreachable: why the others do not answer, by host. inboxes: of all hosts that have one."""

    stations: Mapping[str, Station]
    unreachable: Mapping[str, str]
    inboxes: Mapping[str, Inbox] = field(default_factory=dict)

    def equip(self, job: Job, run: str) -> Job:
        """The job as it will run: with its run's name, and with what its container is made from."""
        station = self.stations.get(job.host)
        return replace(job, run=run, image=station.images.get(job.image_flavour, "") if station else "")


def store_of(host: Host) -> S3 | None:
    return None if isinstance(host, ProcessHost) or host.collect is None else host.collect.s3


def processes_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where this machine's process hosts keep their jobs: one place for all runs, so that they see one another's."""
    state = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "orchestrator" / "processes"


@contextmanager
def executor(host: Host) -> Iterator[Executor]:
    """A host's executor, to look at what is there. Raises InputError (a context or key that is not found)."""
    made = _executor(host, connections={}, pinned={})
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
    bases = _bases(hosts)
    for job in jobs:
        if job.image:
            pinned[job.host][job.image_flavour] = job.image
        else:
            needed[job.host].add(images.GIVEN if job.host in bases else job.image_flavour)
    unreachable: dict[str, str] = {}
    with ExitStack() as open_now:
        connections = _connections([host for host in hosts if not isinstance(host, ProcessHost)], open_now)
        inboxes = _open_inboxes(hosts, unreachable)
        # what needs no image is asked first: nothing is built for a host that then turns out not to fit
        there = [host for host in hosts if host.name not in unreachable]
        _ask(there, lambda host: _must_fit(host, connections), unreachable)
        engines = {name: made for name, made in connections.items() if isinstance(made, Connection)}
        wanted = {name: flavours for name, flavours in needed.items() if name in engines and name not in unreachable}
        had = images.ensure(engines, wanted, bases=bases, registry=registry, wheels=wheels, progress=progress)
        _sort_out(((name, outcome) for (name, _), outcome in had.items()), unreachable)
        for (name, flavour), image in had.items():
            if isinstance(image, images.ImageInfo):
                carried = _all_flavours() if flavour == images.GIVEN else (flavour,)
                pinned[name] |= dict.fromkeys(carried, image.pinned)
        pools = [host for host in hosts if isinstance(host, KubernetesHost) and host.name not in unreachable]
        builders = {name: engine for name, engine in engines.items() if name not in unreachable}
        of_pods = [(pool, needed[pool.name]) for pool in pools]
        named = provide(of_pods, builders, registry=registry, wheels=wheels, progress=progress)
        _sort_out(((name, outcome) for (name, _), outcome in named.items()), unreachable)
        for (name, flavour), its in named.items():
            pinned[name][flavour] = str(its)
        executors: dict[str, Executor] = {}
        for host in hosts:
            if host.name not in unreachable:
                executors[host.name] = _executor(host, connections, pinned[host.name])
                open_now.callback(executors[host.name].close)
        reached = [host for host in hosts if host.name in executors]
        slots = _ask(reached, lambda host: executors[host.name].slots(), unreachable)
        stations = {name: Station(executors[name], slots[name], pinned[name], inboxes.get(name)) for name in slots}
        yield Fleet(stations, unreachable, inboxes)


def build(
    hosts: Iterable[Host], *, registry: str | None = None, wheels: Path | None = None, progress: OnProgress
) -> Mapping[tuple[str, str], images.ImageInfo | str | Exception]:
    """Brings every image that some engine needs there to each Docker host: built once, and then moved.

    With a registry also those of clusters: as what a Job names, by digest.
    """
    with ExitStack() as open_now:
        docker_hosts = [host for host in hosts if isinstance(host, DockerHost)]
        pools = [host for host in hosts if isinstance(host, KubernetesHost)]
        if pools and not docker_hosts and registry is None:
            raise InputError(f"host {pools[0].name}: nothing can be streamed to a cluster's nodes; add --push REGISTRY")
        if not docker_hosts and not pools:
            raise InputError("none of these hosts runs containers; name a Docker host with --hosts")
        needed = {host.name: flavours(host) for host in docker_hosts}
        connections = _connections(docker_hosts, open_now)
        engines = {name: made for name, made in connections.items() if isinstance(made, Connection)}
        built: dict[tuple[str, str], images.ImageInfo | str | Exception] = {}
        on = _bases(docker_hosts)
        built |= images.ensure(engines, needed, bases=on, registry=registry, wheels=wheels, progress=progress)
        if registry is not None:
            of_pods = [(pool, flavours(pool)) for pool in pools]
            built |= provide(of_pods, engines, registry=registry, wheels=wheels, progress=progress)
        return built


def _bases(hosts: Iterable[Host]) -> dict[str, str]:
    return {host.name: host.base for host in hosts if isinstance(host, DockerHost) and host.base}


def _all_flavours() -> set[str]:
    return {flavour for engine in ENGINES.values() for flavour in engine.images.values()}


def reference(flavour: str, host: DockerHost) -> str:
    """The name of the image that a host runs jobs of a flavour in."""
    return images.reference(images.GIVEN, host.base) if host.base else images.reference(flavour)


def flavours(host: Host) -> list[str]:
    """The images that some engine needs on a host of its kind."""
    if isinstance(host, DockerHost) and host.base:
        return [images.GIVEN]
    return sorted({engine.images[host.device] for engine in ENGINES.values() if host.device in engine.images})


def _connect(host: DockerHost | KubernetesHost) -> AnyConnection:
    if isinstance(host, DockerHost):
        return connect(host)
    from orchestrator.executors.kubernetes.cluster import Cluster  # its client takes a second to import

    return Cluster(host)


def _connections(hosts: Collection[DockerHost | KubernetesHost], open_now: ExitStack) -> dict[str, AnyConnection]:
    connections: dict[str, AnyConnection] = {}
    problems: list[str] = []
    for host in hosts:
        try:
            connections[host.name] = _connect(host)
            open_now.callback(connections[host.name].close)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return connections


def _open_inboxes(hosts: Sequence[Host], unreachable: dict[str, str]) -> dict[str, Inbox]:
    """By host, each store opened once. Raises InputError for what is wrong with any of them."""
    wanted = {host.name: s3 for host in hosts if (s3 := store_of(host)) is not None}
    if not wanted:
        return {}
    from orchestrator.store.inbox import S3Inbox  # boto3 takes its time, and not everybody needs it

    opened: dict[S3, S3Inbox | Exception] = {}
    for s3 in wanted.values():
        if s3 not in opened:
            try:
                opened[s3] = S3Inbox.open(s3)
            except (HostUnreachable, InputError) as error:
                opened[s3] = error
    _sort_out([(name, opened[s3]) for name, s3 in wanted.items()], unreachable)
    return {name: inbox for name, s3 in wanted.items() if isinstance(inbox := opened[s3], S3Inbox)}


def _executor(host: Host, connections: Mapping[str, AnyConnection], pinned: Mapping[str, str]) -> Executor:
    """With the host's connection where there is one already, and one of its own where not."""
    connection = connections.get(host.name)
    match host:
        case ProcessHost():
            return ProcessExecutor(host, processes_folder())
        case DockerHost():
            probe_image = next((image.rpartition("@")[2] for image in pinned.values()), "")
            engine = connection if isinstance(connection, Connection) else None
            return DockerExecutor(host, probe_image=probe_image, connection=engine)
        case KubernetesHost():
            from orchestrator.executors.kubernetes.executor import KubernetesExecutor

            return KubernetesExecutor(host, None if isinstance(connection, Connection) else connection)


def _must_fit(host: Host, connections: Mapping[str, AnyConnection]) -> None:
    """Raises HostUnfit where a host lacks something that no image can bring."""
    connection = connections.get(host.name)
    if isinstance(host, ProcessHost):
        ProcessExecutor(host, processes_folder()).slots()
    elif isinstance(host, KubernetesHost):
        _executor(host, connections, {}).slots()
    elif isinstance(connection, Connection) and host.device is Device.CUDA:
        with connection.api() as api:
            require_gpus(api, host)


def _ask(hosts: Sequence[Host], question: Callable[[Host], T], unreachable: dict[str, str]) -> dict[str, T]:
    """The answers of those hosts that answer, all asked at once. Raises InputError where some cannot do it."""

    def attempt(host: Host) -> T | Exception:
        try:
            return question(host)
        except (HostUnreachable, HostUnfit, InputError) as error:
            return error

    with ThreadPoolExecutor(max_workers=max(1, len(hosts))) as pool:
        answers = list(zip((host.name for host in hosts), pool.map(attempt, hosts)))
    _sort_out(answers, unreachable)
    return {name: answer for name, answer in answers if not isinstance(answer, Exception)}


def _sort_out(outcomes: Iterable[tuple[str, object]], unreachable: dict[str, str]) -> None:
    """Notes which hosts do not answer. Raises InputError, all together, for what is wrong with the others."""
    problems: list[str] = []
    for name, outcome in outcomes:
        if isinstance(outcome, HostUnreachable):
            unreachable[name] = str(outcome)
        elif isinstance(outcome, InputError):
            problems += outcome.problems
        elif isinstance(outcome, Exception):
            problems.append(str(outcome))
    if problems:
        raise InputError(dict.fromkeys(problems))
