"""Why a Job does not run yet, and whether it ever will: Kubernetes itself retries forever.

Each answer is a message and, if waiting cannot help, the status of the affected cases.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from orchestrator.executors.kubernetes.fit import exceeds_alone, uncounted
from orchestrator.executors.kubernetes.pods import own_container, own_state, statuses
from orchestrator.executors.kubernetes.pulling import is_final, reason_in
from runner.schema import Status

Why: TypeAlias = tuple[str, "Status | None"]

# https://github.com/kubernetes/kubernetes/blob/v1.33.0/pkg/kubelet/images/types.go and kuberuntime: a kubelet's reasons
# for a container that it does not start. The first cannot resolve by themselves, except NOT_READ_YET.
HOPELESS = ("InvalidImageName", "CreateContainerConfigError", "SignatureValidationFailed")
# From a kubelet that has just started, as on an autoscaler's new node, or that got no response in time.
NOT_READ_YET = re.compile(r"not yet been read|failed to sync \w+ cache|timed out waiting for the condition")
NOT_ON_NODE = "ErrImageNeverPull"
IMAGE_TROUBLE = ("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable")
IN_THE_MAKING = ("ContainerCreating", "PodInitializing")
PUSH_OR_LOAD = "fix: submit --push REGISTRY, or load it into each node"
# A Job's next try at a pod has another name, but the message is otherwise the same.
POD_NAME = re.compile(r'(?:Error creating: )?pods "[^"]*" is')
NO_FOLDER = "hostPath type check failed"
LOOKED_FOR_AFTER_S = 5.0
SLOW_AFTER_S = 30.0


@dataclass(frozen=True)
class WaitingEvidence:
    """The query results besides the objects themselves.

    warnings: messages of warning events by the uid of their object, oldest first. misfits: by pod uid, why no existing
    node could ever take it. pulls: by pod uid, why its image pull failed. ends: by pod uid, who ends it.
    before: by Job uid, how its pod was ended that is gone by now.
    no_events, no_nodes: what is unknown because the account may not list them.
    """

    warnings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    misfits: Mapping[str, str] = field(default_factory=dict)
    pulls: Mapping[str, str] = field(default_factory=dict)
    ends: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, str] = field(default_factory=dict)
    no_events: str = ""
    no_nodes: str = ""


def why_pending(pod: Mapping[str, Any], now: float, patience_s: float, evidence: WaitingEvidence) -> Why:
    """Explains a pod in which no container has run."""
    uid = pod["metadata"]["uid"]
    scheduled = scheduled_condition(pod)
    if scheduled["status"] != "True":
        return _unscheduled(pod, scheduled, now, patience_s, evidence)
    waited_s = now - seconds_of(scheduled.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"])
    reason, message = why_waiting(own_state(pod))
    said = f"{reason}: {message}" if message else reason
    image = str(own_container(pod).get("image", "?"))
    if reason == NOT_ON_NODE:
        return f"image {image} is not on node {pod['spec'].get('nodeName', '?')}; {PUSH_OR_LOAD}", Status.FAILED
    if reason in HOPELESS and not NOT_READ_YET.search(message):
        return f"its container cannot be made: {said}", Status.FAILED
    if reason in IMAGE_TROUBLE or uid in evidence.pulls:
        why = evidence.pulls.get(uid) or reason_in(message)
        is_awaited = not why and not evidence.no_events  # its event may come after its pod's state
        if is_awaited and waited_s < SLOW_AFTER_S:
            return "", None
        is_over = waited_s > patience_s + SLOW_AFTER_S * is_awaited or is_final(why, image)
        return f"image {image} cannot be pulled: {why or said}", Status.FAILED if is_over else None
    if before := _held_up_by(pod):
        return before, Status.FAILED if waited_s > patience_s else None
    warnings = evidence.warnings.get(uid) or ("",)
    last = next((said for said in warnings if NO_FOLDER in said), warnings[-1])
    if reason and reason not in IN_THE_MAKING:
        return f"its container is not made: {said}", Status.FAILED if waited_s > patience_s else None
    if last and waited_s > LOOKED_FOR_AFTER_S:
        is_over = NO_FOLDER in last or waited_s > patience_s
        return f"its container is not made: {last}", Status.FAILED if is_over else None
    if evidence.no_events and waited_s > SLOW_AFTER_S:
        return f"its container is not made for over {SLOW_AFTER_S:.0f} s; {evidence.no_events}", None
    return "", None


def scheduled_condition(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the scheduler's condition of a pod."""
    conditions = pod["status"].get("conditions") or ()
    return next((c for c in conditions if c["type"] == "PodScheduled"), {"status": "Unknown"})


def why_waiting(state: Mapping[str, Any]) -> tuple[str, str]:
    """Returns reason and message of a waiting container; empty if it does not wait."""
    waiting = state.get("waiting") or {}
    return str(waiting.get("reason") or ""), str(waiting.get("message") or "")


def _held_up_by(pod: Mapping[str, Any]) -> str:
    """Returns which init container delays ours; empty if none does."""
    for each in statuses(pod, "initContainerStatuses"):
        reason, message = why_waiting(each.get("state") or {})
        if reason and reason not in IN_THE_MAKING:
            said = f"{reason}: {message}" if message else reason
            return f"it waits for its init container {each['name']}: {said}"
    return ""


def _unscheduled(
    pod: Mapping[str, Any], condition: Mapping[str, Any], now: float, patience_s: float, evidence: WaitingEvidence
) -> Why:
    if condition.get("reason") == "SchedulingGated":
        return "it is held back by a scheduling gate", None
    words = str(condition.get("message") or "")
    if not words:
        return "", None
    waited_s = now - seconds_of(pod["metadata"]["creationTimestamp"])
    misfit = evidence.misfits.get(pod["metadata"]["uid"], "")
    no_claim = bool(re.search(r'persistentvolumeclaim "[^"]*" not found', words))
    status = Status.FAILED if (misfit or no_claim) and waited_s > patience_s else None
    parts = (f"no node takes it: {words}", misfit, evidence.no_nodes)
    return "; ".join(part.rstrip(". ") for part in parts if part), status


def why_no_pod(job: Mapping[str, Any], now: float, patience_s: float, evidence: WaitingEvidence) -> Why:
    """Explains a Job without a pod."""
    if job["spec"].get("suspend"):
        queue = job["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name")
        return f"it waits in the queue {queue}" if queue else "the Job is suspended", None
    waited_s = now - seconds_of(job["metadata"]["creationTimestamp"])
    warnings = evidence.warnings.get(job["metadata"]["uid"]) or ()
    if not warnings:
        # the same words at every refresh: a changed message is reported again
        said = f"the cluster has made no pod of it for over {SLOW_AFTER_S:.0f} s"
        return ("; ".join(filter(None, (said, evidence.no_events))) if waited_s > SLOW_AFTER_S else ""), None
    last = POD_NAME.sub("its pod is", warnings[-1])
    said = f"the cluster makes no pod of it: {last}"
    if "exceeded quota" in last:
        return said, Status.FAILED if exceeds_alone(last) else None
    if uncounted(last):
        return said, None
    if "error looking up service account" in last:  # a new namespace gets its account a moment later
        return said, Status.FAILED if waited_s > patience_s else None
    is_refused = "is forbidden" in last or "is invalid" in last or "denied the request" in last
    return said, Status.FAILED if is_refused else None


def seconds_of(stamp: str) -> float:
    """Converts Kubernetes' RFC 3339 in UTC to seconds since the epoch."""
    return datetime.fromisoformat(f"{stamp[:19]}+00:00").timestamp()
