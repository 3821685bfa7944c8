"""An image on an engine, and the events while one is built or transferred."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

from orchestrator.errors import ImageError
from orchestrator.executors.docker.client import Client
from orchestrator.executors.docker.config import DockerConfig, Login
from orchestrator.executors.docker.connection import Connection

# Silence that is normal: unpacking CUDA's wheels, or an engine that packs ten gigabytes before it sends a byte.
QUIET_TIMEOUT_S = 1800


class ImageStep(Enum):
    """The current step for an image."""

    BUILDING = "building"
    SHIPPING = "shipping"
    PUSHING = "pushing"
    PULLING = "pulling"


@dataclass(frozen=True)
class ImageEvent:
    """One progress event. number, of: steps of the Dockerfile. done_bytes: sent so far by a transfer."""

    step: ImageStep
    host: str
    reference: str
    line: str = ""
    number: int | None = None
    of: int | None = None
    done_bytes: int | None = None
    of_bytes: int | None = None


OnProgress: TypeAlias = Callable[[ImageEvent], None]


@dataclass(frozen=True)
class ImageInfo:
    """An image on an engine. digest: the registry's (`repository@sha256:…`); None until it is pushed or pulled.

    layers: the hashes of its content; unlike `id` they do not depend on how an engine stores images.
    """

    reference: str
    id: str
    digest: str | None
    size_bytes: int
    layers: tuple[str, ...]

    @property
    def pinned(self) -> str:
        """The image in a row: tag and id."""
        return f"{self.reference}@{self.id}"

    @classmethod
    def of(cls, reference: str, inspected: Mapping[str, Any]) -> ImageInfo:
        digests = inspected.get("RepoDigests") or [None]
        layers = tuple(inspected.get("RootFS", {}).get("Layers") or ())
        return cls(reference, inspected["Id"], digests[0], inspected["Size"], layers)


def engine_of(connection: Connection) -> str:
    """Returns an engine's name in records: host name and address."""
    return f"{connection.host_name} at {connection.endpoint.url}"


@contextmanager
def patient(connection: Connection) -> Iterator[Client]:
    """Yields this thread's client with a long timeout, for calls that stay silent; otherwise like `Connection.api`.

    Closes streams at the end, read or not: `events` stops at an error in the middle.
    """
    with connection.api() as api, api.streams_closed():
        usual, api.timeout = api.timeout, QUIET_TIMEOUT_S
        try:
            yield api
        finally:
            api.timeout = usual


def login_of(registry: str) -> Login:
    """Looks up the user's login for a registry. Call it only when an engine is about to use that registry."""
    return DockerConfig.of(os.environ, Path.home()).login(registry)


def events(stream: Iterable[Any], doing: str) -> Iterator[Mapping[str, Any]]:
    """Yields an engine's JSON lines. Raises ImageError for an error inside a stream that began with 200."""
    for event in stream:
        if "error" in event:
            raise ImageError(f"{doing}: {str(event['error']).strip()}")
        yield event
