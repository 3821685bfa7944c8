"""A session whose networks run as CUDA graphs."""

from __future__ import annotations

import dataclasses
import sys

from torch._dynamo.utils import counters

from runner.engines import Memory
from runner.engines.session import PipelineSession


class CapturedSession(PipelineSession):
    """Serves the batch size of its first call, for which the graphs are captured.

    A replay allocates nothing, so the allocator's peak excludes the graph's memory pool (on an H200, batch 16: 2.4 GB
    of 11.2 GB reserved). The reserved memory includes the pool; the peak is unknown.
    """

    one_shape = True

    def memory(self) -> Memory:
        seen = super().memory()
        return dataclasses.replace(seen, peak_gb=None) if self._device.type == "cuda" else seen

    def close(self) -> None:
        """Says in the log what of the compiled code an earlier job had left, which `first_call_s` depends on."""
        super().close()
        found = counters["inductor"]["fxgraph_cache_hit"]
        graphs = found + counters["inductor"]["fxgraph_cache_miss"] + counters["inductor"]["fxgraph_cache_bypass"]
        if graphs:
            print(f"{self._job.engine}: {found} of {graphs} graphs were in the compiler's cache", file=sys.stderr)
