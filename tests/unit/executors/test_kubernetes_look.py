"""When a cluster's objects are listed anew, and when what was seen last still stands."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest

from orchestrator.config import KubernetesHost
from orchestrator.errors import HostUnreachable
from orchestrator.executors.kubernetes.cluster_view import REFRESH_S, ClusterView
from orchestrator.executors.kubernetes.watch import PodWatch
from runner.schema import Status


class SlowCluster:
    """One without objects, whose clock goes by itself: each list takes `list_s` of it."""

    def __init__(self, list_s: float) -> None:
        self.now, self.list_s, self.lists = 100.0, list_s, 0
        self.writes, self.skew_s = 0, 0.0

    def list(self, *asked: Any, **options: Any) -> list[Any]:
        self.now += self.list_s
        self.lists += 1
        return []

    def looks(self) -> int:
        """How often all three lists were made since this was asked last."""
        made, self.lists = self.lists, 0
        return made // 3


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> SlowCluster:
    made = SlowCluster(0.2)
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    return made


@pytest.fixture
def view(cluster: SlowCluster) -> ClusterView:
    made = ClusterView(cluster, KubernetesHost(name="lab"))  # type: ignore[arg-type]
    made.all(1)
    cluster.looks()
    return made


def test_without_a_watch_every_look_lists(cluster: SlowCluster, view: ClusterView) -> None:
    for _ in range(3):
        view.all(None)
    assert cluster.looks() == 3


def test_while_nothing_is_told_what_was_seen_stands_for_some_seconds(cluster: SlowCluster, view: ClusterView) -> None:
    view.all(1)
    assert cluster.looks() == 0
    cluster.now += REFRESH_S
    view.all(1)
    assert cluster.looks() == 1


def test_what_we_wrote_is_seen_at_once(cluster: SlowCluster, view: ClusterView) -> None:
    cluster.writes += 1
    view.all(1)
    view.all(1)
    assert cluster.looks() == 1


def test_where_something_changes_all_the_time_a_tenth_of_it_is_spent_on_lists(
    cluster: SlowCluster, view: ClusterView
) -> None:
    began, told = cluster.now, 1
    while cluster.now < began + 60:
        cluster.now += 0.1
        view.all(told := told + 1)
    assert 8 <= cluster.looks() <= 10  # each takes 0.6 s


def test_a_change_that_came_too_early_is_seen_when_its_time_has_come(cluster: SlowCluster, view: ClusterView) -> None:
    view.all(2)
    assert cluster.looks() == 0
    cluster.now += view.pause_s
    view.all(2)
    view.all(2)
    assert cluster.looks() == 1


class SilentCluster:
    """Its API server does not answer: nothing wakes but what a test says."""

    def understood(self) -> contextlib.AbstractContextManager[None]:
        raise HostUnreachable("nobody is there")


def test_while_looks_are_dear_a_change_wakes_nobody_before_its_time_and_then_at_once() -> None:
    watch = PodWatch(SilentCluster(), "")  # type: ignore[arg-type]
    with contextlib.closing(watch):
        watch.wait(0.01)
        watch._wakeups.bump()
        began = time.monotonic()
        watch.wait(0.3, settle_s=60)
        assert time.monotonic() - began >= 0.3
        watch.wait(60, settle_s=0)
        assert time.monotonic() - began < 30


class Backing:
    """A namespace with one pod whose image does not come, and the events of it."""

    skew_s, writes = 0.0, 0

    def __init__(self) -> None:
        self.waiting: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []

    def list(self, resource: str, *asked: Any, **options: Any) -> list[Any]:
        marks = {"sd-orchestrator.job": "j", "sd-orchestrator.attempt": "1", "sd-orchestrator.slot": "1"}
        began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        runs = {"sd-orchestrator.run": "r"}
        metadata = {"uid": "j", "labels": marks, "annotations": runs, "creationTimestamp": began}
        owners = [{"uid": "j"}]
        match resource:
            case "configmaps":
                return [{"metadata": {**metadata, "ownerReferences": owners}}]
            case "jobs":
                return [{"metadata": metadata, "spec": {}, "status": {}}]
            case "pods":
                state = [{"name": "runner", "state": {"waiting": self.waiting}}]
                placed = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": began}]
                return [
                    {
                        "metadata": {**metadata, "uid": "p", "ownerReferences": owners},
                        "spec": {"nodeName": "a", "containers": [{"name": "runner", "image": "reg.example/sd:1"}]},
                        "status": {"phase": "Pending", "conditions": placed, "containerStatuses": state},
                    }
                ]
            case "events":
                return self.events
        return []


def test_the_first_reason_why_an_image_does_not_come_stands_until_one_decides() -> None:
    cluster = Backing()
    view = ClusterView(cluster, KubernetesHost(name="lab"))  # type: ignore[arg-type]

    def said(reason: str, message: str = "") -> tuple[str, Status | None]:
        cluster.waiting = {"reason": reason, "message": message}
        (seen,) = view.all(None).values()
        return seen.reason, seen.status

    first = ("image reg.example/sd:1 cannot be pulled: read udp 10.0.0.1:4242: i/o timeout", None)
    assert said("ErrImagePull", "read udp 10.0.0.1:4242: i/o timeout") == first
    assert said("ImagePullBackOff", 'Back-off pulling image "reg.example/sd:1"') == first
    assert said("ErrImagePull", "read udp 10.0.0.1:5353: i/o timeout") == first
    assert said("ErrImagePull", "manifest unknown") == (
        "image reg.example/sd:1 cannot be pulled: manifest unknown",
        Status.FAILED,
    )


def test_why_an_image_does_not_come_is_in_its_events_after_a_restart() -> None:
    cluster = Backing()
    cluster.waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "reg.example/sd:1"'}
    words = ("Error: ErrImagePull", 'Failed to pull image "reg.example/sd:1": no such host', "Error: ImagePullBackOff")
    cluster.events = [
        {
            "reason": "Failed",
            "message": said,
            "involvedObject": {"uid": "p"},
            "lastTimestamp": "2026-11-24T12:00:00Z",
            "metadata": {},
        }
        for said in words
    ]
    (seen,) = ClusterView(cluster, KubernetesHost(name="lab")).all(None).values()  # type: ignore[arg-type]
    assert seen.reason == "image reg.example/sd:1 cannot be pulled: no such host"
