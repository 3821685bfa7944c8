"""Checks a cluster for one host's jobs, for `hosts --check`: each finding with its fix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator import installation
from orchestrator.config import KubernetesHost
from orchestrator.config.kubernetes import Claim
from orchestrator.errors import HostUnfit, HostUnreachable, InputError
from orchestrator.executors.finding import Finding, Grade
from orchestrator.executors.kubernetes import permissions
from orchestrator.executors.kubernetes.capacity import labels
from orchestrator.executors.kubernetes.check_nodes import of_images, of_nodes
from orchestrator.executors.kubernetes.check_quota import of_quotas
from orchestrator.executors.kubernetes.cluster import Cluster
from orchestrator.executors.kubernetes.facts import Fact, Facts, Unavailable, read_facts
from orchestrator.executors.kubernetes.namespaces import how_to_make, missing
from orchestrator.executors.kubernetes.permissions import Permission, Role
from orchestrator.executors.kubernetes.projection import ACCOUNT

ENFORCE = "pod-security.kubernetes.io/enforce"
MOST_NAMED = 4
DOCKER_CONFIG = "kubernetes.io/dockerconfigjson"
# Checked only if the host's entry has one of the keys.
FOR_KEYS = {
    "localqueues": ("queue",),
    "runtimeclasses": ("runtime_class",),
    "serviceaccounts": ("service_account",),
    "persistentvolumeclaims": ("weights", "cache"),
}


def check(host: KubernetesHost, cluster: Cluster, images: Sequence[str] = ()) -> tuple[Finding, ...]:
    """Checks a cluster as a host's jobs will find it, and changes nothing. A failed check is a finding too.

    images: the images of its pods.
    """
    try:
        with cluster.understood():
            return _checked(host, cluster, images)
    except (HostUnreachable, HostUnfit, InputError) as error:
        return (Finding("connection", Grade.PROBLEM, str(error)),)


def _checked(host: KubernetesHost, cluster: Cluster, images: Sequence[str]) -> tuple[Finding, ...]:
    facts = read_facts(host, cluster, images)
    context, namespace = cluster.context.name, cluster.namespace
    text = f"Kubernetes {facts.version}, context {context}; answers in {1000 * facts.took_s:.0f} ms"
    return (Finding("server", Grade.OK, text), *findings(host, namespace, facts, images))


def findings(host: KubernetesHost, namespace: str, facts: Facts, images: Sequence[str] = ()) -> Iterator[Finding]:
    """Turns a cluster's answers into findings; a pure function."""
    yield _namespace(host, namespace, facts)
    if facts.namespace is Unavailable.MISSING or _is_closed(facts):  # there is nothing to say about its content
        yield from of_nodes(host, facts)
        return
    yield from _others(host, namespace, facts)
    yield from _rights(host, namespace, facts.refused)
    yield from of_nodes(host, facts)
    yield from of_images(host, images, facts)
    yield from of_quotas(host, facts)
    if host.queue:
        yield _queue(host.queue, namespace, facts)
    if host.runtime_class:
        yield _named("runtime class", host.runtime_class, facts.runtime_class, "kubectl get runtimeclasses")
    if host.service_account:
        known = f"kubectl -n {namespace} get serviceaccounts"
        yield _named("service account", host.service_account, facts.service_account, known)
    if isinstance(host.weights, Claim):
        yield _claim("weights", host.weights.claim, namespace, facts.weights_claim)
    if isinstance(host.cache, Claim):
        yield _claim("cache", host.cache.claim, namespace, facts.cache_claim)
    if host.image_pull_secret:
        yield _pull_secret(host.image_pull_secret, namespace, facts.pull_secret)


def _namespace(host: KubernetesHost, namespace: str, facts: Facts) -> Finding:
    fact = facts.namespace
    if fact is Unavailable.MISSING:
        return Finding("namespace", Grade.PROBLEM, *missing(host, namespace, facts.namespaces))
    if _is_closed(facts):
        return Finding("namespace", Grade.PROBLEM, *missing(host, namespace, facts.namespaces, seen=False))
    level = "" if isinstance(fact, Unavailable) else labels(fact).get(ENFORCE, "")
    text = f"{namespace}{f', which holds pods to Pod Security {level!r}' if level else ''}"
    folders = {key: folder for key in ("weights", "cache") if isinstance(folder := getattr(host, key), str)}
    if folders and level in ("baseline", "restricted"):
        named = ", ".join(f"{key}: {folder}" for key, folder in folders.items())
        claims = " and ".join(f"{key}: {{claim: NAME}}" for key in folders)
        return Finding(
            "namespace",
            Grade.PROBLEM,
            f"{text}: that forbids folders of a node ({named})",
            f"{claims}, or a namespace of its own that enforces 'privileged'",
        )
    return Finding("namespace", Grade.OK, text)


def _is_closed(facts: Facts) -> bool:
    """Whether we may change nothing there, as in a missing namespace; some accounts may read everywhere."""
    changes = [it for it in permissions.permissions() if it.is_needed and it.verb not in ("get", "list", "watch")]
    return facts.namespace is Unavailable.FORBIDDEN and {*changes} <= {*facts.refused}


def _others(host: KubernetesHost, namespace: str, facts: Facts) -> Iterator[Finding]:
    """Reports objects of others in the namespace: anyone who may create Jobs there can mount its Secrets."""
    # before 1.24 each account has a Secret with its token
    expected = {"default", "bench-job", "orchestrator", host.service_account} - {None}
    for kind, listing in (("Secrets", facts.others_secrets), ("pods", facts.others_pods)):
        found = () if isinstance(listing, Unavailable) else [it["metadata"] for it in listing]
        others = [it["name"] for it in found if (it.get("annotations") or {}).get(ACCOUNT) not in expected]
        if names := sorted({*map(str, others)} - {host.image_pull_secret}):
            more = f", and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            text = (
                f"{namespace} holds {kind} of others ({', '.join(names[:MOST_NAMED])}{more}); anyone who may create "
                f"Jobs there can mount every Secret in it"
            )
            yield Finding(
                "neighbours",
                Grade.WARNING,
                text,
                f"use a namespace for benchmarks alone; {how_to_make(host, namespace)}",
            )


def _rights(host: KubernetesHost, namespace: str, refused: Sequence[Permission]) -> Iterator[Finding]:
    needed = [permission for permission in refused if permission.is_needed]
    for permission in needed:
        text = f"may not {permission} in {namespace}, without which no job runs"
        yield Finding(
            "permissions", Grade.PROBLEM, text, f"granted by {permission.where}; {how_to_make(host, namespace)}"
        )
    for permission in refused:
        if not permission.is_needed and _matters(permission, host) and not _is_said(permission, refused):
            where = "all namespaces" if permission.in_all_namespaces else namespace
            text = f"may not {permission} in {where}, so {_less_without(permission)}; jobs still run"
            yield Finding("permissions", Grade.WARNING, text, f"granted by {permission.where}")
    if not needed:
        count = sum(permission.is_needed for permission in permissions.permissions())
        yield Finding("permissions", Grade.OK, f"all {count} that jobs need, in {namespace}")


def _is_said(permission: Permission, refused: Sequence[Permission]) -> bool:
    """Whether the right to list is missing too: without it, the right to watch is of no use."""
    return permission.verb == "watch" and any(
        (it.verb, it.group, it.resource) == ("list", permission.group, permission.resource) for it in refused
    )


def _less_without(permission: Permission) -> str:
    if permission.verb == "watch":
        return "they are listed every few seconds, which loads the API server"
    return "nothing says why a job does not start" if permission.role is Role.RUN else "this check says less"


def _matters(permission: Permission, host: KubernetesHost) -> bool:
    if permission.resource == "pods" and permission.in_all_namespaces:
        return host.gpus != "none"
    return any(getattr(host, key) for key in FOR_KEYS.get(permission.resource, ("name",)))


def _queue(queue: str, namespace: str, facts: Facts) -> Finding:
    if facts.kueue is Unavailable.MISSING:
        text = f"queue is {queue}, and the cluster has no Kueue"
        return Finding(
            "queue",
            Grade.PROBLEM,
            text,
            f"drop `queue`, or have Kueue installed ({installation.folder('docs')}/kubernetes-admin.md)",
        )
    fact = facts.queue
    if isinstance(fact, Unavailable):
        return _named("queue", queue, fact, f"kubectl -n {namespace} get localqueues")
    status = fact.get("status") or {}
    active = next((it for it in status.get("conditions") or () if it["type"] == "Active"), None)
    held = (fact["spec"].get("stopPolicy") or "None") != "None"
    if held or (active is not None and active["status"] != "True"):
        said = "it is on hold" if held else active["message"] if active else ""
        return Finding("queue", Grade.PROBLEM, f"{queue} admits nothing: {said}", "ask the cluster's admin")
    waiting, running = status.get("pendingWorkloads", 0), status.get("admittedWorkloads", 0)
    return Finding("queue", Grade.OK, f"{queue}: {running} admitted, {waiting} waiting")


def _named(topic: str, name: str, fact: Fact, known: str) -> Finding:
    """Reports whether a named object exists; one that we may not read is no problem yet."""
    if fact is Unavailable.MISSING:
        return Finding(topic, Grade.PROBLEM, f"there is no {topic} {name}", f"those that are there: {known}")
    if fact is Unavailable.FORBIDDEN:
        return Finding(topic, Grade.OK, f"{name} may not be looked at")
    return Finding(topic, Grade.OK, f"{name} is there")


def _claim(key: str, claim: str, namespace: str, fact: Fact) -> Finding:
    """Reports on the claim of `weights` or `cache`; jobs write to the latter."""
    known = f"kubectl -n {namespace} get persistentvolumeclaims"
    if fact is Unavailable.MISSING:
        return Finding(key, Grade.PROBLEM, f"there is no claim {claim}", f"those that are there: {known}")
    if isinstance(fact, Unavailable):
        return _named(key, claim, fact, known)
    phase, modes = fact["status"].get("phase"), ", ".join(fact["spec"]["accessModes"])
    if phase == "Lost":
        return Finding(key, Grade.PROBLEM, f"claim {claim} has lost its volume", "create it again")
    if key == "cache" and fact["spec"]["accessModes"] == ["ReadOnlyMany"]:
        remedy = "create a claim with ReadWriteMany, or with ReadWriteOnce for one node"
        return Finding(key, Grade.PROBLEM, f"claim {claim} is ReadOnlyMany, and jobs write to it", remedy)
    if phase != "Bound":
        remedy = f"some are bound when the first pod uses them: kubectl -n {namespace} describe pvc {claim}"
        return Finding(key, Grade.WARNING, f"claim {claim} is not bound yet ({phase})", remedy)
    alone = ", so jobs on one node only" if key == "cache" and "ReadWriteMany" not in modes else ""
    return Finding(key, Grade.OK, f"claim {claim} ({modes}{alone})")


def _pull_secret(name: str, namespace: str, fact: Fact) -> Finding:
    if fact is Unavailable.FORBIDDEN:  # expected: our role reads no secrets
        return Finding(
            "pull secret", Grade.OK, f"{name} may not be looked at: kubectl -n {namespace} get secret {name}"
        )
    if not isinstance(fact, Unavailable) and fact.get("type") != DOCKER_CONFIG:
        text = f"{name} is a secret of type {fact.get('type')}, and kubelets read {DOCKER_CONFIG} alone"
        return Finding("pull secret", Grade.PROBLEM, text, f"kubectl -n {namespace} create secret docker-registry")
    return _named("pull secret", name, fact, f"kubectl -n {namespace} get secrets")
