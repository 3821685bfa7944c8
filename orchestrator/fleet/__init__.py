"""The hosts of a run made ready: reached, their images there, their slots known. Nothing is scheduled before that."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from orchestrator import images
from orchestrator.config import S3, DockerHost, Host, KubernetesHost, ProcessHost
from orchestrator.errors import HostUnreachable, InputError
from orchestrator.executors import Executor, Slot
from orchestrator.executors.connection import Connection
from orchestrator.fleet.host import (
    AnyConnection,
    connections_to,
    executor,
    executor_of,
    flavours,
    must_fit,
    processes_folder,
    reference,
    store_of,
)
from orchestrator.fleet.outcomes import ask, sort_out
from orchestrator.fleet.pod_images import provide
from orchestrator.images.image import OnProgress
from orchestrator.store import Inbox
from runner.schema import Job

__all__ = ["Fleet", "Station", "build", "executor", "processes_folder", "ready", "reference", "store_of"]

Provided: TypeAlias = "images.ImageInfo | str | Exception"


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
    unreachable: dict[str, str] = {}

    def reached() -> list[Host]:
        return [host for host in hosts if host.name not in unreachable]

    with ExitStack() as open_now:
        connections = connections_to([host for host in hosts if not isinstance(host, ProcessHost)], open_now)
        inboxes = _open_inboxes(hosts, unreachable)
        # what needs no image is asked first: nothing is built for a host that then turns out not to fit
        ask(reached(), lambda host: must_fit(host, connections), unreachable)
        needed, pinned = _images_of(hosts, jobs)
        had = _provide(reached(), needed, connections, registry=registry, wheels=wheels, progress=progress)
        sort_out(((name, outcome) for (name, _), outcome in had.items()), unreachable)
        for (name, flavour), image in had.items():
            if not isinstance(image, Exception):
                carried = images.FLAVOURS if flavour == images.GIVEN else (flavour,)
                its = image.pinned if isinstance(image, images.ImageInfo) else image
                pinned[name] |= dict.fromkeys(carried, its)
        executors: dict[str, Executor] = {}
        for host in reached():
            executors[host.name] = executor_of(host, connections, pinned[host.name])
            open_now.callback(executors[host.name].close)
        slots = ask(reached(), lambda host: executors[host.name].slots(), unreachable)
        stations = {name: Station(executors[name], slots[name], pinned[name], inboxes.get(name)) for name in slots}
        yield Fleet(stations, unreachable, inboxes)


def build(
    hosts: Iterable[Host], *, registry: str | None = None, wheels: Path | None = None, progress: OnProgress
) -> Mapping[tuple[str, str], Provided]:
    """Brings every image that some engine needs there to each Docker host: built once, and then moved.

    With a registry also those of clusters: as what a Job names, by digest.
    """
    docker_hosts = [host for host in hosts if isinstance(host, DockerHost)]
    pools = [host for host in hosts if isinstance(host, KubernetesHost)]
    if pools and not docker_hosts and registry is None:
        raise InputError(f"host {pools[0].name}: nothing can be streamed to a cluster's nodes; add --push REGISTRY")
    if not docker_hosts and not pools:
        raise InputError("none of these hosts runs containers; name a Docker host with --hosts")
    made_for: list[Host] = [*docker_hosts, *(pools if registry is not None else ())]
    needed = {host.name: flavours(host) for host in made_for}
    with ExitStack() as open_now:
        connections = connections_to(docker_hosts, open_now)
        return _provide(made_for, needed, connections, registry=registry, wheels=wheels, progress=progress)


def _images_of(hosts: Iterable[Host], jobs: Iterable[Job]) -> tuple[dict[str, set[str]], dict[str, dict[str, str]]]:
    """By host: the flavours that its jobs still need, and the images by flavour that they have."""
    bases = _bases(hosts)
    needed: dict[str, set[str]] = {host.name: set() for host in hosts}
    pinned: dict[str, dict[str, str]] = {host.name: {} for host in hosts}
    for job in jobs:
        if job.image:
            pinned[job.host][job.image_flavour] = job.image
        else:
            needed[job.host].add(images.GIVEN if job.host in bases else job.image_flavour)
    return needed, pinned


def _provide(
    hosts: Iterable[Host],
    needed: Mapping[str, Collection[str]],
    connections: Mapping[str, AnyConnection],
    *,
    registry: str | None,
    wheels: Path | None,
    progress: OnProgress,
) -> Mapping[tuple[str, str], Provided]:
    """The images on the engines, and what the Jobs of clusters name; or why not. needed: host → flavours."""
    hosts = list(hosts)
    engines = {host.name: it for host in hosts if isinstance(it := connections.get(host.name), Connection)}
    on = {name: needed[name] for name in engines}
    had = images.ensure(engines, on, bases=_bases(hosts), registry=registry, wheels=wheels, progress=progress)
    of_pods = [(host, needed[host.name]) for host in hosts if isinstance(host, KubernetesHost)]
    return {**had, **provide(of_pods, engines, registry=registry, wheels=wheels, progress=progress)}


def _bases(hosts: Iterable[Host]) -> dict[str, str]:
    return {host.name: host.base for host in hosts if isinstance(host, DockerHost) and host.base}


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
    sort_out([(name, opened[s3]) for name, s3 in wanted.items()], unreachable)
    return {name: inbox for name, s3 in wanted.items() if isinstance(inbox := opened[s3], S3Inbox)}
