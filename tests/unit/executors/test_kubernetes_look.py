"""When a cluster's objects are listed anew, and when what was seen last still stands."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import Any

import pytest
from watched_cluster import WatchedCluster

from orchestrator.config import KubernetesHost
from orchestrator.executors.kubernetes.cluster_view import REFRESH_S, ClusterView
from orchestrator.executors.kubernetes.watch import HostWatch
from runner.schema import Status


class Lists:
    """A namespace without objects. `looks` counts how often all three of its lists were made."""

    host_name, skew_s = "lab", 0.0

    def __init__(self) -> None:
        self.writes = self.unclear = self.lists = 0

    def list(self, *asked: Any, **options: Any) -> list[Any]:
        self.lists += 1
        return []

    @property
    def looks(self) -> int:
        return self.lists // 3


def test_without_a_watch_every_look_lists() -> None:
    cluster = Lists()
    view = ClusterView(cluster, KubernetesHost(name="lab"))  # type: ignore[arg-type]
    for _ in range(3):
        view.all(None)
    assert cluster.looks == 3


def test_without_a_watch_lists_take_a_tenth_of_the_time() -> None:
    cluster = Lists()
    view = ClusterView(cluster, KubernetesHost(name="lab"))  # type: ignore[arg-type]
    view.all(None)
    view._last = replace(view._last, took_s=60.0)
    view.all(None)
    assert cluster.looks == 1
    cluster.writes += 1
    view.all(None)
    assert cluster.looks == 2


@dataclass
class Told:
    """A watch that is live, and has told of so many changes."""

    told: int = 0

    def is_live(self) -> bool:
        return True


class Looks:
    """Counts looks, each of which takes a second of a clock that only they move."""

    has_gaps = False

    def __init__(self) -> None:
        self.now, self.count = 100.0, 0

    def attempts(self, *_: Any) -> dict[Any, Any]:
        self.now += 1
        self.count += 1
        return {}


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    made = Looks()
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    return made


@pytest.fixture
def view(looks: Looks) -> ClusterView:
    made = ClusterView(Lists(), KubernetesHost(name="lab"))  # type: ignore[arg-type]
    made._watched = looks  # type: ignore[assignment]
    made.all(Told())  # type: ignore[arg-type]
    looks.count = 0
    return made


def test_while_nothing_is_told_a_look_stands_for_some_seconds(looks: Looks, view: ClusterView) -> None:
    view.all(Told())  # type: ignore[arg-type]
    assert looks.count == 0
    looks.now += REFRESH_S
    view.all(Told())  # type: ignore[arg-type]
    assert looks.count == 1


def test_what_we_wrote_is_seen_at_once(looks: Looks, view: ClusterView) -> None:
    view._cluster.writes += 1
    view.all(Told())  # type: ignore[arg-type]
    view.all(Told())  # type: ignore[arg-type]
    assert looks.count == 1


def test_where_something_changes_all_the_time_looks_take_a_tenth_of_it(looks: Looks, view: ClusterView) -> None:
    began, watch = looks.now, Told()
    while looks.now < began + 60:
        looks.now += 0.1
        watch.told += 1
        view.all(watch)  # type: ignore[arg-type]
    assert 5 <= looks.count <= 6


def test_a_change_that_came_too_early_is_seen_when_its_time_has_come(looks: Looks, view: ClusterView) -> None:
    view.all(Told(1))  # type: ignore[arg-type]
    assert looks.count == 0
    looks.now += view.pause_s
    view.all(Told(1))  # type: ignore[arg-type]
    view.all(Told(1))  # type: ignore[arg-type]
    assert looks.count == 1


def test_what_was_not_read_yet_is_looked_for_again(looks: Looks, view: ClusterView) -> None:
    looks.has_gaps = True
    view._last = replace(view._last, has_gaps=True)
    looks.now += view.pause_s
    view.all(Told())  # type: ignore[arg-type]
    assert looks.count == 1


def test_while_looks_are_dear_a_change_wakes_nobody_before_its_time_and_then_at_once() -> None:
    watch = HostWatch(WatchedCluster())  # type: ignore[arg-type]
    with contextlib.closing(watch):
        watch.wait(0.01)
        assert watch.shared is not None
        watch.shared.wakeups.bump()
        began = time.monotonic()
        watch.wait(0.3, settle_s=60)
        assert time.monotonic() - began >= 0.3
        watch.wait(60, settle_s=0)
        assert time.monotonic() - began < 30


class Backing:
    """A namespace with one pod whose image does not come, and the events of it."""

    host_name, skew_s, writes, unclear = "lab", 0.0, 0, 0

    def heard(self, *_: Any) -> None: ...

    def __init__(self) -> None:
        self.waiting: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []

    def list(self, resource: str, *asked: Any, **options: Any) -> list[Any]:
        marks = {"sd-orchestrator.job": "j", "sd-orchestrator.attempt": "1", "sd-orchestrator.slot": "1"}
        began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        runs = {"sd-orchestrator.run": "r"}
        metadata = {"name": "sd-j", "uid": "j", "labels": marks, "annotations": runs, "creationTimestamp": began}
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


@pytest.mark.parametrize(
    "waiting",
    [
        {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "reg.example/sd:1"'},
        {"reason": "ContainerCreating"},  # of a kubelet that has not written its state yet
        {},
    ],
)
def test_why_an_image_does_not_come_is_in_its_events(waiting: dict[str, str]) -> None:
    cluster = Backing()
    cluster.waiting = waiting
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
