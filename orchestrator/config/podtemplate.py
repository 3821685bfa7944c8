"""Validates `pod_template`: a patch for each pod of a host, for fields without a key in its entry.

A patch cannot change a pod's confinement or its identity: this module lists the fields that a patch may contain.
`allow_unsafe: true` disables the list, but labels of runs, our container's name and its restart policy stay fixed.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import WithJsonSchema

from orchestrator.config.pod import CONTAINER, OUR_VOLUMES, SOURCES, UNSAFE, hides, reserved, unsafe_source
from orchestrator.config.strategicmerge import MERGE_KEYS, PATCH, RETAIN
from runner.wire.tokens import TOKEN_VARIABLES

PodTemplate: TypeAlias = Annotated[
    dict[str, Any] | None,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"metadata": {"type": "object"}, "spec": {"type": "object"}},
                },
            ]
        }
    ),
]
Problem: TypeAlias = tuple[tuple[str | int, ...], str]

METADATA = frozenset({"labels", "annotations"})
SPEC = frozenset(
    {
        "affinity", "containers", "dnsConfig", "dnsPolicy", "hostAliases", "hostname", "imagePullSecrets",
        "initContainers", "nodeSelector", "overhead", "preemptionPolicy", "priorityClassName", "readinessGates",
        "resourceClaims", "runtimeClassName", "schedulerName", "schedulingGates", "securityContext",
        "serviceAccountName", "setHostnameAsFQDN", "subdomain", "terminationGracePeriodSeconds", "tolerations",
        "topologySpreadConstraints", "volumes",
    }
)  # fmt: skip
VOLUME = frozenset({"name", "ephemeral", PATCH, RETAIN, *SOURCES})
SECURITY = frozenset({"fsGroup", "fsGroupChangePolicy", "supplementalGroups", "supplementalGroupsPolicy"})
OURS = frozenset({"name", "env", "imagePullPolicy", "ports", "resources", "resizePolicy", "volumeMounts"})
BESIDE = OURS | {
    "args", "command", "envFrom", "image", "lifecycle", "livenessProbe", "readinessProbe", "restartPolicy",
    "securityContext", "startupProbe", "stdin", "terminationMessagePath", "terminationMessagePolicy", "tty",
    "workingDir",
}  # fmt: skip
# Variables by which Python, the dynamic loader and the hub's library find code, files and tokens.
OUR_VARIABLES = ("PYTHON", "LD_", "RUNNER_", "HF_", "HUGGING", "TRANSFORMERS_", "DIFFUSERS_", "SSL_CERT", "REQUESTS_CA")
OUR_VARIABLE_NAMES = ("PATH", "HOME", "TMPDIR", *TOKEN_VARIABLES)
# The settings that a sidecar container must have, so that the pod meets the Pod Security Standard "restricted".
CONFINED: Mapping[str, Callable[[Any], bool]] = {
    "allowPrivilegeEscalation": lambda value: value is False,
    "capabilities": lambda value: isinstance(value, dict) and value == {"drop": ["ALL"]},
    "readOnlyRootFilesystem": lambda value: isinstance(value, bool),
    "runAsNonRoot": lambda value: value is True,
    "runAsUser": lambda value: isinstance(value, int) and value > 0,
    "runAsGroup": lambda value: isinstance(value, int) and value >= 0,
    "seccompProfile": lambda value: value == {"type": "RuntimeDefault"},
}
WANTED = ", or confine that container: allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}"
MUST_BE_CONFINED = ("allowPrivilegeEscalation", "capabilities")


def problems(patch: object, *, allow_unsafe: bool) -> Iterator[Problem]:
    """Yields the problems of a patch: the position, and a message that begins with its path."""
    if not isinstance(patch, dict):
        yield (), "pod_template must be keys and values: metadata and spec of a pod, or the name of a file with them"
        return
    for key in patch:
        if key not in ("metadata", "spec"):
            yield (key,), f"pod_template: unknown key {key!r}; it holds metadata and spec, as a Job's template does"
    malformed = list(_malformed(patch, (), ""))
    yield from malformed
    if not malformed:
        yield from _never(patch)
        if not allow_unsafe:
            yield from _unsafe(patch)


def _malformed(value: Any, at: tuple[str | int, ...], path: str) -> Iterator[Problem]:
    """Yields the parts of a patch that cannot be merged."""
    if isinstance(value, dict) and path not in MERGE_KEYS:
        for key, inner in value.items():
            if key == PATCH and inner not in ("merge", "replace", "delete"):
                yield (*at, key), f"pod_template: {_shown(at)}.$patch must be merge, replace or delete"
            elif key == RETAIN and not isinstance(inner, list):
                yield (*at, key), f"pod_template: {_shown(at)}.$retainKeys must be a list of keys"
            elif str(key).startswith("$") and key not in (PATCH, RETAIN):
                yield (*at, key), f"pod_template: {_shown((*at, key))} is not supported; $patch and $retainKeys are"
            else:
                yield from _malformed(inner, (*at, key), f"{path}.{key}".lstrip("."))
    elif path in ("metadata", "spec", "metadata.labels", "metadata.annotations"):
        yield at, f"pod_template: {_shown(at)} must be keys and values"
    elif path in MERGE_KEYS and value is not None:
        if not isinstance(value, list):
            yield at, f"pod_template: {_shown(at)} must be a list"
            return
        key = MERGE_KEYS[path]
        for number, item in enumerate(value):
            where = (*at, number)
            if not isinstance(item, dict) or (key not in item and item.get(PATCH) != "replace"):
                yield where, f"pod_template: {_shown(where)} must have the key {key!r}: items are merged by it"
            else:
                yield from _malformed(item, where, f"{path}[]")


def _never(patch: Mapping[str, Any]) -> Iterator[Problem]:
    """Yields changes that no patch may make, because every pod of a run needs these fields."""
    for kind in sorted(METADATA):
        for key, value in ((patch.get("metadata") or {}).get(kind) or {}).items():
            at = ("metadata", kind, key)
            if reserved(str(key)) or str(key).startswith("$"):
                yield at, f"pod_template: metadata.{kind}.{key} is set for each job, which is known by it"
            elif value is not None and not isinstance(value, str):
                yield at, f"pod_template: metadata.{kind}.{key} must be text: put it in quotes"
    spec = patch.get("spec") or {}
    for key in ("metadata", "spec"):
        for directive in {PATCH, RETAIN} & (patch.get(key) or {}).keys():
            yield (key, directive), f"pod_template: {key} cannot be replaced or deleted as a whole"
    if "restartPolicy" in spec and spec["restartPolicy"] != "Never":
        said = "pod_template: spec.restartPolicy must be Never: a job that is tried again is another one"
        yield ("spec", "restartPolicy"), said
    for number, item in enumerate(spec.get("containers") or ()):
        if item.get("name") == CONTAINER and item.get(PATCH) == "delete":
            yield ("spec", "containers", number), f"pod_template: the container {CONTAINER} is the job, and must stay"
        if PATCH in item and "name" not in item:
            yield ("spec", "containers", number), f"pod_template: spec.containers must keep the container {CONTAINER}"
    for kind in ("containers", "initContainers"):
        for number, item in enumerate(spec.get(kind) or ()):
            for index, variable in enumerate(item.get("env") or ()):
                name = str(variable.get("name"))
                where = ("spec", kind, number, "env", index)
                if "TOKEN" in name.upper() and "value" in variable:
                    yield (
                        where,
                        f"pod_template: {name} must not stand in a file; fix: take it from a Secret by valueFrom",
                    )
                elif not isinstance(variable.get("value", ""), str):
                    yield where, f"pod_template: the value of {name} must be text: put it in quotes"
    if "containers" in spec and spec["containers"] is None:
        yield ("spec", "containers"), f"pod_template: spec.containers must keep the container {CONTAINER}"


def _unsafe(patch: Mapping[str, Any]) -> Iterator[Problem]:
    metadata, spec = patch.get("metadata", {}), patch.get("spec", {})
    yield from _beyond(metadata, METADATA, ("metadata",))
    yield from _beyond(spec, SPEC, ("spec",))
    yield from _beyond(spec.get("securityContext", {}), SECURITY, ("spec", "securityContext"))
    for number, volume in enumerate(_items(spec, "volumes")):
        at = ("spec", "volumes", number)
        name = volume.get("name")
        if name is None or str(name) in OUR_VOLUMES:
            yield _refused(at, f"spec.volumes[name={name}]")
        elif part := unsafe_source(volume) or next((key for key in volume if key not in VOLUME), ""):
            yield _refused(at, f"spec.volumes[name={name}].{part}")
    for kind in ("containers", "initContainers"):
        for number, item in enumerate(_items(spec, kind)):
            is_ours = kind == "containers" and item.get("name") == CONTAINER
            yield from (_of_ours if is_ours else _of_another)(item, ("spec", kind, number), kind)
    for key in ("volumes", "containers"):
        if key in spec and spec[key] is None:
            yield _refused(("spec", key), f"spec.{key}")


def _of_ours(item: Mapping[str, Any], at: tuple[str | int, ...], kind: str) -> Iterator[Problem]:
    yield from _beyond(item, OURS, at)
    named = f"spec.{kind}[name={CONTAINER}]"
    for key in ("env", "volumeMounts"):
        if key in item and item[key] is None:
            yield _refused((*at, key), f"{named}.{key}")
    for number, variable in enumerate(item.get("env") or ()):
        name = str(variable.get("name"))
        if "name" not in variable or name in OUR_VARIABLE_NAMES or name.upper().startswith(OUR_VARIABLES):
            yield _refused((*at, "env", number), f"{named}.env[name={name}]")
    for number, mount in enumerate(item.get("volumeMounts") or ()):
        path = str(mount.get("mountPath"))
        if "mountPath" not in mount or hides(path) or mount.get("mountPropagation") not in (None, "None"):
            yield _refused((*at, "volumeMounts", number), f"{named}.volumeMounts[mountPath={path}]")
    yield from _ports(item, at, named)


def _of_another(item: Mapping[str, Any], at: tuple[str | int, ...], kind: str) -> Iterator[Problem]:
    yield from _beyond(item, BESIDE, at)
    named = f"spec.{kind}[name={item.get('name')}]"
    given = item.get("securityContext")
    context: Mapping[str, Any] = given if isinstance(given, dict) else {}
    for key in (*MUST_BE_CONFINED, *context):
        if key not in CONFINED or not CONFINED[key](context.get(key)):
            yield (*at, "securityContext"), _refused(at, f"{named}.securityContext.{key}")[1] + WANTED
            break
    for number, mount in enumerate(item.get("volumeMounts") or ()):
        if str(mount.get("name")) in OUR_VOLUMES or mount.get("mountPropagation") not in (None, "None"):
            path = f"{named}.volumeMounts[mountPath={mount.get('mountPath')}]"
            yield _refused((*at, "volumeMounts", number), path)
    yield from _ports(item, at, named)


def _ports(item: Mapping[str, Any], at: tuple[str | int, ...], named: str) -> Iterator[Problem]:
    for number, port in enumerate(item.get("ports") or ()):
        if port.get("hostPort"):
            yield _refused((*at, "ports", number), f"{named}.ports[{number}].hostPort")


def _items(spec: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    return spec.get(key) or []


def _beyond(given: Any, allowed: frozenset[str], at: tuple[str | int, ...]) -> Iterator[Problem]:
    if not isinstance(given, dict):
        yield _refused(at, _shown(at))
        return
    for key in given:
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, 1, 0.8)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            yield (*at, key), _refused(at, _shown((*at, key), given))[1] + meant


def _refused(at: tuple[str | int, ...], path: str) -> Problem:
    return at, f"pod_template: {path} {UNSAFE}"


def _shown(at: tuple[str | int, ...], item: Mapping[str, Any] | None = None) -> str:
    """Formats a position: `spec.containers[name=runner].command`. item: the mapping that contains the last key."""
    text = ""
    for number, part in enumerate(at):
        named = f"name={item['name']}" if item and "name" in item and number == len(at) - 2 else str(part)
        text += f"[{named}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")
