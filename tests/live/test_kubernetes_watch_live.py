"""A watch that cannot go on where it was: etcd has really forgotten, and a real API server says 410."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from clusters import LabCluster
from commands import orchestrate, write
from engines import CONTRACT_IMAGE, let_go, wait_until

from orchestrator.executors.kubernetes import lines, stream, watch
from orchestrator.runs.folder import Run
from runner.schema import Status

pytestmark = pytest.mark.kubernetes


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """All that watches of this process are told, in its order."""
    events: list[dict[str, Any]] = []
    whole_lines = lines.whole_lines

    def recorded(response: Any) -> Iterator[bytes]:
        for line in whole_lines(response):
            events.append(json.loads(line))
            yield line

    monkeypatch.setattr(stream, "whole_lines", recorded)
    return events


def test_a_watch_whose_past_was_compacted_begins_anew_and_the_run_loses_nothing(
    here: Path, kubernetes_cluster: LabCluster, monkeypatch: pytest.MonkeyPatch, told: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(stream, "WATCH_S", 2)  # so that it goes on from a version of its own while jobs run
    host = {"kind": "kubernetes", "images": {"cpu": CONTRACT_IMAGE}, "gpus": "none", "parallel": 2}
    write(json.dumps({"hosts": {"lab": host}}), "hosts.yaml")
    write(
        json.dumps({"matrix": {"samples": [1, 2], "precision": ["single", "half"]}, "prompt": "wait", "timeout": "10m"})
    )

    def forget() -> None:
        try:
            wait_until(lambda: len(seen_running(told)) == 2, 240, "the watch does not see two pods run")
            last = max(int(event["object"]["metadata"]["resourceVersion"]) for event in list(told))
            wait_until(lambda: kubernetes_cluster.revision() > last + 1, 240, "nothing changes on the cluster")
            kubernetes_cluster.forget_before(kubernetes_cluster.revision())
            wait_until(lambda: bool(refusals(told)), 240, "no watch is told that its past is forgotten")
            wait_until(lambda: all(it.is_live() for it, _ in watch._watches.values()), 240, "not all is watched again")
        finally:
            for node in kubernetes_cluster.nodes:
                let_go(kubernetes_cluster.engine(node), "k8s_runner_")

    with kubernetes_cluster.without_memory(here) as kubeconfig, ThreadPoolExecutor(1) as pool:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        forgetting = pool.submit(forget)
        assert orchestrate("submit", "matrix.yaml") == 0
        forgetting.result()
    (refusal, *_) = refusals(told)
    assert (refusal["code"], refusal["reason"]) == (410, "Expired")
    after = told[[event["object"] for event in told].index(refusal) + 1 :]
    assert any(phase(event["object"]) == "Succeeded" for event in after), "it watches no more"
    (run,) = map(Run, Path("runs").iterdir())
    rows = run.all_rows()
    assert [row.status for row in rows] == [Status.OK] * 4
    assert len({row.case for row in rows}) == 4
    left = ("-l", f"sd-orchestrator.run={run.name}", "-o", "name")
    assert kubernetes_cluster.kubectl("get", "jobs,configmaps,secrets", *left) == ""


def seen_running(told: list[dict[str, Any]]) -> set[str]:
    pods = [event["object"] for event in list(told) if event["type"] == "MODIFIED"]
    return {pod["metadata"]["name"] for pod in pods if phase(pod) == "Running"}


def phase(thing: dict[str, Any]) -> object:
    """Of a pod; None for what else a watch tells of."""
    return thing["status"].get("phase") if thing["kind"] == "Pod" else None


def refusals(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event["object"] for event in list(told) if event["type"] == "ERROR"]
