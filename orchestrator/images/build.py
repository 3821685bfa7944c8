"""Builds an image on an engine that does not have it."""

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
from orchestrator.executors.docker.client import Client
from orchestrator.executors.docker.config import DockerConfig, Login, registry_of
from orchestrator.executors.docker.connection import Connection
from orchestrator.images.image import ImageEvent, ImageInfo, ImageStep, OnProgress, engine_of, events, login_of, patient
from orchestrator.images.recipe import LOCAL_BASES, context, default_base, digest, filling, reference
from orchestrator.images.record import Record
from orchestrator.sanitize import printable

STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
LAST_LINES = 12
# Colours of what a build runs, where an engine has put `?` for ESC.
COLOURS = re.compile(r"\?\[[0-9;]+m")
NO_SPACE = re.compile(r"no space left on device", re.IGNORECASE)
NO_INDEX = re.compile(r"NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|SSLError|Read timed out")
HASHES = re.compile(r"DO NOT MATCH THE HASHES")
NOT_FOUND = re.compile(r"(?:No matching distribution found for|satisfies the requirement) ([\w.\[\],!<>=~+-]+)")

# Words of Docker 20.10 to 28 for a base that they cannot pull → the remedy. The first match counts.
BASE_FAULTS = (
    (r"invalid reference format", "{base!r} is not the name of an image: correct `base` in hosts.yaml"),
    (r"toomanyrequests|rate limit", "{registry} limits the pulls of {host}: docker login {registry} here, or {copy}"),
    (r"no matching manifest", "{base} has no variant for the architecture of {host}; {copy}"),
    (
        r"denied|unauthorized|authentication required|no basic auth",
        "{registry} does not give {base} to {host}: check the name, run docker login {registry} here, or {copy}",
    ),
    (r"manifest unknown|not found|name unknown", "{registry} has no image {base}: check the name, or {copy}"),
    (r"x509|HTTP response to HTTPS", "{host} does not trust {registry}: give its engine the registry's CA, or {copy}"),
    (
        r"\bdial |no such host|connection re|timeout|timed out|deadline|unreachable|proxyconnect|\bEOF\b|\b50[0-9]\b",
        "{host} has no image {base} and cannot reach {registry}: {copy}",
    ),
)


def find(connection: Connection, name: str) -> ImageInfo | None:
    """Returns the image of that name on an engine, or None."""
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
    """Builds an image unless the engine has it. Raises ImageError with the failing step and its last output.

    wheels: a folder with every package; the build then uses no index. offline: the build's containers get no network.
    anew: ignore an image of that name that this user has not built on this engine.
    record: receives the image that is built.
    """
    record = record or Record.of_user()
    name = reference(flavour, base)
    there = find(connection, name)
    if there is not None and (not anew or record.was_built_on(there, engine_of(connection))):
        return there
    on = base or _default_base_on(connection, flavour, progress)
    login = _login_for(connection, on)
    proxies, unread = ({}, "") if offline else _proxies(connection)
    with context(flavour, wheels) as tar, patient(connection) as api, _shown(api, login):
        stream = api.build(
            fileobj=tar,
            custom_context=True,
            tag=name,
            buildargs={**proxies, "BASE": on},
            labels=labels(flavour, base, on),
            network_mode="none" if offline else None,
            rm=True,
            forcerm=True,
            decode=True,
            timeout=api.timeout,
        )
        try:
            _follow(stream, connection.host_name, name, progress)
        except ImageError as error:
            remedy = _remedy(str(error), connection.host_name, flavour, on, wheels)
            raise ImageError(login.explained("\n  ".join(filter(None, [str(error), unread, remedy])))) from error
    built = find(connection, name)
    if built is None:
        raise ImageError(f"{name} on {connection.host_name}: the build ended without an error and without an image")
    record.built(built, engine_of(connection))
    return built


def _remedy(said: str, host: str, flavour: str, base: str, wheels: Path | None) -> str:
    """Returns the remedy for common errors, by the engine's or pip's words; empty if they are unknown."""
    if NO_SPACE.search(said):
        return (
            f"fix: the disk of {host}'s engine is full: free some space there (docker system df, docker system prune)"
        )
    if re.search(r"\(step \d+/\d+, FROM ", said):
        return _about_base(said.partition(" (step ")[0], host, base)
    if HASHES.search(said):
        source = f"{wheels} holds a file" if wheels is not None else f"the package index of {host} gives a file"
        return f"fix: {source} that is not the one pinned: fetch it again, or find out who changed it"
    if match := NOT_FOUND.search(said):
        if wheels is not None:
            return f"fix: {match[1]} is missing in {wheels}; with the base's Python, run: {filling(flavour, wheels)}"
        found = "cannot reach its package index" if NO_INDEX.search(said) else f"finds no {match[1]} at its index"
        return (
            f"fix: {host} {found}: build from a folder of packages with --wheels FOLDER, or see its network and proxy"
        )
    return ""


def _about_base(said: str, host: str, base: str) -> str:
    """Returns the remedy for a base that cannot be pulled, by its cause; empty if that is unknown."""
    tag, _, pinned = base.partition("@")
    copy = (
        f"copy it there from a machine that has it (docker save {tag} | docker -H ADDRESS load)"
        f"{f' and set {LOCAL_BASES}=1 here, for the copy has no digest' if pinned else ''}, "
        f"or name an image with PyTorch that {host} has as `base` in hosts.yaml"
    )
    for pattern, what in BASE_FAULTS:
        if re.search(pattern, said, re.IGNORECASE):
            return "fix: " + what.format(host=host, base=base, registry=registry_of(base), copy=copy)
    return ""


def _default_base_on(connection: Connection, flavour: str, progress: OnProgress) -> str:
    """Returns the Dockerfile's base by digest; if LOCAL_BASES is set, the image that the engine has under its tag.

    Raises ImageError if LOCAL_BASES is set and the engine lacks the image: a tag is never pulled.
    """
    pinned = default_base(flavour)
    tag, _, digest = pinned.partition("@")
    if not digest or os.environ.get(LOCAL_BASES, "0") in ("", "0"):
        return pinned
    host = connection.host_name
    if find(connection, tag) is None:
        raise ImageError(
            f"{host} has no image {tag}, and {LOCAL_BASES} allows no other: copy it there "
            f"(docker save {tag} | docker -H ADDRESS load), or unset {LOCAL_BASES} to have {pinned} pulled"
        )
    said = f"base: {tag} as {host} has it, its digest unchecked ({LOCAL_BASES} is set)"
    progress(ImageEvent(ImageStep.BUILDING, host, reference(flavour), said))
    return tag


def _login_for(connection: Connection, base: str) -> Login:
    """Returns the login of the base's registry only; none if the engine has the base already."""
    registry = registry_of(base)
    return Login(registry) if find(connection, base) is not None else login_of(registry)


def _proxies(connection: Connection) -> tuple[dict[str, str], str]:
    """Returns Docker's proxies for that engine as build arguments (not kept in layers or history), or why not."""
    try:
        return DockerConfig.of(os.environ, Path.home()).proxies(connection.endpoint.url), ""
    except InputError as error:
        return {}, f"no proxies were handed to the build: {error}"


@contextmanager
def _shown(api: Client, login: Login) -> Iterator[None]:
    """Inside, builds by this client send this login to the engine."""
    api.logins = {login.auth["serveraddress"]: login.auth} if login.auth else {}
    try:
        yield
    finally:
        api.logins = {}


def labels(flavour: str, base: str | None = None, on: str | None = None) -> dict[str, str]:
    """Returns the labels added to the Dockerfile's own; `revision` is the hash of all inputs.

    on: the base that it is built on; its digest is included if known.
    """
    name, _, base_digest = (on or base or default_base(flavour)).partition("@")
    opencontainers = "org.opencontainers.image"
    return {
        f"{opencontainers}.version": digest(flavour, base)[:12],
        f"{opencontainers}.revision": digest(flavour, base),
        f"{opencontainers}.base.name": name,
        **({f"{opencontainers}.base.digest": base_digest} if base_digest else {}),
    }


def _lines(said: str) -> list[str]:
    """What an engine says, line by line, without what a terminal obeys."""
    return [printable(line) for line in COLOURS.sub("", said).splitlines()]


def _follow(stream: Iterable[Any], host: str, name: str, progress: OnProgress) -> None:
    """Reads a build's output to its end, reports each line, and keeps the last few for an error message."""
    number = of = None
    instruction, said = "", deque[str](maxlen=LAST_LINES)
    try:
        for event in events(stream, f"{name} did not build on {host}"):
            for line in _lines(str(event.get("stream") or event.get("status") or "")):
                if match := STEP.match(line):
                    number, of, instruction = int(match[1]), int(match[2]), match[3]
                    said.clear()
                if line.strip():
                    said.append(line.strip())
                    progress(ImageEvent(ImageStep.BUILDING, host, name, line.strip(), number, of))
    except ImageError as error:
        where = f"step {number}/{of}, {instruction[:100]}" if number else "before its first step"
        # The engine repeats the whole command, which can be pages long.
        what = re.sub(r"The command '.*' returned", "it returned", "\n".join(_lines(str(error))), flags=re.DOTALL)
        raise ImageError("\n  ".join([f"{what} ({where})", *said])) from error
