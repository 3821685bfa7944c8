"""Nodes that are drained and pods that others displace, on a real cluster: a try is lost, and no row."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters import LabCluster
from commands import run_in_background
from engines import CONTRACT_IMAGE, wait_until
from test_kubernetes_keys_live import apply
from test_kubernetes_live import (
    PATIENCE_S,
    assert_every_case_has_its_row_once,
    faults,
    inventory,
    matrix,
    nothing_left,
    once_let_go,
    only_run,
    until_seen_running,
)

pytestmark = pytest.mark.kubernetes
__all__ = ["nothing_left"]


@contextlib.contextmanager
def cordoned_again(cluster: LabCluster, node: str) -> Iterator[None]:
    try:
        yield
    finally:
        cluster.kubectl("uncordon", node)


def test_a_drained_node_costs_a_try_and_the_row_comes_from_another(here: Path, kubernetes_cluster: LabCluster) -> None:
    inventory(lab={"gpus": "none"})
    matrix("no rows; wait; rows")  # with rows before its end it would have done its work
    running = run_in_background("submit", "matrix.yaml")
    (pod,) = until_seen_running(kubernetes_cluster)
    node = pod["spec"]["nodeName"]
    with cordoned_again(kubernetes_cluster, node):
        kubernetes_cluster.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force")
        err = once_let_go(kubernetes_cluster, running)
    assert running.returncode == 0, err
    assert_every_case_has_its_row_once(only_run(), cases=2)
    (fault,) = faults(only_run())
    assert "preempted: its pod was deleted while it ran" in fault
    assert f"its node {node} is cordoned, as a drain does" in fault


def urgent(name: str) -> list[dict[str, Any]]:
    """A pod that takes more of node-b than a job leaves, and goes first."""
    container = {
        "name": "it",
        "image": CONTRACT_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sleep", "600"],
        "resources": {"requests": {"memory": "6Gi"}},
    }
    spec = {
        "priorityClassName": name,
        "nodeSelector": {"pool": "cpu"},
        "containers": [container],
        "terminationGracePeriodSeconds": 0,
    }
    return [
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": 1000},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec},
    ]


def test_a_job_that_a_pod_of_higher_priority_displaces_is_tried_again(
    here: Path, kubernetes_cluster: LabCluster
) -> None:
    total = kubernetes_cluster.kubectl("get", "node", "node-b", "-o", "jsonpath={.status.allocatable.memory}")
    most = int(total.removesuffix("Ki")) // (1 << 20) - 2  # GiB; with the other pod's it is too much
    keys = {"memory": f"{most}Gi", "requests": {"memory": f"{most}Gi"}}
    inventory(lab={"gpus": "none", "nodeSelector": {"pool": "cpu"}, **keys})
    matrix("no rows; wait; rows")  # with rows before its end it would have done its work
    running = run_in_background("submit", "matrix.yaml")
    until_seen_running(kubernetes_cluster)
    try:
        for each in urgent("bench-urgent"):
            apply(kubernetes_cluster, json.dumps(each))
        wait_until(lambda: len(faults(only_run())) == 1, PATIENCE_S, "nothing was preempted")
    finally:
        kubernetes_cluster.kubectl("delete", "pod/bench-urgent", "priorityclass/bench-urgent", "--ignore-not-found")
    err = once_let_go(kubernetes_cluster, running)
    assert running.returncode == 0, err
    assert_every_case_has_its_row_once(only_run(), cases=2)
    (fault,) = faults(only_run())
    assert "preempted: its pod was deleted while it ran (Preempted: Preempted by default/bench-urgent" in fault
