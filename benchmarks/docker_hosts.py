"""Docker engines for benchmarks, and jobs on them: through the orchestrator, and by a loop written by hand."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

import itertools

import engines
import psutil
import pytest
from builders import a_job
from engines import Engine

from orchestrator.commands.driving import ACTIONS_AT_ONCE
from orchestrator.config import DockerHost
from orchestrator.executors.contract import Attempt
from orchestrator.executors.docker.executor import DockerExecutor
from orchestrator.runs import folder as runs
from orchestrator.runs.journal import Journal
from orchestrator.scheduling.all_hosts import drive_all
from orchestrator.scheduling.host_loop import HostLoop
from runner.schema import Job

DEFAULT_URL = "unix:///var/run/docker.sock"
# What `engines` raises where something is not here; its text says what.
Missing = pytest.skip.Exception

LOOP = """
for i in $(seq {count}); do
    id=$(docker run -d {options} --entrypoint python {image} -m runner --job /opt/job/job.json) &&
    docker wait "$id" >/dev/null && docker cp "$id":/opt/job/results.csv {folder}/"$i".csv &&
    docker rm "$id" >/dev/null || exit
done
"""


@contextmanager
def some_engine() -> Iterator[Engine]:
    """The engine that DOCKER_HOST names or that this machine has; else a private one, as root. Raises Missing."""
    url = os.environ.get("DOCKER_HOST", DEFAULT_URL)
    if "DOCKER_HOST" in os.environ or engines.answers(url):
        yield Engine(url)
        return
    with engines.private_engine() as engine:
        yield engine


@contextmanager
def further_engines(count: int) -> Iterator[list[Engine]]:
    """Private engines of this machine, which need root. Raises Missing."""
    with ExitStack() as stack:
        yield [stack.enter_context(engines.private_engine()) for _ in range(count)]


def job(run: str, number: int, deeds: str = "rows", host: str = "bench") -> Job:
    return a_job(deeds, (1,), run=run, id=f"{host}-job{number}", host=host, case=f"{host}-case{number}-")


class Recording(DockerExecutor):
    """Keeps when each container started and ended, as its engine says."""

    def __init__(self, host: DockerHost) -> None:
        super().__init__(host)
        self.spans: list[tuple[float, float]] = []

    def remove(self, attempt: Attempt) -> None:
        with self.connection.api() as api:
            state = api.inspect_container(attempt.name)["State"]
        self.spans.append((seconds_of(state["StartedAt"]), seconds_of(state["FinishedAt"])))
        super().remove(attempt)

    def idle(self) -> list[float]:
        """Seconds between the end of a container and the start of the next."""
        spans = sorted(self.spans)
        return [start - end for (_, end), (start, _) in itertools.pairwise(spans)]


def seconds_of(stamp: str) -> float:
    """Seconds since the epoch of an engine's `2026-11-29T07:00:00.123456789Z`."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


def orchestrated(urls: Mapping[str, str], image: str, count: int, deeds: str = "rows") -> list[Recording]:
    """Runs `count` jobs on each host, all at once. Returns their executors. Raises SystemExit if a row is missing."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        run = runs.create(Path(folder), "overhead", datetime.now(timezone.utc))
        jobs = [replace(job(run.name, number, deeds, host), image=image) for host in urls for number in range(count)]
        journal = stack.enter_context(closing(Journal.create(run.journal, run.name, jobs, {})))
        executors = [Recording(DockerHost(name=host, url=url, gpus="none")) for host, url in urls.items()]
        loops = []
        for executor in executors:
            stack.enter_context(closing(executor))
            pool = stack.enter_context(ThreadPoolExecutor(ACTIONS_AT_ONCE))
            loops.append(HostLoop(executor, executor.slots(), journal, run, pool))
        drive_all(loops, threading.Event())
        rows = run.all_rows()
        if len(rows) != len(jobs) or any(row.error for row in rows):
            raise SystemExit(f"{len(rows)} rows of {len(jobs)}: {[row.error for row in rows if row.error][:1]}")
    return executors


def by_hand(engine: Engine, image: str, count: int, options: str = "") -> None:
    """Runs containers by the shell loop of the Lambda benchmark's document. image: one that has its job."""
    with tempfile.TemporaryDirectory() as folder:
        script = LOOP.format(count=count, image=image, folder=folder, options=options)
        subprocess.run(["sh", "-c", script], check=True, env={**os.environ, "DOCKER_HOST": engine.url})
        if len(list(Path(folder).glob("*.csv"))) != count:
            raise SystemExit("the loop by hand lost a result")


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def timed_with_load(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds that it took, and how busy all cores of this machine were in that time, in percent."""
    psutil.cpu_percent()
    seconds = timed(work)
    return seconds, psutil.cpu_percent()


def cpu_s(engine: Engine) -> float:
    """Seconds of CPU time that a local engine and its ended children have used. Raises OSError if it is not local."""
    with socket.socket(socket.AF_UNIX) as call:
        call.connect(engine.socket)
        pid, _, _ = struct.unpack("3i", call.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    daemon = psutil.Process(pid)
    return sum(sum(one.cpu_times()[:4]) for one in (daemon, *daemon.children()))
