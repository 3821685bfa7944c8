"""diffusers with denoiser and VAE compiled by torch.compile, with CUDA graphs on a GPU.

Convolutions are channels-last, and a UNet's QKV projections are fused.
"""

from __future__ import annotations

import functools
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from torch._inductor.runtime.runtime_utils import cache_dir  # type: ignore[attr-defined]

from runner.catalog import BASELINE
from runner.engines import step_cache, unfinished_builds
from runner.engines.captured import CapturedSession
from runner.engines.gelu import replace_gelus
from runner.engines.gelu_fp8 import fuse_conversions
from runner.engines.group_norm import replace_group_norms
from runner.engines.perceptrons import fuse_gelus
from runner.engines.reductions import keep_rows_in_registers
from runner.engines.rotary import rotate_halves
from runner.errors import Unsupported
from runner.models import pipeline, quantised
from runner.models.networks import added_projections, denoiser
from runner.schema import Job, Precision

# In channels-last, a 1×1 convolution is a matrix product, which cuBLAS computes faster than cuDNN.
INDUCTOR = {"conv_1x1_as_mm": True}
# For a whole network of fixed shapes, or one block of it.
SETTINGS: dict[str, Any] = {"fullgraph": True, "dynamic": False, "options": INDUCTOR}


def load(job: Job, token: str | None) -> CapturedSession:
    check(job)
    remove_unfinished_builds()
    device, dtype = pipeline.torch_device(job), pipeline.torch_dtype(job)
    pipeline.set_threads(job)
    pipe = prepared(pipeline.load(job, dtype, token, device), job.precision)
    options = {**INDUCTOR, "triton.cudagraphs": device.type == "cuda"}
    compiled = functools.partial(torch.compile, **{**SETTINGS, "options": options})
    network: Any = denoiser(pipe)
    if hasattr(pipe, "transformer"):
        compile_blocks(network)
        step_cache.apply(pipe, job.step_cache, dtype)
        network.forward = step_of(network.forward, keep=False)
    else:
        network.forward = step_of(compiled(network.forward), keep=_passes_output_on(pipe, job))
    pipe.vae.decode = compiled(pipe.vae.decode)
    keep_timesteps_here(pipe.scheduler)
    return CapturedSession(pipe, job, device, dtype, fused_attention=True)


def _passes_output_on(pipe: Any, job: Job) -> bool:
    """Whether the scheduler gets the UNet's own output. With guidance it gets a new tensor.

    If the UNet takes the guidance as an input (time_cond_proj_dim), the pipeline has no guidance of its own.
    """
    return job.guidance <= 1 or pipe.unet.config.time_cond_proj_dim is not None


def check(job: Job) -> None:
    """Raises Unsupported for settings that compilation fixes, and where there is no compiler."""
    if job.autocast:
        raise Unsupported("autocast: compilation fixes the precision of a network")
    if job.attention != "default":
        raise Unsupported(f"attention {job.attention!r}: the fused QKV projections bring their own attention")
    if not any(shutil.which(compiler) for compiler in ("c++", "g++", "gcc", "clang")):
        raise Unsupported("torch.compile needs a C++ compiler, and there is none; fix: install g++")


def remove_unfinished_builds() -> None:
    """Removes from the cache of compiled code what a killed job left there, and says so in the log."""
    for each in unfinished_builds.remove(Path(cache_dir())):
        print(f"compile: {each} is removed: the job that compiled it was killed", file=sys.stderr)


def step_of(forward: Any, *, keep: bool) -> Any:
    """The denoiser's `forward` for timesteps on the CPU.

    keep: copies the output, which the next call's graph would overwrite. Needed because some schedulers keep earlier
    outputs, unless guidance has already made a new tensor.
    """

    def step(*inputs: Any, **named: Any) -> Any:
        """A UNet takes sample and timestep by place, a transformer by name."""
        device = (inputs[0] if inputs else named["hidden_states"]).device
        there = tuple(_on(device, each) for each in inputs)
        output = forward(*there, **{name: _on(device, each) for name, each in named.items()})
        return tuple(part.clone() for part in output) if keep else output

    return step


def _on(device: torch.device, value: Any) -> Any:
    return value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value


def keep_timesteps_here(scheduler: Any) -> None:
    """Keeps timesteps on the CPU, where a scheduler looks up its coefficients: else each step waits for the GPU."""
    set_timesteps = scheduler.set_timesteps

    @functools.wraps(set_timesteps)  # the pipeline looks at its parameters
    def on_the_cpu(steps: int | None = None, device: Any = None, **named: Any) -> None:
        set_timesteps(steps, device="cpu", **named)

    scheduler.set_timesteps = on_the_cpu


def compile_blocks(transformer: Any) -> None:
    """Compiles each block. They are alike: one of each kind takes seconds, the whole network minutes (docs/models.md).

    They have no CUDA graphs of their own. It compiles `forward`, which the hooks of a step cache wrap: these decide in
    Python whether a block runs, which `fullgraph` does not allow inside of it.
    """
    for block in blocks(transformer):
        block.forward = torch.compile(block.forward, **SETTINGS)


def blocks(transformer: Any) -> list[Any]:
    """The blocks of an SD 3.5 or FLUX transformer, in the order of a call."""
    return [*transformer.transformer_blocks, *getattr(transformer, "single_transformer_blocks", ())]


def prepared(pipe: Any, precision: Precision) -> Any:
    """Brings the networks into the forms that compile best, which compute the same, and quantises the denoiser.

    Networks with convolutions become channels-last, with fused QKV projections (diffusers cannot fuse those of SD 3.5's
    and FLUX's transformers) and group norms by channel. Transformers get another form of GELU, which on a GPU is inside
    the product before it, or in fp8 inside the conversion after it. FLUX gets another order of rotary pairs. On a GPU,
    the compiler keeps a transformer's rows in registers from then on, in the whole process.

    Raises Unsupported for a UNet whose projections diffusers cannot fuse.
    """
    if hasattr(pipe, "unet") and (found := added_projections(pipe.unet)):
        raise Unsupported(
            f"this UNet has {' and '.join(found)}, whose added key and value projections cannot be fused; "
            f"fix: engine: {BASELINE}"
        )
    for network in (denoiser(pipe), pipe.vae):
        if network is getattr(pipe, "transformer", None):
            replace_gelus(network)
            rotate_halves(network)
        else:
            network.to(memory_format=torch.channels_last)
            if hasattr(network, "fuse_qkv_projections"):  # AutoencoderTiny has none
                network.fuse_qkv_projections()
            replace_group_norms(network)
    quantised.apply(pipe, precision)
    if hasattr(pipe, "transformer") and pipe.transformer.device.type == "cuda":
        fuse_gelus(pipe.transformer)
        if precision is Precision.FP8:
            fuse_conversions(pipe.transformer)
        keep_rows_in_registers()
    return pipe
