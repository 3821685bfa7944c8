"""Whether any existing node could take a pod if it were empty: the scheduler tells only why none takes it now."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from kubernetes.utils.quantity import parse_quantity

MOST_NAMED = 4
NONE = Decimal(0)
# Errors of a quota that was just created or changed, and of one under which many objects are created at once.
UNCOUNTED = re.compile(r'status unknown for quota: ([^\s,]+)|on resourcequotas "([^"]+)": the object has been modified')
# Taints that come and go with a node's health do not show what it could take.
PASSING_TAINTS = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")


def why_none_fits(pod: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> str:
    """Returns what each node lacks; empty if one lacks nothing. Ignores other pods' usage."""
    lacking = {str(node["metadata"]["name"]): lacks(pod["spec"], node) for node in nodes}
    if not all(lacking.values()):
        return ""
    if not nodes:
        return "the cluster has no nodes"
    named = [f"{name} {what}" for name, what in list(lacking.items())[:MOST_NAMED]]
    more = len(lacking) - len(named)
    return "no node could ever take it: " + ", ".join(named) + (f", and {more} more" if more else "")


def lacks(spec: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    """Returns what a pod needs and a node lacks, labels first; empty if nothing."""
    labels = node["metadata"].get("labels") or {}
    for key, value in (spec.get("nodeSelector") or {}).items():
        if labels.get(key) != value:
            return f"is {key}={labels[key]}, not {value}" if key in labels else f"has no label {key}"
    if not is_required(node, spec.get("affinity")):
        return "is not what affinity.nodeAffinity requires"
    for taint in node["spec"].get("taints") or ():
        lasts = taint["effect"] != "PreferNoSchedule" and not taint["key"].startswith(PASSING_TAINTS)
        if lasts and not any(tolerates(toleration, taint) for toleration in spec.get("tolerations") or ()):
            return f"has the taint {taint['key']}"
    if short := short_of(node, {name: requested(spec, name) for name in _resources(spec)}):
        return f"has {node['status'].get('allocatable', {}).get(short, 'no')} {short}"
    return ""


def short_of(node: Mapping[str, Any], asked: Mapping[str, Decimal]) -> str | None:
    """Returns the first resource of which an empty node has less than requested; None if it has enough."""
    return next((name for name, wanted in asked.items() if allocatable(node, name) < wanted), None)


def allocatable(node: Mapping[str, Any], resource: str) -> Decimal:
    """Returns a node's allocatable amount in the resource's unit (CPUs, bytes, GPUs)."""
    return amount((node.get("status", {}).get("allocatable") or {}).get(resource, "0"))


def requested(spec: Mapping[str, Any], resource: str) -> Decimal:
    """Returns a pod's effective request: the sum of its containers, or an init container's if that is more."""
    together = sum((_asks(container, resource) for container in spec["containers"]), NONE)
    first = max((_asks(container, resource) for container in spec.get("initContainers") or ()), default=NONE)
    return max(together, first) + amount((spec.get("overhead") or {}).get(resource, "0"))


def _asks(container: Mapping[str, Any], resource: str) -> Decimal:
    resources = container.get("resources") or {}
    said = (resources.get("requests") or {}).get(resource) or (resources.get("limits") or {}).get(resource)
    return amount(said or "0")


def _resources(spec: Mapping[str, Any]) -> list[str]:
    """Returns the resource names that all containers request, in order."""
    asked = [
        (container.get("resources") or {}).get(kind) or {}
        for container in (*spec["containers"], *(spec.get("initContainers") or ()))
        for kind in ("limits", "requests")
    ]
    return list(dict.fromkeys(name for each in (*asked, spec.get("overhead") or {}) for name in each))


def is_required(node: Mapping[str, Any], affinity: Mapping[str, Any] | None) -> bool:
    """Whether a pod's required nodeAffinity, if any, allows the node.

    Source: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#operators
    """
    of_nodes = (affinity or {}).get("nodeAffinity") or {}
    required = of_nodes.get("requiredDuringSchedulingIgnoredDuringExecution")
    return not required or any(_fulfils(node, term) for term in required["nodeSelectorTerms"])


def _fulfils(node: Mapping[str, Any], term: Mapping[str, Any]) -> bool:
    metadata = node["metadata"]
    labels, fields = metadata.get("labels") or {}, {"metadata.name": metadata["name"]}
    wanted = [(labels, each) for each in term.get("matchExpressions") or ()]
    wanted += [(fields, each) for each in term.get("matchFields") or ()]
    # an empty term matches no node
    return bool(wanted) and all(
        _holds(has.get(each["key"]), each["operator"], each.get("values") or ()) for has, each in wanted
    )


def _holds(value: str | None, operator: str, values: Sequence[str]) -> bool:
    match operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists" | "DoesNotExist":
            return (value is not None) == (operator == "Exists")
        case _:
            try:
                more = int(value or "") - int(values[0])
            except (ValueError, IndexError):
                return False
            return more > 0 if operator == "Gt" else more < 0


def exceeds_alone(message: str) -> bool:
    """Whether one pod requests more than the whole quota, so that waiting cannot help.

    «exceeded quota: gpus, requested: requests.nvidia.com/gpu=2, used: requests.nvidia.com/gpu=0, limited:
    requests.nvidia.com/gpu=1»
    """
    quota = exceeded(message)
    try:
        return quota is not None and any(amount(quota.asked[name]) > amount(all_) for name, all_ in quota.has.items())
    except (KeyError, ValueError):
        return False


class Exceeded(NamedTuple):
    """An exceeded quota. asked: by one object. has: the quota's totals of the exceeded resources."""

    name: str
    asked: Mapping[str, str]
    has: Mapping[str, str]

    def __str__(self) -> str:
        return f"quota {self.name} is used up ({', '.join(f'{what}: {all_}' for what, all_ in self.has.items())})"


def exceeded(message: str) -> Exceeded | None:
    parts = re.search(r"exceeded quota: ([^\s,]+), requested: (.*?), used: (.*?), limited: (.*)$", message)
    if parts is None:
        return None
    name, *rest = parts.groups()
    asked, _, limited = (dict(re.findall(r"([^\s,=]+)=([^\s,]+)", part)) for part in rest)
    return Exceeded(name, asked, limited)


def uncounted(message: str) -> str:
    """Returns the quota whose usage is not counted yet, whether or not it has room; empty if there is none."""
    found = UNCOUNTED.search(message)
    return next(filter(None, found.groups()), "") if found else ""


def amount(quantity: str) -> Decimal:
    """Converts a Kubernetes quantity such as `250m` or `1Gi`, exactly."""
    return Decimal(parse_quantity(quantity))


def tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """Source: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/"""
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return bool(toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""))
