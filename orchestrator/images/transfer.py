"""An image from one engine to another: streamed through here, or by way of a registry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from docker.errors import APIError, ImageNotFound, NotFound

from orchestrator.errors import ImageError
from orchestrator.executors.connection import Connection
from orchestrator.executors.dockerconfig import registry_of
from orchestrator.images.build import find
from orchestrator.images.image import ImageInfo, OnProgress, Progress, Step, events, login_of, patient


def architecture(connection: Connection) -> str:
    """`amd64`, `arm64`: what an engine runs and builds."""
    with connection.api() as api:
        return str(api.version()["Arch"])


def ship(source: Connection, target: Connection, name: str, progress: OnProgress = lambda _: None) -> ImageInfo:
    """Streams an image from one engine into another, never more than a few MB of it in memory.

    Raises ImageError where the source lacks it, the architectures differ, or what arrived is not what was sent.
    """
    image = find(source, name)
    if image is None:
        raise ImageError(f"{name} is not on {source.host_name}; build it there: orchestrator build")
    there = find(target, name)
    if there is not None and there.layers == image.layers:
        return there
    if (has := architecture(source)) != (wants := architecture(target)):
        raise ImageError(
            f"{name} on {source.host_name} is for {has}, and {target.host_name} is {wants}: build it there"
        )
    doing = f"{name} did not load on {target.host_name}"
    with patient(target) as api:
        loading = api.load_image(_saved(source, target.host_name, image, progress))  # type: ignore[no-untyped-call]
        for _ in events(loading, doing):
            pass
    arrived = find(target, name)
    if arrived is None or arrived.layers != image.layers:
        got = arrived.id if arrived else "nothing"
        raise ImageError(f"{doing}: {source.host_name} sent {image.id}, and {got} arrived")
    return arrived


def _saved(source: Connection, target: str, image: ImageInfo, progress: OnProgress) -> Iterator[bytes]:
    """The image as a tar stream; what goes wrong at the source is said of the source, not of who reads."""
    sent = 0
    with patient(source) as api:
        for chunk in api.get_image(image.reference):
            sent += len(chunk)
            total = max(sent, image.size_bytes)
            progress(Progress(Step.SHIPPING, target, image.reference, done_bytes=sent, of_bytes=total))
            yield chunk


def push(connection: Connection, name: str, registry: str, progress: OnProgress = lambda _: None) -> str:
    """Pushes an image and returns its digest there, `repository@sha256:…`.

    Docker's own credential store is asked (`docker login REGISTRY`). Raises ImageError.
    """
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
                progress(Progress(Step.PUSHING, connection.host_name, name, _line(event)))
        except ImageError as error:
            raise ImageError(login.explained(str(error))) from error
        except APIError as error:
            if not login.problem:
                raise
            raise ImageError(login.explained(f"{doing}: {error.explanation or error}")) from error
    if digest is None:
        raise ImageError(f"{repository}:{tag}: the registry took it without saying its digest; is it a registry?")
    return f"{repository}@{digest}"


def pull(connection: Connection, name: str, registry: str, progress: OnProgress = lambda _: None) -> ImageInfo | None:
    """Gets an image from a registry and gives it its own name; None where the registry does not have it."""
    repository, tag = remote(name, registry, architecture(connection))
    login = login_of(registry_of(repository))
    doing = f"{repository}:{tag} was not pulled on {connection.host_name}"
    with patient(connection) as api:
        try:
            pulled = api.pull(repository, tag, stream=True, decode=True, auth_config=dict(login.auth))
            for event in events(pulled, doing):
                progress(Progress(Step.PULLING, connection.host_name, name, _line(event)))
        except NotFound:
            return None
        except ImageError as error:
            raise ImageError(login.explained(str(error))) from error
        except APIError as error:
            if not login.problem:
                raise
            raise ImageError(login.explained(f"{doing}: {error.explanation or error}")) from error
        own_repository, own_tag = name.split(":")
        api.tag(f"{repository}:{tag}", own_repository, own_tag)
    return find(connection, name)


def remote(name: str, registry: str, arch: str) -> tuple[str, str]:
    """Repository and tag in a registry; with the architecture, since one tag there is one image."""
    repository, tag = name.split(":")
    return f"{registry.rstrip('/')}/{repository}", f"{tag}-{arch}"


def _line(event: Mapping[str, Any]) -> str:
    parts = (event.get("id"), event.get("status"), event.get("progress"))
    return " ".join(str(part) for part in parts if part)
