"""Checks a namespace's quotas for one host's jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from orchestrator.config import KubernetesHost
from orchestrator.config.kubernetes import ASKED
from orchestrator.executors.finding import Finding, Grade
from orchestrator.executors.kubernetes import capacity
from orchestrator.executors.kubernetes.facts import Facts, Object, Unavailable
from orchestrator.executors.kubernetes.fit import amount

# A quota on one of these refuses every pod that does not set it.
MUST_BE_SAID = ("requests.cpu", "requests.memory", "limits.cpu", "limits.memory", "cpu", "memory")


def of_quotas(host: KubernetesHost, facts: Facts) -> Iterator[Finding]:
    """Reports whether a job fits the quotas at all, and whether it fits now."""
    if isinstance(facts.quotas, Unavailable):
        return
    defaults = _default_requests(facts)
    for quota in facts.quotas:
        yield from _quota(host, quota, defaults)


def _quota(host: KubernetesHost, quota: Object, defaults: frozenset[str]) -> Iterator[Finding]:
    hard: Mapping[str, str] = quota["status"].get("hard") or quota["spec"].get("hard") or {}
    used: Mapping[str, str] = quota["status"].get("used") or {}
    name, wants = quota["metadata"]["name"], _counted(host)
    unsaid = [key for key in hard if key in MUST_BE_SAID and key not in wants and key not in defaults]
    if unsaid:
        text = f"{name} refuses pods that say no {', '.join(unsaid)}, and this host's say none"
        keys = sorted({key.rpartition(".")[2] for key in unsaid})
        yield Finding("quota", Grade.PROBLEM, text, f"hosts.yaml: {', '.join(keys)}; or a LimitRange with defaults")
    short = [key for key in wants if key in hard and amount(hard[key]) < wants[key]]
    full = [
        key for key in wants
        if key in hard and amount(hard[key]) - amount(used.get(key, "0")) < wants[key]
    ]  # fmt: skip
    lines = ", ".join(f"{used.get(key, '0')} of {hard[key]} {key}" for key in hard if key in wants)
    if short:
        text = f"{name} allows {', '.join(f'{hard[key]} {key}' for key in short)}: less than one job wants"
        yield Finding("quota", Grade.PROBLEM, text, "a cluster admin has to raise it (manifests/overlays/*/quota.yaml)")
    elif full:
        yield Finding("quota", Grade.WARNING, f"{name} is used up: {lines}", "jobs wait until something ends")
    elif lines:
        yield Finding("quota", Grade.OK, f"{name}: {lines} used")


def _counted(host: KubernetesHost) -> dict[str, Decimal]:
    """Returns what one job uses of a quota, by the quota's keys."""
    counted = {"count/jobs.batch": Decimal(1), "pods": Decimal(1), "count/pods": Decimal(1)}
    for resource, wanted in capacity.wants(host).items():
        counted[f"requests.{resource}"] = counted[resource] = wanted
    for resource, limit in capacity.limits(host).items():
        if resource in ASKED.values():
            counted[f"limits.{resource}"] = limit
    return counted


def _default_requests(facts: Facts) -> frozenset[str]:
    """Returns the quota keys for which a LimitRange sets defaults."""
    ranges = [] if isinstance(facts.defaults, Unavailable) else facts.defaults
    items = [item for it in ranges for item in it["spec"]["limits"] if item["type"] == "Container"]
    # a default limit without a default request also sets the request
    requests = {key for item in items for key in {**item.get("default", {}), **item.get("defaultRequest", {})}}
    limits = {key for item in items for key in item.get("default", {})}
    return frozenset({*requests, *(f"requests.{key}" for key in requests), *(f"limits.{key}" for key in limits)})
