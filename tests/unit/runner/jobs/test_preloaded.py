"""What the forkserver imports leaves nothing behind that its children would pay for."""

from __future__ import annotations

import subprocess
import sys

import pytest
from paths import ROOT

pytest.importorskip("torch", reason="the runner's extra is not installed")

from runner.telemetry.probe import gpus_or_reason

GPUS, WHY_NONE = gpus_or_reason()

SERVER = """
import atexit, gc, sys
atexit.register(print, "finalised")
looks = []
sys.addaudithook(lambda event, given: looks.append(str(given[0])) if event == "open" else None)
import runner.jobs.preloaded
print("frozen", gc.get_freeze_count() > 100_000, "collecting", gc.isenabled())
print("looks", sum(name.endswith("configuration_zoedepth.py") for name in looks))
print("deferred", not any(name.startswith(("scipy.stats.", "scipy.optimize.", "scipy.sparse")) for name in sys.modules))
print("without torchao", not any(name.split(".")[0] == "torchao" for name in sys.modules))
import scipy.stats
from scipy import integrate
from transformers.loss.loss_for_object_detection import linear_sum_assignment
area, assigned = integrate.quad(abs, 0, 1)[0], linear_sum_assignment([[0]])[0]
print("used", scipy.stats.beta.ppf(0.5, 2, 2), area, assigned, flush=True)
"""


def test_the_server_freezes_what_it_imported_and_exits_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", SERVER], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split("\n") == [
        "frozen True collecting True",
        "looks 1",
        "deferred True",
        "without torchao True",
        "used 0.5 0.5 [0]",
        "",
    ]


@pytest.mark.gpu
@pytest.mark.skipif(not GPUS, reason=f"needs an NVIDIA GPU: {WHY_NONE}")
def test_the_server_leaves_cuda_to_its_children() -> None:
    program = "import runner.jobs.preloaded, torch; print(torch.cuda.is_initialized(), flush=True)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == "False"
