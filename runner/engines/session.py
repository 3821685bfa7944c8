"""A diffusers pipeline as a session: its inputs, its calls, its memory.

Importing this takes seconds and touches no GPU: a forkserver imports it once for all the processes that follow.
"""

from __future__ import annotations

import gc
from typing import Any

import torch
from PIL.Image import Image

from runner.catalog import ATTENTIONS, NONE
from runner.engines import Memory, step_cache
from runner.errors import Unsupported
from runner.models.networks import denoiser, networks
from runner.schema import Job, Validity
from runner.telemetry import memory


def set_attention(pipe: Any, attention: str) -> bool:
    """Sets how attention is computed; returns whether that is memory-efficient.

    `default` is PyTorch's fused kernel, `sliced` half of the UNet's heads at a time, `math` plain matrix products.
    """
    if attention == "default":
        return True
    if attention in ATTENTIONS and denoiser(pipe) is not getattr(pipe, "unet", None):
        raise Unsupported(f"attention {attention!r}: diffusers has it for a UNet, and this model has a transformer")
    if attention == "sliced":
        pipe.enable_attention_slicing()
        return False
    if attention == "math":
        from diffusers.models.attention_processor import Attention, AttnAddedKVProcessor, AttnProcessor

        for each in (*pipe.unet.modules(), *pipe.vae.modules()):
            if isinstance(each, Attention):
                each.set_processor(AttnAddedKVProcessor() if each.added_kv_proj_dim else AttnProcessor())
        return False
    raise Unsupported(f"unknown attention {attention!r}; expected one of {', '.join(ATTENTIONS)}")


def image_size(pipe: Any, job: Job) -> tuple[int, int]:
    """Height and width: the job's, else the model's own."""
    own = pipe.unet.config.sample_size if hasattr(pipe, "unet") else pipe.default_sample_size
    height, width = own if isinstance(own, (list, tuple)) else (own, own)
    return job.height or height * pipe.vae_scale_factor, job.width or width * pipe.vae_scale_factor


def initial_latents(pipe: Any, job: Job, samples: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The initial noise, equal for every engine, device and precision: drawn on the CPU in float32, then converted.

    Shape (samples, channels, height / 8, width / 8), with the decoder's channels; of FLUX, packed into patches of 2×2:
    (samples, height / 16 × width / 16, 4 × channels). A larger batch begins with the noise of a smaller one.
    """
    height, width = image_size(pipe, job)
    rows, columns = height // pipe.vae_scale_factor, width // pipe.vae_scale_factor
    shape = (samples, pipe.vae.config.latent_channels, rows, columns)
    generator = torch.Generator("cpu").manual_seed(job.seed)
    noise = torch.randn(shape, generator=generator, dtype=torch.float32).to(device, dtype)
    return noise if not hasattr(pipe, "_pack_latents") else pipe._pack_latents(noise, *shape)


def _is_off_gpu(network: torch.nn.Module) -> bool:
    return any(tensor.device.type != "cuda" for tensor in network.parameters())


class PipelineSession:
    """A session of a diffusers pipeline on its device, whatever runs its networks."""

    one_shape = False

    def __init__(
        self, pipe: Any, job: Job, device: torch.device, dtype: torch.dtype, *, fused_attention: bool | None
    ) -> None:
        self.pipe, self._job, self._device, self._dtype = pipe, job, device, dtype
        self._noise: dict[int, torch.Tensor] = {}
        height, width = image_size(pipe, job)
        self.facts: dict[str, Any] = {"height": height, "width": width, "xformers": fused_attention}
        if device.type == "cpu":
            self.facts["threads"] = torch.get_num_threads()

    def generate(self, samples: int) -> list[Image]:
        if samples not in self._noise:
            self._noise = {samples: initial_latents(self.pipe, self._job, samples, self._dtype, self._device)}
        self.pipe.decoded = None  # frees its memory before the call
        if self._job.step_cache != NONE:
            step_cache.reset(self.pipe)
        with torch.inference_mode(), torch.autocast(self._device.type, enabled=self._job.autocast):
            images: list[Image] = self.pipe(
                [self._job.prompt] * samples,
                height=self.facts["height"],
                width=self.facts["width"],
                num_inference_steps=self._job.steps,
                guidance_scale=self._job.guidance,
                latents=self._noise[samples],
            ).images
        return images

    def synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def reset_memory(self) -> None:
        self.pipe.decoded = None
        gc.collect()
        memory.reset_host_peak()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)

    def memory(self) -> Memory:
        host_gb = memory.host_peak_gb()
        if self._device.type != "cuda":
            return Memory(host_gb, host_gb, host_gb)
        # With offload, diffusers returns the memory to the driver at the end of a call.
        of = torch.cuda.memory_reserved if self._job.offload == NONE else torch.cuda.max_memory_reserved
        return Memory(of(self._device) / 1e9, torch.cuda.max_memory_allocated(self._device) / 1e9, host_gb)

    def is_finite(self) -> bool:
        """Checks on the CPU: at the largest batch that fits, the GPU has no memory left for the check."""
        decoded = self.decoded()
        return decoded is not None and bool(torch.isfinite(decoded.cpu()).all())

    def misplaced(self) -> tuple[Validity, str] | None:
        """Checks the devices of the weights and of the decoder's output, and whether more is reserved than the GPU has.

        A driver that moves memory to the host (Windows, WSL) allows more to be reserved than the GPU has.
        """
        if self._device.type != "cuda":
            return None
        off = []
        if self._job.offload == NONE:
            off = [name for name, each in networks(self.pipe).items() if _is_off_gpu(each)]
        if (decoded := self.decoded()) is not None and decoded.device.type != "cuda":
            off.append("the decoded image")
        if off:
            return Validity.FALLBACK, f"fallback: {', '.join(off)} on the CPU, but the job asks for a GPU"
        total = torch.cuda.get_device_properties(self._device).total_memory
        reserved = torch.cuda.max_memory_reserved(self._device)
        if reserved > total:
            return Validity.SPILLED, f"spilled: {reserved / 1e9:.1f} GB reserved on a GPU of {total / 1e9:.1f} GB"
        return None

    def remark(self) -> str | None:
        """Says how much a step cache skipped: that depends on the weights, and may be nothing."""
        if self._job.step_cache == NONE:
            return None
        seen = self.pipe.evaluations
        return f"step cache {self._job.step_cache}: blocks computed in {seen.computed} of {seen.all} evaluations"

    def decoded(self) -> torch.Tensor | None:
        """The decoder's output of the last call."""
        found: torch.Tensor | None = self.pipe.decoded
        return found

    def close(self) -> None:
        self._noise.clear()
        self.pipe.decoded = None
