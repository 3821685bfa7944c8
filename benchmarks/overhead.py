"""What the orchestrator costs, or saves, against the loop that one would write by hand.

Runs 20 short containers, one at a time, in two ways, paired in one run: through the orchestrator (journal, staging,
hardened containers, collecting, judging, merging), and by the shell loop of the Lambda benchmark's document
(`docker run -d`, `docker wait`, `docker cp`, `docker rm`). Prints the ratio of the wall times. Where an engine's bridge
network makes `docker run` slow, a loop with `--network none` is the fairer peer: it is measured too.

usage: DOCKER_HOST=unix:///var/run/docker.sock python benchmarks/overhead.py [--containers 20] [--pairs 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

import engines
from builders import a_job
from engines import Engine

from orchestrator.commands.driving import ACTIONS_AT_ONCE
from orchestrator.config import DockerHost
from orchestrator.executors.docker.executor import DockerExecutor
from orchestrator.runs import folder as runs
from orchestrator.runs.journal import Journal
from orchestrator.scheduling.all_hosts import drive_all
from orchestrator.scheduling.host_loop import HostLoop
from runner.schema import Job

LOOP = """
for i in $(seq {count}); do
    id=$(docker run -d {options} --entrypoint python {image} -m runner --job /opt/job/job.json) &&
    docker wait "$id" >/dev/null && docker cp "$id":/opt/job/results.csv {folder}/"$i".csv &&
    docker rm "$id" >/dev/null || exit
done
"""


def job(run: str, number: int) -> Job:
    return a_job("rows", (1,), run=run, id=f"job{number}", host="bench", case=f"case{number}-")


def through_the_orchestrator(engine: Engine, image: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(ACTIONS_AT_ONCE) as pool:
        run = runs.create(Path(folder), "overhead", datetime.now(timezone.utc))
        jobs = [replace(job(run.name, number), image=image) for number in range(count)]
        with closing(Journal.create(run.journal, run.name, jobs, {})) as journal:
            executor = DockerExecutor(DockerHost(name="bench", url=engine.url, gpus="none"))
            with closing(executor):
                drive_all([HostLoop(executor, executor.slots(), journal, run, pool)], threading.Event())
        rows = run.all_rows()
        if len(rows) != count or any(row.error for row in rows):
            raise SystemExit(f"{len(rows)} rows of {count}: {[row.error for row in rows if row.error][:1]}")


def by_hand(engine: Engine, image: str, count: int, options: str = "") -> None:
    with tempfile.TemporaryDirectory() as folder:
        script = LOOP.format(count=count, image=image, folder=folder, options=options)
        subprocess.run(["sh", "-c", script], check=True, env={**os.environ, "DOCKER_HOST": engine.url})
        if len(list(Path(folder).glob("*.csv"))) != count:
            raise SystemExit("the loop by hand lost a result")


def timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--containers", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=5)
    asked = parser.parse_args()
    engine = Engine(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    image = engines.contract_image(engine)
    by_hand_image = engines.image_with_job(engine, image, job("by-hand", 0))
    ways: dict[str, Callable[[], None]] = {
        "orchestrator": lambda: through_the_orchestrator(engine, image, asked.containers),
        "by hand": lambda: by_hand(engine, by_hand_image, asked.containers),
        "by hand, --network none": lambda: by_hand(engine, by_hand_image, asked.containers, "--network none"),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for pair in range(asked.pairs + 1):
        for way in list(ways)[:: 1 if pair % 2 else -1]:
            took = timed(ways[way])
            if pair:  # the first round warms the engine's caches
                seconds[way].append(took)
    for way, measured in seconds.items():
        each = statistics.median(measured) / asked.containers
        ratio = statistics.median(ours / theirs for ours, theirs in zip(seconds["orchestrator"], measured))
        print(f"{way:26} {each:6.3f} s a container   orchestrator / this: {ratio:.2f}")


if __name__ == "__main__":
    main()
