"""What a host's attempts are by the shared watch: nothing is listed while it lives, and no end is lost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest
from engines import wait_until
from watched_cluster import BEGAN, WatchedCluster, a_kube_job, a_pod, config, metadata

from orchestrator.config import KubernetesHost
from orchestrator.errors import HostUnreachable
from orchestrator.executors.contract import Attempt, Observation, State
from orchestrator.executors.kubernetes import cluster_view, informer, watch, watched
from orchestrator.executors.kubernetes import stream as streams
from orchestrator.executors.kubernetes.cluster_view import ClusterView
from orchestrator.executors.kubernetes.watch import HostWatch
from runner.schema import Status

ATTEMPT = Attempt("r", "j", 1)
UNFIT = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


class Looker:
    """A host's view through its part of the shared watch."""

    def __init__(self, cluster: WatchedCluster, host: str = "lab") -> None:
        self.cluster, self.watch = cluster, HostWatch(cluster)  # type: ignore[arg-type]
        self.view = ClusterView(cluster, KubernetesHost(name=host))  # type: ignore[arg-type]

    def seen(self) -> dict[Attempt, Observation]:
        return self.view.all(self.watch.shared)

    def sees(self, state: State, attempt: Attempt = ATTEMPT) -> Observation:
        wait_until(lambda: (its := self.seen().get(attempt)) is not None and its.state is state, 60, f"not {state}")
        return self.seen()[attempt]

    def follow(self) -> None:
        self.watch.wait(0.001)
        wait_until(lambda: len(self.cluster.open()) == 5, 60, "not everything is watched")
        self.seen()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RECONNECT_S", 0.01)
    monkeypatch.setattr(informer, "READ_EVERY_S", 0.0)
    monkeypatch.setattr(informer, "READ_SHARE", 1e9)
    monkeypatch.setattr(cluster_view, "LOOK_SHARE", 1e9)
    monkeypatch.setattr(watched, "NO_POD_AFTER_S", 0.0)
    monkeypatch.setattr(watch, "CATCH_UP_S", 1.0)


@pytest.fixture
def cluster() -> WatchedCluster:
    return WatchedCluster()


@pytest.fixture
def lab(cluster: WatchedCluster) -> Iterator[Looker]:
    made = Looker(cluster)
    with contextlib.closing(made.watch):
        made.follow()
        cluster.listed.clear()
        yield made


def begun(cluster: WatchedCluster, job: str = "j", host: str = "lab") -> None:
    cluster.put("configmaps", config(job, host=host))
    cluster.put("jobs", a_kube_job(job, host=host))


def test_a_job_from_staged_to_its_end_without_a_list(
    cluster: WatchedCluster, lab: Looker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "NO_POD_AFTER_S", 60.0)  # the watch of pods may be behind that of Jobs
    cluster.put("configmaps", config(begun=False))
    lab.sees(State.STAGED)
    begun(cluster)
    cluster.put("pods", a_pod(node="a"))
    assert lab.sees(State.RUNNING).instance == "pod-j"
    cluster.put("pods", a_pod(node="a", exit_code=3))
    assert lab.sees(State.EXITED).exit_code == 3
    cluster.delete("jobs", "sd-j")
    cluster.delete("configmaps", "sd-j")
    wait_until(lambda: not lab.seen(), 60, "it stays")
    assert "configmaps" not in cluster.listed
    assert "pods" not in cluster.listed


def test_why_no_node_takes_a_pod_is_read_once_for_each_change(cluster: WatchedCluster, lab: Looker) -> None:
    begun(cluster)
    cluster.put("pods", a_pod(why=UNFIT))
    wait_until(lambda: "no node takes it" in lab.sees(State.QUEUED).reason, 60, "it is not said")
    read = cluster.listed.count("pods")
    for _ in range(5):
        lab.view._last = cluster_view.Snapshot()  # so that it looks again
        assert UNFIT[:-1] in lab.seen()[ATTEMPT].reason
    assert cluster.listed.count("pods") == read
    cluster.put("pods", a_pod(why="0/4 nodes are available: 4 Insufficient nvidia.com/gpu."))
    wait_until(lambda: "0/4" in lab.sees(State.QUEUED).reason, 60, "the new words are not said")


def test_a_pod_that_is_placed_is_followed_from_one_watch_to_the_other(cluster: WatchedCluster, lab: Looker) -> None:
    begun(cluster)
    cluster.put("pods", a_pod(why=UNFIT))
    lab.sees(State.QUEUED)
    cluster.put("pods", a_pod(node="a"))
    lab.sees(State.RUNNING)
    assert len(lab.seen()) == 1


def test_an_end_during_a_cut_watch_is_seen_after_it(cluster: WatchedCluster, lab: Looker) -> None:
    begun(cluster)
    cluster.put("pods", a_pod(node="a"))
    lab.sees(State.RUNNING)
    cluster.is_down = True
    cluster.cut()
    with pytest.raises(HostUnreachable):  # and not what was seen last
        wait_until(lambda: not lab.seen(), 60, "that nobody answers is not seen")
    cluster.put("pods", a_pod(node="a", exit_code=0))
    cluster.is_down = False
    assert lab.sees(State.EXITED).exit_code == 0


def test_an_end_that_the_server_has_forgotten_is_seen_by_a_list(cluster: WatchedCluster, lab: Looker) -> None:
    begun(cluster)
    cluster.put("pods", a_pod(node="a"))
    lab.sees(State.RUNNING)
    cluster.is_down = True
    cluster.cut()
    wait_until(lambda: not cluster.open(), 60, "the watches live")
    cluster.put("pods", a_pod(node="a", exit_code=0))
    cluster.forgotten = cluster.version
    cluster.is_down = False
    assert lab.sees(State.EXITED).exit_code == 0


def test_after_an_outage_no_pod_is_older_than_the_lists_showed_it(
    cluster: WatchedCluster, lab: Looker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "CATCH_UP_S", 0.05)
    begun(cluster)
    cluster.put("pods", a_pod(why=UNFIT))
    lab.sees(State.QUEUED)
    cluster.refuses, cluster.is_late = "pods", True
    cluster.cut("pods")
    wait_until(lambda: not cluster.open("pods"), 60, "pods are watched")
    cluster.put("pods", a_pod(node="a"))
    lab.sees(State.RUNNING)
    cluster.refuses = ""
    shared = lab.watch.shared
    assert shared is not None
    wait_until(lambda: shared.pods.is_live, 60, "pods are not watched")
    assert lab.seen()[ATTEMPT].state is State.RUNNING
    cluster.release()
    wait_until(lambda: lab.seen()[ATTEMPT].instance == "pod-j" and lab.view._last.told is not None, 60, "it lists")


def test_no_job_is_lost_before_a_list_shows_that_its_pod_did_not_end(cluster: WatchedCluster, lab: Looker) -> None:
    begun(cluster)
    running = a_pod(node="a")
    running["status"]["startTime"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    running["spec"]["activeDeadlineSeconds"] = 60
    cluster.put("pods", running)
    lab.sees(State.RUNNING)
    for stream in cluster.open("pods"):  # as dead as a connection is after a suspend
        stream.query = {**stream.query, "fieldSelector": "spec.nodeName=,spec.nodeName!="}
    running["status"] = a_pod(node="a", exit_code=0)["status"]
    cluster.put("pods", running)
    cluster.skew_s = 8 * 3600.0
    assert lab.seen()[ATTEMPT].state is State.EXITED


def test_a_jobs_end_that_comes_before_its_pods_loses_nothing(cluster: WatchedCluster, lab: Looker) -> None:
    begun(cluster)
    lab.sees(State.QUEUED)
    for stream in cluster.open("pods"):  # they are late
        stream.query = {**stream.query, "fieldSelector": "spec.nodeName=,spec.nodeName!="}
    cluster.put("pods", a_pod(node="a", exit_code=0))
    cluster.put("jobs", a_kube_job(ended=True))
    assert lab.sees(State.EXITED).exit_code == 0


def test_a_job_that_ended_without_a_pod_is_lost_after_a_search(cluster: WatchedCluster, lab: Looker) -> None:
    begun(cluster)
    cluster.put("jobs", a_kube_job(ended=True))
    assert "its pod is gone" in lab.sees(State.LOST).reason
    searched = cluster.listed.count("pods")
    lab.view._last = cluster_view.Snapshot()
    lab.seen()
    assert (searched, cluster.listed.count("pods")) == (1, 1)


def test_a_suspended_job_is_read_once_for_each_change(cluster: WatchedCluster, lab: Looker) -> None:
    cluster.put("configmaps", config())
    cluster.put("jobs", a_kube_job(suspended=True))
    wait_until(lambda: "suspended" in lab.sees(State.QUEUED).reason, 60, "it is not said")
    read = cluster.listed.count("jobs")
    lab.view._last = cluster_view.Snapshot()
    assert "suspended" in lab.seen()[ATTEMPT].reason
    assert cluster.listed.count("jobs") == read


def test_who_suspended_a_job_and_ended_its_pod_is_told_though_the_watch_does_not_read_the_job_again(
    cluster: WatchedCluster, lab: Looker
) -> None:
    begun(cluster)
    running = cluster.put("pods", a_pod(node="a"))
    lab.sees(State.RUNNING)
    evicted = {"reason": "Stopped", "message": "Preempted in the ClusterQueue", "involvedObject": {"uid": "job-j"}}
    cluster.put("events", {**evicted, "metadata": {"name": "e", "creationTimestamp": BEGAN}})
    cluster.put("jobs", a_kube_job(suspended=True))
    told_to_end = {**running["metadata"], "deletionTimestamp": BEGAN}
    cluster.put("pods", {**a_pod(node="a", exit_code=143), "metadata": told_to_end})
    assert "Stopped: Preempted in the ClusterQueue" in lab.sees(State.EXITED).reason


def test_a_job_whose_configmap_somebody_deleted_is_still_ours(cluster: WatchedCluster, lab: Looker) -> None:
    begun(cluster)
    cluster.put("pods", a_pod(node="a"))
    lab.sees(State.RUNNING)
    cluster.delete("configmaps", "sd-j")
    time.sleep(0.05)
    assert lab.sees(State.RUNNING).slot == "1"


def test_two_hosts_share_one_watch_and_see_their_own_jobs(cluster: WatchedCluster, lab: Looker) -> None:
    other = Looker(cluster, "other")
    cluster.host_name = "other"
    with contextlib.closing(other.watch):
        other.follow()
        begun(cluster)
        begun(cluster, "k", host="other")
        begun(cluster, "l", host="anothers")
        lab.sees(State.QUEUED)
        other.sees(State.QUEUED, Attempt("r", "k", 1))
        assert set(lab.seen()) == {ATTEMPT}
        assert set(other.seen()) == {Attempt("r", "k", 1)}
        assert len(cluster.open()) == 5
    assert len(cluster.open()) == 5, "one host's end is the other's too"
    lab.sees(State.QUEUED)


def test_what_we_did_is_seen_at_once(cluster: WatchedCluster, lab: Looker) -> None:
    for number in range(20):
        made = cluster.put("configmaps", config(f"j{number}", begun=False))
        cluster.writes += 1
        cluster.heard("configmaps", made["metadata"]["name"], made)
        assert Attempt("r", f"j{number}", 1) in lab.seen()


def test_a_call_of_unknown_effect_is_followed_by_lists(cluster: WatchedCluster, lab: Looker) -> None:
    begun(cluster)
    lab.sees(State.QUEUED)
    cluster.listed.clear()
    cluster.unclear += 1
    lab.seen()
    assert cluster.listed[:3] == ["configmaps", "jobs", "pods"]
    cluster.listed.clear()
    lab.seen()
    assert cluster.listed == []


def test_a_watch_that_is_refused_leaves_lists(cluster: WatchedCluster, lab: Looker) -> None:
    begun(cluster)
    cluster.refuses = "jobs"
    cluster.cut("jobs")
    wait_until(lambda: not cluster.open("jobs"), 60, "it is watched")
    lab.sees(State.QUEUED)
    wait_until(lambda: lab.view._last.told is None and lab.seen() is not None, 60, "the watch is believed")
    assert "pods" in cluster.listed


def test_warnings_come_with_the_watch(cluster: WatchedCluster, lab: Looker) -> None:
    begun(cluster)
    said = 'Error creating: pods "x" is forbidden: violates PodSecurity'
    event = {"reason": "FailedCreate", "message": said, "lastTimestamp": "2026-11-29T00:00:00Z"}
    about = {"metadata": {"name": "e", "creationTimestamp": "2026-11-29T00:00:00Z"}, "involvedObject": {"uid": "job-j"}}
    cluster.put("events", {**event, **about})
    wait_until(lambda: "is forbidden" in lab.sees(State.QUEUED).reason, 60, "it is not said")
    assert lab.seen()[ATTEMPT].status is Status.FAILED
    assert "events" not in cluster.listed


def test_objects_without_our_annotations_are_nobodys(cluster: WatchedCluster, lab: Looker) -> None:
    foreign = metadata("sd-x", "x")
    foreign["annotations"] = {}
    cluster.put("configmaps", {"metadata": foreign})
    cluster.put("jobs", {"metadata": foreign, "spec": {}, "status": {}})
    begun(cluster)
    lab.sees(State.QUEUED)
    assert set(lab.seen()) == {ATTEMPT}


def test_hosts_of_a_namespace_share_their_lists_while_a_watch_is_refused(
    cluster: WatchedCluster, lab: Looker, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Looker(cluster, "other")
    cluster.host_name = "other"
    with contextlib.closing(other.watch):
        other.follow()
        cluster.refuses = "jobs"
        cluster.cut("jobs")
        wait_until(lambda: not cluster.open("jobs"), 60, "it is watched")
        begun(cluster)
        lab.sees(State.QUEUED)
        monkeypatch.setattr(cluster_view, "CHEAP_S", 60.0)  # the list stays young enough for the other host
        cluster.listed.clear()
        other.seen()
        assert "configmaps" not in cluster.listed
        cluster.writes += 1
        cluster.heard("configmaps", "sd-k", cluster.put("configmaps", config("k", begun=False)))
        assert Attempt("r", "k", 1) in lab.seen()


def test_a_watch_that_was_silent_for_too_long_is_taken_for_dead(
    cluster: WatchedCluster, lab: Looker, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(cluster)
    lab.sees(State.QUEUED)
    for open_one in cluster.open("pods"):  # as a connection whose other end is gone
        open_one.hold()
    cluster.put("pods", a_pod(node="a"))
    lab.view._last = cluster_view.Snapshot()
    assert lab.seen()[ATTEMPT].state is State.QUEUED
    monkeypatch.setattr(watch, "SYNC_S", 0.05)
    monkeypatch.setattr(streams, "SILENCE_S", 0.0)
    monkeypatch.setattr(cluster_view, "CHEAP_S", 0.0)
    assert lab.seen()[ATTEMPT].state is State.RUNNING
