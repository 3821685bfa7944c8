"""One start at a time on a slot of an engine, whoever asks and from wherever: an engine gives a name only once."""

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
# Longer than any start: a holder that is silent this long has died before its container began.
STALE_S = 120.0


@contextmanager
def held(api: docker.APIClient, attempt: Attempt, devices: Iterable[str], image: str) -> Iterator[None]:
    """Holds a slot by containers that are never started, and whose names are its devices'. image: any that is there.

    All take them in one order, so that of two whose slots overlap none waits for the other while that one waits for it.
    What is removed is removed by the engine's id: of two that find a dead holder, neither can remove the other.
    """
    with ExitStack() as locks:
        for device in sorted(devices):
            locks.callback(_remove, api, take(api, attempt, device, image))
        yield


def let_go(api: docker.APIClient, attempt: Attempt) -> None:
    """Removes what an orchestrator left that died while it started this attempt."""
    for lock in api.containers(all=True, filters={"label": [f"{name}={value}" for name, value in _labels(attempt)]}):
        _remove(api, lock["Id"])


def take(api: docker.APIClient, attempt: Attempt, device: str, image: str) -> str:
    """The id of the container that holds the device, once it is ours."""
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
        with suppress(NotFound):  # let go meanwhile, or only just being made
            holder = api.inspect_container(name)
            waited_s = time.monotonic() - since.setdefault(holder["Id"], time.monotonic())
            if waited_s > STALE_S or _is_over(api, attempt, attempt_of(holder["Config"]["Labels"])):
                _remove(api, holder["Id"])
                continue
        time.sleep(LOOK_EVERY_S)
    raise HostUnreachable(f"container {name} is held by others without end; if none of them lives, remove it")


def _is_over(api: docker.APIClient, ours: Attempt, holder: Attempt | None) -> bool:
    """Whether a holder needs the slot's name no more: its container began, so that who looks now sees it there."""
    if holder in (None, ours):  # nobody else starts our own attempt: it was us, before a crash
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
        # 409: another is removing it just now
        if error.status_code not in (404, 409):
            raise
