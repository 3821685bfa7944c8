"""How a container gets a Docker host's GPUs. Pure: the host's answers are arguments."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from orchestrator.config import DockerHost
from orchestrator.errors import HostUnfit
from orchestrator.executors.gpus import Gpu

CDI_KIND = "nvidia.com/gpu"
DRIVER_FOLDER = "/usr/local/nvidia"
# CUDA does not initialise without the unified memory nodes; profilers fail without the tools node
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
    """The parts of a create call that give a container its GPUs."""

    requests: tuple[dict[str, Any], ...] = ()
    devices: tuple[dict[str, str], ...] = ()
    mounts: tuple[dict[str, Any], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Access:
    """One method of giving containers an engine's GPUs.

    nodes: device nodes that every container needs besides the GPU's own. driver: the host's folder of driver
    libraries, if the image has none. Both apply to `devices` only.
    """

    kind: Literal["none", "toolkit", "cdi", "devices"]
    nodes: tuple[str, ...] = ()
    driver: str | None = None

    def render(self, gpus: Sequence[str]) -> GpuParts:
        """Renders the GPUs. gpus: indices or UUIDs (toolkit), CDI device names, or minor numbers of device nodes."""
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
class GpuEvidence:
    """What is known of a host's GPUs before any container runs.

    nodes: numbers n of its /dev/nvidia<n>. shared: those of SHARED_NODES that exist. driver: whether DRIVER_FOLDER
    exists. cdi: names of its CDI devices of NVIDIA's kind, without the kind.
    """

    runtime: bool = False
    cdi: tuple[str, ...] = ()
    nodes: tuple[int, ...] = ()
    shared: tuple[str, ...] = ()
    driver: bool = False


def candidates(host: DockerHost, seen: GpuEvidence) -> tuple[Access, ...]:
    """Returns the methods to try, best first. Raises HostUnfit if the requested method, or every one, is impossible.

    `auto` tries the toolkit on every host with a GPU: its hook works even if no runtime is registered.
    """
    devices = Access("devices", seen.shared, DRIVER_FOLDER if seen.driver else None)
    possible = {
        "toolkit": Access("toolkit") if seen.runtime or seen.nodes else None,
        "cdi": Access("cdi") if seen.cdi else None,
        "devices": devices if seen.nodes else None,
    }
    # bare device nodes help only with the driver's libraries, or if the user asks for them
    by_itself = [kind for kind in possible if kind != "devices" or seen.driver]
    wanted = by_itself if host.gpu_access == "auto" else [host.gpu_access]
    found = tuple(access for kind in wanted if (access := possible[kind]))
    if not found:
        raise HostUnfit(no_access(host, seen))
    return found


def no_access(host: DockerHost, seen: GpuEvidence) -> str:
    """Explains why jobs get no GPU on this host, with the remedy."""
    if host.gpu_access == "cdi":
        return (
            f"host {host.name}: its engine knows no CDI device {CDI_KIND}=…; there: sudo nvidia-ctk cdi generate "
            f"--output=/etc/cdi/nvidia.yaml, with Docker 28.3 or newer; {RUN_ON_CPU}"
        )
    if not seen.nodes and not seen.runtime:
        return (
            f"host {host.name}: no NVIDIA GPU is visible (no /dev/nvidia0, no nvidia runtime, no CDI device); if it "
            f"has one, install its driver, and then {INSTALL_TOOLKIT}; {RUN_ON_CPU}"
        )
    return (
        f"host {host.name}: it has a GPU, and its engine cannot hand it to a container; {INSTALL_TOOLKIT}; {RUN_ON_CPU}"
    )


def everything(access: Access, seen: GpuEvidence) -> tuple[str, ...]:
    """Returns the ids to render for a container that sees every GPU."""
    return tuple(map(str, seen.nodes)) if access.kind == "devices" else ("all",)


def as_named(access: Access, seen: GpuEvidence, found: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """Gives the probed GPUs the ids that this access method uses. Raises ValueError if it cannot address one."""
    if access.kind == "devices":
        if any(gpu.id.startswith("MIG-") for gpu in found):
            raise ValueError("MIG instances are not handed out as device nodes; use the toolkit")
        # the driver counts GPUs in the order of their nodes, even if a number is missing
        return tuple(replace(gpu, id=str(node)) for gpu, node in zip(found, seen.nodes))
    if access.kind == "cdi":
        names = {gpu: next((name for name in (gpu.id, gpu.uuid) if name in seen.cdi), None) for gpu in found}
        unknown = [gpu.uuid or gpu.id for gpu, name in names.items() if name is None]
        if unknown:
            raise ValueError(f"no CDI device is named for {', '.join(unknown)}; there: sudo nvidia-ctk cdi generate")
        return tuple(replace(gpu, id=name) for gpu, name in names.items() if name)
    return tuple(found)


def trusted(host: DockerHost, seen: GpuEvidence, access: Access) -> tuple[Gpu, ...] | None:
    """Returns the GPUs if they are known without a probe, else None."""
    if access.kind == "devices":
        return tuple(Gpu(str(number)) for number in seen.nodes)
    if access.kind == "cdi":
        return tuple(Gpu(name) for name in plain_cdi(seen.cdi))
    return None


def plain_cdi(names: Collection[str]) -> tuple[str, ...]:
    """Returns one name per GPU: nvidia-ctk may list each by index and by UUID, and all together as `all`."""
    indices = [name for name in names if name.isdigit()]
    return tuple(sorted(indices, key=int)) or tuple(sorted(name for name in names if name != "all"))
