"""Transfers an image from one engine to another: streamed through this machine, or through a registry."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from typing import Any

from docker.errors import APIError, ImageNotFound, NotFound

from orchestrator.errors import ImageError
from orchestrator.executors.docker.config import registry_of
from orchestrator.executors.docker.connection import Connection
from orchestrator.images.build import find
from orchestrator.images.image import ImageEvent, ImageInfo, ImageStep, OnProgress, engine_of, events, login_of, patient
from orchestrator.images.record import Record, is_digest
from orchestrator.images.vouched import Vouched


def architecture(connection: Connection) -> str:
    """Returns the architecture that an engine runs and builds: `amd64`, `arm64`."""
    with connection.api() as api:
        return str(api.version()["Arch"])


def ship(
    source: Connection,
    target: Connection,
    name: str,
    progress: OnProgress = lambda _: None,
    *,
    record: Record | None = None,
) -> ImageInfo:
    """Streams an image that this user built from one engine into another, with at most a few MB of it in memory.

    Raises ImageError if the source lacks it or has another image, the architectures differ, or the hashes of the sent
    data are not those of the build. The target then has nothing of it.
    """
    record = record or Record.of_user()
    image = find(source, name)
    if image is None:
        raise ImageError(f"{name} is not on {source.host_name}; build it there: orchestrator build")
    if not record.knows(image):
        raise ImageError(f"{name} on {source.host_name} was not built by this user, so it is sent to no other host")
    there = find(target, name)
    if there is not None and there.id == image.id:
        return there
    if (has := architecture(source)) != (wants := architecture(target)):
        raise ImageError(
            f"{name} on {source.host_name} is for {has}, and {target.host_name} is {wants}: build it there"
        )
    doing = f"{name} did not load on {target.host_name}"
    vouched = Vouched(name, image.id, record.size_bytes(name, image.id))
    sending = closing(_saved(source, target.host_name, image, vouched, progress))
    with patient(target) as api, sending as stream:
        for _ in events(api.load_image(stream), doing):  # type: ignore[no-untyped-call]
            pass
    arrived = find(target, name)
    if arrived is None or arrived.layers != vouched.layers or not _is(target, arrived, vouched):
        _untag(target, name)
        got = arrived.id if arrived else "nothing"
        raise ImageError(f"{doing}: it was sent {vouched.config_digest}, and says that {got} arrived")
    return arrived


def _is(target: Connection, arrived: ImageInfo, vouched: Vouched) -> bool:
    """Whether the id is that of the sent image; a containerd store makes its own manifest, and so its own id."""
    if arrived.id in (vouched.config_digest, vouched.image_id):
        return True
    with target.api() as api:
        status = api.info().get("DriverStatus") or []
    return any("containerd" in str(value) for value in status)


def _untag(connection: Connection, name: str) -> None:
    with connection.api() as api, suppress(ImageNotFound):
        api.remove_image(name, noprune=True)


def _saved(
    source: Connection, target: str, image: ImageInfo, vouched: Vouched, progress: OnProgress
) -> Generator[bytes, None, None]:
    """Yields the image as our own tar stream. Errors at the source name the source, not the reader."""
    sent = 0

    def counted(chunks: Iterable[bytes]) -> Iterator[bytes]:
        nonlocal sent
        for chunk in chunks:
            sent += len(chunk)
            total = max(sent, image.size_bytes)
            progress(ImageEvent(ImageStep.SHIPPING, target, image.reference, done_bytes=sent, of_bytes=total))
            yield chunk

    with patient(source) as api:
        try:
            yield from vouched.passed(counted(api.get_image(image.id)))
        except ImageError as error:
            raise ImageError(
                f"{source.host_name} did not send {image.reference} as it was built ({image.id}): {error}; "
                f"nothing of it is on {target}. Leave {source.host_name} out (--hosts), or trust it no more"
            ) from error


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
        _untag(connection, name)
        raise ImageError(f"{doing}: {digest} was pushed with other layers than arrived")
    return pulled_image


def remote(name: str, registry: str, arch: str) -> tuple[str, str]:
    """Returns repository and tag in a registry. The tag contains the architecture: one tag there is one image."""
    repository, tag = name.split(":")
    return f"{registry.rstrip('/')}/{repository}", f"{tag}-{arch}"


def _line(event: Mapping[str, Any]) -> str:
    parts = (event.get("id"), event.get("status"), event.get("progress"))
    return " ".join(str(part) for part in parts if part)
