"""The GPUs that a probe found on a host, and the slots that they make. Pure: what the host says comes in as values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.config import DockerHost, ProcessHost
from orchestrator.errors import HostUnfit
from orchestrator.executors.contract import Slot

CPU_SLOT = Slot("cpu")


@dataclass(frozen=True)
class Gpu:
    """A GPU as a probe container saw it. id: what `Access.render` wants for it."""

    id: str
    uuid: str = ""
    name: str = ""
    memory_bytes: int | None = None


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


def _short(gpu: str) -> str:
    """A UUID's first part is enough to tell one host's devices apart in a table."""
    return gpu[:12] if gpu.startswith(("GPU-", "MIG-")) else gpu
