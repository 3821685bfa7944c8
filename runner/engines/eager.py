"""Unmodified diffusers in PyTorch's eager mode: the baseline of every comparison."""

from __future__ import annotations

from runner.engines import step_cache
from runner.engines.session import PipelineSession, set_attention
from runner.models import pipeline, quantised
from runner.schema import Job


def load(job: Job, token: str | None) -> PipelineSession:
    device, dtype = pipeline.torch_device(job), pipeline.torch_dtype(job)
    pipeline.set_threads(job)
    pipe = pipeline.load(job, dtype, token, device)
    quantised.apply(pipe, job.precision)
    fused = set_attention(pipe, job.attention)
    step_cache.apply(pipe, job.step_cache, dtype)
    pipeline.offload(pipe, job.offload, device)
    return PipelineSession(pipe, job, device, dtype, fused_attention=fused)
