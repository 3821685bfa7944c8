"""A session whose networks run as CUDA graphs."""

from __future__ import annotations

import dataclasses

from runner.engines import Memory
from runner.engines.session import PipelineSession


class CapturedSession(PipelineSession):
    """Captured for the batch size of its first call: another one needs a process of its own.

    A graph's replay allocates nothing, so the allocator's peak lacks all that its pool holds (on an H200, batch 16:
    2.4 GB of 11.2 GB reserved). The pool is in what is reserved; the peak is not known.
    """

    one_shape = True

    def memory(self) -> Memory:
        seen = super().memory()
        return dataclasses.replace(seen, peak_gb=None) if self._device.type == "cuda" else seen
