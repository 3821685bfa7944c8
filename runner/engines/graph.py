"""Runs token ids to pixels as one CUDA graph: text encoder, all denoising steps with the scheduler, VAE, 8-bit pixels.

UNet and VAE are compiled as in `compile`. Of a call, only the tokenizer runs in Python. What is the same at every step
is computed once per call (see `precompute`). The arithmetic is that of the pipeline.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel

from runner.engines import compile
from runner.engines.captured import CapturedSession
from runner.engines.group_norm import replace_group_norms
from runner.engines.precompute import Precomputed
from runner.engines.session import initial_latents
from runner.errors import Unsupported
from runner.models import pipeline
from runner.schema import Device, Job

ATTENTION = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
INDUCTOR: dict[str, Any] = {**compile.INDUCTOR}


def load(job: Job, token: str | None) -> GraphSession:
    compile.check(job)
    if job.device is not Device.CUDA:
        raise Unsupported("there are no CUDA graphs without a GPU")
    device, dtype = pipeline.torch_device(job), pipeline.torch_dtype(job)
    pipe = pipeline.load(job, dtype, token, device)
    # cuDNN tries its algorithms for each convolution, before the capture.
    torch.backends.cudnn.benchmark = True
    return GraphSession(pipe, job, device, dtype)


class Denoiser(torch.nn.Module):
    """One evaluation of the UNet with guidance, so that the compiler fuses the operations around the network."""

    def __init__(self, unet: torch.nn.Module, guidance: float) -> None:
        super().__init__()
        self.unet, self.guidance = unet, guidance

    def forward(self, latents: torch.Tensor, moment: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        if self.guidance <= 1:
            plain: torch.Tensor = self.unet(latents, moment, states, return_dict=False)[0]
            return plain
        noise = self.unet(torch.cat([latents] * 2), moment, states, return_dict=False)[0]
        blank, text = noise.chunk(2)
        guided: torch.Tensor = blank + self.guidance * (text - blank)
        return guided


class GraphSession(CapturedSession):
    """The pipeline's components in our own loop, which the first call captures."""

    def __init__(self, pipe: Any, job: Job, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(compile.prepared(pipe), job, device, dtype, fused_attention=True)
        for network in (pipe.unet, pipe.vae.decoder):
            replace_group_norms(network)
        self._precomputed = Precomputed(pipe.unet, guided=job.guidance > 1)
        settings: dict[str, Any] = {"fullgraph": True, "dynamic": False, "options": INDUCTOR}
        self._denoise = torch.compile(Denoiser(pipe.unet, job.guidance), **settings)
        self._decode: Any = torch.compile(pipe.vae.decode, **settings)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._decoded: torch.Tensor | None = None

    def generate(self, samples: int) -> list[Image.Image]:
        with torch.inference_mode():
            ids = self.token_ids(samples)
            if self._graph is None:
                noise = initial_latents(self.pipe, self._job, samples, self._dtype, self._device)
                self._graph = self._capture(ids, noise)
            else:
                self._ids.copy_(ids)
            self._graph.replay()
            pixels = self._pixels.cpu().numpy()
        return [Image.fromarray(image) for image in pixels]

    def token_ids(self, samples: int) -> torch.Tensor:
        """The token ids of the prompts; with guidance, preceded by as many of the empty prompt."""
        tokenizer = self.pipe.tokenizer
        texts = [self._job.prompt] * samples
        if self._job.guidance > 1:
            texts = [""] * samples + texts
        length = tokenizer.model_max_length
        encoded = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        ids: torch.Tensor = encoded.input_ids
        return ids

    def _capture(self, ids: torch.Tensor, noise: torch.Tensor) -> torch.cuda.CUDAGraph:
        """Captures the graph after one run, which compiles and lets cuDNN and cuBLAS choose, on a side stream."""
        self.hold(ids, noise)
        graph = torch.cuda.CUDAGraph()
        with sdpa_kernel(ATTENTION, set_priority=True):
            with side_stream(self._device):
                self.compute()
            with torch.cuda.graph(graph):
                self._pixels = self.compute()
        return graph

    def hold(self, ids: torch.Tensor, noise: torch.Tensor) -> None:
        """Allocates the input buffers, which each replay reads."""
        self._ids, self._latents = ids.to(self._device), noise
        self.pipe.scheduler.set_timesteps(self._job.steps, device="cpu")
        self._timesteps = self.pipe.scheduler.timesteps.to(self._device)

    def compute(self) -> torch.Tensor:
        """Computes the pixels: bytes of shape (samples, height, width, 3).

        The scheduler's timesteps stay on the CPU, so its coefficients become constants of the graph; the pipeline's own
        loop waits for the GPU at each step to read the timestep.
        """
        scheduler = self.pipe.scheduler
        scheduler.set_timesteps(self._job.steps, device="cpu")
        states = self._precomputed.conditioning(self.pipe.text_encoder(self._ids)[0])
        moments = self._precomputed.moments(self._timesteps, states.dtype)
        latents = self._latents * scheduler.init_noise_sigma
        for step, timestep in enumerate(scheduler.timesteps):
            scaled = scheduler.scale_model_input(latents, timestep)
            noise = self._denoise(scaled, moments[step], states)
            latents = scheduler.step(noise, timestep, latents, return_dict=False)[0]
        image: torch.Tensor = self._decode(latents / self.pipe.vae.config.scaling_factor, return_dict=False)[0]
        self._decoded = image  # each replay rewrites it; it is checked after the call, outside the graph
        shades = (image * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float() * 255
        return shades.round().to(torch.uint8).contiguous()

    def decoded(self) -> torch.Tensor | None:
        return self._decoded

    def close(self) -> None:
        super().close()
        self._graph = self._decoded = None


@contextlib.contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """Runs the block on its own stream, ordered after all earlier work and before all later work."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)
