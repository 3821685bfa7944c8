"""Compares objects in the namespace with what this program renders. Pure; the stored objects are never used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from orchestrator.executors.kubernetes.fit import amount

# Fields that a server or Kueue adds anywhere in a Job's pod: none grants a permission. Any other field is a
# difference. The last two lines are defaults for a `pod_template`'s containers, their ports and probes. https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
ADDED = frozenset(
    {
        "apiVersion", "defaultMode", "dnsPolicy", "priorityClassName", "schedulerName", "schedulingGates",
        "terminationMessagePath", "terminationMessagePolicy",
        "imagePullPolicy", "failureThreshold", "periodSeconds", "protocol", "scheme", "successThreshold",
        "timeoutSeconds", "volumeMode", "divisor",
    }
)  # fmt: skip
PLACING = ("nodeSelector", "tolerations")  # Kueue adds its flavor's entries to the requested ones
EMPTY: tuple[object, ...] = (None, "", {}, [])  # a server omits these
# A server writes 1000000000 as 1G, and 1024Mi as 1Gi: all that is in the first two, and the others wherever they are.
QUANTITIES, QUANTITY = ("requests", "limits"), ("sizeLimit", "divisor")


def of_config(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the parts of a staged ConfigMap that differ from the rendered ones: `manifest.json: spec.template…`."""
    has = {**(there.get("data") or {}), **(there.get("binaryData") or {})}
    found: list[str] = []
    for key in sorted({*has, *wanted["data"]}):
        if has.get(key) != wanted["data"].get(key):
            inside = _in_json(has.get(key), wanted["data"].get(key))
            found += [f"{key}: {where}" for where in inside] or [key]
    return tuple(found)


def of_job(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns where a Job's pod differs from the rendered one, without a server's usual additions."""
    has, asked = (job["spec"]["template"]["spec"] for job in (there, wanted))
    has = {key: value for key, value in has.items() if key != "serviceAccount"}  # the old name of serviceAccountName
    return tuple(_differences(has, asked, "spec.template.spec", added=ADDED))


def _in_json(has: object, wanted: object) -> tuple[str, ...]:
    try:
        return tuple(_differences(json.loads(str(has)), json.loads(str(wanted)), "", added=frozenset()))
    except (ValueError, RecursionError):
        return ()


def _differences(has: object, wanted: object, where: str, *, added: frozenset[str]) -> Iterator[str]:
    if isinstance(has, Mapping) and isinstance(wanted, Mapping):
        for key in sorted({*has, *wanted}, key=str):
            of_has, of_wanted = has.get(key), wanted.get(key)
            if (of_has in EMPTY and of_wanted in EMPTY) or (key not in wanted and key in added):
                continue
            if added and key in PLACING and _includes(of_has, of_wanted):
                continue
            if (where.endswith(QUANTITIES) or key in QUANTITY) and _amount(of_has) == _amount(of_wanted) is not None:
                continue
            yield from _differences(of_has, of_wanted, f"{where}.{key}".lstrip("."), added=added)
    elif isinstance(has, list) and isinstance(wanted, list) and len(has) == len(wanted):
        for number, pair in enumerate(zip(has, wanted)):
            yield from _differences(*pair, f"{where}[{number}]", added=added)
    elif has != wanted:
        yield where


def _includes(has: object, wanted: object) -> bool:
    if isinstance(has, Mapping) and (wanted is None or isinstance(wanted, Mapping)):
        return (wanted or {}).items() <= has.items()
    return (
        isinstance(has, list)
        and (wanted is None or isinstance(wanted, list))
        and all(one in has for one in wanted or ())
    )


def _amount(text: object) -> Decimal | None:
    try:
        return amount(str(text))
    except ValueError:
        return None
