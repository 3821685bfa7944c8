"""Prepares the hosts of a run: connects, provides images, finds slots. Nothing is scheduled before that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias, cast

from orchestrator import images
from orchestrator.config import S3, Host
from orchestrator.errors import HostUnreachable, InputError
from orchestrator.executors.contract import Executor, Slot
from orchestrator.hosts.access import (
    connections_to,
    executor_of,
    must_fit,
    must_have_images,
    reach,
    store_of,
)
from orchestrator.hosts.docker import DOCKER
from orchestrator.hosts.kind import AnyConnection
from orchestrator.hosts.kinds import kind_of
from orchestrator.hosts.kubernetes import KUBERNETES
from orchestrator.hosts.outcomes import ask, ask_patiently, sort_out
from orchestrator.hosts.pod_images import provide
from orchestrator.images.image import OnProgress
from orchestrator.store import ResultStore
from runner.schema import Job

if TYPE_CHECKING:
    from orchestrator.executors.docker.connection import Connection

Provided: TypeAlias = "images.ImageInfo | str | Exception"


@dataclass(frozen=True)
class ReadyHost:
    """One host that is ready to run jobs.

    images: the images of its containers, by flavour, as `reference@id`.
    result_store: the store that its containers upload results to.
    """

    executor: Executor
    slots: tuple[Slot, ...]
    images: Mapping[str, str] = field(default_factory=dict)
    result_store: ResultStore | None = None


@dataclass(frozen=True)
class Fleet:
    """ready_hosts: by name. silent: executors of hosts that do not answer. unreachable: the reasons, by host.

    result_stores: stores that answered, by host. late: prepares a silent host once it answers; raises HostUnreachable
    while it does not answer, and HostUnfit, InputError or ImageError if it cannot be prepared.
    """

    hosts: Mapping[str, Host]
    ready_hosts: Mapping[str, ReadyHost]
    unreachable: Mapping[str, str]
    silent: Mapping[str, Executor]
    result_stores: Mapping[str, ResultStore]
    late: Callable[[str], ReadyHost]

    def with_image(self, job: Job, run: str) -> Job:
        """Returns the job with its run's name and, if known, its container's image."""
        ready_host = self.ready_hosts.get(job.host)
        return replace(job, run=run, image=ready_host.images.get(job.image_flavour, "") if ready_host else "")


@contextmanager
def ready(
    hosts: Sequence[Host],
    jobs: Iterable[Job],
    *,
    registry: str | None = None,
    wheels: Path | None = None,
    progress: OnProgress = lambda _: None,
) -> Iterator[Fleet]:
    """Connects to all hosts concurrently, provides their jobs' images, and finds their slots.

    jobs: a job that already has an image keeps it. The fleet lists hosts that do not answer; they delay the others for
    at most `outcomes.PATIENCE_S`. Raises InputError with all problems if a host cannot run its jobs or an image is
    unavailable.
    """
    with ExitStack() as open_now:
        connections = connections_to(hosts, open_now)
        making = _Making(hosts, _images_of(hosts, jobs), connections, open_now, registry, wheels)
        del jobs  # not needed while the run is driven
        unreachable: dict[str, str] = {}
        ready_hosts = making.ready_hosts(hosts, unreachable, progress)
        silent = {host.name: executor_of(host, connections, {}) for host in hosts if host.name in unreachable}

        def late(name: str) -> ReadyHost:
            why: dict[str, str] = {}
            made = making.ready_hosts([host for host in hosts if host.name == name], why, lambda _: None)
            if name in why:
                raise HostUnreachable(why[name])
            return made[name]

        by_name = {host.name: host for host in hosts}
        yield Fleet(by_name, ready_hosts, unreachable, silent, making.result_stores, late)


class _Making:
    """Prepares hosts, some later than others. result_stores: stores that have answered so far, by host."""

    def __init__(
        self,
        hosts: Sequence[Host],
        images_of: tuple[Mapping[str, Collection[str]], dict[str, dict[str, str]]],
        connections: Mapping[str, AnyConnection],
        open_now: ExitStack,
        registry: str | None,
        wheels: Path | None,
    ) -> None:
        self.result_stores: dict[str, ResultStore] = {}
        self._hosts, self._connections, self._open_now = hosts, connections, open_now
        self._needed, self._pinned = images_of
        self._registry, self._wheels = registry, wheels
        self._ready: set[str] = set()
        self._opened: dict[S3, ResultStore] = {}
        self._locks: dict[S3, Lock] = {}

    def ready_hosts(
        self, asked: Sequence[Host], unreachable: dict[str, str], progress: OnProgress
    ) -> Mapping[str, ReadyHost]:
        """Prepares these hosts; returns them by name. Records or raises failures as `ready` does."""

        def reached() -> list[Host]:
            return [host for host in asked if host.name not in unreachable]

        tried: dict[S3, Exception] = {}

        def answers(host: Host) -> None:
            self._open_result_store(host, tried)
            reach(host, self._connections)

        ask_patiently(asked, answers, unreachable)
        # run the checks that need no image first, so that no image is built for an unfit host
        ask(reached(), lambda host: must_fit(host, self._connections), unreachable)
        self._bring_images(reached(), unreachable, progress)
        ask(reached(), lambda host: must_have_images(host, self._connections, self._brought(host)), unreachable)
        executors: dict[str, Executor] = {}
        for host in reached():
            executors[host.name] = executor_of(host, self._connections, self._pinned[host.name])
            self._open_now.callback(executors[host.name].close)
        slots = ask(reached(), lambda host: executors[host.name].slots(), unreachable)
        self._ready |= slots.keys()
        return {
            name: ReadyHost(executors[name], slots[name], self._pinned[name], self.result_stores.get(name))
            for name in slots
        }

    def _brought(self, host: Host) -> set[str]:
        """Returns the images of a host's new jobs. The nodes already have the image of an adopted job."""
        pinned = self._pinned[host.name]
        return {pinned[flavour] for flavour in self._needed[host.name] if flavour in pinned}

    def _bring_images(self, asked: Sequence[Host], unreachable: dict[str, str], progress: OnProgress) -> None:
        """Provides the images of hosts that are not ready yet. Ready hosts serve as sources to stream images from."""
        names = {host.name for host in asked}
        hosts = [host for host in self._hosts if host.name in names | self._ready]
        needed = {host.name: self._needed[host.name] if host.name in names else () for host in hosts}
        had = _provide(
            hosts, needed, self._connections, registry=self._registry, wheels=self._wheels, progress=progress
        )
        sort_out(((name, outcome) for (name, _), outcome in had.items()), unreachable)
        for (name, flavour), image in had.items():
            if not isinstance(image, Exception):
                carried = images.FLAVOURS if flavour == images.CUSTOM_BASE else (flavour,)
                its = image.pinned if isinstance(image, images.ImageInfo) else image
                self._pinned[name] |= dict.fromkeys(carried, its)

    def _open_result_store(self, host: Host, tried: dict[S3, Exception]) -> None:
        """Opens each store once, even if several hosts share it. Raises the same error again for the next host."""
        s3 = store_of(host)
        if s3 is None or host.name in self.result_stores:
            return
        from orchestrator.store.result_store import S3ResultStore  # boto3 is slow to import and not always needed

        with self._locks.setdefault(s3, Lock()):
            if s3 in tried:
                raise tried[s3]
            if s3 not in self._opened:
                try:
                    self._opened[s3] = S3ResultStore.open(s3)
                except (HostUnreachable, InputError) as error:
                    tried[s3] = error
                    raise
        self.result_stores[host.name] = self._opened[s3]


def build(
    hosts: Iterable[Host], *, registry: str | None = None, wheels: Path | None = None, progress: OnProgress
) -> Mapping[tuple[str, str], Provided]:
    """Builds each image once and copies it to every Docker host that needs it.

    With a registry, also provides the images of clusters: as what a Job names, by digest.
    """
    hosts = list(hosts)
    docker_hosts, pools = DOCKER.of(hosts), KUBERNETES.of(hosts)
    if pools and not docker_hosts and registry is None:
        raise InputError(f"host {pools[0].name}: nothing can be streamed to a cluster's nodes; add --push REGISTRY")
    if not docker_hosts and not pools:
        raise InputError("none of these hosts runs containers; name a Docker host with --hosts")
    made_for: list[Host] = [*docker_hosts, *(pools if registry is not None else ())]
    needed = {host.name: kind_of(host).flavours(host) for host in made_for}
    with ExitStack() as open_now:
        connections = connections_to(docker_hosts, open_now)
        return _provide(made_for, needed, connections, registry=registry, wheels=wheels, progress=progress)


def _images_of(hosts: Iterable[Host], jobs: Iterable[Job]) -> tuple[dict[str, set[str]], dict[str, dict[str, str]]]:
    """Returns two maps by host: the flavours that its jobs still need, and the images by flavour that they have."""
    bases = _bases(hosts)
    needed: dict[str, set[str]] = {host.name: set() for host in hosts}
    pinned: dict[str, dict[str, str]] = {host.name: {} for host in hosts}
    for job in jobs:
        if job.image:
            pinned[job.host][job.image_flavour] = job.image
        else:
            needed[job.host].add(images.CUSTOM_BASE if job.host in bases else job.image_flavour)
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
    """Provides images on engines and for clusters' Jobs; returns the images, or why not. needed: host → flavours."""
    hosts = list(hosts)
    engines = {
        host.name: cast("Connection", connections[host.name]) for host in DOCKER.of(hosts) if host.name in connections
    }
    on = {name: needed[name] for name in engines}
    had = images.ensure(engines, on, bases=_bases(hosts), registry=registry, wheels=wheels, progress=progress)
    of_pods = [(host, needed[host.name]) for host in KUBERNETES.of(hosts)]
    return {**had, **provide(of_pods, engines, registry=registry, wheels=wheels, progress=progress)}


def _bases(hosts: Iterable[Host]) -> dict[str, str]:
    return {host.name: host.base for host in DOCKER.of(hosts) if host.base}
