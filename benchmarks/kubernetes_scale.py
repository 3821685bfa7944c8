"""A thousand Jobs submitted and watched: what it costs the API server and this machine, against a plain loop.

The pods fit no node, so that nothing but submitting and watching happens. Two ways, each in a process of its own, one
after the other on the same cluster: through the orchestrator (journal, staging, one watch), and by the loop that one
would write with the Kubernetes client (`create_namespaced_job` for each, then every few seconds `read_namespaced_job`
for each that has no pod yet; once all have one, for each). Counted at the client: requests and bytes read. A Job is
seen, by the orchestrator, when it knows that the pod waits for a node and why; by hand, when the Job says that it has a
pod, which tells nothing of the pod. Neither is waited for longer than `--most`.

usage: KUBECONFIG=… python benchmarks/kubernetes_scale.py [--jobs 1000] [--steady 60] [--every 10] [--most 240]
"""

from __future__ import annotations

import argparse
import json
import resource
import ssl
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
from typing import Any

import psutil
import urllib3

from orchestrator.commands.driving import MOST_ACTIONS
from orchestrator.config import KubernetesHost
from orchestrator.executors.contract import Attempt, Slot, Task
from orchestrator.runs import folder as runs
from orchestrator.runs.job_state import Phase
from orchestrator.runs.journal import Journal
from orchestrator.scheduling.all_hosts import drive_all
from orchestrator.scheduling.host_loop import HostLoop
from runner.schema import Case, Device, Job, Precision

NAMESPACE = "sd-benchmark"
IMAGE = "sd-orchestrator/cpu:none"
JOB = Job(
    run="", id="", host="bench", device=Device.CPU, engine="eager", precision=Precision.SINGLE,
    model="synthetic:tiny", cases=(Case("case", 1),), prompt="nothing", steps=1, image=IMAGE,
)  # fmt: skip


def host(count: int) -> KubernetesHost:
    """Jobs that no node takes, and that wait for one as long as it takes."""
    nowhere = {"sd-orchestrator/benchmark": "nowhere"}
    return KubernetesHost(
        name="bench", namespace=NAMESPACE, gpus="none", node_selector=nowhere, parallel=count, patience=7 * 86400.0
    )


class Traffic:
    """Counts the requests that this process sends, and the bytes that it reads."""

    def __init__(self) -> None:
        self.requests = self.bytes_read = 0
        pool: Any = urllib3.connectionpool.HTTPConnectionPool
        tls: Any = ssl.SSLSocket
        send, receive = pool.urlopen, tls.recv_into

        def counted(*args: Any, **options: Any) -> Any:
            self.requests += 1
            return send(*args, **options)

        def weighed(*args: Any, **options: Any) -> int:
            size = int(receive(*args, **options))
            self.bytes_read += size
            return size

        pool.urlopen, tls.recv_into = counted, weighed


def measure(watching: Callable[[], int], asked: argparse.Namespace) -> dict[str, float]:
    """watching: how many Jobs have been seen to wait so far."""
    count, steady_s = asked.jobs, asked.steady
    traffic, began = Traffic(), time.monotonic()
    while (seen := watching()) < count and time.monotonic() < began + asked.most:
        time.sleep(0.2)
    seen_s, requests, bytes_read = time.monotonic() - began, traffic.requests, traffic.bytes_read
    began = time.monotonic()
    while time.monotonic() < began + steady_s:
        watching()
        time.sleep(0.2)
    minutes = (time.monotonic() - began) / 60  # a round of the loop by hand may take longer than was asked for
    return {
        "seen": seen,
        "seen_s": seen_s,
        "calls_per_job": requests / count,
        "kb_per_job": bytes_read / count / 1e3,
        "calls_per_minute": (traffic.requests - requests) / minutes,
        "mb_per_minute": (traffic.bytes_read - bytes_read) / minutes / 1e6,
        "rss_mb": psutil.Process().memory_info().rss / 1e6,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }


def through_the_orchestrator(asked: argparse.Namespace) -> dict[str, float]:
    from orchestrator.executors.kubernetes.executor import KubernetesExecutor

    stop, count = threading.Event(), asked.jobs
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(MOST_ACTIONS) as pool:
        run = runs.create(Path(folder), "scale", datetime.now(timezone.utc))
        jobs = [replace(JOB, run=run.name, id=f"job{number}") for number in range(count)]
        with (
            closing(Journal.create(run.journal, run.name, jobs, {})) as journal,
            closing(KubernetesExecutor(host(count))) as executor,
        ):
            loop = HostLoop(executor, executor.slots(), journal, run, pool)
            driving = threading.Thread(target=drive_all, args=([loop], stop))

            def watching() -> int:
                if not driving.is_alive():
                    driving.start()
                return sum(progress.phase is Phase.QUEUED for progress in journal.states())

            try:
                return measure(watching, asked)
            finally:
                stop.set()
                loop.wake.set()
                driving.join()


def by_hand(asked: argparse.Namespace) -> dict[str, float]:
    from kubernetes import client, config

    from orchestrator.executors.kubernetes.manifest import job_manifest

    config.load_kube_config()
    batch = client.BatchV1Api()
    names: list[str] = []
    waiting: set[str] = set()
    last = -asked.every

    def watching() -> int:
        nonlocal last
        for number in range(len(names), asked.jobs):
            attempt = Attempt("by-hand", f"job{number}", 1)
            body = job_manifest(Task(attempt, replace(JOB, id=attempt.job), Slot("1"), IMAGE), host(asked.jobs))
            # what the orchestrator keeps in a ConfigMap of its own; the pod never comes so far as to miss it
            names.append(batch.create_namespaced_job(NAMESPACE, body).metadata.name)
        if time.monotonic() - last >= asked.every:
            due = [name for name in names if name not in waiting] or names
            waiting.update(name for name in due if batch.read_namespaced_job(name, NAMESPACE).status.active)
            last = time.monotonic()
        return len(waiting)

    return measure(watching, asked)


WAYS = {"orchestrator": through_the_orchestrator, "by hand": by_hand}


def alone(way: str, arguments: list[str]) -> dict[str, float]:
    """One way in a process and a namespace of its own."""
    kubectl("create", "namespace", NAMESPACE)
    try:
        command = [sys.executable, __file__, "--way", way, *arguments]
        return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    finally:
        kubectl("delete", "namespace", NAMESPACE)


def kubectl(*words: str) -> None:
    subprocess.run(["kubectl", *words], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--steady", type=float, default=60.0, help="seconds of watching once all are seen")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two rounds of the loop by hand")
    parser.add_argument("--most", type=float, default=240.0, help="seconds to wait for the last to be seen, at most")
    parser.add_argument("--way", choices=WAYS, help="one alone, into a namespace that is there; prints JSON")
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(WAYS[asked.way](asked)))
        return
    arguments = [f"--{name}={getattr(asked, name)}" for name in ("jobs", "steady", "every", "most")]
    print(f"{'':20}{'until all are seen':>34}{'a minute of watching':>24}{'memory':>18}")
    print(f"{'':14}{'seen':>6}{'s':>8}{'calls/Job':>13}{'kB/Job':>13}{'calls':>12}{'MB':>12}{'MB':>9}{'peak':>9}")
    for way in WAYS:
        its = alone(way, arguments)
        print(
            f"{way:14}{its['seen']:6.0f}{its['seen_s']:8.1f}{its['calls_per_job']:13.1f}{its['kb_per_job']:13.1f}"
            f"{its['calls_per_minute']:12.0f}{its['mb_per_minute']:12.1f}{its['rss_mb']:9.0f}{its['peak_rss_mb']:9.0f}"
        )


if __name__ == "__main__":
    main()
