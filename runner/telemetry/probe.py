"""Lists the machine's hardware: GPUs as the driver names them, CPU, memory. Needs neither PyTorch nor a GPU."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from pathlib import Path
from typing import Any

from runner.telemetry import limits


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The kernel's name for the CPU; the architecture where it has none (ARM, macOS)."""
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return " ".join(value.split())
    return platform.processor() or platform.machine()


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def probe() -> dict[str, Any]:
    """What `python -m runner probe` prints. gpus_error: why `gpus` is empty, if there is a reason."""
    gpus, error = gpus_or_reason()
    return {
        "gpus": gpus,
        "gpus_error": error,
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "cpus_usable": limits.usable_cpus(),
        "cpu_quota": limits.cpu_quota(),
        "memory_bytes": memory_bytes(),
        "memory_limit_bytes": limits.memory_limit_bytes(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "platform": sys.platform,
    }


def gpus_or_reason() -> tuple[list[dict[str, Any]], str | None]:
    """The GPUs that the driver shows, and the reason where it shows none."""
    try:
        import pynvml
    except ModuleNotFoundError:
        return [], "nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return [], str(error)
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        return [_gpu(pynvml, index, driver) for index in range(pynvml.nvmlDeviceGetCount())], None
    except pynvml.NVMLError as error:
        return [], str(error)
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, index: int, driver: str) -> dict[str, Any]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    return {
        "index": index,
        "uuid": nvml.nvmlDeviceGetUUID(handle),
        "name": nvml.nvmlDeviceGetName(handle),
        "memory_bytes": nvml.nvmlDeviceGetMemoryInfo(handle).total,
        "driver": driver,
        "compute_capability": ".".join(map(str, nvml.nvmlDeviceGetCudaComputeCapability(handle))),
        "mig": _mig_instances(nvml, handle),
    }


def _mig_instances(nvml: Any, handle: Any) -> list[dict[str, Any]]:
    """The GPU's MIG instances; empty where MIG is off or not supported."""
    instances: list[dict[str, Any]] = []
    try:
        if nvml.nvmlDeviceGetMigMode(handle)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return instances
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            try:
                instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
            except nvml.NVMLError_NotFound:
                continue
            instances.append(
                {
                    "uuid": nvml.nvmlDeviceGetUUID(instance),
                    "name": nvml.nvmlDeviceGetName(instance),
                    "memory_bytes": nvml.nvmlDeviceGetMemoryInfo(instance).total,
                }
            )
    except nvml.NVMLError_NotSupported:
        return instances
    return instances
