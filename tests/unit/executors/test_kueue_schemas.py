"""Kueue's and JobSet's own definitions over what we render: CRDs names a folder with theirs, of any version.

They are those projects' files (config/components/crd/bases of kubernetes-sigs/kueue and kubernetes-sigs/jobset), and
no copy is kept here: without CRDS, the queues are held to schemas written by hand. Seen to pass: Kueue v0.20.0-devel
(ff69552e, 2026-08-22), JobSet v0.13.0-devel (08dfbdfd, 2026-08-18).
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from kustomize import MANIFESTS, rendered
from test_kubernetes_schemas import MODELS, each_option_alone_and_all_at_once, task

from orchestrator.config.kubenames import OBJECT_PATTERN
from orchestrator.executors.kubernetes.manifest import job_manifest

NAME = {"type": "string", "pattern": OBJECT_PATTERN, "maxLength": 253}
TEXT = {"type": "string"}
LABELS = {"type": "object", "additionalProperties": TEXT}


def only(*required: str, **fields: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": [*required], "properties": fields}


def many(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": item}


# What a spec of manifests/kueue may say in Kueue's v1beta2, written by hand; a test holds it to Kueue's own definitions
# where CRDS names them. https://kueue.sigs.k8s.io/docs/reference/kueue.v1beta2/
QUANTITY = {"type": "string", "pattern": r"^[0-9]+([KMGTPE]i?|[km])?$"}
RESOURCE = only("name", "nominalQuota", name=TEXT, nominalQuota=QUANTITY)
FLAVOR = only("name", "resources", name=NAME, resources=many(RESOURCE))
SPECS: dict[str, dict[str, Any]] = {
    "ResourceFlavor": only(nodeLabels=LABELS),
    "ClusterQueue": only(
        namespaceSelector=only(matchLabels=LABELS),
        queueingStrategy={"type": "string", "enum": ["StrictFIFO", "BestEffortFIFO"]},
        preemption=only(
            withinClusterQueue={"type": "string", "enum": ["Never", "LowerPriority", "LowerOrNewerEqualPriority"]},
            reclaimWithinCohort={"type": "string", "enum": ["Never", "LowerPriority", "Any"]},
        ),
        resourceGroups=many(
            only("coveredResources", "flavors", coveredResources=many(TEXT), flavors=many(FLAVOR)),
        ),
    ),
    "LocalQueue": only(clusterQueue=NAME),
}


@cache
def definitions() -> list[dict[str, Any]]:
    named = os.environ.get("CRDS")
    if not named:
        pytest.skip("CRDS names no folder with the definitions of Kueue and JobSet")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    texts = [file.read_text() for file in sorted(Path(named).glob("*.yaml"))]
    return [each for text in texts for each in yaml.load_all(text, Loader=loader) if each]


@cache
def schema(kind: str, version: str) -> dict[str, Any]:
    """A kind's schema, in which an unknown field is an error, as for a strict server."""
    for each in definitions():
        for served in each["spec"]["versions"]:
            if each["spec"]["names"]["kind"] == kind and served["name"] == version:
                return dict(_strict(served["schema"]["openAPIV3Schema"]))
    raise AssertionError(f"CRDS has no {kind} {version}")


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items() if key != "format"}
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    open_ended = "additionalProperties" in made or made.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(made.get("properties"), dict) and made.get("type") == "object" and not open_ended:
        made["additionalProperties"] = False
    return made


def fits(thing: dict[str, Any]) -> None:
    definition = schema(thing["kind"], thing["apiVersion"].partition("/")[2])
    # as a server does: metadata is every kind's own. The definition itself is not checked: that takes a minute
    for error in jsonschema.Draft202012Validator(definition).iter_errors({**thing, "metadata": {}}):
        raise error


def test_the_queues_fit_kueues_documented_fields() -> None:
    for it in rendered(MANIFESTS / "kueue"):
        jsonschema.validate(it["spec"], SPECS[it["kind"]])


def test_the_queues_fit_kueues_own_definitions() -> None:
    for it in rendered(MANIFESTS / "kueue"):
        fits(it)
        assert not [*beyond(SPECS[it["kind"]], schema(it["kind"], "v1beta2")["properties"]["spec"], it["kind"])]


def beyond(ours: dict[str, Any], theirs: dict[str, Any], where: str) -> Iterator[str]:
    """Where a schema of ours says something else than Kueue's own. Their quantities are numbers too."""
    if ours["type"] != theirs.get("type", "string") or ours.get("enum") != theirs.get("enum"):
        yield where
    for key, field in ours.get("properties", {}).items():
        yield from beyond(field, theirs["properties"].get(key, {"type": "no such field"}), f"{where}.{key}")
    if "items" in ours:
        yield from beyond(ours["items"], theirs["items"], f"{where}[]")
    yield from (f"{where}: {key}" for key in {*theirs.get("required", ())} - {*ours.get("required", ())})


def test_a_pod_of_every_job_fits_the_workload_that_kueue_makes_of_it() -> None:
    for host in itertools.islice(each_option_alone_and_all_at_once(), 0, None, 8):
        template = copy.deepcopy(job_manifest(task(host, MODELS[1]), host)["spec"]["template"])
        pod_set = {"name": "main", "count": 1, "template": template}
        metadata = {"name": "job-sd", "namespace": "bench"}
        fits(
            {
                "apiVersion": "kueue.x-k8s.io/v1beta2",
                "kind": "Workload",
                "metadata": metadata,
                "spec": {"queueName": "bench", "podSets": [pod_set]},
            }
        )


def test_every_job_fits_as_a_part_of_a_jobset() -> None:
    for host in itertools.islice(each_option_alone_and_all_at_once(), 0, None, 8):
        job = copy.deepcopy(job_manifest(task(host, MODELS[1]), host))
        metadata = {key: job["metadata"][key] for key in ("labels", "annotations")}
        part = {"name": "bench", "replicas": 1, "template": {"metadata": metadata, "spec": job["spec"]}}
        fits(
            {
                "apiVersion": "jobset.x-k8s.io/v1alpha2",
                "kind": "JobSet",
                "metadata": {"name": "sd"},
                "spec": {"replicatedJobs": [part]},
            }
        )


def misspelled() -> dict[str, Any]:
    queue = copy.deepcopy(next(it for it in rendered(MANIFESTS / "kueue") if it["kind"] == "ClusterQueue"))
    queue["spec"]["preemptions"] = {}
    return queue


def test_a_field_that_is_not_documented_would_be_found() -> None:
    with pytest.raises(jsonschema.ValidationError, match="preemptions"):
        jsonschema.validate(misspelled()["spec"], SPECS["ClusterQueue"])


def test_a_field_that_kueue_does_not_know_would_be_found() -> None:
    with pytest.raises(jsonschema.ValidationError, match="preemptions"):
        fits(misspelled())
