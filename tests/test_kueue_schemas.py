"""Kueue's and JobSet's own definitions over what we render: CRDs names a folder with theirs, of any version.

They are those projects' files (config/components/crd/bases of kubernetes-sigs/kueue and kubernetes-sigs/jobset), and
no copy is kept here. Seen to pass: Kueue v0.20.0-devel (ff69552e, 2026-08-22), JobSet v0.13.0-devel (08dfbdfd,
2026-08-18).
"""

from __future__ import annotations

import copy
import itertools
import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from test_kubernetes_schemas import MODELS, each_option_alone_and_all_at_once, task
from test_manifests import MANIFESTS, rendered

from orchestrator.executors.kubernetes.manifest import job_manifest

# What the manifests of manifests/kueue say, by kind: their fields as Kueue's pages have them.
# https://kueue.sigs.k8s.io/docs/reference/kueue.v1beta2/
FIELDS: dict[str, set[str]] = {
    "ResourceFlavor": {"nodeLabels", "nodeTaints", "tolerations", "topologyName"},
    "ClusterQueue": {
        "admissionChecksStrategy", "admissionScope", "cohortName", "fairSharing", "flavorFungibility",
        "namespaceSelector", "preemption", "queueingStrategy", "resourceGroups", "stopPolicy",
    },
    "LocalQueue": {"clusterQueue", "fairSharing", "stopPolicy"},
}  # fmt: skip


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


def test_the_queues_use_fields_that_kueue_has() -> None:
    for it in rendered(MANIFESTS / "kueue"):
        assert {*it.get("spec", {})} <= FIELDS[it["kind"]]


def test_the_queues_fit_kueues_own_definitions() -> None:
    for it in rendered(MANIFESTS / "kueue"):
        fits(it)
        assert FIELDS[it["kind"]] <= {*schema(it["kind"], "v1beta2")["properties"]["spec"]["properties"]}


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


def test_a_field_that_kueue_does_not_know_would_be_found() -> None:
    queue = copy.deepcopy(next(it for it in rendered(MANIFESTS / "kueue") if it["kind"] == "ClusterQueue"))
    queue["spec"]["preemptions"] = {}
    with pytest.raises(jsonschema.ValidationError, match="preemptions"):
        fits(queue)
