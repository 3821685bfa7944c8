"""Finds out through containers what the engine does not report; most of the containers are never started."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import docker
from docker.errors import APIError
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from orchestrator.config import DockerHost
from orchestrator.errors import HostUnfit
from orchestrator.executors.contract import LABEL, Slot
from orchestrator.executors.docker.connection import ContainerRemoved, checked
from orchestrator.executors.docker.gpu_access import (
    CDI_KIND,
    DRIVER_FOLDER,
    MAX_NODES,
    SHARED_NODES,
    Access,
    GpuEvidence,
    as_named,
    candidates,
    everything,
    no_access,
    trusted,
)
from orchestrator.executors.gpus import chosen, parse_probe, slots_of

# built empty on the host, so that a host can be probed before it has any image
EMPTY_IMAGE = "sd-orchestrator-empty:1"
PROBE_COMMAND = ("python", "-m", "runner", "probe")
PROBE_TIMEOUT_S = 60
LABELS = {LABEL: "probe"}
# a host may prune its stopped containers at any time
_again = retry(retry=retry_if_exception_type(ContainerRemoved), stop=stop_after_attempt(3), reraise=True)


def require_gpus(api: docker.APIClient, host: DockerHost) -> None:
    """Raises HostUnfit if no container can get the host's GPUs. Called before an image is built for them."""
    candidates(host, evidence(api, api.info()))


def find_gpus(
    api: docker.APIClient, host: DockerHost, info: Mapping[str, Any], image: str
) -> tuple[Access, tuple[Slot, ...]]:
    """Returns how containers access a host's GPUs, and its slots. Raises HostUnfit with what is missing and its fix.

    image: ours, which counts the GPUs; if the host lacks it, only CDI and device nodes do.
    """
    seen = evidence(api, info)
    ways = candidates(host, seen)
    if not image or not has_image(api, image):
        gpus = trusted(host, seen, ways[0])
        if gpus is None:
            raise HostUnfit(
                f"host {host.name}: its GPUs are counted by a container of our image, which is not there yet; "
                f"orchestrator build --hosts {host.name}"
            )
        return ways[0], slots_of(host, chosen(host, gpus))
    refusals = []
    for access in ways:
        try:
            found = as_named(
                access, seen, parse_probe(run(api, image, PROBE_COMMAND, access, everything(access, seen)))
            )
        except (APIError, ValueError) as error:
            refusals.append(f"{access.kind}: {(error.explanation if isinstance(error, APIError) else '') or error}")
            continue
        return access, slots_of(host, chosen(host, found))
    raise HostUnfit(f"{no_access(host, seen)} (tried {'; '.join(refusals)})")


def evidence(api: docker.APIClient, info: Mapping[str, Any]) -> GpuEvidence:
    """Collects what the engine's info and the host's files show of GPUs."""
    devices = (str(device.get("ID", "")) for device in info.get("DiscoveredDevices") or ())
    nodes = [f"/dev/nvidia{number}" for number in range(MAX_NODES)]
    there = existing(api, [*nodes, *SHARED_NODES, f"{DRIVER_FOLDER}/lib64"])
    return GpuEvidence(
        runtime="nvidia" in (info.get("Runtimes") or {}),
        cdi=tuple(name.removeprefix(f"{CDI_KIND}=") for name in devices if name.startswith(f"{CDI_KIND}=")),
        nodes=tuple(number for number, node in enumerate(nodes) if node in there),
        shared=tuple(node for node in SHARED_NODES if node in there),
        driver=f"{DRIVER_FOLDER}/lib64" in there,
    )


@_again
def existing(api: docker.APIClient, paths: Sequence[str]) -> frozenset[str]:
    """Returns the paths that exist on the engine's host. paths: absolute ones.

    Uses a container that mounts the host's root read-only and is never started: the engine stats the paths in it.
    """
    make_empty_image(api)
    root = {"Type": "bind", "Source": "/", "Target": "/host", "ReadOnly": True}
    spec = {"Image": EMPTY_IMAGE, "Cmd": ["none"], "HostConfig": {"NetworkMode": "none", "Mounts": [root]}}
    with _container(api, spec) as name:
        url = f"{api.base_url}/v{api.api_version}/containers/{name}/archive"
        return frozenset(path for path in paths if api.head(url, params={"path": f"/host{path}"}, timeout=30).ok)


@_again
def run(
    api: docker.APIClient,
    image: str,
    command: Sequence[str],
    access: Access,
    gpus: Sequence[str],
    mounts: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Runs a short command in a container of our image and returns its stdout. Raises APIError if it does not start."""
    parts = access.render(gpus)
    spec = {
        "Image": image,
        "Entrypoint": list(command),
        "Cmd": [],
        "User": "1000:1000",
        "Env": [f"{name}={value}" for name, value in parts.environment.items()],
        "HostConfig": {
            "NetworkMode": "none",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "DeviceRequests": list(parts.requests),
            "Devices": list(parts.devices),
            "Mounts": [*mounts, *parts.mounts],
        },
    }
    with _container(api, spec) as name:
        api.start(name)
        api.wait(name, timeout=PROBE_TIMEOUT_S)
        return bytes(api.logs(name, stdout=True, stderr=False)).decode(errors="replace")


def has_image(api: docker.APIClient, image: str) -> bool:
    try:
        api.inspect_image(image)  # type: ignore[no-untyped-call]
    except APIError as error:
        if error.status_code == 404:
            return False
        raise
    return True


@contextmanager
def _container(api: docker.APIClient, spec: dict[str, Any]) -> Iterator[str]:
    name = str(api.create_container_from_config({**spec, "Labels": LABELS})["Id"])  # type: ignore[no-untyped-call]
    try:
        _remove_abandoned(api, name)
        yield name
    finally:
        try:
            api.remove_container(name, v=True, force=True)
        except APIError as error:
            # not there, or being removed: and then what was seen in it may be wrong
            if error.status_code not in (404, 409):
                raise
            raise ContainerRemoved(
                "something removed a container that looked at the host's GPUs or folders, as `docker container prune` "
                "does; fix: run the command again"
            ) from error


def _remove_abandoned(api: docker.APIClient, ours: str) -> None:
    """Removes probes that dead orchestrators left: those much older than ours, by the engine's own clock."""
    probes = api.containers(all=True, filters={"label": [f"{name}={value}" for name, value in LABELS.items()]})
    created = {probe["Id"]: probe["Created"] for probe in probes}
    for probe, at in created.items():
        if at < created.get(ours, at) - 2 * PROBE_TIMEOUT_S:
            with suppress(APIError):  # another orchestrator is removing it
                api.remove_container(probe, v=True, force=True)


def make_empty_image(api: docker.APIClient) -> None:
    """Creates EMPTY_IMAGE on the engine if it is missing."""
    if has_image(api, EMPTY_IMAGE):
        return
    nothing = io.BytesIO()
    with tarfile.open(fileobj=nothing, mode="w"):
        pass
    repository, tag = EMPTY_IMAGE.split(":")
    answer = checked(
        api.post(
            f"{api.base_url}/v{api.api_version}/images/create",
            params={"fromSrc": "-", "repo": repository, "tag": tag},
            data=nothing.getvalue(),
            headers={"Content-Type": "application/x-tar"},
            timeout=60,
        )
    )
    for line in answer.text.splitlines():  # errors arrive in a 200 response
        if line.strip() and "error" in (said := json.loads(line)):
            raise docker.errors.DockerException(str(said["error"]))
