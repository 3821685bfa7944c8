"""DeepSpeed inference: kernels injected into the UNet, CUDA graphs of text encoder, UNet and VAE.

The engine of DeepSpeed's tutorial (docs/engines.md) on current versions. It compiles its operators with nvcc at first
use.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

from runner import engines
from runner.engines import operator_locks
from runner.engines.captured import CapturedSession
from runner.engines.compile import keep_timesteps_here, step_of
from runner.errors import Unsupported
from runner.models import pipeline
from runner.schema import Device, Job, Precision


def load(job: Job, token: str | None) -> CapturedSession:
    check(job)
    deepspeed = engines.library("deepspeed")
    device = pipeline.torch_device(job)
    pipe = pipeline.load(job, torch.float16, token)
    check_model(pipe)
    set_build_environment(torch.cuda.get_device_capability(device))
    with_text_model(pipe.text_encoder)
    pipe = pipe.to(device)
    operator_locks.use_system_locks()
    deepspeed.init_inference(pipe, dtype=torch.float16, replace_with_kernel_inject=True, enable_cuda_graph=True)
    # As in `compile`: else each step waits for the GPU to read its timestep (0.09 s of 0.64 s on an H200).
    pipe.unet.forward = step_of(pipe.unet.forward, keep=False)
    keep_timesteps_here(pipe.scheduler)
    return CapturedSession(pipe, job, device, torch.float16, fused_attention=True)


def check(job: Job) -> None:
    """Raises Unsupported for what the injection cannot do; DeepSpeed itself would silently run some of it unchanged."""
    if job.device is not Device.CUDA:
        raise Unsupported("DeepSpeed injects CUDA kernels; on a CPU it would run the pipeline unaccelerated")
    if job.precision is not Precision.HALF:
        raise Unsupported("DeepSpeed's injection into diffusers has kernels for half precision only")
    if job.autocast:
        raise Unsupported("autocast: the injected kernels have a fixed precision")
    if job.attention != "default":
        raise Unsupported(f"attention {job.attention!r}: the injected kernels bring their own attention")
    if job.guidance <= 1:
        raise Unsupported("guidance of 1 or less: the scheduler keeps outputs that the UNet's graph overwrites")


def check_model(pipe: Any) -> None:
    """Raises Unsupported for an input of the UNet that DeepSpeed's own UNet takes and does not pass on."""
    if pipe.unet.config.time_cond_proj_dim:
        raise Unsupported("DeepSpeed's UNet drops time_cond_proj_dim, which this model is configured with")


def set_build_environment(capability: tuple[int, int]) -> None:
    """Builds operators for this GPU only, without the suffix of `9.0a`, which DeepSpeed 0.19.8 cannot parse.

    DeepSpeed looks for ninja on the PATH; in an environment that was not activated, ninja is beside Python.
    """
    os.environ["TORCH_CUDA_ARCH_LIST"] = f"{capability[0]}.{capability[1]}"
    beside = str(Path(sys.executable).parent)
    if beside not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join((beside, os.environ["PATH"]))


def with_text_model(encoder: torch.nn.Module) -> None:
    """Restores the attribute `text_model`, which DeepSpeed patches and transformers 5 merged into the encoder.

    A property: a submodule that is its own parent would make every walk over the modules endless.
    """
    if not hasattr(encoder, "text_model"):
        type(encoder).text_model = property(lambda self: self)  # type: ignore[attr-defined]
