"""Turns the GPUs that a probe found on a host into slots. Pure: the host's answers are arguments."""

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
    """A GPU as the probe container saw it. id: the name that `Access.render` takes."""

    id: str
    uuid: str = ""
    name: str = ""
    memory_bytes: int | None = None


def parse_probe(output: str) -> tuple[Gpu, ...]:
    """Parses the last line of `python -m runner probe` into at least one GPU. Raises ValueError."""
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
    """Returns the GPU, or its MIG instances: a GPU with MIG on cannot run a job as a whole."""
    parts = tuple(
        Gpu(str(mig["uuid"]), str(mig["uuid"]), str(mig.get("name", "")), mig.get("memory_bytes"))
        for mig in gpu.get("mig", ())
    )
    return parts or (
        Gpu(str(gpu["index"]), str(gpu.get("uuid", "")), str(gpu.get("name", "")), gpu.get("memory_bytes")),
    )


def chosen(host: DockerHost | ProcessHost, found: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """Selects the GPUs that the host's entry names, in that order. Raises HostUnfit naming each missing one."""
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
    """Groups GPUs by `gpus_per_job`; the remainder stays idle. Raises HostUnfit if there are too few for one group."""
    size = host.gpus_per_job
    groups = [gpus[at : at + size] for at in range(0, len(gpus) - size + 1, size)]
    if not groups:
        raise HostUnfit(f"host {host.name}: gpus_per_job is {size}, and it has {len(gpus)} to use")
    return tuple(_slot(group) for group in groups)


def _slot(gpus: Sequence[Gpu]) -> Slot:
    """The slot has all names of its GPUs: another run may address them by index or by UUID."""
    names = frozenset(name for gpu in gpus for name in (gpu.id, gpu.uuid) if name)
    return Slot("gpu" + "+".join(_short(gpu.id) for gpu in gpus), tuple(gpu.id for gpu in gpus), names)


def _short(gpu: str) -> str:
    """Returns a UUID's first part, which tells one host's devices apart in a table."""
    return gpu[:12] if gpu.startswith(("GPU-", "MIG-")) else gpu
