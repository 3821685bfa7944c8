"""The probe against a driver's library that answers as NVIDIA's does: whole GPUs, MIG instances, errors."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import psutil
import pytest
from builders import a_job

from runner.schema import Device
from runner.telemetry import probe
from runner.telemetry.environment import environment, row_cells

pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")


class Nvml:
    """Two GPUs; the second is divided into one instance, at the second of its places."""

    NVMLError = pynvml.NVMLError
    NVMLError_NotFound = pynvml.NVMLError_NotFound
    NVMLError_NotSupported = pynvml.NVMLError_NotSupported
    NVML_DEVICE_MIG_ENABLE = 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"GPU-{index}"

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetName(self, handle: str) -> str:
        return f"NVIDIA {handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return SimpleNamespace(total=80_000_000_000)

    def nvmlDeviceGetCudaComputeCapability(self, handle: str) -> tuple[int, int]:
        return 9, 0

    def nvmlDeviceGetMigMode(self, handle: str) -> tuple[int, int]:
        if handle == "GPU-0":
            raise pynvml.NVMLError_NotSupported(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return 1, 1

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:
        return 2

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, number: int) -> str:
        if number == 0:
            raise pynvml.NVMLError_NotFound(pynvml.NVML_ERROR_NOT_FOUND)
        return "MIG-1"


def test_a_gpu_is_told_with_its_uuid_capability_and_driver() -> None:
    assert probe._gpu(Nvml(), 0, "580.1") == {
        "index": 0,
        "uuid": "GPU-0",
        "name": "NVIDIA GPU-0",
        "memory_bytes": 80_000_000_000,
        "driver": "580.1",
        "compute_capability": "9.0",
        "mig": [],
    }


def test_mig_instances_are_told_where_there_are_any() -> None:
    assert probe._gpu(Nvml(), 1, "580.1")["mig"] == [
        {"uuid": "MIG-1", "name": "NVIDIA MIG-1", "memory_bytes": 80_000_000_000}
    ]


def test_without_a_driver_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> None:
        raise pynvml.NVMLError_LibraryNotFound(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert probe.gpus_or_reason() == ([], "NVML Shared Library Not Found")


def test_the_processor_is_named_as_the_kernel_does_or_by_its_architecture(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD  EPYC 7352\n")
    assert probe.cpu_model(tmp_path / "cpuinfo") == "AMD EPYC 7352"
    assert probe.cpu_model(tmp_path / "none")


def test_the_environment_has_no_token_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from builders import a_job

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HOME", "/weights")
    found = environment(a_job())
    assert "hf_secret" not in str(found)
    assert found["variables"]["HF_HOME"] == "/weights"


class Frequency(NamedTuple):
    current: float
    min: float
    max: float


def test_the_environment_has_load_and_frequency_at_the_jobs_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from builders import a_job

    frequency = Frequency(2400.0, 800.0, 3600.0)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 0.5, 0.25))
    monkeypatch.setattr(psutil, "cpu_freq", lambda: frequency)
    found = environment(a_job())
    assert found["load_average"] == (1.5, 0.5, 0.25)
    assert found["cpu_frequency_mhz"] == {"current": 2400.0, "min": 800.0, "max": 3600.0}
    monkeypatch.setattr(psutil, "cpu_freq", lambda: None)
    assert environment(a_job())["cpu_frequency_mhz"] is None


def test_a_row_names_the_gpu_only_if_there_is_exactly_one() -> None:

    gpu = {"name": "H100", "driver": "580.1"}
    found: dict[str, Any] = {
        "machine": {"gpus": [gpu], "cpu": "EPYC", "python": "3.11"},
        "packages": {"torch": "2.13.0"},
    }
    job = a_job(device=Device.CUDA)
    assert row_cells(found, job)["device"] == "H100"
    found["machine"]["gpus"] = [gpu, gpu]
    cells = row_cells(found, job)
    assert "device" not in cells
    assert (cells["driver"], cells["torch"], cells["cpu"]) == ("580.1", "2.13.0", "EPYC")
