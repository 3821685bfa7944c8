"""Building an image where an engine has none of that name."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from docker.errors import ImageNotFound

from orchestrator.errors import ImageError, InputError
from orchestrator.executors.client import Client
from orchestrator.executors.connection import Connection
from orchestrator.executors.dockerconfig import DockerConfig, Login, registry_of
from orchestrator.images.image import ImageInfo, OnProgress, Progress, Step, engine_of, events, login_of, patient
from orchestrator.images.recipe import context, default_base, digest, reference
from orchestrator.images.record import Record

STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
LAST_LINES = 12
# Colours and cursor moves of what a build runs (ECMA-48), also where an engine has put `?` for ESC.
CONTROL = re.compile(r"(?:\x1b|\?(?=\[[0-9;]+m))\[[0-9;?]*[ -/]*[@-~]")
NOT_FOUND = re.compile(r"(?:No matching distribution found for|satisfies the requirement) ([\w.\[\],!<>=~+-]+)")


def find(connection: Connection, name: str) -> ImageInfo | None:
    """The image of that name on an engine, if it is there."""
    with connection.api() as api:
        try:
            return ImageInfo.of(name, api.inspect_image(name))  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return None


def build(
    connection: Connection,
    flavour: str,
    *,
    wheels: Path | None = None,
    base: str | None = None,
    offline: bool = False,
    progress: OnProgress = lambda _: None,
    anew: bool = False,
    record: Record | None = None,
) -> ImageInfo:
    """Builds an image unless the engine has it. Raises ImageError with the failing step and what it said last.

    wheels: a folder that holds every package, so that no index is asked. offline: its containers get no network.
    anew: an image of that name that this user has not built on this engine does not count.
    record: takes down what is built.
    """
    record = record or Record.of_user()
    name = reference(flavour, base)
    there = find(connection, name)
    if there is not None and (not anew or record.was_built_on(there, engine_of(connection))):
        return there
    login = _login_for(connection, base or default_base(flavour))
    proxies, unread = ({}, "") if offline else _proxies(connection)
    with context(flavour, wheels) as tar, patient(connection) as api, _shown(api, login):
        stream = api.build(
            fileobj=tar,
            custom_context=True,
            tag=name,
            buildargs={**proxies, **({"BASE": base} if base else {})},
            labels=labels(flavour, base),
            network_mode="none" if offline else None,
            rm=True,
            forcerm=True,
            decode=True,
            timeout=api.timeout,
        )
        try:
            _follow(stream, connection.host_name, name, progress)
        except ImageError as error:
            remedy = _remedy(str(error), connection.host_name, base or default_base(flavour), wheels)
            raise ImageError(login.explained("\n  ".join(filter(None, [str(error), unread, remedy])))) from error
    built = find(connection, name)
    if built is None:
        raise ImageError(f"{name} on {connection.host_name}: the build ended without an error and without an image")
    record.built(built, engine_of(connection))
    return built


def _remedy(said: str, host: str, base: str, wheels: Path | None) -> str:
    """What to do about the two usual faults: a base image that cannot be pulled, and a package that is not found."""
    if re.search(r"\(step \d+/\d+, FROM ", said):
        return (
            f"fix: {host} has no image {base} and cannot pull it: copy it there from a machine that has it "
            f"(docker save {base} | docker -H ADDRESS load), or name one that {host} has as `base` in hosts.yaml"
        )
    if match := NOT_FOUND.search(said):
        if wheels is None:
            return f"fix: {host} finds no package {match[1]} at its index; without an index, use --wheels FOLDER"
        return f"fix: {match[1]} is missing in {wheels}: pip download '{match[1]}' -d {wheels}, with the base's Python"
    return ""


def _login_for(connection: Connection, base: str) -> Login:
    """The login of the base's registry, and of no other; none where the engine has the base already."""
    registry = registry_of(base)
    return Login(registry) if find(connection, base) is not None else login_of(registry)


def _proxies(connection: Connection) -> tuple[dict[str, str], str]:
    """Docker's proxies for that engine, as build arguments, which no layer and no history keeps; or why not."""
    try:
        return DockerConfig.of(os.environ, Path.home()).proxies(connection.endpoint.url), ""
    except InputError as error:
        return {}, f"no proxies were handed to the build: {error}"


@contextmanager
def _shown(api: Client, login: Login) -> Iterator[None]:
    """Builds by this client show the engine this login."""
    api.logins = {login.auth["serveraddress"]: login.auth} if login.auth else {}
    try:
        yield
    finally:
        api.logins = {}


def labels(flavour: str, base: str | None = None) -> dict[str, str]:
    """What an image says of itself beside its Dockerfile's labels; its revision is the hash of all that went in."""
    opencontainers = "org.opencontainers.image"
    return {
        f"{opencontainers}.version": digest(flavour, base)[:12],
        f"{opencontainers}.revision": digest(flavour, base),
        f"{opencontainers}.base.name": base or default_base(flavour),
    }


def _follow(stream: Iterable[Any], host: str, name: str, progress: OnProgress) -> None:
    """Reads a build to its end, saying each line, and keeping the last few for the error's message."""
    number = of = None
    instruction, said = "", deque[str](maxlen=LAST_LINES)
    try:
        for event in events(stream, f"{name} did not build on {host}"):
            for line in CONTROL.sub("", str(event.get("stream") or event.get("status") or "")).splitlines():
                if match := STEP.match(line):
                    number, of, instruction = int(match[1]), int(match[2]), match[3]
                    said.clear()
                if line.strip():
                    said.append(line.strip())
                    progress(Progress(Step.BUILDING, host, name, line.strip(), number, of))
    except ImageError as error:
        where = f"step {number}/{of}, {instruction[:100]}" if number else "before its first step"
        # The engine repeats the whole command, often pages of it.
        what = re.sub(r"The command '.*' returned", "it returned", CONTROL.sub("", str(error)), flags=re.DOTALL)
        raise ImageError("\n  ".join([f"{what} ({where})", *said])) from error
