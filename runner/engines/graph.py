"""Runs token ids to pixels as one CUDA graph: text encoders, all denoising steps with the scheduler, VAE, 8-bit pixels.

Denoiser and VAE are compiled as in `compile`. Of a call, only the tokenizers run in Python. What is the same at every
step is computed once per call (see `precompute`). The arithmetic is that of the pipeline (see `calls`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel

from runner.engines import calls, compile
from runner.engines.captured import CapturedSession
from runner.engines.session import initial_latents
from runner.errors import Unsupported
from runner.models import pipeline
from runner.schema import Device, Job

ATTENTION = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def load(job: Job, token: str | None) -> GraphSession:
    compile.check(job)
    if job.device is not Device.CUDA:
        raise Unsupported("there are no CUDA graphs without a GPU")
    compile.remove_unfinished_builds()
    device, dtype = pipeline.torch_device(job), pipeline.torch_dtype(job)
    pipe = pipeline.load(job, dtype, token, device)
    # cuDNN tries its algorithms for each convolution, before the capture.
    torch.backends.cudnn.benchmark = True
    return GraphSession(pipe, job, device, dtype)


class GraphSession(CapturedSession):
    """The pipeline's components in our own loop, which the first call captures."""

    def __init__(self, pipe: Any, job: Job, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(compile.prepared(pipe, job.precision), job, device, dtype, fused_attention=True)
        self._call = calls.of(pipe, job, (self.facts["height"], self.facts["width"]))
        self._graph: torch.cuda.CUDAGraph | None = None
        self._decoded: torch.Tensor | None = None

    def generate(self, samples: int) -> list[Image.Image]:
        with torch.inference_mode():
            if self._graph is None:
                self.hold(samples)
                self._graph = self._capture()
            else:
                for held, ids in zip(self._ids, self._call.token_ids(samples)):
                    held.copy_(ids)
            self._graph.replay()
            pixels = self._pixels.cpu().numpy()
        return [Image.fromarray(image) for image in pixels]

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Captures the graph after one run, which compiles and lets cuDNN and cuBLAS choose, on a side stream."""
        graph = torch.cuda.CUDAGraph()
        with sdpa_kernel(ATTENTION, set_priority=True):
            with side_stream(self._device):
                self.compute()
            with torch.cuda.graph(graph):
                self._pixels = self.compute()
        return graph

    def hold(self, samples: int) -> None:
        """Allocates the input buffers, which each replay reads."""
        self._ids = [ids.to(self._device) for ids in self._call.token_ids(samples)]
        self._latents = initial_latents(self.pipe, self._job, samples, self._dtype, self._device)
        self._call.hold(samples, self._device)

    def compute(self) -> torch.Tensor:
        """Computes the pixels: bytes of shape (samples, height, width, 3)."""
        image = self._call.compute(self._ids, self._latents)
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
