"""What this machine offers its jobs: slots, and an environment."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

from orchestrator.errors import HostUnfit
from orchestrator.executors import Slot
from orchestrator.model import ProcessHost

# What a runner cannot do without, whatever its engine; found without importing it, which takes seconds.
NEEDED = ("torch", "diffusers", "transformers")
INSTALL = f"{sys.executable} -m pip install 'sd-orchestrator[runner]'"

# Names by which a Hugging Face token may stand in our own environment; a job gets it on its standard input,
# which is empty where there is none.
TOKENS = ("HF_TOKEN", "ACCESS_TOKEN", "HF_AUTH_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN")
TOKEN_FILE = "/dev/stdin"  # noqa: S105 - not a token
PROBE_TIMEOUT_S = 120.0


def find_slots(host: ProcessHost, runner: Sequence[str]) -> tuple[Slot, ...]:
    """Raises HostUnfit where the runner's packages or the GPUs are not there."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise HostUnfit(f"{host.name}: {', '.join(missing)} not installed here; run: {INSTALL}")
    if host.gpus == "none":
        return (Slot("cpu"),)
    return gpu_slots(host, _gpus_found(host, runner))


def gpu_slots(host: ProcessHost, found: Mapping[str, str]) -> tuple[Slot, ...]:
    """GPUs dealt out to slots, `gpus_per_job` to each. found: uuid by index, both as text."""
    known = {**{uuid: uuid for uuid in found.values()}, **found}
    wanted = list(found) if host.gpus == "all" else [str(gpu) for gpu in host.gpus]
    unknown = [gpu for gpu in wanted if gpu not in known]
    if unknown:
        there = ", ".join(f"{index} ({uuid})" for index, uuid in found.items()) or "none"
        raise HostUnfit(f"{host.name}: no GPU {', '.join(unknown)} on this machine; there are: {there}")
    if not wanted:
        raise HostUnfit(f"{host.name}: no GPU is found on this machine; set gpus: none, or see what nvidia-smi says")
    per_job = host.gpus_per_job
    groups = [tuple(wanted[i : i + per_job]) for i in range(0, len(wanted) - per_job + 1, per_job)]
    if not groups:
        raise HostUnfit(f"{host.name}: gpus_per_job is {per_job}, and there are {len(wanted)} GPUs")
    return tuple(Slot("gpu" + "+".join(group), tuple(known[gpu] for gpu in group)) for group in groups)


def _gpus_found(host: ProcessHost, runner: Sequence[str]) -> Mapping[str, str]:
    """Asks a runner, in a process of its own: only that may load a GPU's libraries."""
    try:
        done = subprocess.run([*runner, "probe"], capture_output=True, timeout=PROBE_TIMEOUT_S, check=True, text=True)
        return {str(gpu["index"]): str(gpu["uuid"]) for gpu in json.loads(done.stdout)["gpus"]}
    except subprocess.CalledProcessError as error:
        raise HostUnfit(f"{host.name}: the probe for GPUs failed: {error.stderr.strip()[-500:]}") from error
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        raise HostUnfit(f"{host.name}: the probe for GPUs failed: {error}") from error


def job_environment(
    ours: Mapping[str, str], host: ProcessHost, gpus: Sequence[str], threads: int | None
) -> dict[str, str]:
    """Our environment without tokens, with the slot's GPUs and no others to be seen."""
    kept = {name: value for name, value in ours.items() if name not in TOKENS}
    return {
        **kept,
        "PYTHONUNBUFFERED": "1",
        "RUNNER_TOKEN_FILE": TOKEN_FILE,
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        **({"HF_HOME": host.weights} if host.weights else {}),
        **({"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} if threads else {}),
    }
