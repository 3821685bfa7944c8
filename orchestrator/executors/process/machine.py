"""What this machine offers its jobs: slots, and an environment."""

from __future__ import annotations

import importlib.util
import os
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator import installation
from orchestrator.config import ProcessHost
from orchestrator.errors import HostUnfit
from orchestrator.executors.children import without_tokens
from orchestrator.executors.contract import Slot
from orchestrator.executors.environment import HUB, hub_folders, no_login, own_python
from orchestrator.executors.gpus import CPU_SLOT, Gpu, chosen, parse_probe, slots_of
from orchestrator.executors.network import authorities, variables_of

# Packages that every runner needs. They are located, not imported: an import takes seconds.
NEEDED: tuple[str, ...] = ("torch", "diffusers", "transformers")

# A job reads its token from standard input, which is empty if there is no token.
TOKEN_FILE = "/dev/stdin"  # noqa: S105 - not a token
PROBE_TIMEOUT_S = 120.0


def find_slots(host: ProcessHost, runner: Sequence[str]) -> tuple[Slot, ...]:
    """Lists the slots. Raises HostUnfit if the runner's packages or the GPUs are missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        unused = "; what PYTHONPATH names is not used" if os.environ.get("PYTHONPATH") else ""
        run = installation.command("runner", missing)
        raise HostUnfit(f"host {host.name}: {', '.join(missing)} not installed here{unused}; run: {run}")
    if host.gpus == "none":
        return (CPU_SLOT,)
    return slots_of(host, chosen(host, _gpus_found(host, runner)))


def absent(host: ProcessHost) -> Iterator[tuple[str, str, str]]:
    """Yields what the host's entry names and this machine lacks: the key, what is missing, the remedy."""
    if host.weights and (why := _not_a(stat.S_ISDIR, "folder", _here(host.weights))):
        yield (
            "weights",
            f"the weights folder {why}",
            f"make `weights` the folder that HF_HOME names on this machine (a download makes {HUB}/ in it)",
        )
    if host.ca_bundle and (why := _not_a(stat.S_ISREG, "file", _here(host.ca_bundle))):
        yield "ca_bundle", f"the file of authorities {why}", "make `ca_bundle` a PEM file of this machine"


def _not_a(is_kind: Callable[[int], bool], kind: str, path: Path) -> str:
    """Returns why a path is not of the expected kind; empty if it is."""
    try:
        return "" if is_kind(path.stat().st_mode) else f"{path} is no {kind}"
    except FileNotFoundError:
        return f"{path} is not there"
    except OSError as error:
        return f"{path} cannot be looked at: {error.strerror}"


def check_paths(host: ProcessHost) -> None:
    """Raises HostUnfit if a path of the host's entry is missing: a job would ask the hub for it in vain."""
    faults = [f"{what}; fix: {remedy}" for _, what, remedy in absent(host)]
    if faults:
        raise HostUnfit(f"host {host.name}: {'; '.join(faults)}")


def _here(path: str) -> Path:
    """Returns an inventory path as an absolute path on this machine."""
    return Path.cwd() / Path(path).expanduser()


def _gpus_found(host: ProcessHost, runner: Sequence[str]) -> tuple[Gpu, ...]:
    """Asks a runner in a separate process: only runners may load GPU libraries."""
    try:
        done = subprocess.run(
            [*runner, "probe"],
            capture_output=True,
            timeout=PROBE_TIMEOUT_S,
            check=True,
            text=True,
            cwd="/",  # Python looks for modules in the working folder
            env=own_python(without_tokens(os.environ)),
        )
        return parse_probe(done.stdout)
    except subprocess.CalledProcessError as error:
        raise HostUnfit(f"host {host.name}: the probe for GPUs failed: {error.stderr.strip()[-500:]}") from error
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        remedy = "set gpus: none, or see what nvidia-smi says"
        raise HostUnfit(f"host {host.name}: the probe for GPUs failed: {error}; {remedy}") from error


def job_environment(
    ours: Mapping[str, str], host: ProcessHost, gpus: Sequence[str], threads: int | None, folder: Path
) -> dict[str, str]:
    """Returns our environment without tokens and foreign modules, with only the slot's GPUs visible.

    folder: the attempt's folder, where the process runs. A host without weights uses the user's own cache.
    """
    here = Path.cwd()
    weights = str(_here(host.weights)) if host.weights else None
    return {
        **own_python(without_tokens(ours), here),
        **variables_of(host, ours),
        **(authorities(str(_here(host.ca_bundle))) if host.ca_bundle else {}),
        "PYTHONUNBUFFERED": "1",
        "RUNNER_TOKEN_FILE": TOKEN_FILE,
        "RUNNER_FOLDER": str(here),  # base of a model's relative path
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the driver's order, as in the probe; CUDA's default order is by speed
        "NETRC": os.devnull,  # it may hold a login too
        **(hub_folders(weights, f"{folder}/huggingface") if weights else no_login(f"{folder}/huggingface")),
        **({"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} if threads else {}),
    }
