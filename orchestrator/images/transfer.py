"""Transfers images through a registry; shipping.py streams them from engine to engine instead."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from docker.errors import APIError, ImageNotFound, NotFound

from orchestrator.errors import ImageError
from orchestrator.executors.docker.config import registry_of
from orchestrator.executors.docker.connection import Connection
from orchestrator.images.build import find
from orchestrator.images.image import ImageEvent, ImageInfo, ImageStep, OnProgress, engine_of, events, login_of, patient
from orchestrator.images.record import Record, is_digest


def architecture(connection: Connection) -> str:
    """Returns the architecture that an engine runs and builds: `amd64`, `arm64`."""
    with connection.api() as api:
        return str(api.version()["Arch"])


def untag(connection: Connection, name: str) -> None:
    with connection.api() as api, suppress(ImageNotFound):
        api.remove_image(name, noprune=True)


def push(
    connection: Connection,
    name: str,
    registry: str,
    progress: OnProgress = lambda _: None,
    *,
    record: Record | None = None,
) -> str:
    """Pushes an image that this user built; returns its digest, `repository@sha256:…`, as computed by the engine.

    The login comes from Docker's own credential store (`docker login REGISTRY`). Raises ImageError, also if the
    registry then has something else under the tag.
    """
    record = record or Record.of_user()
    image = find(connection, name)
    if image is not None and not record.was_built_on(image, engine_of(connection)):
        raise ImageError(f"{name} on {connection.host_name} was not built there by this user, so it is not pushed")
    repository, tag = remote(name, registry, architecture(connection))
    login = login_of(registry_of(repository))
    doing = f"{repository}:{tag} was not pushed from {connection.host_name}"
    with patient(connection) as api:
        try:
            api.tag(name, repository, tag)
        except ImageNotFound:
            raise ImageError(f"{name} is not on {connection.host_name}, so it cannot be pushed from there") from None
        digest = None
        try:
            stream = api.push(repository, tag, stream=True, decode=True, auth_config=dict(login.auth))
            for event in events(stream, doing):
                digest = (event.get("aux") or {}).get("Digest", digest)
                progress(ImageEvent(ImageStep.PUSHING, connection.host_name, name, _line(event)))
        except ImageError as error:
            raise ImageError(login.explained(str(error))) from error
        except APIError as error:
            if not login.problem:
                raise
            raise ImageError(login.explained(f"{doing}: {error.explanation or error}")) from error
    if digest is None:
        raise ImageError(f"{repository}:{tag}: the registry took it without saying its digest; is it a registry?")
    if not is_digest(digest):
        raise ImageError(f"{doing}: its engine says {str(digest)[:100]!r} is its digest; expected sha256:…")
    if (has := in_registry(connection, name, registry)) not in (None, f"{repository}@{digest}"):
        raise ImageError(f"{repository}:{tag}: {digest} was pushed, and {registry} has {has}: who else writes there?")
    if image is not None:
        record.pushed(f"{repository}:{tag}", digest, image)
    return f"{repository}@{digest}"


def in_registry(connection: Connection, name: str, registry: str) -> str | None:
    """Returns the digest of the name in the registry without a pull. The engine asks, with our credentials."""
    repository, tag = remote(name, registry, architecture(connection))
    login = login_of(registry_of(repository))
    with patient(connection) as api:
        try:
            found = api.inspect_distribution(f"{repository}:{tag}", dict(login.auth))  # type: ignore[no-untyped-call]
        except APIError as error:
            # a registry may answer "denied" for a missing image: the push shows which it is
            if error.status_code in (401, 403, 404):
                return None
            said = f"{registry}, asked by {connection.host_name}: {error.explanation}"
            raise ImageError(login.explained(said)) from error
        if not is_digest(digest := found["Descriptor"]["digest"]):
            raise ImageError(f"{registry}, asked by {connection.host_name}: {str(digest)[:100]!r} is no digest")
    return f"{repository}@{digest}"


def pull(
    connection: Connection,
    name: str,
    registry: str,
    progress: OnProgress = lambda _: None,
    *,
    record: Record | None = None,
) -> ImageInfo | None:
    """Pulls an image that this user pushed to a registry, by digest, and tags it with its own name.

    Returns None if nothing was pushed, or the registry no longer has it: nothing else under the tag is accepted.
    """
    record = record or Record.of_user()
    repository, tag = remote(name, registry, architecture(connection))
    digest = record.digest(f"{repository}:{tag}")
    if digest is None:
        return None
    login = login_of(registry_of(repository))
    doing = f"{repository}:{tag} was not pulled on {connection.host_name}"
    with patient(connection) as api:
        try:
            pulled = api.pull(repository, digest, stream=True, decode=True, auth_config=dict(login.auth))
            for event in events(pulled, doing):
                progress(ImageEvent(ImageStep.PULLING, connection.host_name, name, _line(event)))
        except NotFound:
            return None
        except ImageError as error:
            raise ImageError(login.explained(str(error))) from error
        except APIError as error:
            if not login.problem:
                raise
            raise ImageError(login.explained(f"{doing}: {error.explanation or error}")) from error
        own_repository, own_tag = name.split(":")
        api.tag(f"{repository}@{digest}", own_repository, own_tag)
    pulled_image = find(connection, name)
    if pulled_image is not None and pulled_image.layers != record.layers(f"{repository}:{tag}", digest):
        untag(connection, name)
        raise ImageError(f"{doing}: {digest} was pushed with other layers than arrived")
    return pulled_image


def remote(name: str, registry: str, arch: str) -> tuple[str, str]:
    """Returns repository and tag in a registry. The tag contains the architecture: one tag there is one image."""
    repository, tag = name.split(":")
    return f"{registry.rstrip('/')}/{repository}", f"{tag}-{arch}"


def _line(event: Mapping[str, Any]) -> str:
    parts = (event.get("id"), event.get("status"), event.get("progress"))
    return " ".join(str(part) for part in parts if part)
