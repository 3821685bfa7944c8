"""A pipeline whose networks are exported to ONNX and run outside PyTorch.

Text encoder, UNet and VAE decoder are exported to one file each, with a dynamic batch, in a folder that is deleted with
the session. Tokenizer, scheduler and loop remain diffusers'. The export counts as loading.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import StableDiffusionPipeline

from runner.engines import Memory
from runner.engines.session import PipelineSession, image_size
from runner.errors import Unsupported
from runner.models import pipeline
from runner.models.networks import unusual_inputs
from runner.schema import Job

# From 23 on, attention is one operator of ONNX. OpenVINO computes it in 1.3 times the time of its parts, and
# onnxruntime has a faster one of its own.
OPSET = 18
# The exporter would treat a dimension of 1 as constant.
EXAMPLE_BATCH = 2


class Compute(Protocol):
    """Runs a network. threads: how many it uses on a CPU; None on a GPU, or where unknown."""

    threads: int | None

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor: ...


def check(job: Job) -> None:
    """Raises Unsupported for what exported networks cannot do."""
    if job.autocast:
        raise Unsupported("autocast is a feature of PyTorch; an exported network has a fixed precision")
    if job.attention != "default":
        raise Unsupported(f"attention {job.attention!r}: an exported network has a fixed attention")


def load(
    job: Job,
    token: str | None,
    opened: Callable[[Path, Network, torch.device], Compute],
    prepare: Callable[[Any], None],
    *,
    fused_attention: bool | None,
) -> ExportedSession:
    """Loads the pipeline with its networks exported.

    opened: opens a network's file and returns what runs it. prepare: changes the pipeline before the export.
    fused_attention: whether what runs it needs no memory for all attention scores at once; None where unknown.
    """
    device, dtype = pipeline.torch_device(job), pipeline.torch_dtype(job)
    pipeline.set_threads(job)
    pipe = pipeline.load(job, dtype, token, device)
    if unusual := unusual_inputs(pipe):
        raise Unsupported(f"an export has no {' and '.join(unusual)}, which this model is configured with")
    prepare(pipe)
    folder = tempfile.TemporaryDirectory(prefix="onnx-")
    try:
        height, width = image_size(pipe, job)
        for network in networks(pipe, height, width):
            file = Path(folder.name) / f"{network.name}.onnx"
            export(network, file)
            setattr(pipe, network.name, STAND_INS[network.name](network, opened(file, network, device), device))
    except BaseException:
        folder.cleanup()
        raise
    return ExportedSession(pipe, job, device, dtype, folder, fused_attention)


@dataclass(frozen=True)
class Network:
    """A network to export: named input tensors, one output tensor.

    output_shape: computes the shape from the inputs, so that the output is allocated before the call.
    """

    name: str
    module: torch.nn.Module
    example: Mapping[str, torch.Tensor]
    dynamic: Sequence[str]
    output_shape: Callable[[Mapping[str, torch.Tensor]], tuple[int, ...]]

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights and of the output."""
        dtype: torch.dtype = self.module.inner.dtype  # type: ignore[assignment]
        return dtype


class _TextEncoder(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.inner(input_ids)[0]
        return hidden


class _Unet(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        noise: torch.Tensor = self.inner(sample, timestep, encoder_hidden_states=states, return_dict=False)[0]
        return noise


class _VaeDecoder(torch.nn.Module):
    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = self.inner.decode(latents, return_dict=False)[0]
        return image


def networks(pipe: StableDiffusionPipeline, height: int, width: int) -> list[Network]:
    """The networks, with examples on the pipeline's device and in its precision. The timestep is one float."""
    scale, channels = pipe.vae_scale_factor, pipe.unet.config.in_channels
    length, states_width = pipe.tokenizer.model_max_length, pipe.text_encoder.config.hidden_size
    kind: dict[str, Any] = {"device": pipe.device, "dtype": pipe.unet.dtype}
    latents = torch.zeros(EXAMPLE_BATCH, channels, height // scale, width // scale, **kind)
    ids = torch.ones(EXAMPLE_BATCH, length, dtype=torch.int64, device=pipe.device)
    states = torch.zeros(EXAMPLE_BATCH, length, states_width, **kind)
    return [
        Network(
            "text_encoder",
            _TextEncoder(pipe.text_encoder),
            {"input_ids": ids},
            ("input_ids",),
            lambda inputs: (*inputs["input_ids"].shape, states_width),
        ),
        Network(
            "unet",
            _Unet(pipe.unet),
            {"sample": latents, "timestep": torch.ones(1, device=pipe.device), "states": states},
            ("sample", "states"),
            lambda inputs: tuple(inputs["sample"].shape),
        ),
        Network(
            "vae",
            _VaeDecoder(pipe.vae),
            {"latents": latents},
            ("latents",),
            lambda inputs: (inputs["latents"].shape[0], 3, height, width),
        ),
    ]


def export(network: Network, file: Path) -> None:
    """Writes the weights into a second file, to avoid the 2 GB limit."""
    dynamic = {name: {0: torch.export.Dim.DYNAMIC} if name in network.dynamic else None for name in network.example}
    with torch.inference_mode(False), torch.no_grad():
        torch.onnx.export(
            network.module.eval(),
            tuple(network.example.values()),
            file,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(network.example),
            output_names=["output"],
            dynamic_shapes=tuple(dynamic.values()),
            external_data=True,
            optimize=True,
            verbose=False,
        )


class StandIn(torch.nn.Module):
    """Replaces the exported module in the pipeline: has its configuration, but not its weights."""

    def __init__(self, network: Network, compute: Compute, device: torch.device) -> None:
        super().__init__()
        inner: Any = network.module.inner
        self.config, self.dtype, self.device = inner.config, network.dtype, device
        self.compute = compute


class _TextEncoderStandIn(StandIn):
    def forward(self, input_ids: torch.Tensor, attention_mask: None = None) -> tuple[torch.Tensor]:
        return (self.compute(input_ids),)


class _UnetStandIn(StandIn):
    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor, **_: Any
    ) -> tuple[torch.Tensor]:
        moment = torch.as_tensor(timestep, dtype=torch.float32).reshape(1)
        return (self.compute(sample, moment, encoder_hidden_states),)


class _VaeStandIn(StandIn):
    def decode(self, latents: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        return (self.compute(latents),)


STAND_INS = {"text_encoder": _TextEncoderStandIn, "unet": _UnetStandIn, "vae": _VaeStandIn}


class ExportedSession(PipelineSession):
    """A pipeline with stand-ins; owns the folder of the exported files."""

    def __init__(
        self,
        pipe: Any,
        job: Job,
        device: torch.device,
        dtype: torch.dtype,
        folder: tempfile.TemporaryDirectory[str],
        fused_attention: bool | None,
    ) -> None:
        super().__init__(pipe, job, device, dtype, fused_attention=fused_attention)
        self.facts["threads"] = pipe.unet.compute.threads
        self._folder = folder

    def memory(self) -> Memory:
        """Unknown on a GPU: PyTorch counts only its own allocations."""
        memory = super().memory()
        return memory if self._device.type == "cpu" else Memory(None, None, memory.host_gb)

    def close(self) -> None:
        super().close()
        self._folder.cleanup()
