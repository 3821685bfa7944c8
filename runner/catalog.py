"""Declares what a job may name: engines, precisions, devices, schedulers, attentions, synthetic models.

Orchestrator and runner both read it. docs/extending.md says what else a new entry needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Device(str, Enum):
    """What an engine computes on."""

    CPU = "cpu"
    CUDA = "cuda"


class Precision(str, Enum):
    """The precision of weights and activations."""

    SINGLE = "single"
    HALF = "half"


DEVICES = tuple(device.value for device in Device)
PRECISIONS = tuple(precision.value for precision in Precision)


@dataclass(frozen=True)
class EngineFacts:
    """The facts about an engine that need no import of it. Its module is `runner.engines.NAME`.

    images: by device, the image flavour that contains it. The engine itself may still refuse a job on that device.
    modules: what it imports beside PyTorch and diffusers, by module the package that installs it. The package of the
        same name may be someone else's: `grpc`, `mii`.
    extra: the extra of pyproject.toml that installs those packages; empty where only its image has them.
    runtime: the Lambda benchmark's name for it.
    takes_latents: it starts from the given noise, so that its images can be compared with another engine's.
    precisions: those that it has kernels for.
    """

    summary: str
    images: Mapping[Device, str]
    modules: Mapping[str, str] = field(default_factory=dict)
    extra: str = ""
    runtime: str = "pytorch"
    takes_latents: bool = True
    precisions: tuple[Precision, ...] = tuple(Precision)

    @property
    def devices(self) -> tuple[Device, ...]:
        return tuple(self.images)


_BOTH = {Device.CPU: "cpu", Device.CUDA: "cuda"}
_ONNX = {"onnx": "onnx", "onnxscript": "onnxscript"}

ENGINES: Mapping[str, EngineFacts] = {
    "eager": EngineFacts("plain diffusers, the baseline", _BOTH, extra="runner"),
    "onnxruntime": EngineFacts(
        "the pipeline's networks exported to ONNX",
        _BOTH,
        {**_ONNX, "onnxruntime": "onnxruntime"},
        extra="runner",
        runtime="onnx",
    ),
    "openvino": EngineFacts(
        "the same ONNX files, run by OpenVINO",
        {Device.CPU: "cpu"},
        {**_ONNX, "openvino": "openvino"},
        extra="openvino",
        runtime="onnx",
    ),
    "compile": EngineFacts("torch.compile of UNet and VAE, CUDA graphs on a GPU", _BOTH, extra="runner"),
    "graph": EngineFacts("the whole call compiled into one CUDA graph", {Device.CUDA: "cuda"}, extra="runner"),
    "deepspeed": EngineFacts(
        "DeepSpeed inference with its kernels injected",
        {Device.CUDA: "deepspeed"},
        {"deepspeed": "deepspeed"},
        precisions=(Precision.HALF,),
    ),
    "mii": EngineFacts(
        "DeepSpeed-MII's server, called over gRPC",
        {Device.CUDA: "deepspeed"},
        {"deepspeed": "deepspeed", "grpc": "grpcio", "mii": "deepspeed-mii"},
        takes_latents=False,
        precisions=(Precision.HALF,),
    ),
}
# The default engine, with which the others are compared.
BASELINE = "eager"
# Image flavours, each with a folder `images/FLAVOUR`.
FLAVOURS = tuple(dict.fromkeys(flavour for engine in ENGINES.values() for flavour in engine.images.values()))

# The class of diffusers behind each scheduler's name.
SCHEDULERS: Mapping[str, str] = {
    "pndm": "PNDMScheduler",
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
}

# How attention is computed; `runner.engines.session.set_attention` sets it.
ATTENTIONS = ("default", "sliced", "math")


@dataclass(frozen=True)
class Size:
    """The parameters of a synthetic model.

    heads: of the UNet, passed as diffusers' misnamed `attention_head_dim`. is_xl: it has SDXL's components, with two
    text encoders.
    """

    image: int
    unet_channels: tuple[int, ...]
    heads: int | tuple[int, ...]
    vae_channels: tuple[int, ...]
    text_width: int
    text_layers: int
    text_heads: int
    groups: int = 32
    layers: int = 2
    is_xl: bool = False


# `synthetic:SIZE` is a model of that size with random weights.
SYNTHETIC = "synthetic:"
SIZES: Mapping[str, Size] = {
    "tiny": Size(128, (32, 64), 4, (16, 16, 32, 32), 32, 2, 4, groups=16, layers=1),
    "small": Size(256, (64, 128, 256, 256), 8, (32, 64, 128, 128), 128, 4, 4, layers=1),
    "sd-v1-4": Size(512, (320, 640, 1280, 1280), 8, (128, 256, 512, 512), 768, 12, 12),
    "sdxl": Size(1024, (320, 640, 1280), (5, 10, 20), (128, 256, 512, 512), 768, 12, 12, is_xl=True),
}
# The forms of `model`, for help texts.
MODEL_FORMS = f"a hub id, a folder, or {SYNTHETIC}{'|'.join(SIZES)}"
