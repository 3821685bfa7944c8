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
from orchestrator.executors.docker.probe import EMPTY_IMAGE, make_empty_image

LOOK_EVERY_S = 0.02
# Longer than any start: a holder that has not started its container after this long is dead.
STALE_S = 120.0
# Longer than a holder that has started its container takes to release its lock. To remove a lock while its holder
# renames it leaves a container in the engine's list that cannot be removed: 2 of 150 times, Docker 20.10.
RELEASE_S = 10.0


def prepare(api: docker.APIClient, attempt: Attempt, devices: Iterable[str]) -> None:
    """Creates the attempt's lock containers under names of their own, if they are missing.

    To take a slot is then a rename, which takes a fifth of the time of a create.
    """
    for device in devices:
        try:
            _create(api, attempt, device)
        except NotFound:
            make_empty_image(api)
            _create(api, attempt, device)


def _create(api: docker.APIClient, attempt: Attempt, device: str) -> None:
    """Creates a lock container, or finds it there. Raises NotFound where the engine lacks the empty image."""
    spec = {"Image": EMPTY_IMAGE, "Cmd": ["none"], "HostConfig": {"NetworkMode": "none"}}
    try:
        api.create_container_from_config({**spec, "Labels": dict(_labels(attempt))}, _own_name(attempt, device))  # type: ignore[no-untyped-call]
    except APIError as error:
        if error.status_code != 409:
            raise


@contextmanager
def held(api: docker.APIClient, attempt: Attempt, devices: Iterable[str]) -> Iterator[None]:
    """Locks a slot with containers that are never started, named after its devices.

    Everyone takes the devices in the same order, so that overlapping slots cannot deadlock. Containers are renamed and
    removed by the engine's id, so of two that find a dead holder, neither can remove the other's lock.
    """
    with ExitStack() as locks:
        for device in sorted(devices):
            take(api, attempt, device)
            locks.callback(_release, api, attempt, device)
        yield


def let_go(api: docker.APIClient, attempt: Attempt) -> None:
    """Removes an attempt's lock containers, also those of an orchestrator that died while it started the attempt."""
    for lock in api.containers(all=True, filters={"label": [f"{name}={value}" for name, value in _labels(attempt)]}):
        _remove(api, lock["Id"])


def take(api: docker.APIClient, attempt: Attempt, device: str) -> None:
    """Returns once our container holds the device's lock."""
    name, own_name = _slot_name(device), _own_name(attempt, device)
    began = time.monotonic()
    holds: tuple[str, bool, float] | None = None  # the holder's id, whether it is over, since when every look found so
    while time.monotonic() - began < 3 * STALE_S:
        try:
            api.rename(own_name, name)
            return
        except NotFound:  # we took it, and died then; or somebody tidied up
            prepare(api, attempt, (device,))
        except APIError as error:
            if error.status_code != 409:
                raise
        try:
            holder = api.inspect_container(name)
        except NotFound:  # free, released meanwhile, or still being created
            holds = None
        else:
            held_by = attempt_of(holder["Config"]["Labels"])
            is_ours = held_by is None or held_by == attempt  # nobody else starts our attempt: it was us, before a crash
            is_over = _is_over(api, held_by)
            # a container holds the slot more than once: a hold after another's, or after none, is a new one
            if holds is None or holds[:2] != (holder["Id"], is_over):
                holds = holder["Id"], is_over, time.monotonic()
            if is_ours or time.monotonic() - holds[2] > (RELEASE_S if is_over else STALE_S):
                _remove(api, holder["Id"])
                continue
        time.sleep(LOOK_EVERY_S)
    if holds is None:
        raise HostUnreachable(f"the engine has no container {name}, but does not give its name; fix: restart it")
    raise HostUnreachable(f"container {name} stays held by others; if none of them runs, remove it")


def _release(api: docker.APIClient, attempt: Attempt, device: str) -> None:
    """Gives the slot's name back if we still hold it. The container is removed with its attempt."""
    with suppress(NotFound):
        holder = api.inspect_container(_slot_name(device))
        if attempt_of(holder["Config"]["Labels"]) != attempt:
            return
        try:
            api.rename(holder["Id"], _own_name(attempt, device))
        except APIError as error:
            if error.status_code != 409:
                raise
            _remove(api, holder["Id"])


def _slot_name(device: str) -> str:
    return f"orchestrator-slot-{_as_name(device)}"


def _own_name(attempt: Attempt, device: str) -> str:
    return f"{attempt.name}-lock-{_as_name(device)}"


def _as_name(device: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", device)


def _is_over(api: docker.APIClient, holder: Attempt | None) -> bool:
    """Whether a holder no longer needs its lock: its container has started, so a listing shows it on the slot."""
    if holder is None:
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
