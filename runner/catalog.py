"""Declares what a job may name: engines, precisions, devices, schedulers, attentions, synthetic models.

Orchestrator and runner both read it. docs/extending.md says what else a new entry needs.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal


class Device(str, Enum):
    """What an engine computes on."""

    CPU = "cpu"
    CUDA = "cuda"


class Precision(str, Enum):
    """The precision of weights and activations."""

    SINGLE = "single"
    TF32 = "tf32"
    HALF = "half"
    BFLOAT16 = "bfloat16"
    FP8 = "fp8"
    INT8 = "int8"
    INT8_WEIGHT = "int8-weight"

    @property
    def facts(self) -> PrecisionFacts:
        return PRECISION_FACTS[self]


@dataclass(frozen=True)
class PrecisionFacts:
    """The facts about a precision.

    dtype: PyTorch's name of the type of weights and activations. quantised: torchao's configuration of the layers that
    `runner.models.quantised` chooses; empty where nothing is quantised. capability: the least CUDA compute capability
    that has the arithmetic. on_cpu: a CPU may have it.
    """

    summary: str
    dtype: str
    quantised: str = ""
    capability: tuple[int, int] = (0, 0)
    on_cpu: bool = True


_LAYERS = "bfloat16, with the linear layers of the denoiser's blocks"
PRECISION_FACTS: Mapping[Precision, PrecisionFacts] = {
    Precision.SINGLE: PrecisionFacts("float32, without TF32", "float32"),
    Precision.TF32: PrecisionFacts(
        "float32; tensor cores round the factors of products to 10 bits", "float32", capability=(8, 0), on_cpu=False
    ),
    Precision.HALF: PrecisionFacts("float16; on a CPU with AVX512-FP16 or AMX-FP16", "float16"),
    Precision.BFLOAT16: PrecisionFacts(
        "bfloat16; on a CPU with AVX512-BF16 or AMX-BF16", "bfloat16", capability=(8, 0)
    ),
    Precision.FP8: PrecisionFacts(
        f"{_LAYERS} in 8-bit floating point (e4m3), scaled by row",
        "bfloat16",
        "Float8DynamicActivationFloat8WeightConfig",
        capability=(8, 9),
        on_cpu=False,
    ),
    Precision.INT8: PrecisionFacts(
        f"{_LAYERS} in 8-bit integers, scaled by token and channel",
        "bfloat16",
        "Int8DynamicActivationInt8WeightConfig",
        capability=(8, 0),
    ),
    Precision.INT8_WEIGHT: PrecisionFacts(
        f"{_LAYERS} holding their weights as 8-bit integers, scaled by channel",
        "bfloat16",
        "Int8WeightOnlyConfig",
        capability=(8, 0),
    ),
}


def lacking(precision: Precision, device: Device, capability: tuple[int, int] | None, whose: str) -> str | None:
    """Returns why a device does not support a precision; None if it does, or if that is not known.

    capability: the GPU's compute capability, if it is known. whose: what the message says of it: `this GPU has`.
    """
    facts = precision.facts
    if device is Device.CPU:
        reason = f"precision {precision.value}: CPUs do not support it; it needs an NVIDIA GPU"
        return None if facts.on_cpu else reason
    if capability is None or capability >= facts.capability:
        return None
    needed, has = (".".join(map(str, version)) for version in (facts.capability, capability))
    return f"precision {precision.value} needs compute capability {needed} or later, and {whose} {has}"


DEVICES = tuple(device.value for device in Device)
PRECISIONS = tuple(precision.value for precision in Precision)
QUANTISED = tuple(precision.value for precision in Precision if precision.facts.quantised)
_ALL = ("sd", "sdxl", "sd3", "flux")  # the families


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
    families: the model families that it runs.
    offloads: whether it runs with weights outside the GPU's memory. step_caches: the families that it runs with one.
    compiles: for what it compiles anew, unless a host's `cache` has the result: each `case`, each `job`, or nothing.
    """

    summary: str
    images: Mapping[Device, str]
    modules: Mapping[str, str] = field(default_factory=dict)
    extra: str = ""
    runtime: str = "pytorch"
    takes_latents: bool = True
    precisions: tuple[Precision, ...] = tuple(Precision)
    families: tuple[str, ...] = _ALL
    offloads: bool = False
    step_caches: tuple[str, ...] = ()
    compiles: Literal["case", "job"] | None = None

    @property
    def devices(self) -> tuple[Device, ...]:
        return tuple(self.images)


_BOTH = {Device.CPU: "cpu", Device.CUDA: "cuda"}
_ONNX = {"onnx": "onnx", "onnxscript": "onnxscript"}

ENGINES: Mapping[str, EngineFacts] = {
    "eager": EngineFacts("plain diffusers, the baseline", _BOTH, extra="runner", offloads=True, step_caches=_ALL),
    "onnxruntime": EngineFacts(
        "the pipeline's networks exported to ONNX",
        _BOTH,
        {**_ONNX, "onnxruntime": "onnxruntime"},
        extra="runner",
        runtime="onnx",
        precisions=(Precision.SINGLE, Precision.TF32, Precision.HALF),
        families=("sd",),
    ),
    "openvino": EngineFacts(
        "the same networks, run by OpenVINO",
        {Device.CPU: "cpu"},
        {**_ONNX, "openvino": "openvino"},
        extra="openvino",
        runtime="onnx",
        precisions=(Precision.SINGLE,),
        families=("sd",),
    ),
    "compile": EngineFacts(
        "torch.compile of denoiser and VAE, on a GPU with CUDA graphs (sd, sdxl)",
        _BOTH,
        extra="runner",
        step_caches=("sd3", "flux"),
        compiles="case",
    ),
    "graph": EngineFacts(
        "the whole call compiled into one CUDA graph",
        {Device.CUDA: "cuda"},
        extra="runner",
        compiles="case",
    ),
    "deepspeed": EngineFacts(
        "DeepSpeed inference with its kernels injected",
        {Device.CUDA: "deepspeed"},
        {"deepspeed": "deepspeed"},
        precisions=(Precision.HALF,),
        families=("sd",),
        compiles="job",
    ),
    "mii": EngineFacts(
        "DeepSpeed-MII's server, called over gRPC",
        {Device.CUDA: "deepspeed"},
        {"deepspeed": "deepspeed", "grpc": "grpcio", "mii": "deepspeed-mii"},
        takes_latents=False,
        precisions=(Precision.HALF,),
        families=("sd",),
        compiles="job",
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
    "flow-euler": "FlowMatchEulerDiscreteScheduler",
}

# By scheduler: the option with which its class draws noise at each step, and for each such value the one without noise.
NOISE: Mapping[str, tuple[str, Mapping[Any, Any]]] = {
    "dpm++": ("algorithm_type", {"sde-dpmsolver++": "dpmsolver++", "sde-dpmsolver": "dpmsolver"}),
    "flow-euler": ("stochastic_sampling", {True: False}),
}


def without_noise(scheduler: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The option to change in a model's configuration so that a scheduler draws no noise; empty where it draws none.

    With noise the images differ from call to call, so those of two engines could not be compared.
    """
    option, values = NOISE.get(scheduler, ("", {}))
    replaced = [without for noisy, without in values.items() if config.get(option) == noisy]
    return {option: replaced[0]} if replaced else {}


# How attention is computed; `runner.engines.session.set_attention` sets it.
ATTENTIONS = ("default", "sliced", "math")

# Keys of a case, besides its engine, precision and batch size; the model comes first, because others follow from it.
SETTINGS = ("model", "scheduler", "steps", "height", "width", "guidance", "seed", "autocast", "attention", "prompt")
# Optional keys of a case that change how it is computed; NONE if a case does not use them.
OPTIONS = ("offload", "step_cache")
NONE = "none"
# Where weights are kept while they are not needed; `runner.models.pipeline.offload` calls diffusers.
OFFLOADS: Mapping[str, str] = {
    NONE: "all weights stay on the GPU",
    "model": "each network waits in the host's memory until it runs",
    "sequential": "each layer waits in the host's memory until it runs",
}


@dataclass(frozen=True)
class StepCache:
    """A cache that replaces computations of a denoising step by those of earlier steps. Lossy.

    parameter: the field of diffusers' configuration that the number in `NAME:NUMBER` sets. default: its value for
    `NAME`. least, most: its bounds. whole: it is a whole number. families: those whose blocks it can replace.
    """

    summary: str
    parameter: str
    default: float
    least: float
    most: float
    whole: bool
    families: tuple[str, ...]


STEP_CACHES: Mapping[str, StepCache] = {
    "first-block": StepCache(
        "skips the blocks after the first one while that one's residual changes by less than NUMBER, a share of it",
        parameter="threshold",
        default=0.05,
        least=0.0,
        most=10.0,
        whole=False,
        families=("sd3", "flux"),
    ),
    "taylorseer": StepCache(
        "computes the transformer blocks at each NUMBER-th step, and extrapolates their outputs in between",
        parameter="cache_interval",
        default=5,
        least=2,
        most=100,
        whole=True,
        families=_ALL,
    ),
}


def parse_step_cache(text: str) -> tuple[str, float] | None:
    """The name and number of `NAME` or `NAME:NUMBER`; None for `none`. Raises ValueError with what is expected."""
    if text == NONE:
        return None
    name, colon, number = text.partition(":")
    if name not in STEP_CACHES:
        near = difflib.get_close_matches(name, (NONE, *STEP_CACHES), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join((NONE, *STEP_CACHES))}"
        raise ValueError(f"{text!r} is unknown; {hint}")
    facts = STEP_CACHES[name]
    if not colon:
        return name, facts.default
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if not facts.least <= value <= facts.most or (facts.whole and value != int(value)):
        kind = "a whole number" if facts.whole else "a number"
        raise ValueError(f"{text!r}: expected {kind} from {facts.least:g} to {facts.most:g} after {name}:")
    return name, value


def step_cache_name(text: str) -> str:
    """A step cache with its number, so that equal ones have equal names. Raises ValueError as `parse_step_cache`."""
    found = parse_step_cache(text)
    return NONE if found is None else f"{found[0]}:{found[1]:g}"


@dataclass(frozen=True)
class Family:
    """An architecture of models.

    pipeline: diffusers' class. denoiser: its component that runs at each step. schedulers: those that fit; the first
    is the default.
    """

    pipeline: str
    denoiser: str
    schedulers: tuple[str, ...]


_DIFFUSION = ("pndm", "ddim", "euler", "dpm++")
FAMILIES: Mapping[str, Family] = {
    "sd": Family("StableDiffusionPipeline", "unet", _DIFFUSION),
    "sdxl": Family("StableDiffusionXLPipeline", "unet", _DIFFUSION),
    "sd3": Family("StableDiffusion3Pipeline", "transformer", ("flow-euler",)),
    "flux": Family("FluxPipeline", "transformer", ("flow-euler",)),
}


@dataclass(frozen=True)
class Model:
    """A model that is known by name.

    hub: the id of the original, whose architecture `synthetic:NAME` has, with random weights; empty: a small model for
    tests. image: height and width in pixels. steps, guidance, scheduler, precision: the defaults of a matrix, as the
    original's card recommends them.
    """

    family: str
    image: int
    hub: str = ""
    steps: int = 50
    guidance: float = 7.5
    scheduler: str = "pndm"
    precision: Precision = Precision.SINGLE

    @property
    def defaults(self) -> Mapping[str, Any]:
        """What a matrix takes where it does not say."""
        return {name: getattr(self, name) for name in ("steps", "guidance", "scheduler", "precision")}


_FLOW: dict[str, Any] = {"scheduler": "flow-euler", "precision": Precision.BFLOAT16}
SYNTHETIC = "synthetic:"
# By the name after `synthetic:`. runner/models/architectures.py has the configuration of each.
MODELS: Mapping[str, Model] = {
    "tiny": Model("sd", 128),
    "tiny-sdxl": Model("sdxl", 128),
    "tiny-sd3": Model("sd3", 128, **_FLOW),
    "tiny-flux": Model("flux", 128, guidance=3.5, **_FLOW),
    "small": Model("sd", 256),
    "sd-v1-4": Model("sd", 512, "CompVis/stable-diffusion-v1-4"),
    "sd-v2-1": Model("sd", 768, "stabilityai/stable-diffusion-2-1"),
    "sdxl": Model("sdxl", 1024, "stabilityai/stable-diffusion-xl-base-1.0", guidance=5.0, scheduler="euler"),
    "sdxl-turbo": Model("sdxl", 512, "stabilityai/sdxl-turbo", steps=1, guidance=0.0, scheduler="euler"),
    "sd-v3.5-medium": Model("sd3", 1024, "stabilityai/stable-diffusion-3.5-medium", steps=40, guidance=4.5, **_FLOW),
    "sd-v3.5-large": Model("sd3", 1024, "stabilityai/stable-diffusion-3.5-large", steps=28, guidance=3.5, **_FLOW),
    "flux-dev": Model("flux", 1024, "black-forest-labs/FLUX.1-dev", steps=28, guidance=3.5, **_FLOW),
    "flux-schnell": Model("flux", 1024, "black-forest-labs/FLUX.1-schnell", steps=4, guidance=0.0, **_FLOW),
}
# The forms of `model`, for help texts.
MODEL_FORMS = f"a hub id, a folder, or {SYNTHETIC}{'|'.join(MODELS)}"


def known_model(model: str) -> Model | None:
    """The declaration of `synthetic:NAME`, or of a hub id with or without a revision; None for any other model."""
    if model.startswith(SYNTHETIC):
        return MODELS.get(model.removeprefix(SYNTHETIC))
    return next((each for each in MODELS.values() if each.hub and each.hub == model.partition("@")[0]), None)


def unfit(engine: str, device: Device, precision: Precision, offload: str) -> str | None:
    """Returns why an engine cannot run with weights outside the GPU's memory; None where it can, or need not."""
    if offload == NONE:
        return None
    if device is Device.CPU:
        return f"offload {offload}: the job runs on the CPU, and offload saves memory of a GPU only"
    if not ENGINES[engine].offloads:
        able = " or ".join(name for name, facts in ENGINES.items() if facts.offloads)
        return f"offload {offload}: {engine} needs all weights on the GPU; fix: engine: {able}"
    if offload == "sequential" and precision.facts.quantised:
        return (
            f"offload {offload}: accelerate cannot move the weights of precision {precision.value} layer by layer; "
            "fix: offload: model"
        )
    return None


def misfit(engine: str, scheduler: str, family: str, step_cache: str = NONE) -> str | None:
    """Returns why an engine, a scheduler or a step cache cannot run a model of a family; None where all can."""
    facts, able = FAMILIES[family], ENGINES[engine].families
    if family not in able:
        names = " or ".join(FAMILIES[name].pipeline for name in able)
        return f"{engine} supports {names} only; this model is a {facts.pipeline}"
    if scheduler not in facts.schedulers:
        return f"scheduler {scheduler!r} does not fit a {facts.pipeline}; fix: scheduler: {facts.schedulers[0]}"
    return _cannot_cache(engine, family, step_cache)


def _cannot_cache(engine: str, family: str, step_cache: str) -> str | None:
    found = parse_step_cache(step_cache)
    if found is None:
        return None
    able = [name for name, facts in ENGINES.items() if facts.step_caches]
    if engine not in able:
        return f"step_cache {step_cache}: {engine} supports no step cache; fix: engine: {' or '.join(able)}"
    if family not in STEP_CACHES[found[0]].families:
        other = " or ".join(name for name, facts in STEP_CACHES.items() if family in facts.families)
        what = f"diffusers has no {found[0]} cache for a U-Net"
        return f"step_cache {step_cache}: {what}; fix: step_cache: {other}"
    if family not in ENGINES[engine].step_caches:
        whole = f"{engine} compiles a U-Net as one network, in which no block can be skipped"
        return f"step_cache {step_cache}: {whole}; fix: engine: {BASELINE}"
    return None
