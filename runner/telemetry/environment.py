"""Collects environment.json: everything that a measurement may depend on and no column holds."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from typing import Any

import psutil

from runner.catalog import ENGINES
from runner.schema import SCHEMA_VERSION, Job
from runner.telemetry.probe import probe

PACKAGES = (
    *("torch", "triton", "diffusers", "transformers", "accelerate", "huggingface-hub", "tokenizers", "safetensors"),
    *dict.fromkeys(package for engine in ENGINES.values() for package in engine.modules.values()),
    *("torchao", "onnxruntime-gpu", "xformers", "numpy", "pillow", "scikit-image", "psutil", "nvidia-ml-py"),
)

# Variables that change the speed or what is loaded. An explicit list: a dump of the environment would hold secrets.
VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "TORCH_CUDA_ARCH_LIST"),
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "MALLOC_ARENA_MAX", "LD_PRELOAD"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "KMP_AFFINITY", "HF_HOME", "HF_HUB_OFFLINE"),
)


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment(job: Job) -> dict[str, Any]:
    """The content of environment.json as far as the parent process knows it; contains no token."""
    found = {package: version(package) for package in PACKAGES}
    return {
        "schema_version": SCHEMA_VERSION,
        "machine": probe(),
        "packages": {package: number for package, number in found.items() if number},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "kernel": platform.release(),
        "os": _os_name(),
        "libc": "-".join(platform.libc_ver()),
        "image": job.image,
        # over 1, 5 and 15 minutes
        "load_average": os.getloadavg(),
        "cpu_frequency_mhz": _cpu_frequency_mhz(),
        "clock": {"unix_s": time.time(), "utc_offset_s": time.localtime().tm_gmtoff},
        "perf_counter": vars(time.get_clock_info("perf_counter")),
    }


def _cpu_frequency_mhz() -> dict[str, float] | None:
    """Keys current, min and max, averaged over the CPUs; None where the kernel does not tell."""
    try:
        frequency = psutil.cpu_freq()
    except (OSError, NotImplementedError, RuntimeError):
        return None
    return frequency._asdict() if frequency else None


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def row_cells(environment: dict[str, Any], job: Job) -> dict[str, Any]:
    """Cells that the parent knows and adds to every row, so that rows of crashed cases have them too."""
    machine, packages = environment["machine"], environment["packages"]
    gpus = machine["gpus"]
    cells = {
        "device": machine["cpu"] if job.device.value == "cpu" else gpus[0]["name"] if len(gpus) == 1 else None,
        "driver": gpus[0]["driver"] if job.device.value == "cuda" and gpus else None,
        "python": machine["python"],
        "torch": packages.get("torch"),
        "diffusers": packages.get("diffusers"),
        "cpu": machine["cpu"],
    }
    return {name: value for name, value in cells.items() if value is not None}
