"""A host's attempts from lists, for one look without a watch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.config import KubernetesHost
from orchestrator.executors.contract import Attempt
from orchestrator.executors.kubernetes.cluster import METADATA_ONLY, Cluster
from orchestrator.executors.kubernetes.manifest import attempt_of, selector
from orchestrator.executors.kubernetes.observation import AttemptObjects


def attempts(cluster: Cluster, host: KubernetesHost) -> dict[Attempt, AttemptObjects]:
    """Lists in creation order (ConfigMap, Job, pod), so that no attempt is missed between two lists."""
    query = {"labelSelector": selector(host)}
    configs = _by_attempt(cluster.list("configmaps", query, accept=METADATA_ONLY))
    jobs = _by_attempt(cluster.list("jobs", query))
    pods = _by_owner(cluster.list("pods", query))
    return {
        attempt: AttemptObjects(
            configs[attempt]["metadata"] if attempt in configs else None,
            (job := jobs.get(attempt)),
            tuple(pods.get(job["metadata"]["uid"], ())) if job else (),
        )
        for attempt in {**configs, **jobs}
    }


def _by_attempt(objects: Sequence[Mapping[str, Any]]) -> dict[Attempt, Mapping[str, Any]]:
    return {attempt: each for each in objects if (attempt := attempt_of(each["metadata"])) is not None}


def _by_owner(pods: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Groups pods by the uid of the Job that made them."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for pod in pods:
        for owner in pod["metadata"].get("ownerReferences") or ():
            found.setdefault(owner["uid"], []).append(pod)
    return found
