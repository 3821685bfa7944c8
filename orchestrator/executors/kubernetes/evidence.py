"""Finds out why some of a host's attempts do not run, or were ended: from events, nodes and what pods said before."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.executors.kubernetes import projection
from orchestrator.executors.kubernetes.cluster import Cluster, Refused
from orchestrator.executors.kubernetes.disruption import why_ended, why_node_leaves
from orchestrator.executors.kubernetes.fit import why_none_fits
from orchestrator.executors.kubernetes.observation import AttemptObjects
from orchestrator.executors.kubernetes.pods import has_begun, has_ended, own_container, own_state
from orchestrator.executors.kubernetes.pulling import PULL_FAILED, is_final, reason_in
from orchestrator.executors.kubernetes.waiting import (
    IMAGE_TROUBLE,
    IN_THE_MAKING,
    WaitingEvidence,
    scheduled_condition,
    seconds_of,
    why_waiting,
)
from orchestrator.executors.kubernetes.watch import WARNINGS, ClusterWatch

# Nodes change slowly, and the list of a large cluster is megabytes. They are listed again when the scheduler's words
# change or a job is about to be given up because of them, and else after the second time.
NODES_KEPT_S, NODES_KEPT_MOST_S = 30.0, 300.0
# A kubelet retries a mount or a sandbox within two minutes: a failure without a repetition since then is over.
REPEATED_S = 180.0
# Event reasons of components that end pods: the scheduler, the taint manager, the node; for a Job, Kueue.
ENDS = ("Preempted", "TaintManagerEviction", "Evicted", "NodeShutdown", "Preempting", "NodeNotReady", "Stopped")
MOST_ENDED = 20  # per refresh; with more, their common cause is known by then
# The event that explains a deletion is written after it, on a busy cluster even after the end of a pod that ends fast.
# It is waited for at most this often: pods that go one after the other have one cause.
WRITTEN_WITHIN_S, WAIT_EVERY_S = 2.0, 20.0
# The conditions of a Job that ends by itself or by its deadline. The last two come first, from Kubernetes 1.31 on.
OWN_ENDS = ("Complete", "Failed", "SuccessCriteriaMet", "FailureTarget")
Object = Mapping[str, Any]


class Evidence:
    """Collects evidence for one host. patience_s: after which a pod that fits no node is given up."""

    def __init__(self, cluster: Cluster, patience_s: float) -> None:
        self._cluster, self._patience_s = cluster, patience_s
        self._nodes: Sequence[Object] = ()
        self._nodes_at, self._said = -NODES_KEPT_MOST_S, frozenset[str]()
        # why no node could take a pod, by what it asks for: pods of one host ask for the same
        self._misfits: dict[str, str] = {}
        # why image pulls failed, by the pod's uid: between its tries a kubelet reports only that it waits
        self._pulls: Mapping[str, str] = {}
        # by the pod's uid and whether it had ended by then: an event may come after the deletion that it explains
        self._ended_by: Mapping[tuple[str, bool], str] = {}
        # by the Job's uid: with a pod that runs; that is told to end; that is gone since, which no look showed ended
        self._running: Mapping[str, AttemptObjects] = {}
        self._ending: Mapping[str, AttemptObjects] = {}
        self._gone: Mapping[str, AttemptObjects] = {}
        self.paused_s = 0.0  # during the last call of `of`
        self._paused_at = -WAIT_EVERY_S

    def of(self, shown: Iterable[AttemptObjects], now: float, watch: ClusterWatch | None) -> WaitingEvidence:
        """now: the cluster's time. watch: one that is live; None: events are listed."""
        shown = list(shown)
        waiting = [each for each in shown if each.is_waiting]
        ends = self._ends(shown)
        before = {job: why_ended(pod, ends.get(_uid(pod), "")) for job, its in self._gone.items() if (pod := its.pod)}
        if not waiting:
            return WaitingEvidence(ends=ends, before=before)
        no_events = no_nodes = ""
        try:
            events = self._events(watch)
        except Refused:
            events = []
            no_events = "why is not known: events may not be listed"
        misfits: dict[str, str] = {}
        if unplaced := [pod for each in waiting if (pod := each.pod) and not pod["spec"].get("nodeName")]:
            try:
                misfits = self._misfits_of(unplaced, now)
            except Refused:
                no_nodes = "whether any node ever could is not known: nodes may not be listed"
        warnings, pulls = _told(events, waiting, now)
        pods = {str(pod["metadata"]["uid"]): pod for each in waiting if (pod := each.pod)}
        whys = {uid: self._why_no_image(pod, pulls.get(uid, ())) for uid, pod in pods.items()}
        self._pulls = {uid: why for uid, why in whys.items() if why}
        return WaitingEvidence(warnings, misfits, self._pulls, ends, before, no_events=no_events, no_nodes=no_nodes)

    def _events(self, watch: ClusterWatch | None) -> Sequence[Object]:
        if watch is not None and watch.warnings.is_live:
            return [kept.found for kept in watch.warnings.objects.all().values() if kept.found]
        return self._cluster.list("events", {"fieldSelector": WARNINGS}, keep=projection.of_event)

    def _misfits_of(self, pods: Sequence[Object], now: float) -> dict[str, str]:
        """Returns by uid why no node could ever take a pod."""
        said = frozenset(str(scheduled_condition(pod).get("message")) for pod in pods)
        age_s = time.monotonic() - self._nodes_at
        if age_s > NODES_KEPT_MOST_S or (age_s > NODES_KEPT_S and said != self._said):
            self._list_nodes()
            self._said = said
        found = self._misfits_now(pods)
        overdue = (pod for pod in pods if found[str(pod["metadata"]["uid"])])
        if time.monotonic() - self._nodes_at > NODES_KEPT_S and any(
            now > seconds_of(pod["metadata"]["creationTimestamp"]) + self._patience_s for pod in overdue
        ):
            self._list_nodes()
            found = self._misfits_now(pods)
        return found

    def _list_nodes(self) -> None:
        self._nodes = self._cluster.list("nodes", keep=projection.of_node)
        self._nodes_at, self._misfits = time.monotonic(), {}

    def _misfits_now(self, pods: Sequence[Object]) -> dict[str, str]:
        found = {}
        for pod in pods:
            asked = json.dumps(projection.shape(pod["spec"]))
            if asked not in self._misfits:
                self._misfits[asked] = why_none_fits(pod, self._nodes)
            found[str(pod["metadata"]["uid"])] = self._misfits[asked]
        return found

    def _why_no_image(self, pod: Object, events: Sequence[str]) -> str:
        """Returns the first reason until a decisive one comes, so that the text stays stable. events: oldest first."""
        reason, message = why_waiting(own_state(pod))
        image = str(own_container(pod).get("image", ""))
        told = [said for said in reversed(events) if said.startswith(f'{PULL_FAILED}"{image}"')]
        is_told_first = reason in ("", *IN_THE_MAKING) and bool(told)  # its event may come before its pod's state
        if reason not in IMAGE_TROUBLE and not is_told_first:
            return ""
        found = next((why for said in (message, *told) if (why := reason_in(said))), "")
        before = self._pulls.get(str(pod["metadata"]["uid"]), "")
        return before if before and is_final(before, image) == is_final(found, image) else found or before

    def _ends(self, shown: Sequence[AttemptObjects]) -> Mapping[str, str]:
        """Returns by uid what ends the terminating pods, and those that are gone since.

        Queried once for each, and while unknown twice at its end.
        """
        ending = {_job(each): each for each in shown if each.pod and "deletionTimestamp" in each.pod["metadata"]}
        before = {**self._vanished(shown), **self._ending, **self._gone}
        jobs = [job for each in shown if (job := _job(each)) not in ending] if before else []
        self._ending, self._gone = ending, {job: before[job] for job in jobs if job in before}
        about = {(_uid(pod), has_ended(pod)): pod for each in ending.values() if (pod := each.pod)}
        about |= {(_uid(pod), True): pod for each in self._gone.values() if (pod := each.pod)}
        self.paused_s = 0.0
        asked = {(uid, ended): self._told_of(uid, ended) for uid, ended in about}
        known = {key: said for key, said in asked.items() if said is not None}
        queried = [key for key in about if key not in known][:MOST_ENDED]
        known |= {key: self._why_ended(about[key]) for key in queried}
        unexplained = [key for key in queried if key[1] and not known[key]]
        if unexplained and time.monotonic() - self._paused_at > WAIT_EVERY_S:
            time.sleep(WRITTEN_WITHIN_S)
            self.paused_s, self._paused_at = WRITTEN_WITHIN_S, time.monotonic()
            known |= {key: self._why_ended(about[key]) for key in unexplained}
        self._ended_by = known
        return {uid: said for (uid, _), said in known.items()}

    def _vanished(self, shown: Sequence[AttemptObjects]) -> Mapping[str, AttemptObjects]:
        """Returns the attempts whose pods ran at the last look, and were told to end and are gone since."""
        last, now = self._running, {_job(each): each for each in shown}
        self._running = {job: it for job, it in now.items() if it.pod and has_begun(it.pod) and not has_ended(it.pod)}
        return {
            job: AttemptObjects(pods=(_told_to_end(before.pod),))
            for job, before in last.items()
            if before.pod and job in now and not _ends_by_itself(now[job].job) and not _has(now[job], before.pod)
        }

    def _told_of(self, uid: str, ended: bool) -> str | None:
        """Returns what earlier queries told of who ends a pod; None if it has to be queried."""
        before = self._ended_by.get((uid, False))
        return before or self._ended_by.get((uid, ended))

    def _why_ended(self, pod: Object) -> str:
        """Returns the reason in the events of a pod, those of its Job (if it is suspended), and its node."""
        try:
            about = [pod, *self._suspended_jobs(pod)]
            queries = [{"fieldSelector": f"involvedObject.uid={each['metadata']['uid']}"} for each in about]
            events = [it for query in queries for it in self._cluster.list("events", query)]
        except Refused:  # as it will be at the next look
            events = []
        told = [it for it in sorted(events, key=_when) if it.get("reason") in ENDS]
        said = [f"{it['reason']}: {it.get('message')}" for it in told]
        return "; ".join(dict.fromkeys(filter(None, (*said, self._why_node_leaves(pod)))))

    def _suspended_jobs(self, pod: Object) -> list[Object]:
        """Returns the pod's Job if it is suspended now: a watched Job is not read again while it has a pod."""
        owners = {owner["uid"]: owner["name"] for owner in pod["metadata"].get("ownerReferences") or ()}
        queries = [{"fieldSelector": f"metadata.name={name}"} for name in owners.values()]
        jobs = [it for query in queries for it in self._cluster.list("jobs", query, keep=projection.of_job)]
        return [job for job in jobs if job["metadata"]["uid"] in owners and job["spec"].get("suspend")]

    def _why_node_leaves(self, pod: Object) -> str:
        name = pod["spec"].get("nodeName")
        try:  # its current state: a drain cordons a node moments before
            query = {"fieldSelector": f"metadata.name={name}"}
            nodes = self._cluster.list("nodes", query, keep=projection.of_node) if name else []
        except Refused:
            return ""
        return next(map(why_node_leaves, nodes), "")


def _told(
    events: Sequence[Object], waiting: Sequence[AttemptObjects], now: float
) -> tuple[dict[str, tuple[str, ...]], dict[str, list[str]]]:
    """Returns by uid what recent warnings say, and what failed image pulls say; oldest first."""
    has_pod = {(each.pod or each.job or {})["metadata"]["uid"]: each.pod is not None for each in waiting}
    warnings: dict[str, list[str]] = {}
    pulls: dict[str, list[str]] = {}
    for event in sorted(events, key=_when):
        uid = event["involvedObject"].get("uid")
        is_over = has_pod.get(uid, False) and seconds_of(_when(event)) < now - REPEATED_S
        said = str(event.get("message") or event.get("reason"))
        if uid in has_pod and said.startswith(PULL_FAILED):
            pulls.setdefault(uid, []).append(said)  # tries are up to five minutes apart
        if uid in has_pod and not is_over and str(event.get("reason")).startswith("Failed"):
            warnings.setdefault(uid, []).append(said)
    return {uid: tuple(said) for uid, said in warnings.items()}, pulls


def _ends_by_itself(job: Object | None) -> bool:
    """Whether a Job has ended or is about to, or somebody deletes it: its pod then goes for that reason."""
    conditions = ((job or {}).get("status") or {}).get("conditions") or ()
    has_own_end = any(each["type"] in OWN_ENDS and each["status"] == "True" for each in conditions)
    return has_own_end or "deletionTimestamp" in (job or {"metadata": {}})["metadata"]


def _told_to_end(pod: Object) -> Object:
    """Returns the pod as one that was deleted; the time of its deletion is not known."""
    return {**pod, "metadata": {"deletionTimestamp": "", **pod["metadata"]}}


def _has(shown: AttemptObjects, pod: Object) -> bool:
    return any(_uid(each) == _uid(pod) for each in shown.pods)


def _uid(pod: Object) -> str:
    return str(pod["metadata"]["uid"])


def _job(shown: AttemptObjects) -> str:
    """Returns the uid of the attempt's Job, or else of its pod; empty if it has neither."""
    return next((str(uid) for it in (shown.job, shown.pod) if it and (uid := it["metadata"].get("uid"))), "")


def _when(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])
