"""How a container gets a Docker host's GPUs, and what slots they make. Pure: what the host says comes in as values."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from orchestrator.config import DockerHost, ProcessHost
from orchestrator.errors import HostUnfit
from orchestrator.executors import Slot

CPU_SLOT = Slot("cpu")
CDI_KIND = "nvidia.com/gpu"
DRIVER_FOLDER = "/usr/local/nvidia"
# without the unified memory nodes CUDA does not initialise; without the tools node profilers fail
SHARED_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
MAX_NODES = 16

INSTALL_TOOLKIT = (
    "install NVIDIA's container toolkit there: sudo apt-get install -y nvidia-container-toolkit "
    "&& sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker "
    "(its package source: https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html)"
)
RUN_ON_CPU = "or give the host `gpus: none` to run on its CPU"


@dataclass(frozen=True)
class GpuParts:
    """What a create call needs for some GPUs."""

    requests: tuple[dict[str, Any], ...] = ()
    devices: tuple[dict[str, str], ...] = ()
    mounts: tuple[dict[str, Any], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Access:
    """One way to the GPUs of an engine.

    nodes: device nodes that every container needs beside the GPU's own. driver: the host's folder of driver libraries,
    where they are not in the image. Both for `devices` alone.
    """

    kind: Literal["none", "toolkit", "cdi", "devices"]
    nodes: tuple[str, ...] = ()
    driver: str | None = None

    def render(self, gpus: Sequence[str]) -> GpuParts:
        """gpus: indices or UUIDs for the toolkit, names of the CDI kind, minor numbers of device nodes."""
        if not gpus or self.kind == "none":
            return GpuParts()
        if self.kind == "toolkit":
            wanted = ["gpu", "compute", "utility"]  # utility: NVML, for telemetry
            return GpuParts(({"DeviceIDs": list(gpus), "Capabilities": [wanted]},))
        if self.kind == "cdi":
            return GpuParts(({"Driver": "cdi", "DeviceIDs": [f"{CDI_KIND}={gpu}" for gpu in gpus]},))
        nodes = (*(f"/dev/nvidia{gpu}" for gpu in gpus), *self.nodes)
        devices = tuple({"PathOnHost": n, "PathInContainer": n, "CgroupPermissions": "rwm"} for n in nodes)
        if self.driver is None:
            return GpuParts(devices=devices)
        mount = {"Type": "bind", "Source": self.driver, "Target": self.driver, "ReadOnly": True}
        libraries = {"LD_LIBRARY_PATH": f"{self.driver}/lib64:{self.driver}/lib"}
        return GpuParts(devices=devices, mounts=(mount,), environment=libraries)


NO_GPU = Access("none")


@dataclass(frozen=True)
class Gpu:
    """A GPU as a probe container saw it. id: what `Access.render` wants for it."""

    id: str
    uuid: str = ""
    name: str = ""
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Evidence:
    """What a host shows of its GPUs before any container runs.

    nodes: numbers n of its /dev/nvidia<n>. shared: those of SHARED_NODES that are there. driver: DRIVER_FOLDER is.
    cdi: names of its CDI devices of NVIDIA's kind, without the kind.
    """

    runtime: bool = False
    cdi: tuple[str, ...] = ()
    nodes: tuple[int, ...] = ()
    shared: tuple[str, ...] = ()
    driver: bool = False


def candidates(host: DockerHost, seen: Evidence) -> tuple[Access, ...]:
    """The ways to try, best first. Raises HostUnfit where what is asked for cannot be, or nothing can.

    `auto` tries the toolkit wherever there is a GPU: its hook works without being a registered runtime.
    """
    devices = Access("devices", seen.shared, DRIVER_FOLDER if seen.driver else None)
    possible = {
        "toolkit": Access("toolkit") if seen.runtime or seen.nodes else None,
        "cdi": Access("cdi") if seen.cdi else None,
        "devices": devices if seen.nodes else None,
    }
    # bare device nodes are of use only with the driver's libraries beside them, or where the user says so
    by_itself = [kind for kind in possible if kind != "devices" or seen.driver]
    wanted = by_itself if host.gpu_access == "auto" else [host.gpu_access]
    found = tuple(access for kind in wanted if (access := possible[kind]))
    if not found:
        raise HostUnfit(no_access(host, seen))
    return found


def no_access(host: DockerHost, seen: Evidence) -> str:
    """Why jobs get no GPU there, and how they would."""
    if host.gpu_access == "cdi":
        return (
            f"host {host.name}: its engine knows no CDI device {CDI_KIND}=…; there: sudo nvidia-ctk cdi generate "
            f"--output=/etc/cdi/nvidia.yaml, with Docker 28.3 or newer; {RUN_ON_CPU}"
        )
    if not seen.nodes and not seen.runtime:
        return (
            f"host {host.name}: no NVIDIA GPU is to be seen (no /dev/nvidia0, no nvidia runtime, no CDI device); if it "
            f"has one, install its driver, and then {INSTALL_TOOLKIT}; {RUN_ON_CPU}"
        )
    return (
        f"host {host.name}: it has a GPU, and its engine cannot hand it to a container; {INSTALL_TOOLKIT}; {RUN_ON_CPU}"
    )


def parse_probe(output: str) -> tuple[Gpu, ...]:
    """The GPUs that a runner saw, one at the least: the last line of `python -m runner probe`. Raises ValueError."""
    said = output.strip().splitlines() or ["{}"]
    try:
        report = json.loads(said[-1])
        found = tuple(part for gpu in report["gpus"] for part in _instances(gpu))
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"not a probe's report: {output[-200:]!r}") from error
    if not found:
        raise ValueError(f"no GPU is found there: {report.get('gpus_error') or 'and its driver says nothing'}")
    return found


def _instances(gpu: Mapping[str, Any]) -> tuple[Gpu, ...]:
    """A GPU, or the MIG instances that it is divided into: then nothing can run on it as a whole."""
    parts = tuple(
        Gpu(str(mig["uuid"]), str(mig["uuid"]), str(mig.get("name", "")), mig.get("memory_bytes"))
        for mig in gpu.get("mig", ())
    )
    return parts or (
        Gpu(str(gpu["index"]), str(gpu.get("uuid", "")), str(gpu.get("name", "")), gpu.get("memory_bytes")),
    )


def everything(access: Access, seen: Evidence) -> tuple[str, ...]:
    """What to render for a container that is to see every GPU."""
    return tuple(map(str, seen.nodes)) if access.kind == "devices" else ("all",)


def as_named(access: Access, seen: Evidence, found: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """GPUs that a probe saw, with the ids by which this way hands them out. Raises ValueError where it cannot."""
    if access.kind == "devices":
        if any(gpu.id.startswith("MIG-") for gpu in found):
            raise ValueError("MIG instances are not handed out as device nodes; use the toolkit")
        # the driver counts GPUs in the order of their nodes, also where a number is missing
        return tuple(replace(gpu, id=str(node)) for gpu, node in zip(found, seen.nodes))
    if access.kind == "cdi":
        names = {gpu: next((name for name in (gpu.id, gpu.uuid) if name in seen.cdi), None) for gpu in found}
        unknown = [gpu.uuid or gpu.id for gpu, name in names.items() if name is None]
        if unknown:
            raise ValueError(f"no CDI device is named for {', '.join(unknown)}; there: sudo nvidia-ctk cdi generate")
        return tuple(replace(gpu, id=name) for gpu, name in names.items() if name)
    return tuple(found)


def chosen(host: DockerHost | ProcessHost, found: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """Those of a host's GPUs that its entry asks for, in its order. Raises HostUnfit naming each that is not there."""
    if host.gpus == "all":
        return tuple(found)
    if host.gpus == "none":
        return ()
    by_name = {**{gpu.id: gpu for gpu in found}, **{gpu.uuid: gpu for gpu in found if gpu.uuid}}
    missing = [str(name) for name in host.gpus if str(name) not in by_name]
    if missing:
        known = ", ".join(f"{gpu.id} ({gpu.uuid or gpu.name})" for gpu in found) or "none"
        raise HostUnfit(f"host {host.name}: has no GPU {', '.join(missing)}; it has: {known}")
    picked = tuple(by_name[str(name)] for name in host.gpus)
    if len(set(picked)) < len(picked):
        raise HostUnfit(f"host {host.name}: gpus names one GPU twice")
    return picked


def slots_of(host: DockerHost | ProcessHost, gpus: Sequence[Gpu]) -> tuple[Slot, ...]:
    """GPUs in groups of `gpus_per_job`. Raises HostUnfit where they make no group; what is left over stays idle."""
    size = host.gpus_per_job
    groups = [gpus[at : at + size] for at in range(0, len(gpus) - size + 1, size)]
    if not groups:
        raise HostUnfit(f"host {host.name}: gpus_per_job is {size}, and it has {len(gpus)} to use")
    return tuple(_slot(group) for group in groups)


def _slot(gpus: Sequence[Gpu]) -> Slot:
    """Known by every name of its GPUs: another run may have been given them by index, or by UUID."""
    names = frozenset(name for gpu in gpus for name in (gpu.id, gpu.uuid) if name)
    return Slot("gpu" + "+".join(_short(gpu.id) for gpu in gpus), tuple(gpu.id for gpu in gpus), names)


def trusted(host: DockerHost, seen: Evidence, access: Access) -> tuple[Gpu, ...] | None:
    """The GPUs as far as they are known without a probe; None where only a probe can tell."""
    if access.kind == "devices":
        return tuple(Gpu(str(number)) for number in seen.nodes)
    if access.kind == "cdi":
        return tuple(Gpu(name) for name in plain_cdi(seen.cdi))
    return None


def plain_cdi(names: Collection[str]) -> tuple[str, ...]:
    """One name for each GPU: nvidia-ctk may list each by index, by UUID, and all together as `all`."""
    indices = [name for name in names if name.isdigit()]
    return tuple(sorted(indices, key=int)) or tuple(sorted(name for name in names if name != "all"))


def _short(gpu: str) -> str:
    """A UUID's first part is enough to tell one host's devices apart in a table."""
    return gpu[:12] if gpu.startswith(("GPU-", "MIG-")) else gpu
