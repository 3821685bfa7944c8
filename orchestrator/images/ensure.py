"""Provides every host with the images that its jobs need; each image is built once per architecture."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from orchestrator.concurrency import map_concurrently
from orchestrator.errors import HostUnreachable, ImageError
from orchestrator.executors.docker.connection import Connection
from orchestrator.images.build import build, find
from orchestrator.images.image import ImageInfo, OnProgress, engine_of
from orchestrator.images.recipe import reference
from orchestrator.images.record import Record
from orchestrator.images.shipping import FAULTS, ship_to_all
from orchestrator.images.transfer import architecture, pull, push

ImageOrError: TypeAlias = ImageInfo | Exception


def ensure(
    connections: Mapping[str, Connection],
    needed: Mapping[str, Collection[str]],
    *,
    bases: Mapping[str, str] | None = None,
    registry: str | None = None,
    wheels: Path | None = None,
    progress: OnProgress = lambda _: None,
) -> Mapping[tuple[str, str], ImageOrError]:
    """Returns the image of each (host, flavour), or why it is missing: an error on one host does not stop the others.

    needed: host → flavours. A host that needs none can still be a source: its image is streamed to other hosts if this
    user built it. An image that this user did not build serves its own host's jobs only. If no host has an image, it
    is built on the first host that answers and streamed from there.
    bases: host → the image that its own are built on, instead of the default one.
    registry: the image is pushed there and pulled from there instead. wheels: the folder with a build's packages.
    """
    on, record = bases or {}, Record.of_user()
    asked_for: dict[str | None, set[str]] = {}
    for host, flavours in needed.items():
        asked_for.setdefault(on.get(host), set()).update(flavours)
    seen, failed = map_concurrently(
        needed, lambda host: _look(connections[host], asked_for[on.get(host)], on.get(host)), FAULTS
    )
    outcomes: dict[tuple[str, str], ImageOrError] = {
        (host, flavour): fault for host, fault in failed.items() for flavour in needed[host]
    }
    groups: dict[tuple[str, str | None, str], dict[str, ImageInfo | None]] = {}
    for host, there in seen.items():
        for flavour, image in there.images.items():
            if image is not None or flavour in needed[host]:
                groups.setdefault((flavour, on.get(host), there.arch), {})[host] = image

    def provide(group: tuple[str, str | None, str]) -> Mapping[str, ImageOrError]:
        return _Provision(connections, group[0], group[1], registry, wheels, progress, record).provide(groups[group])

    of_groups, _ = map_concurrently(groups, provide)
    for (flavour, *_), provided in of_groups.items():
        outcomes |= {(host, flavour): outcome for host, outcome in provided.items() if flavour in needed[host]}
    return outcomes


@dataclass(frozen=True)
class _Seen:
    arch: str
    images: Mapping[str, ImageInfo | None]


def _look(connection: Connection, flavours: Iterable[str], base: str | None) -> _Seen:
    images = {flavour: find(connection, reference(flavour, base)) for flavour in flavours}
    return _Seen(architecture(connection), images)


@dataclass(frozen=True)
class _Provision:
    """Provides one flavour on one base to the hosts of one architecture."""

    connections: Mapping[str, Connection]
    flavour: str
    base: str | None
    registry: str | None
    wheels: Path | None
    progress: OnProgress
    record: Record

    def provide(self, there: Mapping[str, ImageInfo | None]) -> Mapping[str, ImageOrError]:
        have: dict[str, ImageOrError] = {host: image for host, image in there.items() if image}
        lack = [host for host in there if host not in have]
        origin = next((host for host, image in there.items() if image and self._may_give(host, image)), None)
        if origin is None and (lack or self.registry is not None):
            made = self._make(lack or list(have))
            origin = next((host for host, outcome in made.items() if isinstance(outcome, ImageInfo)), None)
            if origin is None:
                return {**have, **_explained(made, list(have))}
            have |= made
        if origin is None:
            return have
        if self.registry is not None and self._may_give(origin, have[origin]):  # else it was pulled from there
            pushed = self._push(origin, self.registry)
            have[origin] = pushed
            if isinstance(pushed, Exception):
                return {**dict.fromkeys(there, pushed), **{h: o for h, o in have.items() if isinstance(o, Exception)}}
        still = [host for host in lack if host not in have]
        brought, failed = self._bring(origin, still)
        return {**have, **brought, **failed}

    def _may_give(self, host: str, image: ImageOrError) -> bool:
        """Whether other hosts may get the image from this one. We check a stream here, but cannot check a push."""
        if not isinstance(image, ImageInfo):
            return False
        if self.registry is None:
            return self.record.knows(image)
        return self.record.was_built_on(image, engine_of(self.connections[host]))

    def _make(self, hosts: Iterable[str]) -> dict[str, ImageOrError]:
        """Pulls or builds on the first host that answers. An image that does not build fails for every host."""
        tried: dict[str, ImageOrError] = {}
        for host in hosts:
            try:
                return {**tried, host: self._pulled_or_built(self.connections[host])}
            except HostUnreachable as error:
                tried[host] = error
            except FAULTS as error:
                return {**dict.fromkeys(hosts, error), **tried}
        return tried

    def _pulled_or_built(self, connection: Connection) -> ImageInfo:
        name = reference(self.flavour, self.base)
        if self.registry and (pulled := pull(connection, name, self.registry, self.progress, record=self.record)):
            return pulled
        return build(
            connection,
            self.flavour,
            base=self.base,
            wheels=self.wheels,
            progress=self.progress,
            anew=True,
            record=self.record,
        )

    def _push(self, host: str, registry: str) -> ImageOrError:
        name, connection = reference(self.flavour, self.base), self.connections[host]
        try:
            push(connection, name, registry, self.progress, record=self.record)
            return find(connection, name) or ImageError(f"{name} vanished from {host} while it was pushed")
        except FAULTS as error:
            return error

    def _bring(self, origin: str, hosts: Sequence[str]) -> tuple[dict[str, ImageInfo], dict[str, Exception]]:
        name = reference(self.flavour, self.base)
        if self.registry is None:
            targets = {host: self.connections[host] for host in hosts}
            return ship_to_all(self.connections[origin], targets, name, self.progress, record=self.record)
        registry = self.registry
        return map_concurrently(hosts, lambda host: self._pulled(origin, host, name, registry), FAULTS)

    def _pulled(self, origin: str, host: str, name: str, registry: str) -> ImageInfo:
        pulled = pull(self.connections[host], name, registry, self.progress, record=self.record)
        if pulled is None:
            raise ImageError(f"{name} is not at {registry} as {host} sees it, though {origin} just pushed it there")
        return pulled


def _explained(made: Mapping[str, ImageOrError], not_ours: Sequence[str]) -> Mapping[str, ImageOrError]:
    """Adds to failed builds which hosts have an image of that name that this user has not built."""
    if not not_ours:
        return made
    why = (
        f"{', '.join(not_ours)} has an image of that name that this user has not built, so it is sent to no other "
        "host; if you trust it: docker save there, docker load here"
    )
    return {
        host: ImageError(f"{outcome}\n  {why}") if isinstance(outcome, ImageError) else outcome
        for host, outcome in made.items()
    }
