"""Checks a Docker host for `hosts --check`: each finding with its fix."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from docker.errors import APIError

from orchestrator.config import DockerHost
from orchestrator.errors import HostUnfit, HostUnreachable, InputError
from orchestrator.executors.container_paths import RUNNER_UID, WEIGHTS, below
from orchestrator.executors.docker import probe as probing
from orchestrator.executors.docker.connection import Connection
from orchestrator.executors.docker.executor import DockerExecutor
from orchestrator.executors.docker.gpu_access import NO_GPU
from orchestrator.executors.docker.starts import seconds_of
from orchestrator.executors.environment import HUB
from orchestrator.executors.finding import Finding, Grade
from orchestrator.sanitize import printable
from runner.models.folders import READABLE

# An unpacked CUDA image takes about 10 GB; its transfer takes as much again for a while.
DISK_WANTED_BYTES = 20 * 10**9
# Rows are sorted by `started`; a call over a slow link adds at most this much to the measured difference.
SKEW_ALLOWED_S = 2.0
FREE_BYTES = ("python", "-c", "import os; s = os.statvfs('/'); print(s.f_bavail * s.f_frsize)")


def check(
    host: DockerHost,
    connection: Connection,
    images: Sequence[str] = (),
    clock: Callable[[], float] = time.time,
) -> tuple[Finding, ...]:
    """Checks an engine and its machine; a failed check is a finding too. images: the tags that its jobs need.

    The connection stays open. The check leaves an empty image of 0 bytes on the engine.
    """
    executor = DockerExecutor(host, connection=connection)
    found: list[Finding] = []
    try:
        for finding in _findings(executor, images, clock):
            found.append(finding)
    except (HostUnreachable, HostUnfit, InputError) as error:
        found.append(Finding("connection", Grade.PROBLEM, str(error)))
    return tuple(found)


def _findings(executor: DockerExecutor, images: Sequence[str], clock: Callable[[], float]) -> Iterator[Finding]:
    executor.info()  # the first call also connects; the clock comparison needs one that does not
    with executor.connection.api() as api:
        asked = clock()
        info: dict[str, Any] = api.info()
        answered = clock()
        there = [image for image in images if probing.has_image(api, image)]
    yield _engine(info, executor.connection, answered - asked)
    yield _clock(info, asked, answered)
    if not executor.has_init():
        yield Finding(
            "init",
            Grade.WARNING,
            "the engine has no docker-init, so a job's own children are not reaped",
            "install tini (Debian, Ubuntu) or docker-init beside dockerd, and restart Docker",
        )
    if executor.host.memory and not info.get("MemoryLimit", True):
        yield Finding(
            "memory", Grade.PROBLEM, "its kernel cannot limit memory", "enable the memory cgroup, or drop memory"
        )
    yield from _images(executor.host, images, there)
    executor.probe_image = there[0] if there else ""
    yield _gpus(executor)
    yield _disk(executor)
    if executor.host.weights:
        yield _weights(executor)


def _engine(info: dict[str, Any], connection: Connection, took_s: float) -> Finding:
    text = (
        f"Docker {info['ServerVersion']} on {info['OperatingSystem']} ({info['OSType']}/{info['Architecture']}), "
        f"{info['NCPU']} CPUs, {info['MemTotal'] / 1e9:.0f} GB; "
        f"answers in {1000 * took_s:.0f} ms, {connection.endpoint.url}{f', {connection.way}' if connection.way else ''}"
    )
    if info["OSType"] != "linux":
        return Finding("engine", Grade.PROBLEM, text, "switch it to Linux containers")
    return Finding("engine", Grade.OK, text)


def _clock(info: dict[str, Any], asked: float, answered: float) -> Finding:
    skew_s = seconds_of(info["SystemTime"]) - (asked + answered) / 2
    if abs(skew_s) > SKEW_ALLOWED_S + (answered - asked) / 2:
        way = "ahead of" if skew_s > 0 else "behind"
        text = f"its clock is {abs(skew_s):.0f} s {way} this machine's"
        return Finding("clock", Grade.WARNING, text, "there and here: sudo timedatectl set-ntp true")
    return Finding("clock", Grade.OK, f"within {SKEW_ALLOWED_S:g} s of this machine's")


def _images(host: DockerHost, wanted: Sequence[str], there: Sequence[str]) -> Iterator[Finding]:
    for image in wanted:
        if image in there:
            yield Finding("image", Grade.OK, f"{image} is there")
        else:
            remedy = f"orchestrator build --hosts {host.name}; submit does so by itself"
            yield Finding("image", Grade.WARNING, f"{image} is not there", remedy)


def _gpus(executor: DockerExecutor) -> Finding:
    if executor.host.gpus == "none":
        return Finding("gpus", Grade.OK, "not used (gpus: none)")
    try:
        access, slots = executor.gpus()
    except HostUnfit as error:
        return Finding("gpus", Grade.PROBLEM, str(error))
    names = ", ".join(slot.name for slot in slots)
    return Finding("gpus", Grade.OK, f"{names} ({len(slots)} at once), by {access.kind}")


def _disk(executor: DockerExecutor) -> Finding:
    root = executor.info().get("DockerRootDir", "its data folder")
    if not executor.probe_image:
        return Finding("disk", Grade.OK, f"free space of {root} can be told once an image is there")
    with executor.connection.api() as api:
        try:
            free_bytes = int(probing.run(api, executor.probe_image, FREE_BYTES, NO_GPU, ()))
        except (APIError, ValueError) as error:
            return Finding("disk", Grade.PROBLEM, f"a container of our image does not run: {error}")
    text = f"{free_bytes / 1e9:.0f} GB free in {root}"
    if free_bytes < DISK_WANTED_BYTES:
        remedy = f"make room for images ({DISK_WANTED_BYTES / 1e9:.0f} GB): docker system df, docker image prune"
        return Finding("disk", Grade.WARNING, text, remedy)
    return Finding("disk", Grade.OK, text)


def _weights(executor: DockerExecutor) -> Finding:
    """Checks the weights as a job sees them: as the job's user, through its mount."""
    folder, hub = str(executor.host.weights), below(str(executor.host.weights), HUB)
    seen_as = below(WEIGHTS, HUB)
    with executor.connection.api() as api:
        there = probing.existing(api, [folder, hub])
        if folder not in there:
            remedy = f"there: mkdir -p {hub}, or correct `weights`"
            return Finding("weights", Grade.PROBLEM, f"there is no folder {folder}", remedy)
        if hub not in there:
            remedy = f"there: HF_HOME={folder} hf download OWNER/NAME, or correct `weights`: it is what HF_HOME names"
            return Finding("weights", Grade.PROBLEM, f"{folder} has no folder {HUB}/, which is the cache", remedy)
        if not executor.probe_image:
            return Finding("weights", Grade.OK, f"{hub} is there; who may read it can be told once an image is there")
        mount = {"Type": "bind", "Source": hub, "Target": seen_as, "ReadOnly": True}
        look = ("python", "-m", "runner.models.folders", seen_as)
        try:
            said = probing.run(api, executor.probe_image, look, NO_GPU, (), [mount]).strip()
        except APIError as error:
            return Finding("weights", Grade.PROBLEM, f"a container cannot mount {hub}: {error}")
    return readable(said, hub, f"by user {RUNNER_UID}", seen_as)


def readable(said: str, hub: str, by: str, seen_as: str = "") -> Finding:
    """Makes a finding from the output of `runner.models.folders`. seen_as: the cache's path where that ran."""
    if said == READABLE:
        return Finding("weights", Grade.OK, f"{hub} can be read {by}")
    what, _, remedy = printable(said.replace(seen_as, hub) if seen_as else said).partition("; fix")
    remedy = remedy.removeprefix(", on that host").removeprefix(": ")
    return Finding("weights", Grade.PROBLEM, what or f"a container cannot look at {hub}", remedy)
