"""Each look at watches that are late shows what lists in creation order could have shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from late_watches import WATCHES, LateWatches, allowed, timeline, without_pauses
from watched_cluster import Object, a_kube_job, a_pod, config

from orchestrator.executors.contract import Observation, State
from orchestrator.executors.kubernetes.observation import AttemptObjects
from orchestrator.executors.kubernetes.pods import has_begun

JOBS = ("j", "k")


@dataclass
class Life:
    """What happens to one job in the cluster, a step at a time. since: versions of our own writes, by resource."""

    its: LateWatches
    job: str
    pods: int = 0
    ended: bool = False
    pod: Object | None = None
    done: set[str] = field(default_factory=set)
    since: dict[str, int] = field(default_factory=lambda: {"configmaps": 0, "jobs": 0, "pods": 0})

    def steps(self) -> dict[str, Callable[[], None]]:
        """What may happen next."""
        done, pod = self.done, self.pod
        if "removed" in done:
            return {"collect": self.delete_pod} if pod else {}
        found: dict[str, Callable[[], None]] = {}
        if "staged" not in done:
            return {"stage": lambda: self.write("configmaps", config(self.job, begun=False), "staged")}
        if "created" not in done:
            return {"create": lambda: self.write("jobs", a_kube_job(self.job), "created")}
        if "begun" not in done:
            found["own"] = lambda: self.write("configmaps", config(self.job), "begun")
        if not self.ended:
            found["suspend"] = lambda: self.put_job(a_kube_job(self.job, suspended=not pod))
            if pod is None and self.pods < 3:
                found["make a pod"] = self.make_pod
            found["fail"] = lambda: self.end_job("Failed")
        if pod is not None:
            if not pod["spec"].get("nodeName"):
                found["say why"] = lambda: self.put_pod(why=f"0/{self.its.cluster.version} nodes are available")
                found["place"] = lambda: self.put_pod(node="a")
            elif "running" in str(pod["status"]):
                found["end"] = lambda: self.put_pod(node="a", exit_code=0)
            elif not self.ended:
                found["complete"] = lambda: self.end_job("Complete")
            found["delete the pod"] = self.delete_pod
        if "begun" in done:
            found["remove"] = self.remove
        return found

    def write(self, resource: str, thing: Object, done: str) -> None:
        made = self.its.cluster.put(resource, thing)
        self.done.add(done)
        self.told(resource, made["metadata"]["name"], made)

    def told(self, resource: str, name: str, found: Object | None) -> None:
        """A call of ours returns."""
        self.its.cluster.heard(resource, name, found)
        self.its.cluster.writes += 1
        self.since[resource] = self.its.cluster.version

    def put_job(self, job: Object) -> None:
        self.its.cluster.put("jobs", job)

    def end_job(self, how: str) -> None:
        self.ended = True
        job = a_kube_job(self.job)
        self.put_job({**job, "status": {"conditions": [{"type": how, "status": "True"}]}})

    def make_pod(self) -> None:
        self.pods += 1
        self.pod = a_pod(self.job)
        self.put_pod()

    def put_pod(self, **how: Any) -> None:
        made = a_pod(self.job, **how)
        made["metadata"] |= {"name": f"sd-{self.job}-p{self.pods}", "uid": f"pod-{self.job}-{self.pods}"}
        self.pod = self.its.cluster.put("pods", made)

    def delete_pod(self) -> None:
        assert self.pod is not None
        self.its.cluster.delete("pods", self.pod["metadata"]["name"])
        self.pod = None

    def remove(self) -> None:
        self.done.add("removed")
        for resource in ("jobs", "configmaps"):
            self.its.cluster.delete(resource, f"sd-{self.job}")
            self.told(resource, f"sd-{self.job}", None)


@dataclass
class Judge:
    """Compares each look with the looks before it and with what lists could have shown."""

    its: LateWatches
    versions: dict[tuple[str, str], int] = field(default_factory=dict)
    pods: dict[str, dict[str, Object]] = field(default_factory=dict)

    def look(self, lives: dict[str, Life]) -> dict[str, Observation]:
        since = {job: dict(life.since) for job, life in lives.items()}
        shown, seen = self.its.look()
        for job in lives:
            objects = shown.get(job, AttemptObjects())
            self.is_true_and_no_older(job, objects)
            self.keeps_its_pods(job, objects, since[job])
            if not objects.pods:
                self.could_be_listed(job, objects, seen.get(job), since[job])
        return seen

    def is_true_and_no_older(self, job: str, shown: AttemptObjects) -> None:
        known = {
            (each["metadata"]["name"], each["metadata"]["resourceVersion"])
            for resource in ("configmaps", "jobs", "pods")
            for _, state in timeline(self.its.cluster, resource, job)
            for each in state
        }
        there: list[tuple[str, Any]] = [("config", {"metadata": shown.config or {}})]
        there += [("job", shown.job or {"metadata": {}}), *(("pod", pod) for pod in shown.pods)]
        for resource, each in there:
            if version := each["metadata"].get("resourceVersion"):
                name = each["metadata"]["name"]
                assert (name, version) in known
                assert int(version) >= self.versions.get((resource, name), 0), f"{name} went back"
                self.versions[resource, name] = int(version)

    def keeps_its_pods(self, job: str, shown: AttemptObjects, since: dict[str, int]) -> None:
        before, now = self.pods.get(job, {}), {pod["metadata"]["name"]: pod for pod in shown.pods}
        line = timeline(self.its.cluster, "pods", job)
        for name in before.keys() - now.keys():
            ends = [
                version
                for (version, state), (_, earlier) in zip(line[1:], line)
                if name in names(earlier) and name not in names(state)
            ]
            is_gone = bool(ends) or (shown.job is None and self.is_deleted(job))
            assert is_gone, f"pod {name} was shown, exists, and is shown no more"
            if ends and has_begun(before[name]):
                since["pods"] = max(since["pods"], ends[0])
        self.pods.setdefault(job, {}).update(now)

    def is_deleted(self, job: str) -> bool:
        return not timeline(self.its.cluster, "jobs", job)[-1][1]

    def could_be_listed(self, job: str, shown: AttemptObjects, seen: Observation | None, since: dict[str, int]) -> None:
        has_run = any(has_begun(pod) for pod in self.pods.get(job, {}).values())
        if seen and seen.ended_before:  # lists tell nothing of a pod that is gone: an earlier look showed it running
            assert has_run, f"{job}: {seen} tells of a pod that no look showed running"
            seen = replace(seen, ended_before="")
        if seen in allowed(self.its.cluster, job, since, time.time(), self.its.host.patience):
            return
        # the change of a Job or a pod is late: nothing is concluded from it, and nothing false is said
        is_calm = seen is not None and seen.state is State.QUEUED and seen.status is None
        was_there = any(state for _, state in timeline(self.its.cluster, "jobs", job))
        assert is_calm, f"{job}: {seen} could not be listed"
        assert was_there
        assert not has_run
        if seen and seen.reason.startswith("the cluster has made no pod"):
            assert shown.job is not None
            assert self.had_no_pod(job, int(shown.job["metadata"]["resourceVersion"]))

    def had_no_pod(self, job: str, version: int) -> bool:
        """Whether a job had no pod in this version or a later one."""
        line = timeline(self.its.cluster, "pods", job)
        ends = [*(begin for begin, _ in line[1:]), self.its.cluster.version + 1]
        return any(not state for (_, state), end in zip(line, ends) if end > version)


def names(pods: tuple[Object, ...]) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_is_late_a_look_shows_what_lists_could_show(data: st.DataObject) -> None:
    with without_pauses(data.draw(st.sampled_from([0.0, 60.0]), "age of lists")):
        lives: dict[str, Life] = {}

        def happen(own: bool = True) -> None:
            life = lives[data.draw(st.sampled_from(JOBS), "job")]
            ours = ("stage", "create", "own", "remove")
            steps = {name: step for name, step in life.steps().items() if own or name not in ours}
            if steps:
                steps[data.draw(st.sampled_from(sorted(steps)), "step")]()

        def meanwhile() -> None:
            if lives and data.draw(st.integers(0, 3), "meanwhile") == 3:
                happen(own=False)

        its = LateWatches(meanwhile)
        lives.update({job: Life(its, job) for job in JOBS})
        judge = Judge(its)
        other: dict[str, Callable[[Any], None]] = {
            "deliver": lambda key: its.deliver(key, data.draw(st.integers(1, 4), "events")),
            "bookmark": its.bookmark,
            "reconnect": its.reconnect,
            "expire": its.expire,
            "interrupt": lambda key: its.interrupt(key, alive=False),
            "recover": lambda key: its.interrupt(key, alive=True),
        }
        kinds = ["happen"] * 6 + ["look"] * 4 + ["deliver"] * 5 + sorted(other)
        for _ in range(data.draw(st.integers(5, 45), "length")):
            what = data.draw(st.sampled_from(kinds), "what")
            if what == "happen":
                happen()
            elif what == "look":
                judge.look(lives)
            else:
                other[what](data.draw(st.sampled_from(WATCHES), "watch"))
        its.during = lambda: None
        for key in WATCHES:  # in the end everything arrives
            its.interrupt(key, alive=True)
            its.deliver(key, 1000)
            its.bookmark(key)
            its.deliver(key, 1)
        judge.look(lives)
        shown, _ = its.look()
        for job, life in lives.items():
            pods = {pod["metadata"]["uid"] for pod in shown.get(job, AttemptObjects()).pods}
            assert pods == ({life.pod["metadata"]["uid"]} if life.pod and "removed" not in life.done else set())


def placed_late(its: LateWatches) -> Life:
    """A job whose pod has left the watch of waiting pods, and has not arrived in the one of placed pods."""
    life = Life(its, "j")
    for step in ("stage", "create", "make a pod", "own"):
        life.steps()[step]()
    for key in WATCHES:
        its.deliver(key, 10)
    its.look()
    life.steps()["place"]()
    its.deliver(("pods", 0), 10)
    return life


def test_a_pod_between_two_watches_is_still_shown() -> None:
    with without_pauses():
        its = LateWatches()
        placed_late(its)
        shown, seen = its.look()
        assert [pod["metadata"]["uid"] for pod in shown["j"].pods] == ["pod-j-1"]
        assert not seen["j"].reason.startswith("the cluster has made no pod")


def test_a_running_pod_stays_while_other_watches_are_interrupted_and_late() -> None:
    with without_pauses():
        its = LateWatches()
        placed_late(its)
        its.interrupt(("pods", 1), alive=False)
        assert its.look()[1]["j"].state is State.RUNNING  # from lists
        its.interrupt(("pods", 1), alive=True)
        its.reconnect(("pods", 1))
        assert its.look()[1]["j"].instance == "pod-j-1"


def test_a_job_that_is_said_to_have_no_pod_has_none_in_a_list() -> None:
    with without_pauses():
        its = LateWatches()
        life = Life(its, "j")
        for step in ("stage", "create", "own"):
            life.steps()[step]()
        for key in WATCHES:
            its.deliver(key, 10)
        assert its.look()[1]["j"].reason.startswith("the cluster has made no pod")
        life.steps()["make a pod"]()  # its event is late
        life.put_job(a_kube_job("j"))  # the Job's is not
        its.deliver(("jobs", 0), 10)
        assert its.look()[1]["j"].reason == ""


def test_a_configmap_whose_job_is_late_is_no_vanished_job() -> None:
    with without_pauses():
        its = LateWatches()
        its.cluster.put("jobs", a_kube_job())  # by a process that was killed
        its.cluster.put("configmaps", config())
        its.deliver(("configmaps", 0), 10)
        assert its.look()[1]["j"].state is State.QUEUED


def test_a_pod_that_was_deleted_while_it_waited_goes_without_waiting_for_a_bookmark() -> None:
    with without_pauses():
        its = LateWatches()
        life = Life(its, "j")
        for step in ("stage", "create", "make a pod", "own", "delete the pod"):
            life.steps()[step]()
        for key in WATCHES:
            its.deliver(key, 10)
        time.sleep(0.01)
        shown, _ = its.look()
        assert shown["j"].pods == ()


def test_a_deadline_of_the_job_is_its_end_though_its_pod_goes_first() -> None:
    with without_pauses():
        its = LateWatches()
        life = placed_late(its)
        its.deliver(("pods", 1), 10)
        assert its.look()[1]["j"].state is State.RUNNING
        life.steps()["delete the pod"]()
        failed = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}
        life.put_job({**a_kube_job(), "status": {"conditions": [failed]}})
        its.deliver(("pods", 1), 10)
        its.deliver(("jobs", 0), 10)
        its.view._last = replace(its.view._last, writes=-1)
        assert its.look()[1]["j"].state is State.EXITED


@pytest.mark.parametrize("own", [[], ["own"]], ids=["before our call returned", "begun"])
def test_a_pod_that_ran_at_one_look_and_is_gone_at_the_next_is_told_as_deleted(own: list[str]) -> None:
    with without_pauses():
        its = LateWatches()
        life, judge = Life(its, "j"), Judge(its)
        for step in ("stage", "create", "make a pod", *own):
            life.steps()[step]()

        def place() -> None:
            its.during = lambda: None
            life.steps()["place"]()

        its.during = place
        judge.look({"j": life})
        life.steps()["delete the pod"]()
        for key in WATCHES:
            its.deliver(key, 10)
            its.bookmark(key)
            its.deliver(key, 1)
        assert judge.look({"j": life})["j"].ended_before.startswith("its pod was deleted while it ran")
