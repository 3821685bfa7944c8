"""Maps an attempt's objects in the cluster to an Observation. Pure: takes API objects and the cluster's time.

An attempt is a ConfigMap until it starts, then a Job, then the Job's pod. Its pod is the Job's oldest one. A pod that
Kubernetes creates in place of a deleted one is another instance, which `policy` does not accept for this one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.executors.contract import LABEL, Observation, State
from orchestrator.executors.kubernetes.disruption import why_ended
from orchestrator.executors.kubernetes.pods import ENDED, has_begun, own_state, statuses
from orchestrator.executors.kubernetes.waiting import WaitingEvidence, seconds_of, why_no_pod, why_pending
from runner.schema import Status

# A pod that has not ended this long after its grace: its node does not respond.
DEAF_AFTER_S = 30.0
# A kubelet checks deadlines about once a second, and stamps are in whole seconds.
DEADLINE_SLACK_S = 3


@dataclass(frozen=True)
class AttemptObjects:
    """An attempt's objects in one snapshot. config: the ConfigMap's metadata. pods: those of the Job."""

    config: Mapping[str, Any] | None = None
    job: Mapping[str, Any] | None = None
    pods: tuple[Mapping[str, Any], ...] = ()

    @property
    def has_begun(self) -> bool:
        """Whether a start completed: its last step makes the Job the ConfigMap's owner."""
        return self.config is None or bool(self.config.get("ownerReferences"))

    @property
    def pod(self) -> Mapping[str, Any] | None:
        return chosen(self.pods)

    @property
    def slot(self) -> str:
        metadata = self.job["metadata"] if self.job else self.config or {}
        return str(metadata.get("labels", {}).get(f"{LABEL}.slot", ""))

    @property
    def is_waiting(self) -> bool:
        """Whether events and nodes are needed too, to explain why it does not run."""
        if self.job is None or (self.pod is None and finished(self.job)):
            return False
        return self.pod is None or not has_begun(self.pod)


def chosen(pods: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Returns the attempt's pod: the oldest existing one of its Job."""
    return min(pods, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["uid"]), default=None)


def finished(job: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the condition that ended a Job; None if it has not ended."""
    conditions = job.get("status", {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"), None)


def observation(shown: AttemptObjects, now: float, patience_s: float, evidence: WaitingEvidence) -> Observation | None:
    """Returns the attempt's observation; None if it no longer exists. now: the cluster's time."""
    found = _observed(shown, now, patience_s, evidence)
    before = evidence.before.get(str(shown.job["metadata"]["uid"]), "") if shown.job and evidence.before else ""
    return replace(found, ended_before=before) if found and before else found


def _observed(shown: AttemptObjects, now: float, patience_s: float, evidence: WaitingEvidence) -> Observation | None:
    slot, pod = shown.slot, shown.pod
    if shown.job is None:
        # a ConfigMap is deleted after its Job
        return None if shown.config is None or shown.has_begun else Observation(State.STAGED, slot)
    if pod is None:
        return _without_pod(shown, now, patience_s, evidence)
    is_pending = not has_begun(pod)
    if is_pending and not shown.has_begun:
        return Observation(State.STAGED, slot)
    if is_pending and "deletionTimestamp" not in pod["metadata"]:
        reason, status = why_pending(pod, now, patience_s, evidence)
        return Observation(State.QUEUED, slot, reason=reason, status=status)
    return of_pod(pod, slot, now, evidence.ends.get(str(pod["metadata"]["uid"]), ""))


def of_pod(pod: Mapping[str, Any], slot: str, now: float, ended_by: str = "") -> Observation:
    """Observes a pod that a node has accepted. ended_by: who ends a terminating pod, from events and its node."""
    status, uid = pod["status"], str(pod["metadata"]["uid"])
    state = own_state(pod)
    ended, said = state.get("terminated"), _said(status)
    if ended or (status.get("phase") in ENDED and not _may_still_end(pod, state, now)):
        said = "; ".join(filter(None, (said or _failed_before(pod), why_ended(pod, ended_by))))
        ended = ended or {}
        why = said or _said(ended) if ended.get("reason") not in ("Completed", "Error", "OOMKilled") else said
        oom = ended.get("reason") == "OOMKilled"
        return Observation(
            State.EXITED,
            slot,
            exit_code=ended.get("exitCode"),
            oom_killed=oom,
            reason=why or ("the kernel ended a process of it: out of memory" if oom else ""),
            status=Status.TIMEOUT if status.get("reason") == "DeadlineExceeded" else None,
            instance=uid,
        )
    if now > _should_have_ended(pod) + DEAF_AFTER_S:
        reason = f"its node {_node(pod)} does not answer: told to end it, and did not"
        return Observation(State.LOST, slot, reason=reason, instance=uid)
    if status.get("phase") == "Unknown" or status.get("reason") == "NodeLost":
        return Observation(State.LOST, slot, reason=f"its node {_node(pod)} does not answer", instance=uid)
    reason = f"its node {_node(pod)} does not answer; nothing is lost yet" if _is_cut_off(status, state) else ""
    return Observation(State.RUNNING, slot, reason=reason, instance=uid)


def last_word(pod: Mapping[str, Any]) -> str:
    """Returns an ended container's termination message; empty if it left none."""
    return str(own_state(pod).get("terminated", {}).get("message") or "")


def _without_pod(shown: AttemptObjects, now: float, patience_s: float, evidence: WaitingEvidence) -> Observation:
    job, slot = shown.job or {}, shown.slot
    end = finished(job)
    if end is None:
        if not shown.has_begun:
            return Observation(State.STAGED, slot)
        reason, status = why_no_pod(job, now, patience_s, evidence)
        return Observation(State.QUEUED, slot, reason=reason, status=status)
    if end.get("reason") == "DeadlineExceeded":
        return Observation(
            State.EXITED, slot, reason="its Job's own deadline came, queue included", status=Status.TIMEOUT
        )
    said = _said(end)
    return Observation(State.LOST, slot, reason="its pod is gone, and its log with it" + (f" ({said})" if said else ""))


def _failed_before(pod: Mapping[str, Any]) -> str:
    """Returns which init container failed; empty if none did."""
    for each in statuses(pod, "initContainerStatuses"):
        ended = (each.get("state") or {}).get("terminated")
        if ended and ended.get("exitCode") and "terminated" not in own_state(pod):
            return f"its init container {each['name']} failed: {_said(ended)} (exit code {ended['exitCode']})"
    return ""


def _should_have_ended(pod: Mapping[str, Any]) -> float:
    """Returns when a responsive node has ended the pod, after its deletion or its deadline. Both allow its grace."""
    told, status, spec = pod["metadata"].get("deletionTimestamp"), pod["status"], pod["spec"]
    ends = [seconds_of(told)] if told else []
    if "startTime" in status and spec.get("activeDeadlineSeconds"):
        grace_s = spec.get("terminationGracePeriodSeconds", 0)
        ends.append(seconds_of(status["startTime"]) + spec["activeDeadlineSeconds"] + grace_s)
    return min(ends, default=math.inf)


def _said(of: Mapping[str, Any]) -> str:
    """Joins reason and message of a status or condition into one phrase."""
    return ": ".join(str(of[key]).strip() for key in ("reason", "message") if of.get(key))


def _may_still_end(pod: Mapping[str, Any], state: Mapping[str, Any], now: float) -> bool:
    """Whether its container may still write its last lines: within the grace after the pod's deadline.

    Old kubelets (seen with 1.20) mark such a pod as failed before they end its container, which their status still
    shows as running.
    """
    status, spec = pod["status"], pod["spec"]
    if "running" not in state or status.get("reason") != "DeadlineExceeded" or "startTime" not in status:
        return False
    grace_s = spec.get("terminationGracePeriodSeconds", 0) + DEADLINE_SLACK_S
    return bool(now < seconds_of(status["startTime"]) + spec.get("activeDeadlineSeconds", 0) + grace_s)


def _node(pod: Mapping[str, Any]) -> str:
    return str(pod["spec"].get("nodeName", "?"))


def _is_cut_off(status: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Whether the node is lost: our containers have no readiness probe, so only that makes a running one not ready."""
    ready = [c for c in status.get("conditions") or () if c["type"] == "Ready" and c["status"] == "False"]
    return "running" in state and any(not c.get("reason") for c in ready)
