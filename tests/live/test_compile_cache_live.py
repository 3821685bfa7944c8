"""The folder of a host's `cache`: what one process compiles, the next one reads."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import a_job
from paths import ROOT

from runner.schema import Job, Precision

pytest.importorskip("torch", reason="the runner's extra is not installed")

pytestmark = [pytest.mark.live]

# Draws an image with an engine, and prints what the compiler found in its caches. `graph` has its networks without a
# GPU, but no graph.
CODE = """\
import json, sys, torch
from torch._dynamo.utils import counters
from runner.engines import compile, graph
from runner.models import pipeline
from runner.schema import Job

job = Job.from_json(sys.stdin.read())
torch.set_num_threads(1)
if job.engine == "compile":
    session = compile.load(job, None)
    session.generate(1)
else:
    cpu = torch.device("cpu")
    session = graph.GraphSession(pipeline.load(job, torch.float32, None), job, cpu, torch.float32)
    with torch.inference_mode():
        session.hold(1)
        session.compute()
session.close()
print(json.dumps({name: counters[group][name] for group in ("inductor", "aot_autograd") for name in counters[group]}))
"""
ENTRIES = ("fxgraph_cache", "autograd_cache")


def found(job: Job, folder: Path) -> tuple[dict[str, Any], str]:
    """What the compiler counted, and what the job's log says of it."""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", CODE]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, input=job.to_json(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said, done.stderr.splitlines()[-1]


@pytest.mark.parametrize("engine", ["compile", "graph"])
def test_a_second_process_reads_all_that_the_first_one_compiled(engine: str, tmp_path: Path) -> None:
    job = a_job(
        "a cat", model="synthetic:tiny-flux", engine=engine, precision=Precision.SINGLE, steps=2, height=64, width=64,
        guidance=3.5, scheduler="flow-euler",
    )  # fmt: skip
    (first, _), (second, said) = found(job, tmp_path), found(job, tmp_path)
    for entry in ENTRIES:
        assert first[f"{entry}_miss"] >= 3  # two kinds of blocks and the decoder
        assert f"{entry}_miss" not in second
        assert second[f"{entry}_hit"] >= first[f"{entry}_miss"]
        assert not {f"{entry}_bypass"} & {*first, *second}
    graphs = second["fxgraph_cache_hit"]
    assert said == f"{engine}: {graphs} of {graphs} graphs were in the compiler's cache"


# Adds two numbers with compiled code, after what `compile` and `graph` do before they load a model.
ADD = """\
import os, pathlib, torch
from runner.engines import unfinished_builds

cache = pathlib.Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
removed = [each.name for each in unfinished_builds.remove(cache)]
print(*removed, torch.compile(lambda x: x + x)(torch.ones(3)).tolist())
"""
# A compiler that begins to write a library, and is killed with the job before it ends, if KILLED is set.
COMPILER = """\
#!/bin/sh
for word; do
    case $KILLED$last$word in 1-o*.main.so) : >"$word"; kill -KILL 0;; esac
    last=$word
done
exec c++ "$@"
"""


@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler: there is no c++")
def test_a_job_that_was_killed_while_it_compiled_does_not_break_the_next_one(tmp_path: Path) -> None:
    compiler, cache = tmp_path / "c++", tmp_path / "cache"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1", "CXX": str(compiler)}

    def run(code: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "ignore", "-c", code]
        return subprocess.run(
            command, cwd=ROOT, env={**environment, **more}, start_new_session=True, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    assert run(ADD, KILLED="1").returncode == -signal.SIGKILL
    (left,) = cache.glob("*/*.main.so")
    assert left.stat().st_size == 0
    assert "file too short" in run(ADD.replace("unfinished_builds.remove(cache)", "()")).stderr
    done = run(ADD)
    assert done.stdout == f"{left.name} [2.0, 2.0, 2.0]\n", done.stderr
