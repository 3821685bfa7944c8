"""Observes a host's attempts: three lists by label, and further queries to explain why some do not run.

A snapshot stays valid until a watch of the pods or our own writes signal a change. Neither signals a Job's own end, an
event or a ConfigMap that somebody deleted: the first refresh after REFRESH_S finds those. With many jobs, some pod
changes at any moment and each refresh lists them all, so refreshes take at most REFRESH_SHARE of the time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.config import KubernetesHost
from orchestrator.executors.contract import Attempt, Observation
from orchestrator.executors.kubernetes import projection
from orchestrator.executors.kubernetes.cluster import LONGEST_MESSAGE, METADATA_ONLY, Cluster, Refused
from orchestrator.executors.kubernetes.disruption import why_node_leaves
from orchestrator.executors.kubernetes.fit import why_none_fits
from orchestrator.executors.kubernetes.manifest import attempt_of, selector
from orchestrator.executors.kubernetes.observation import AttemptObjects, observation
from orchestrator.executors.kubernetes.pods import own_container, own_state
from orchestrator.executors.kubernetes.pulling import PULL_FAILED, is_final, reason_in
from orchestrator.executors.kubernetes.waiting import IMAGE_TROUBLE, WaitingEvidence, seconds_of, why_waiting

# With an open watch that reports nothing, the lists are still made this often.
REFRESH_S = 15.0
REFRESH_SHARE = 0.1
# Nodes change slowly, and the list of a large cluster is megabytes.
NODES_KEPT_S = 30.0
# A kubelet retries a mount or a sandbox within two minutes: a failure without a repetition since then is over.
REPEATED_S = 180.0
# Event reasons of components that end pods: the scheduler, the taint manager, the node; for a Job, Kueue.
ENDS = ("Preempted", "TaintManagerEviction", "Evicted", "NodeShutdown", "Preempting", "NodeNotReady", "Stopped")
MOST_ENDED = 20  # per refresh; with more, their common cause is known by then


@dataclass(frozen=True)
class Snapshot:
    """The result of one refresh. at: its start. told, writes: the number of changes known by then, others' and ours."""

    at: float = 0.0
    took_s: float = 0.0
    told: int | None = None
    writes: int = -1
    shown: Mapping[Attempt, AttemptObjects] = field(default_factory=dict)
    evidence: WaitingEvidence = field(default_factory=WaitingEvidence)


class ClusterView:
    """Observes one host. Its cache is at most REFRESH_S old, and no job state depends on it."""

    def __init__(self, cluster: Cluster, host: KubernetesHost) -> None:
        self._cluster, self._host = cluster, host
        self._nodes: tuple[float, Sequence[Mapping[str, Any]]] = (-NODES_KEPT_S, ())
        self._last = Snapshot()
        # why image pulls failed, by the pod's uid: between its tries a kubelet reports only that it waits
        self._pulls: Mapping[str, str] = {}
        self._ended_by: Mapping[str, str] = {}

    def all(self, told: int | None) -> dict[Attempt, Observation]:
        """Returns all attempts. told: number of changes that a watch has reported; None if none is open."""
        if self._is_stale(told):
            self._last = self._seen(told)
        sight = self._last
        now = time.time() + self._cluster.skew_s
        seen = {a: observation(each, now, self._host.patience, sight.evidence) for a, each in sight.shown.items()}
        return {a: replace(found, reason=found.reason[:LONGEST_MESSAGE]) for a, found in seen.items() if found}

    @property
    def pause_s(self) -> float:
        """How long after the start of a refresh others' changes stay unseen."""
        return self._last.took_s / REFRESH_SHARE

    def _is_stale(self, told: int | None) -> bool:
        sight, age_s = self._last, time.monotonic() - self._last.at
        if told is None or self._cluster.writes != sight.writes or age_s > REFRESH_S:
            return True
        return told != sight.told and age_s >= self.pause_s

    def _seen(self, told: int | None) -> Snapshot:
        at, writes, shown = time.monotonic(), self._cluster.writes, self._shown()
        waiting = [each for each in shown.values() if each.is_waiting]
        evidence = self._evidence(waiting, time.time() + self._cluster.skew_s) if waiting else WaitingEvidence()
        evidence = replace(evidence, ends=self._ends(shown.values()))
        return Snapshot(at, time.monotonic() - at, told, writes, shown, evidence)

    def _shown(self) -> dict[Attempt, AttemptObjects]:
        """Lists in creation order (ConfigMap, Job, pod), so that no attempt is missed between two lists."""
        query = {"labelSelector": selector(self._host)}
        configs = _by_attempt(self._cluster.list("configmaps", query, accept=METADATA_ONLY))
        jobs = _by_attempt(self._cluster.list("jobs", query))
        pods = _by_owner(self._cluster.list("pods", query))
        return {
            attempt: AttemptObjects(
                configs[attempt]["metadata"] if attempt in configs else None,
                (job := jobs.get(attempt)),
                tuple(pods.get(job["metadata"]["uid"], ())) if job else (),
            )
            for attempt in {**configs, **jobs}
        }

    def _evidence(self, waiting: Sequence[AttemptObjects], now: float) -> WaitingEvidence:
        no_events = no_nodes = ""
        about = {_waiting_for(each)["metadata"]["uid"]: each.pod is not None for each in waiting}
        warnings: dict[str, list[str]] = {}
        pulls: dict[str, list[str]] = {}
        try:
            events = self._cluster.list("events", {"fieldSelector": "type=Warning"})
        except Refused:
            events = []
            no_events = "why is not known: events may not be listed"
        for event in sorted(events, key=_when):
            uid = event["involvedObject"].get("uid")
            is_over = about.get(uid, False) and seconds_of(_when(event)) < now - REPEATED_S
            said = str(event.get("message") or event.get("reason"))
            if uid in about and said.startswith(PULL_FAILED):
                pulls.setdefault(uid, []).append(said)  # tries are up to five minutes apart
            if uid in about and not is_over and str(event.get("reason")).startswith("Failed"):
                warnings.setdefault(uid, []).append(said)
        misfits: dict[str, str] = {}
        unplaced = [pod for each in waiting if (pod := each.pod) and not pod["spec"].get("nodeName")]
        if unplaced:
            try:
                nodes = self._all_nodes()
                misfits = {pod["metadata"]["uid"]: why_none_fits(pod, nodes) for pod in unplaced}
            except Refused:
                no_nodes = "whether any node ever could is not known: nodes may not be listed"
        by_uid = {str(pod["metadata"]["uid"]): pod for each in waiting if (pod := each.pod)}
        whys = {uid: self._why_no_image(pod, pulls.get(uid, ())) for uid, pod in by_uid.items()}
        self._pulls = {uid: why for uid, why in whys.items() if why}
        told = {uid: tuple(said) for uid, said in warnings.items()}
        return WaitingEvidence(told, misfits, self._pulls, no_events=no_events, no_nodes=no_nodes)

    def _why_no_image(self, pod: Mapping[str, Any], events: Sequence[str]) -> str:
        """Returns the first reason until a decisive one comes, so that the text stays stable. events: oldest first."""
        reason, message = why_waiting(own_state(pod))
        if reason not in IMAGE_TROUBLE:
            return ""
        image = str(own_container(pod).get("image", ""))
        told = [said for said in reversed(events) if said.startswith(f'{PULL_FAILED}"{image}"')]
        found = next((why for said in (message, *told) if (why := reason_in(said))), "")
        before = self._pulls.get(str(pod["metadata"]["uid"]), "")
        return before if before and is_final(before, image) == is_final(found, image) else found or before

    def _ends(self, shown: Iterable[AttemptObjects]) -> Mapping[str, str]:
        """Returns by uid what ends the terminating pods. Queried once for each."""
        about = {pod["metadata"]["uid"]: each for each in shown if (pod := each.pod)}
        uids = [uid for uid, each in about.items() if each.pod and "deletionTimestamp" in each.pod["metadata"]]
        known = {uid: self._ended_by[uid] for uid in uids if uid in self._ended_by}
        with contextlib.suppress(Refused):
            for uid in uids[:MOST_ENDED]:
                if uid not in known:
                    known[uid] = self._why_ended(about[uid])
        self._ended_by = known
        return known

    def _why_ended(self, shown: AttemptObjects) -> str:
        """Returns the reason in the events of a pod, those of its Job (if it was suspended again), and its node."""
        pod, job = shown.pod or {}, shown.job or {}
        ours = [pod, job] if job.get("spec", {}).get("suspend") else [pod]
        queries = [{"fieldSelector": f"involvedObject.uid={each['metadata']['uid']}"} for each in ours]
        events = [it for query in queries for it in self._cluster.list("events", query)]
        told = [it for it in sorted(events, key=_when) if it.get("reason") in ENDS]
        said = [f"{it['reason']}: {it.get('message')}" for it in told]
        return "; ".join(dict.fromkeys(filter(None, (*said, self._why_node_leaves(pod)))))

    def _why_node_leaves(self, pod: Mapping[str, Any]) -> str:
        name = pod["spec"].get("nodeName")
        try:  # its current state: a drain cordons a node moments before
            query = {"fieldSelector": f"metadata.name={name}"}
            nodes = self._cluster.list("nodes", query, keep=projection.of_node) if name else []
        except Refused:
            return ""
        return next(map(why_node_leaves, nodes), "")

    def _all_nodes(self) -> Sequence[Mapping[str, Any]]:
        if time.monotonic() - self._nodes[0] > NODES_KEPT_S:
            self._nodes = (time.monotonic(), self._cluster.list("nodes", keep=projection.of_node))
        return self._nodes[1]


def _waiting_for(shown: AttemptObjects) -> Mapping[str, Any]:
    return shown.pod or shown.job or {}


def _by_attempt(objects: Sequence[Mapping[str, Any]]) -> dict[Attempt, Mapping[str, Any]]:
    return {attempt: each for each in objects if (attempt := attempt_of(each["metadata"])) is not None}


def _by_owner(pods: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Groups pods by the uid of the Job that made them."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for pod in pods:
        for owner in pod["metadata"].get("ownerReferences") or ():
            found.setdefault(owner["uid"], []).append(pod)
    return found


def _when(event: Mapping[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])
