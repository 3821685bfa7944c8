"""When nodes are listed to say whether a pod could ever run: they are megabytes on a large cluster."""

from __future__ import annotations

import time
from typing import Any

import pytest
from watched_cluster import a_kube_job, a_pod, config

from orchestrator.executors.kubernetes.evidence import NODES_KEPT_MOST_S, NODES_KEPT_S, Evidence
from orchestrator.executors.kubernetes.observation import AttemptObjects
from orchestrator.executors.kubernetes.waiting import seconds_of

NODE = {"metadata": {"name": "a", "labels": {}}, "spec": {}, "status": {"allocatable": {"cpu": "1"}}}
PATIENCE_S = 600.0


class Nodes:
    """Counts the lists of nodes. now: of a clock that only tests move."""

    def __init__(self) -> None:
        self.lists, self.now, self.nodes = 0, 1000.0, [NODE]

    def list(self, resource: str, query: object = None, *, keep: Any = lambda it: it, **_: Any) -> list[Any]:
        if resource != "nodes":
            return []
        self.lists += 1
        return [keep(each) for each in self.nodes]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    made = Nodes()
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    return made


@pytest.fixture
def evidence(nodes: Nodes) -> Evidence:
    return Evidence(nodes, PATIENCE_S)  # type: ignore[arg-type]


def waiting(why: str, cpu: str = "1") -> list[AttemptObjects]:
    pod = a_pod(why=why)
    pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
    return [AttemptObjects(config()["metadata"], a_kube_job(), (pod,))]


def age(pods_age_s: float) -> float:
    return seconds_of("2026-11-29T00:00:00Z") + pods_age_s


def test_nodes_are_listed_again_when_the_schedulers_words_change(nodes: Nodes, evidence: Evidence) -> None:
    evidence.of(waiting("0/1"), age(1), None)
    nodes.now += NODES_KEPT_S + 1
    evidence.of(waiting("0/1"), age(1), None)
    assert nodes.lists == 1
    evidence.of(waiting("0/2"), age(1), None)
    evidence.of(waiting("0/3"), age(1), None)
    assert nodes.lists == 2


def test_nodes_are_listed_again_after_some_minutes(nodes: Nodes, evidence: Evidence) -> None:
    evidence.of(waiting("0/1"), age(1), None)
    nodes.now += NODES_KEPT_MOST_S + 1
    evidence.of(waiting("0/1"), age(1), None)
    assert nodes.lists == 2


def test_before_a_job_is_given_up_nodes_are_listed_again(nodes: Nodes, evidence: Evidence) -> None:
    assert "node a" not in evidence.of(waiting("0/1", cpu="2"), age(1), None).misfits["pod-j"]
    assert evidence.of(waiting("0/1", cpu="2"), age(1), None).misfits["pod-j"].endswith("a has 1 cpu")
    nodes.now += NODES_KEPT_S + 1
    nodes.nodes = [NODE, {**NODE, "metadata": {"name": "new", "labels": {}}, "status": {"allocatable": {"cpu": "4"}}}]
    assert evidence.of(waiting("0/1", cpu="2"), age(PATIENCE_S + 1), None).misfits["pod-j"] == ""
    assert nodes.lists == 2
