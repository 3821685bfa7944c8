"""Applies Kubernetes' strategic merge patch to a pod's template.

https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
Items that a patch adds come after the existing ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OF_CONTAINER = {"env": "name", "ports": "containerPort", "volumeDevices": "devicePath", "volumeMounts": "mountPath"}
# The lists whose items are merged, and the field that identifies an item; any other list is replaced. A test compares
# this with the schemas of all versions.
MERGE_KEYS: Mapping[str, str] = {
    "spec.evictionResponders": "name",
    "spec.hostAliases": "ip",
    "spec.imagePullSecrets": "name",
    "spec.resourceClaims": "name",
    "spec.schedulingGates": "name",
    "spec.topologySpreadConstraints": "topologyKey",
    "spec.volumes": "name",
    **{
        path: key
        for containers in ("spec.containers", "spec.initContainers")
        for path, key in {containers: "name", **{f"{containers}[].{k}": v for k, v in _OF_CONTAINER.items()}}.items()
    },
}
PATCH, RETAIN = "$patch", "$retainKeys"


def merged(there: Any, patch: Any, path: str = "") -> Any:
    """Returns a new value; does not modify `there`. path: of both, from the template's root, with `[]` for an item."""
    if not isinstance(patch, dict):
        return _merged_list(there, patch, path) if isinstance(patch, list) and path in MERGE_KEYS else patch
    how = patch.get(PATCH, "merge")
    if how == "delete":
        return {}
    kept = dict(there) if isinstance(there, dict) and how == "merge" else {}
    if RETAIN in patch:
        kept = {key: value for key, value in kept.items() if key in patch[RETAIN]}
    for key, value in patch.items():
        if key in (PATCH, RETAIN):
            continue
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = merged(kept.get(key), value, f"{path}.{key}".lstrip("."))
    return kept


def _merged_list(there: Any, patch: list[Any], path: str) -> list[Any]:
    key, inside = MERGE_KEYS[path], f"{path}[]"
    is_new = any(item.get(PATCH) == "replace" and key not in item for item in patch)
    found = [] if is_new or not isinstance(there, list) else list(there)
    for item in patch:
        if key not in item:
            continue
        at = next((number for number, old in enumerate(found) if old.get(key) == item[key]), None)
        if item.get(PATCH) == "delete":
            found = [old for old in found if old.get(key) != item[key]]
        elif at is None:
            found.append(merged({}, item, inside))
        else:
            found[at] = merged(found[at], item, inside)
    return found
