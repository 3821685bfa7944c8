"""diffusers with UNet and VAE compiled by torch.compile: channels last, fused QKV projections, CUDA graphs on a GPU."""

from __future__ import annotations

import functools
import shutil
from typing import Any

import torch

from runner.engines.captured import CapturedSession
from runner.errors import Unsupported
from runner.models import pipeline
from runner.schema import Job

# In channels-last, a 1×1 convolution is a matrix product, which cuBLAS computes faster than cuDNN.
INDUCTOR = {"conv_1x1_as_mm": True}


def load(job: Job, token: str | None) -> CapturedSession:
    check(job)
    device, dtype = pipeline.torch_device(job), pipeline.torch_dtype(job)
    pipeline.set_threads(job)
    pipe = prepared(pipeline.load(job, dtype, token).to(device))
    options: dict[str, Any] = {**INDUCTOR, "triton.cudagraphs": device.type == "cuda"}
    compiled = functools.partial(torch.compile, fullgraph=True, dynamic=False, options=options)
    pipe.unet.forward = step_of(compiled(pipe.unet.forward), keep=job.guidance <= 1)
    pipe.vae.decode = compiled(pipe.vae.decode)
    keep_timesteps_here(pipe.scheduler)
    return CapturedSession(pipe, job, device, dtype, fused_attention=True)


def check(job: Job) -> None:
    """Raises Unsupported for settings that compilation fixes, and where there is no compiler."""
    if job.autocast:
        raise Unsupported("autocast: compilation fixes the precision of a network")
    if job.attention != "default":
        raise Unsupported(f"attention {job.attention!r}: the fused QKV projections bring their own attention")
    if not any(shutil.which(compiler) for compiler in ("c++", "g++", "gcc", "clang")):
        raise Unsupported("torch.compile needs a C++ compiler, and there is none; fix: install g++")


def step_of(forward: Any, *, keep: bool) -> Any:
    """The UNet's `forward` for timesteps on the CPU.

    keep: copies the output, which the next call's graph would overwrite. Needed because some schedulers keep earlier
    outputs, unless guidance has already made a new tensor.
    """

    def step(sample: torch.Tensor, timestep: torch.Tensor, *inputs: Any, **named: Any) -> Any:
        output = forward(sample, timestep.to(sample.device, non_blocking=True), *inputs, **named)
        return tuple(part.clone() for part in output) if keep else output

    return step


def keep_timesteps_here(scheduler: Any) -> None:
    """Keeps timesteps on the CPU, where a scheduler looks up its coefficients: else each step waits for the GPU."""
    set_timesteps = scheduler.set_timesteps
    scheduler.set_timesteps = lambda steps, device=None, **named: set_timesteps(steps, device="cpu", **named)


def prepared(pipe: Any) -> Any:
    """Converts UNet and VAE to channels-last with fused QKV projections, which compile best."""
    for network in (pipe.unet, pipe.vae):
        network.to(memory_format=torch.channels_last)
        network.fuse_qkv_projections()
    return pipe
