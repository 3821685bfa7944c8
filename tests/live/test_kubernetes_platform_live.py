"""Clusters as platform teams run them: silent nodes, containers that webhooks add, quotas, registries that are down."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters import LabCluster
from commands import orchestrate, read_until, run_in_background
from engines import CONTRACT_IMAGE, wait_until
from test_kubernetes_live import (
    PATIENCE_S,
    begun,
    ended,
    faults,
    inventory,
    make,
    matrix,
    nothing_left,
    once_let_go,
    only_run,
    outcomes,
    seen_as,
    task,
    until_seen_running,
)
from webhooks import added_to_pods

from orchestrator.errors import ExitCode, InputError
from orchestrator.executors.contract import State
from orchestrator.executors.kubernetes import permissions
from orchestrator.executors.kubernetes.executor import KubernetesExecutor
from orchestrator.runs.journal import Journal
from runner.schema import Status

pytestmark = pytest.mark.kubernetes
__all__ = ["make", "nothing_left"]
SOON = [
    {"key": f"node.kubernetes.io/{ill}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
    for ill in ("unreachable", "not-ready")
]


def statuses() -> set[Status | None]:
    return {row.status for row in only_run().all_rows()}


def errors() -> str:
    return "; ".join(str(row.error) for row in only_run().all_rows())


@contextlib.contextmanager
def silent_node(cluster: LabCluster) -> Iterator[str]:
    """The node of the only pod that runs hears nothing any more."""
    (pod,) = until_seen_running(cluster)
    node = str(pod["spec"]["nodeName"])
    cluster.stop(f"kubelet-{node}")
    try:
        yield node
    finally:
        cluster.start(f"kubelet-{node}")
        # of a pod whose deadline came meanwhile a kubelet of 1.20 may never tell that it has ended
        ours = ("-l", "sd-orchestrator=job", "--force", "--grace-period=0", "--wait=false")
        cluster.kubectl("delete", "pods", *ours, check=False)


# --- a node that falls silent


def test_a_job_on_a_silent_node_is_cancelled(here: Path, kubernetes_cluster: LabCluster) -> None:
    inventory(lab={"gpus": "none"})
    matrix("no rows; sleep 600")
    running = run_in_background("submit", "matrix.yaml")
    with silent_node(kubernetes_cluster) as node:
        assert orchestrate("cancel", only_run().name) == 0
        _, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 1, err
    assert statuses() == {Status.CANCELLED}
    assert f"its node {node} does not answer" in errors()


def test_a_job_on_a_silent_node_that_takes_too_long_timed_out(here: Path, kubernetes_cluster: LabCluster) -> None:
    inventory(lab={"gpus": "none"})
    Path("matrix.yaml").write_text(
        json.dumps(
            {"matrix": {"samples": [1]}, "rounds": 1, "prompt": "no rows; sleep 600", "timeout": "30s", "retries": 3}
        )
    )
    running = run_in_background("submit", "matrix.yaml")
    with silent_node(kubernetes_cluster) as node:
        _, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 1, err
    assert statuses() == {Status.TIMEOUT}
    assert f"its node {node} does not answer" in errors()


def test_a_job_whose_node_is_given_up_is_tried_again_and_then_lost(here: Path, kubernetes_cluster: LabCluster) -> None:
    inventory(lab={"gpus": "none", "tolerations": SOON})
    Path("matrix.yaml").write_text(
        json.dumps(
            {"matrix": {"samples": [1]}, "rounds": 1, "prompt": "no rows; sleep 600", "timeout": "10m", "retries": 0}
        )
    )
    running = run_in_background("submit", "matrix.yaml")
    with silent_node(kubernetes_cluster) as node:
        _, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 1, err
    assert statuses() == {Status.LOST}
    assert f"its node {node} does not answer" in errors()


# --- what ends, and what comes back


def test_a_pod_that_was_deleted_says_so(here: Path, kubernetes_cluster: LabCluster) -> None:
    inventory(lab={"gpus": "none"})
    matrix("no rows; say well; wait; rows")
    running = run_in_background("submit", "matrix.yaml")
    (pod,) = until_seen_running(kubernetes_cluster)
    kubernetes_cluster.kubectl("delete", "pod", pod["metadata"]["name"])
    err = once_let_go(kubernetes_cluster, running)
    assert running.returncode == 0, err
    (reason,) = faults(only_run())
    assert "deleted" in reason


def test_a_follower_and_the_run_say_when_the_api_server_is_back(here: Path, kubernetes_cluster: LabCluster) -> None:
    inventory(lab={"gpus": "none"})
    matrix("rows; say first; wait; say last")
    running = run_in_background("submit", "matrix.yaml")
    until_seen_running(kubernetes_cluster)
    follower = run_in_background("logs", only_run().name, "--follow")
    out = read_until(follower.stdout, "first")
    kubernetes_cluster.stop("apiserver")
    told = read_until(follower.stderr, "retrying")
    read_until(running.stderr, "does not answer")
    kubernetes_cluster.start("apiserver")
    err = once_let_go(kubernetes_cluster, running)
    out += follower.communicate(timeout=PATIENCE_S)[0]
    assert (running.returncode, follower.returncode) == (0, 0), err + told
    assert [line for line in out.splitlines() if line in ("first", "last")] == ["first", "last"]
    assert "lab: answers again" in err


# --- containers that others add


def sidecar(name: str, *command: str, image: str = CONTRACT_IMAGE) -> dict[str, Any]:
    policy = "Never" if image == CONTRACT_IMAGE else "IfNotPresent"
    return {"name": name, "image": image, "imagePullPolicy": policy, "command": list(command)}


def beside(container: dict[str, Any], first: bool) -> list[dict[str, Any]]:
    return [{"op": "add", "path": f"/spec/containers/{'0' if first else '-'}", "value": container}]


SIDECARS = {
    "never ends": sidecar("mesh", "sleep", "3600"),
    "fails at once": sidecar("mesh", "python", "-c", "raise SystemExit(3)"),
    "has no image": sidecar("mesh", "sleep", "3600", image="registry.invalid/mesh:1"),
}


@pytest.mark.parametrize("first", [True, False], ids=["before ours", "after ours"])
@pytest.mark.parametrize("what", SIDECARS)
def test_a_sidecar_costs_no_row_and_ends_with_the_job(
    here: Path, kubernetes_cluster: LabCluster, tmp_path: Path, what: str, first: bool
) -> None:
    inventory(lab={"gpus": "none"})
    matrix("rows; say well")
    with added_to_pods(kubernetes_cluster, tmp_path / "hook", beside(SIDECARS[what], first)):
        running = run_in_background("submit", "matrix.yaml")
        _, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0, err
    assert outcomes(only_run()) == {("lab", "ok"): 2}
    assert faults(only_run()) == []
    (job,) = {row.job for row in only_run().all_rows()}
    assert "well" in (only_run().job(str(job)) / "log.txt").read_text()
    wait_until(
        lambda: not kubernetes_cluster.kubectl("get", "pods", "-l", "sd-orchestrator=job", "-o", "name"),
        PATIENCE_S,  # a kubelet that pulls the sidecar's image ends the pod after the pull, and pulls one at a time
        "the sidecar outlived its job",
    )


def test_beside_a_sidecar_exit_codes_logs_and_ends_are_our_containers(
    make: Callable[..., KubernetesExecutor], kubernetes_cluster: LabCluster, tmp_path: Path
) -> None:
    executor = make()
    with added_to_pods(kubernetes_cluster, tmp_path / "hook", beside(SIDECARS["never ends"], first=True)):
        failed, hung = begun(executor, task("say ours; exit 3")), begun(executor, task("no rows; say hi; sleep 600"))
        assert ended(executor, failed).exit_code == 3
        assert [line for line in executor.log(failed, follow=True) if not line.startswith("{")] == ["ours"]
        seen_as(executor, hung, lambda seen: seen.state is State.RUNNING)
        executor.stop(hung, 10)
        assert ended(executor, hung).state is State.EXITED


# --- registries and images


def test_a_registry_that_cannot_be_reached_is_waited_for_and_named(here: Path, kubernetes_cluster: LabCluster) -> None:
    inventory(lab={"gpus": "none", "images": {"cpu": "registry.invalid/sd:1"}, "patience": "45s"})
    matrix("rows")
    began = time.monotonic()
    running = run_in_background("submit", "matrix.yaml")
    _, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 1, err
    assert time.monotonic() - began > 45
    assert statuses() == {Status.FAILED}
    assert "no such host" in errors()
    assert sum(": job " in line and "cannot be pulled" in line for line in err.splitlines()) == 1, err


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"images": {}}, "no registry hands it out, and 0 of 2 nodes report that they have it; fix: "),
        ({"namespace": "defualt"}, "there is no namespace 'defualt', which hosts.yaml names; did you mean 'default'?"),
    ],
    ids=["an image on no node", "a namespace that is not there"],
)
def test_what_no_job_could_run_without_ends_submit_before_a_run_is_made(
    here: Path, kubernetes_cluster: LabCluster, capsys: pytest.CaptureFixture[str], keys: dict[str, Any], says: str
) -> None:
    inventory(lab={"gpus": "none", **keys})
    matrix("rows")
    assert orchestrate("submit", "matrix.yaml") == ExitCode.BAD_INPUT
    assert says in capsys.readouterr().err
    assert not list(Path().glob("runs/*"))


# --- quotas


@pytest.fixture
def namespace(kubernetes_cluster: LabCluster) -> Iterator[str]:
    name = f"platform-{time.monotonic_ns()}"
    kubernetes_cluster.kubectl("create", "namespace", name)
    yield name
    kubernetes_cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_a_quota_of_jobs_is_waited_for_and_said_once(
    here: Path, kubernetes_cluster: LabCluster, namespace: str
) -> None:
    kubernetes_cluster.kubectl("-n", namespace, "create", "quota", "few", "--hard=count/jobs.batch=1")
    counted = ("-n", namespace, "get", "quota", "few", "-o", "jsonpath={.status.hard}")  # before that it refuses all
    wait_until(lambda: "count/jobs.batch" in kubernetes_cluster.kubectl(*counted), 240, "it is not counted")
    kubernetes_cluster.kubectl("-n", namespace, "create", "job", "other", f"--image={CONTRACT_IMAGE}", "--", "true")
    inventory(lab={"gpus": "none", "namespace": namespace, "parallel": 2})
    matrix("rows", precision=["single", "half"])
    running = run_in_background("submit", "matrix.yaml", "--lost-after", "15s")
    wait_until(lambda: list(Path("runs").glob("*/journal.db")), 240, "there is no run")

    def waits() -> bool:
        with contextlib.suppress(InputError), contextlib.closing(Journal.open(only_run().journal)) as journal:
            return len(journal.waits()) == 2
        return False  # it is just being made

    wait_until(waits, 240, "no job waits")
    time.sleep(20)
    assert running.poll() is None
    kubernetes_cluster.kubectl("-n", namespace, "delete", "job", "other")
    _, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0, err
    assert outcomes(only_run()) == {("lab", "ok"): 4}
    told = [line for line in err.splitlines() if "quota few is used up" in line]
    assert len(told) <= 2, err  # both at first, and the second once more while the first runs


def test_pools_of_both_overlays_stand_in_one_namespace(
    here: Path, kubernetes_cluster: LabCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    overlays = [str(permissions.folder() / "overlays" / name) for name in ("gpu", "cpu")]
    try:
        for overlay in overlays:
            kubernetes_cluster.kubectl("apply", "-k", overlay)
        hosts: dict[str, dict[str, Any]] = {
            "cpus": {"gpus": "none", "node_selector": {"pool": "cpu"}},
            "gpus": {"node_selector": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}},
        }
        inventory(**{name: {**keys, "namespace": "bench"} for name, keys in hosts.items()})
        counted = ("-n", "bench", "get", "quota", "-o", "jsonpath={.items[*].status.hard}")
        wait_until(lambda: kubernetes_cluster.kubectl(*counted).count("count/jobs.batch") == 2, 240, "not counted")
        assert orchestrate("hosts", "--check") == 0, capsys.readouterr()
    finally:
        kubernetes_cluster.kubectl("delete", "namespace", "bench")
        kubernetes_cluster.kubectl("delete", "-k", str(permissions.folder() / "nodes"), "--ignore-not-found")
