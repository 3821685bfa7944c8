"""Unmodified diffusers in PyTorch's eager mode: the baseline of every comparison."""

from __future__ import annotations

from runner.engines.session import PipelineSession, set_attention
from runner.models import pipeline
from runner.schema import Job


def load(job: Job, token: str | None) -> PipelineSession:
    device, dtype = pipeline.torch_device(job), pipeline.torch_dtype(job)
    pipeline.set_threads(job)
    pipe = pipeline.load(job, dtype, token, device)
    fused = set_attention(pipe, job.attention)
    return PipelineSession(pipe, job, device, dtype, fused_attention=fused)
