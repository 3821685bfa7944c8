"""Renders a task as a create call, and maps the engine's states to ours. Pure: `plan` shows what would be sent.

API: https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerCreate
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestrator.config import DockerHost
from orchestrator.errors import TaskUnfit
from orchestrator.executors.container_paths import (
    CACHE,
    COMPILED,
    FOLDER,
    GRANT_FILE,
    RUNNER_UID,
    SECRETS,
    TOKEN_FILE,
    WEIGHTS,
    below,
    cache_environment,
    model_mount,
)
from orchestrator.executors.contract import LABEL, Attempt, Observation, State, Task, needs_download
from orchestrator.executors.docker.gpu_access import NO_GPU, Access
from orchestrator.executors.docker.logged_files import stream
from orchestrator.executors.environment import HUB, hub_environment
from orchestrator.executors.network import CA_BUNDLE, NOTHING, authorities
from runner.wire import frames

SCRATCH = f"{FOLDER}/scratch"

# The engine's container state → ours. Any other state is LOST: the engine failed to remove a `dead` container, and a
# `removing` one has no files any more.
STATES = {
    "created": State.STAGED,
    "running": State.RUNNING,
    "paused": State.RUNNING,
    "restarting": State.RUNNING,
    "exited": State.EXITED,
}


def container_spec(
    task: Task,
    host: DockerHost,
    access: Access = NO_GPU,
    *,
    init: bool = True,
    network: Mapping[str, str] = NOTHING,
) -> dict[str, Any]:
    """Renders the body of the create call. Raises TaskUnfit if the model is a relative folder, unknown to the host.

    init: the engine has a docker-init, which forwards signals and reaps the runner's orphans.
    network: variables that only a container with network access gets.
    """
    online = needs_download(task.job.model, host)
    gpu = access.render(task.slot.gpus)
    return {
        # by id, if known: a tag may have moved since
        "Image": task.image.rpartition("@")[2],
        "User": f"{RUNNER_UID}:{RUNNER_UID}",
        "Entrypoint": ["python", "-m", "runner"],
        "Cmd": ["--job", f"{FOLDER}/job.json"],
        "WorkingDir": FOLDER,
        "Env": [
            f"{name}={value}"
            for name, value in {**_environment(task, host, online, network), **gpu.environment}.items()
        ],
        "Labels": labels(task, host),
        "Volumes": {FOLDER: {}},
        "HostConfig": {
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": True,
            "Init": init,
            "NetworkMode": "bridge" if online or host.collect else "none",
            "PidsLimit": 4096,
            "ShmSize": size_bytes(host.shm),
            # no swap on top of memory: a benchmark that swaps measures the disk
            **({"Memory": (limit := size_bytes(host.memory)), "MemorySwap": limit} if host.memory else {}),
            "Tmpfs": {
                "/tmp": "exec,nosuid,nodev,size=1g",  # noqa: S108  # a mount point, not a file
                SECRETS: f"noexec,nosuid,nodev,size=64k,mode=0700,uid={RUNNER_UID},gid={RUNNER_UID}",
            },
            "Mounts": [*_mounts(task, host), *gpu.mounts],
            "DeviceRequests": list(gpu.requests),
            "Devices": list(gpu.devices),
            # endless output must not fill the host's disk
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "16m", "max-file": "2"}},
        },
    }


def labels(task: Task, host: DockerHost) -> dict[str, str]:
    """Returns the labels that identify an attempt, even to an orchestrator without any saved state."""
    run, job, number = task.attempt
    named = {"run": run, "job": job, "attempt": str(number), "slot": task.slot.name, "host": host.name}
    named["devices"] = ",".join(sorted(task.slot.devices))
    return {LABEL: "job", **{f"{LABEL}.{name}": value for name, value in named.items()}}


def attempt_of(found: Mapping[str, str]) -> Attempt | None:
    """Returns the attempt that a container's labels name; None if they name none."""
    return Attempt.named(*(found.get(f"{LABEL}.{name}") for name in ("run", "job", "attempt")))


UNITS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800, "month": 2592000, "year": 31536000}


def up_s(status: object) -> float | None:
    """Returns a container's approximate uptime from the listing's status: `Up About an hour`, `Up 3 minutes`."""
    # https://github.com/docker/go-units/blob/v0.5.0/duration.go
    units = "|".join(UNITS_S)
    found = re.match(rf"Up (?:About )?(Less than a|an?|[0-9]{{1,6}}) ({units})s?\b", str(status))
    if found is None:
        return None
    return float(found[1] if found[1].isdigit() else 1) * UNITS_S[found[2]]


def is_up_since_before(died: float, status: object, now: float) -> bool:
    """Whether a listing's status proves a start before `died`. now: at or after the listing, by the same clock.

    Short uptimes are rounded down. From a minute on, only the minute counts: hours are rounded up.
    """
    up = up_s(status)
    return up is not None and "Less than" not in str(status) and min(up, 60) > now - died


def observation(state: str, labelled: Mapping[str, str], ended: Mapping[str, Any] | None = None) -> Observation:
    """Maps the engine's state to an Observation. ended: `State` from an inspect, for a container that has exited."""
    seen = STATES.get(state, State.LOST)
    slot = labelled.get(f"{LABEL}.slot", "")
    devices = frozenset(filter(None, labelled.get(f"{LABEL}.devices", "").split(",")))
    if seen is State.LOST:
        return Observation(seen, slot, reason=f"the engine calls the container {state!r}", devices=devices)
    if seen is not State.EXITED or ended is None:
        return Observation(seen, slot, devices=devices)
    oom = bool(ended.get("OOMKilled"))
    reason = str(ended.get("Error") or "") or ("the kernel ended a process of it: out of memory" if oom else "")
    return Observation(seen, slot, ended.get("ExitCode"), oom, reason, devices)


def size_bytes(text: str) -> int:
    """Converts `512m`, `1.5g`, `16gib` to bytes; the engine's units are powers of 1024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg])i?b?", text)
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 16g")
    return int(float(match[1]) * 1024 ** (" kmg".index(match[2])))


def _environment(task: Task, host: DockerHost, online: bool, network: Mapping[str, str]) -> dict[str, str]:
    threads = task.job.threads or host.threads
    return {
        **(network if online or host.collect else {}),
        **(authorities(CA_BUNDLE) if host.ca_bundle and (online or host.collect) else {}),
        "HOME": SCRATCH,
        "TMPDIR": SCRATCH,  # on the disk: an exported model is larger than a tmpfs should be
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",
        **hub_environment(WEIGHTS if host.weights else CACHE, CACHE, online=online),
        **({"RUNNER_TOKEN_FILE": TOKEN_FILE} if online else {}),
        **({"RUNNER_TICKET_FILE": GRANT_FILE} if host.collect else {frames.VARIABLE: stream(task.attempt)}),
        **(cache_environment(task.image.partition("@")[0].rpartition(":")[2]) if host.cache else {}),
        **({"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} if threads else {}),
    }


def _mounts(task: Task, host: DockerHost) -> list[dict[str, Any]]:
    model = task.job.model
    if model.startswith(("./", "../", "~")):
        raise TaskUnfit(
            f"model {model!r}: on the Docker host {host.name} a folder must be an absolute path of that host"
        )
    # only the cache: the folder above it holds the login of the machine's owner
    folders = [(below(host.weights, HUB), f"{WEIGHTS}/{HUB}")] if host.weights else []
    if host.ca_bundle and (needs_download(model, host) or host.collect):
        folders.append((host.ca_bundle, CA_BUNDLE))
    folders += [(mounted := model_mount(model), mounted)] if model.startswith("/") else []
    # a mount, not a `-v` bind, which creates a missing folder, empty and owned by root
    read = [{"Type": "bind", "Source": here, "Target": there, "ReadOnly": True} for here, there in folders]
    return read + ([{"Type": "bind", "Source": host.cache, "Target": COMPILED}] if host.cache else [])
