"""Jobs that no node takes, submitted and watched: what they cost the API server and this machine, against a plain loop.

The pods fit no node, so that nothing but submitting and watching happens. Two ways, each in a process of its own, one
after the other on the same cluster: through the orchestrator (journal, staging, looks), and by the loop that
one would write with the Kubernetes client (`create_namespaced_job` for each, then every few seconds
`read_namespaced_job` for each that has no pod yet; once all have one, for each). Counted at the client: requests and
bytes read. A Job is seen, by the orchestrator, when it knows that the pod waits for a node and why; by hand, when the
Job says that it has a pod, which tells nothing of the pod. Neither is waited for longer than `--most`.

Without KUBECONFIG it starts a cluster of its own, without a kubelet, where LAB (default: ../shared/lab) has the scripts
for it and it runs as root; its controllers and scheduler get --kube-api-qps=1000, as 10,000 Jobs take them half an hour
with the default of 20 and 50.

usage: [KUBECONFIG=…] python benchmarks/kubernetes_scale.py [--jobs 300] [--steady 60] [--most 60] [--orchestrator-only]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
import urllib3

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from goals import (
    BYTES_PER_JOB,
    BYTES_PER_MINUTE,
    CALLS_PER_JOB,
    CALLS_PER_MINUTE,
    KUBERNETES_MEMORY,
    Figure,
    show,
)

from orchestrator.commands.driving import MOST_ACTIONS
from orchestrator.config import KubernetesHost
from orchestrator.executors.contract import Attempt, Slot, Task
from orchestrator.runs import folder as runs
from orchestrator.runs.journal import Journal
from orchestrator.scheduling.all_hosts import drive_all
from orchestrator.scheduling.host_loop import HostLoop
from runner.schema import Case, Device, Job, Precision

NAMESPACE = "sd-benchmark"
UNPLACED = "no node takes it"
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
                return sum(reason.startswith(UNPLACED) for reason, _ in journal.waits().values())

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
GOALS = (CALLS_PER_JOB, BYTES_PER_JOB, CALLS_PER_MINUTE, BYTES_PER_MINUTE, KUBERNETES_MEMORY)
KEYS = ("calls_per_job", "kb_per_job", "calls_per_minute", "mb_per_minute", "peak_rss_mb")


def alone(way: str, arguments: list[str]) -> dict[str, float]:
    """One way in a process and a namespace of its own."""
    kubectl("create", "namespace", NAMESPACE)
    try:
        command = [sys.executable, __file__, "--way", way, *arguments]
        return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")
        kubectl("wait", "--for=delete", f"namespace/{NAMESPACE}", "--timeout=600s")


def kubectl(*words: str, text: str = "") -> None:
    subprocess.run(["kubectl", *words], check=True, stdout=subprocess.DEVNULL, input=text.encode())


@contextmanager
def cluster() -> Iterator[str]:
    """The cluster of KUBECONFIG, or one of our own; yields why there is none, or nothing."""
    if os.environ.get("KUBECONFIG"):
        yield ""
        return
    from clusters import BUILT, PROGRAMS, SCRIPTS, LabCluster
    from engines import free_port

    needed = [name for name in PROGRAMS if name not in ("kubelet", "dockerd")]
    absent = [name for name in needed if shutil.which(name, path=f"{BUILT}:{os.environ['PATH']}") is None]
    if os.geteuid() != 0 or not (SCRIPTS / "cluster").exists() or absent:
        yield f"needs KUBECONFIG, or root and {SCRIPTS}/cluster" + f" with {', '.join(absent)}" * bool(absent)
        return
    with tempfile.TemporaryDirectory() as folder:
        own = LabCluster(Path(folder), ())
        environment = {**os.environ, "LAB_PORT": str(free_port())}
        script = [str(SCRIPTS / "cluster")]
        try:
            subprocess.run([*script, "up", folder], env=environment, check=True, stdout=subprocess.DEVNULL)
            own.make_ready()
            for part in ("controllers", "scheduler"):
                with (own.folder / f"{part}.command").open("ab") as command:
                    command.write(b"\0--kube-api-qps=1000\0--kube-api-burst=2000")
                own.stop(part)
                own.start(part)
            os.environ["KUBECONFIG"] = str(own.kubeconfig)
            kubectl(
                "apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}})
            )
            yield ""
        finally:
            os.environ.pop("KUBECONFIG", None)
            subprocess.run([*script, "down", folder], env=environment, check=False, stdout=subprocess.DEVNULL)


def figures(its: dict[str, float], count: int) -> list[Figure]:
    of = f"{count} Jobs, all seen after {its['seen_s']:.0f} s"
    if its["seen"] < count:
        why = f"only {its['seen']:.0f} of {count} Jobs had a pod with a reason after {its['seen_s']:.0f} s"
        return [Figure.not_run(goal, why) for goal in GOALS]
    return [Figure(goal, [its[key]], of) for goal, key in zip(GOALS, KEYS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--steady", type=float, default=60.0, help="seconds of watching once all are seen")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two rounds of the loop by hand")
    parser.add_argument("--most", type=float, default=60.0, help="seconds to wait for the last to be seen, at most")
    parser.add_argument("--orchestrator-only", action="store_true", help="without the loop by hand")
    parser.add_argument("--way", choices=WAYS, help="one alone, into a namespace that is there; prints JSON")
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(WAYS[asked.way](asked)))
        return
    with cluster() as lacking:
        if lacking:
            show(*(Figure.not_run(goal, lacking) for goal in GOALS))
            return
        arguments = [f"--{name}={getattr(asked, name)}" for name in ("jobs", "every", "most")]
        its = alone("orchestrator", [*arguments, f"--steady={asked.steady}"])
        show(*figures(its, asked.jobs))
        if not asked.orchestrator_only:
            compare(its, alone("by hand", [*arguments, f"--steady={asked.steady / 6}"]))


def compare(its: dict[str, float], by_hand: dict[str, float]) -> None:
    """Prints both ways side by side."""
    print("\n| way | seen | s | calls/Job | kB/Job | calls/min | MB/min | MB of memory, peak |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for way, one in (("orchestrator", its), ("by hand", by_hand)):
        print(
            f"| {way} | {one['seen']:.0f} | {one['seen_s']:.0f} | {one['calls_per_job']:.1f} | {one['kb_per_job']:.1f} "
            f"| {one['calls_per_minute']:.0f} | {one['mb_per_minute']:.2f} | {one['peak_rss_mb']:.0f} |"
        )


if __name__ == "__main__":
    main()
