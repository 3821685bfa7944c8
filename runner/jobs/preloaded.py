"""What the forkserver imports once for all its children. Import it only there.

On an AMD EPYC, 29 November 2026: the imports take 4.5 s of CPU time, without collections 3.4 s, and with scipy.stats
deferred 3.3 s; the child's own collection after loading 0.3 s less; the server's end 1.5 s less. Later on the same
day: without torchao 2.9 s; with all of scipy deferred and transformers' models listed once 2.4 s.
"""

from __future__ import annotations

import atexit
import gc
import os

from runner.models.imports import defer, hide_torchao, list_models_once

# Garbage collection during the imports frees nothing and takes a quarter of their time.
gc.disable()
# For one setting of schedulers (beta sigmas), the LMS scheduler, and the training of object detectors.
defer("scipy.stats")
defer("scipy.integrate")
defer("scipy.optimize", "linear_sum_assignment")
list_models_once()
hide_torchao()

import runner.engines.session  # noqa: E402
import runner.models.pipeline  # noqa: E402, F401

gc.freeze()  # in the children, a collection walks their own objects only
gc.enable()
# The server has nothing to finish: without this, its interpreter frees a million objects while the runner waits.
atexit.register(os._exit, 0)
