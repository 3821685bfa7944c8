"""Runs the pipeline's networks, exported to ONNX, with OpenVINO on the CPU in the requested precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino
import torch

from runner.engines import exported
from runner.engines.exported import ExportedSession, Network
from runner.errors import LoadError, Unsupported
from runner.schema import Device, Job, Precision


def load(job: Job, token: str | None) -> ExportedSession:
    check(job)

    def compute(file: Path, network: Network, device: torch.device) -> OpenVinoNetwork:
        return OpenVinoNetwork(network, compiled(file, job.threads))

    return exported.load(job, token, compute)


def check(job: Job) -> None:
    """Raises Unsupported for settings that OpenVINO would silently change."""
    exported.check(job)
    if job.device is not Device.CPU:
        raise Unsupported("OpenVINO has no plugin for NVIDIA's GPUs; it would compute on the CPU")
    if job.precision is not Precision.SINGLE:
        raise Unsupported(
            f"precision {job.precision.value}: OpenVINO on a CPU would choose bfloat16 or single by itself"
        )


def compiled(file: Path, threads: int | None) -> Any:
    """Compiles a network. Raises LoadError where OpenVINO did not accept the precision or the device.

    Without the hint it computes in bfloat16 on CPUs where that is faster.
    """
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": openvino.Type.f32,
        "PERFORMANCE_HINT": "LATENCY",
        **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
    }
    model = openvino.Core().compile_model(file, "CPU", settings)
    got = model.get_property("INFERENCE_PRECISION_HINT"), model.get_property("EXECUTION_DEVICES")
    if got != (openvino.Type.f32, ["CPU"]):
        raise LoadError(f"OpenVINO computes in {got[0]} on {', '.join(got[1])}; expected single precision on the CPU")
    return model


class OpenVinoNetwork:
    """Computes one network's output. Inputs are shared; the output is a copy, because the scheduler keeps several."""

    def __init__(self, network: Network, model: Any) -> None:
        self.model, self._names = model, tuple(network.example)
        self.threads: int | None = model.get_property("INFERENCE_NUM_THREADS")
        self._request = model.create_infer_request()

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        inputs = {name: tensor.contiguous().numpy() for name, tensor in zip(self._names, tensors)}
        return torch.from_numpy(self._request.infer(inputs, share_inputs=True)[0])
