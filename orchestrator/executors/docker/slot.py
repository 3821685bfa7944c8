"""Locks a slot of an engine across all machines: an engine gives a container name only once."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import docker
from docker.errors import APIError, NotFound

from orchestrator.errors import HostUnreachable
from orchestrator.executors.contract import LABEL, Attempt
from orchestrator.executors.docker.container import attempt_of

LOOK_EVERY_S = 0.02
# Longer than any start: a holder that has not started its container after this long is dead.
STALE_S = 120.0


@contextmanager
def held(api: docker.APIClient, attempt: Attempt, devices: Iterable[str], image: str) -> Iterator[None]:
    """Locks a slot with containers that are never started, named after its devices. image: any that the engine has.

    Everyone takes the devices in the same order, so that overlapping slots cannot deadlock. Containers are removed by
    the engine's id, so of two that find a dead holder, neither can remove the other's lock.
    """
    with ExitStack() as locks:
        for device in sorted(devices):
            locks.callback(_remove, api, take(api, attempt, device, image))
        yield


def let_go(api: docker.APIClient, attempt: Attempt) -> None:
    """Removes the locks of an orchestrator that died while it started this attempt."""
    for lock in api.containers(all=True, filters={"label": [f"{name}={value}" for name, value in _labels(attempt)]}):
        _remove(api, lock["Id"])


def take(api: docker.APIClient, attempt: Attempt, device: str, image: str) -> str:
    """Waits for the device's lock, and returns the id of our container that holds it."""
    name = "orchestrator-slot-" + re.sub(r"[^A-Za-z0-9_.-]", "-", device)
    spec = {"Image": image, "Cmd": ["none"], "Labels": dict(_labels(attempt)), "HostConfig": {"NetworkMode": "none"}}
    began = time.monotonic()
    since: dict[str, float] = {}
    while time.monotonic() - began < 3 * STALE_S:
        try:
            return str(api.create_container_from_config(spec, name)["Id"])  # type: ignore[no-untyped-call]
        except APIError as error:
            if error.status_code != 409:
                raise
        with suppress(NotFound):  # released meanwhile, or still being created
            holder = api.inspect_container(name)
            waited_s = time.monotonic() - since.setdefault(holder["Id"], time.monotonic())
            if waited_s > STALE_S or _is_over(api, attempt, attempt_of(holder["Config"]["Labels"])):
                _remove(api, holder["Id"])
                continue
        time.sleep(LOOK_EVERY_S)
    raise HostUnreachable(f"container {name} stays held by others; if none of them runs, remove it")


def _is_over(api: docker.APIClient, ours: Attempt, holder: Attempt | None) -> bool:
    """Whether a holder no longer needs its lock: its container has started, so a listing shows it on the slot."""
    if holder in (None, ours):  # only we start our own attempt: it was us, before a crash
        return True
    try:
        return bool(api.inspect_container(holder.name)["State"]["Status"] != "created")
    except NotFound:
        return True


def _labels(attempt: Attempt) -> list[tuple[str, str]]:
    run, job, number = attempt
    return [(LABEL, "slot"), (f"{LABEL}.run", run), (f"{LABEL}.job", job), (f"{LABEL}.attempt", str(number))]


def _remove(api: docker.APIClient, container: str) -> None:
    try:
        api.remove_container(container, force=True)
    except APIError as error:
        # 409: another call is removing it
        if error.status_code not in (404, 409):
            raise
