"""Collects a cluster's answers on everything that a host's jobs need, as one value for `check`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, TypeAlias

from orchestrator.config import KubernetesHost
from orchestrator.config.kubernetes import Claim
from orchestrator.executors.contract import LABEL
from orchestrator.executors.kubernetes import projection
from orchestrator.executors.kubernetes.cluster import METADATA_ONLY, Cluster, Keep, Refused
from orchestrator.executors.kubernetes.namespaces import others
from orchestrator.executors.kubernetes.permissions import Permission, permissions

QUEUES = "/apis/kueue.x-k8s.io"
RUNTIMES = "/apis/node.k8s.io/v1/runtimeclasses"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
Object: TypeAlias = Mapping[str, Any]


class Unavailable(Enum):
    """Why an object could not be read."""

    MISSING = "there is none"
    FORBIDDEN = "may not be looked at"
    UNASKED = "not used"


Fact: TypeAlias = Object | Unavailable
Listing: TypeAlias = Sequence[Object] | Unavailable


@dataclass(frozen=True)
class Facts:
    """A cluster's answers. pods: of all namespaces; otherwise own_pods: of our namespace. refused: missing permissions.

    others_pods, others_secrets: metadata of objects in our namespace that belong to no run.
    namespaces: the existing names, if ours does not exist.
    """

    version: str
    took_s: float
    namespace: Fact
    refused: Sequence[Permission]
    nodes: Listing
    pods: Listing
    own_pods: Listing
    quotas: Listing
    defaults: Listing
    kueue: Fact
    queue: Fact
    runtime_class: Fact
    weights_claim: Fact
    cache_claim: Fact
    service_account: Fact
    pull_secret: Fact
    others_pods: Listing
    others_secrets: Listing
    namespaces: Sequence[str] = ()


def read_facts(
    host: KubernetesHost, cluster: Cluster, images: Sequence[str] = (), clock: Callable[[], float] = time.monotonic
) -> Facts:
    """Queries what the host names, and changes nothing. Raises HostUnreachable, and InputError for our credentials.

    images: the images to look for on nodes.
    """

    def get(path: str, wanted: object = True) -> Fact:
        if not wanted:
            return Unavailable.UNASKED
        try:
            return cluster.call("GET", path)
        except Refused as refusal:
            return _unavailable(refusal)

    def listed(path: str, keep: Keep | None = None) -> Listing:
        try:
            return cluster.items(path, keep=keep)
        except Refused as refusal:
            return _unavailable(refusal)

    def not_ours(resource: str) -> Listing:
        """Lists foreign objects. Never requests a Secret's content, nor lists them without the permission, as usual."""
        if not _allowed(cluster, {"verb": "list", "resource": resource, "namespace": cluster.namespace}):
            return Unavailable.FORBIDDEN
        query = {"labelSelector": f"!{LABEL}"}
        try:
            return cluster.items(cluster.path(resource), query, accept=METADATA_ONLY, keep=projection.of_any)
        except Refused as refusal:
            return _unavailable(refusal)

    began = clock()
    version = str(cluster.call("GET", "/version")["gitVersion"])[:100]
    took_s = clock() - began
    here = f"/api/v1/namespaces/{cluster.namespace}"
    namespace = get(here)
    weights, cache = (of.claim if isinstance(of, Claim) else None for of in (host.weights, host.cache))
    pods = listed("/api/v1/pods", projection.of_pod)
    kueue = get(QUEUES, host.queue)
    served = "" if isinstance(kueue, Unavailable) else kueue["preferredVersion"]["groupVersion"]
    return Facts(
        version,
        took_s,
        namespace=namespace,
        refused=[permission for permission in permissions() if not _may(cluster, permission)],
        nodes=listed("/api/v1/nodes", partial(projection.of_node, images=images)),
        pods=pods,
        own_pods=listed(f"{here}/pods", projection.of_pod) if isinstance(pods, Unavailable) else Unavailable.UNASKED,
        quotas=listed(f"{here}/resourcequotas"),
        defaults=listed(f"{here}/limitranges"),
        kueue=kueue,
        queue=get(f"/apis/{served}/namespaces/{cluster.namespace}/localqueues/{host.queue}", served),
        runtime_class=get(f"{RUNTIMES}/{host.runtime_class}", host.runtime_class),
        weights_claim=get(f"{here}/persistentvolumeclaims/{weights}", weights),
        cache_claim=get(f"{here}/persistentvolumeclaims/{cache}", cache),
        service_account=get(f"{here}/serviceaccounts/{host.service_account}", host.service_account),
        pull_secret=get(f"{here}/secrets/{host.image_pull_secret}", host.image_pull_secret),
        others_pods=not_ours("pods"),
        others_secrets=not_ours("secrets"),
        namespaces=others(cluster) if isinstance(namespace, Unavailable) else (),
    )


def _unavailable(refusal: Refused) -> Unavailable:
    """Maps a refusal to Unavailable. Raises it again if it is neither of the two."""
    if refusal.code == 404:
        return Unavailable.MISSING
    if refusal.code == 403:
        return Unavailable.FORBIDDEN
    raise refusal


def _may(cluster: Cluster, permission: Permission) -> bool:
    resource, _, subresource = permission.resource.partition("/")
    attributes = {
        "verb": permission.verb,
        "group": permission.group,
        "resource": resource,
        **({"subresource": subresource} if subresource else {}),
        **({} if permission.in_all_namespaces else {"namespace": cluster.namespace}),
    }
    return _allowed(cluster, attributes)


def _allowed(cluster: Cluster, attributes: Mapping[str, str]) -> bool:
    """Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access"""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool(cluster.call("POST", REVIEWS, body=review)["status"]["allowed"])
