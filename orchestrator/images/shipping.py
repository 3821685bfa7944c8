"""Streams an image through this machine from one engine to others: one read at the source, however many targets."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from orchestrator.concurrency import in_thread, map_concurrently
from orchestrator.errors import HostUnfit, HostUnreachable, ImageError, InputError
from orchestrator.executors.docker.connection import Connection
from orchestrator.images.build import find
from orchestrator.images.fanout import Reader, Stalled, fan_out
from orchestrator.images.image import ImageEvent, ImageInfo, ImageStep, OnProgress, events, patient
from orchestrator.images.record import Record
from orchestrator.images.transfer import architecture, untag
from orchestrator.images.vouched import Vouched

FAULTS = (ImageError, HostUnreachable, HostUnfit, InputError)


def ship(
    source: Connection,
    target: Connection,
    name: str,
    progress: OnProgress = lambda _: None,
    *,
    record: Record | None = None,
) -> ImageInfo:
    """Streams an image to one engine: see `ship_to_all`. Raises what that returns as the target's error."""
    arrived, failed = ship_to_all(source, {target.host_name: target}, name, progress, record=record)
    for error in failed.values():
        raise error
    return arrived[target.host_name]


def ship_to_all(
    source: Connection,
    targets: Mapping[str, Connection],
    name: str,
    progress: OnProgress = lambda _: None,
    *,
    record: Record | None = None,
) -> tuple[dict[str, ImageInfo], dict[str, Exception]]:
    """Streams an image that this user built from one engine into others, with at most 20 MB of it in memory.

    Returns the image on each target, and the errors of the other targets: an ImageError if the source lacks it or has
    another image, the architectures differ, or the hashes of the sent data are not those of the build. The target then
    has nothing of it. An error on one target does not stop the others.
    """
    record = record or Record.of_user()
    try:
        image = _ours(source, name, record)
    except FAULTS as error:
        return {}, dict.fromkeys(targets, error)
    there, failed = map_concurrently(targets, lambda host: _present(source, targets[host], image), FAULTS)
    arrived = {host: found for host, found in there.items() if found is not None}
    lack = [host for host, found in there.items() if found is None]
    vouched = Vouched(name, image.id, record.size_bytes(name, image.id))
    readers = fan_out(_saved(source, image, vouched), lack) if lack else {}

    def load(host: str) -> ImageInfo:
        return _unless_left_behind(
            targets[host],
            image,
            readers[host],
            lambda: _loaded(source, targets[host], image, vouched, readers[host], progress),
        )

    loaded, not_loaded = map_concurrently(lack, load, FAULTS)
    return {**arrived, **loaded}, {**failed, **not_loaded}


def _ours(source: Connection, name: str, record: Record) -> ImageInfo:
    image = find(source, name)
    if image is None:
        raise ImageError(f"{name} is not on {source.host_name}; build it there: orchestrator build")
    if not record.knows(image):
        raise ImageError(f"{name} on {source.host_name} was not built by this user, so it is sent to no other host")
    return image


def _present(source: Connection, target: Connection, image: ImageInfo) -> ImageInfo | None:
    """Returns the image if the target has it. Raises ImageError if it could not run it."""
    there = find(target, image.reference)
    if there is not None and there.id == image.id:
        return there
    if (has := architecture(source)) != (wants := architecture(target)):
        raise ImageError(
            f"{image.reference} on {source.host_name} is for {has}, and {target.host_name} is {wants}: build it there"
        )
    return None


def _unless_left_behind(
    target: Connection, image: ImageInfo, reader: Reader, load: Callable[[], ImageInfo]
) -> ImageInfo:
    """Returns what `load` does. Raises HostUnreachable once the reader is left behind, while `load` may still hang.

    A hung target blocks a send until the connection's timeout. Its thread then reads the error, and sends no more.
    """

    def load_and_close() -> ImageInfo:
        try:
            return load()
        finally:
            reader.close()

    loading = in_thread(load_and_close)
    either: list[Future[Any]] = [loading, reader.left_behind]
    wait(either, return_when=FIRST_COMPLETED)
    if loading.done():
        return loading.result()
    raise _stalled(target, image, reader.left_behind.exception())


def _loaded(
    source: Connection, target: Connection, image: ImageInfo, vouched: Vouched, reader: Reader, progress: OnProgress
) -> ImageInfo:
    name = image.reference
    doing = f"{name} did not load on {target.host_name}"
    with patient(target) as api:
        stream = _received(source, target, image, reader, progress)
        for _ in events(api.load_image(stream), doing):  # type: ignore[no-untyped-call]
            pass
    arrived = find(target, name)
    if arrived is None or arrived.layers != vouched.layers or not _is(target, arrived, vouched):
        untag(target, name)
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


def _saved(source: Connection, image: ImageInfo, vouched: Vouched) -> Generator[bytes, None, None]:
    """Yields the image as our own tar stream."""
    with patient(source) as api:
        yield from vouched.passed(api.get_image(image.id))


def _received(
    source: Connection, target: Connection, image: ImageInfo, chunks: Iterable[bytes], progress: OnProgress
) -> Iterator[bytes]:
    """Yields what a target is sent. Errors at the source name the source, and this target."""
    sent = 0
    try:
        for chunk in chunks:
            sent += len(chunk)
            total = max(sent, image.size_bytes)
            progress(ImageEvent(ImageStep.SHIPPING, target.host_name, image.reference, done_bytes=sent, of_bytes=total))
            yield chunk
    except Stalled as error:
        raise _stalled(target, image, error) from error
    except ImageError as error:
        raise ImageError(
            f"{source.host_name} did not send {image.reference} as it was built ({image.id}): {error}; "
            f"{target.host_name} did not get it; fix: leave {source.host_name} out (--hosts)"
        ) from error


def _stalled(target: Connection, image: ImageInfo, error: BaseException | None) -> HostUnreachable:
    return HostUnreachable(f"host {target.host_name}: {error} of {image.reference}")
