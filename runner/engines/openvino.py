"""Runs the pipeline's networks, exported to ONNX, with OpenVINO on the CPU in the requested precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import openvino
import torch

from runner.engines import exported, group_norm
from runner.engines.exported import ExportedSession, Network
from runner.errors import LoadError, Unsupported
from runner.schema import Device, Job, Precision


def load(job: Job, token: str | None) -> ExportedSession:
    check(job)

    def compute(file: Path, network: Network, device: torch.device) -> OpenVinoNetwork:
        return OpenVinoNetwork(network, file, job.threads)

    return exported.load(job, token, compute, replace_group_norms, fused_attention=False)


def check(job: Job) -> None:
    """Raises Unsupported for settings that OpenVINO would silently change."""
    exported.check(job)
    if job.device is not Device.CPU:
        raise Unsupported("OpenVINO has no plugin for NVIDIA's GPUs; it would compute on the CPU")
    if job.precision is not Precision.SINGLE:
        raise Unsupported(
            f"precision {job.precision.value}: OpenVINO on a CPU would choose bfloat16 or single by itself"
        )


def compiled(file: Path, shapes: Mapping[str, Sequence[int]], threads: int | None) -> Any:
    """Compiles a network for inputs of these shapes. Raises LoadError where OpenVINO changed precision or device.

    Without the hint it computes in bfloat16 on CPUs where that is faster. With fixed shapes the UNet of
    `synthetic:small` takes 12% less CPU time than with a dynamic batch.
    """
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": openvino.Type.f32,
        "PERFORMANCE_HINT": "LATENCY",
        **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
    }
    core = openvino.Core()
    network = core.read_model(file)
    network.reshape(dict(shapes))
    model = core.compile_model(network, "CPU", settings)
    got = model.get_property("INFERENCE_PRECISION_HINT"), model.get_property("EXECUTION_DEVICES")
    if got != (openvino.Type.f32, ["CPU"]):
        raise LoadError(f"OpenVINO computes in {got[0]} on {', '.join(got[1])}; expected single precision on the CPU")
    return model


class GroupNorm(torch.nn.Module):
    """Replaces a GroupNorm and shares its parameters: the statistics of channels first, then those of their groups.

    ONNX's own form gathers each group's values in a row. OpenVINO convolves channels-last, and needed nearly half of a
    decoder's time to bring them there and back. The arithmetic is that of `group_norm.ByChannel`, which flattens the
    pixels: OpenVINO would change the layout for that too.
    """

    def __init__(self, norm: torch.nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        """A group's variance is the mean of its channels' variances plus the variance of their means."""
        pixels = tuple(range(2, sample.dim()))
        grouped = (sample.shape[0], self.groups, -1)  # `len` would make the batch a constant of the export
        means = sample.mean(pixels, keepdim=True)
        variances = (sample - means).square().mean(pixels).view(grouped)
        of_channels = means.view(grouped)
        mean = of_channels.mean(2, keepdim=True)
        variance = (variances + (of_channels - mean).square()).mean(2, keepdim=True)
        scale = (variance + self.eps).rsqrt() * self.weight.view(1, self.groups, -1)
        shift = self.bias.view(1, self.groups, -1) - mean * scale
        normed: torch.Tensor = sample * scale.view(means.shape) + shift.view(means.shape)
        return normed


def replace_group_norms(pipe: Any) -> None:
    for network in (pipe.unet, pipe.vae.decoder):
        group_norm.replace_group_norms(network, GroupNorm)


class OpenVinoNetwork:
    """Computes one network's output, compiled for the shapes of the last call.

    Inputs are shared; the output is a copy, because the scheduler keeps several.
    """

    def __init__(self, network: Network, file: Path, threads: int | None) -> None:
        self._file, self._asked, self._names = file, threads, tuple(network.example)
        self._compile([tuple(tensor.shape) for tensor in network.example.values()])
        self.threads: int | None = self.model.get_property("INFERENCE_NUM_THREADS")

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        if (shapes := [tuple(tensor.shape) for tensor in tensors]) != self._shapes:
            self._compile(shapes)
        inputs = {name: tensor.contiguous().numpy() for name, tensor in zip(self._names, tensors)}
        return torch.from_numpy(self._request.infer(inputs, share_inputs=True)[0])

    def _compile(self, shapes: list[tuple[int, ...]]) -> None:
        self._shapes = shapes
        self.model = compiled(self._file, dict(zip(self._names, shapes)), self._asked)
        self._request = self.model.create_infer_request()
