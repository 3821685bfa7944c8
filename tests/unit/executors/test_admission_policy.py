"""manifests/policy lets every Job pass that a host can make, and refuses one that reads a Secret or leaves its pod."""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import engines
import kubernetes_validate
import pytest
from kustomize import MANIFESTS, VERSIONS, of_kind, rendered
from test_kubernetes_schemas import MODELS, MORE, OPTIONS, task

from orchestrator.config import KubernetesHost
from orchestrator.config.kubernetes import Claim
from orchestrator.executors.kubernetes.manifest import job_manifest, secrets

POLICY = MANIFESTS / "policy"
SINCE = 30  # the minor version of Kubernetes that serves admissionregistration.k8s.io/v1 policies
HOST = KubernetesHost(name="lab", weights=Claim(claim="hf"), service_account="bench-job")
Change = Callable[[dict[str, Any], dict[str, Any]], object]


@cache
def compiled(expression: str) -> Any:
    try:
        from cel_expr_python import cel
    except ImportError:
        (engines.missing if sys.version_info >= (3, 11) else pytest.skip)("cel-expr-python is not installed")
    return cel.NewEnv(variables=dict.fromkeys(("object", "oldObject", "variables"), cel.Type.DYN)).compile(expression)


def refusals(
    name: str, thing: dict[str, Any], before: dict[str, Any] | None = None, /, **lists: Sequence[str]
) -> list[str]:
    """The messages of a policy's rules that an object breaks, as an API server evaluates them.

    lists: what an administrator wrote into the policy's lists.
    """
    spec = of_kind("ValidatingAdmissionPolicy", POLICY)[name]["spec"]
    variables: dict[str, Any] = {}
    for each in spec.get("variables", ()):
        data = {"object": thing, "oldObject": before, "variables": variables}
        variables[each["name"]] = compiled(each["expression"]).eval(data=data).plain_value()
    variables |= lists
    data = {"object": thing, "oldObject": before, "variables": variables}
    rules = spec["validations"]
    return [rule["message"] for rule in rules if compiled(rule["expression"]).eval(data=data).value() is not True]


def changed(change: Change) -> dict[str, Any]:
    job = copy.deepcopy(job_manifest(task(HOST, MODELS[1]), HOST))
    pod = job["spec"]["template"]["spec"]
    change(pod, pod["containers"][0])
    return job


@pytest.mark.parametrize("version", [version for version in VERSIONS if int(version.split(".")[1]) >= SINCE])
def test_the_policies_fit_the_version(version: str) -> None:
    for it in rendered(POLICY):
        kubernetes_validate.validate(it, version, strict=True)


def test_each_policy_is_bound_to_the_namespace_of_the_overlays() -> None:
    (namespace,) = of_kind("Namespace").values()
    bindings = of_kind("ValidatingAdmissionPolicyBinding", POLICY).values()
    assert {it["spec"]["policyName"] for it in bindings} == {*of_kind("ValidatingAdmissionPolicy", POLICY)}
    for it in bindings:
        assert it["spec"]["validationActions"] == ["Deny"]
        wanted = it["spec"]["matchResources"]["namespaceSelector"]["matchLabels"]
        assert wanted.items() <= namespace["metadata"]["labels"].items()


# By key of a host, or `model`: all that makes another Job.
CHOICES: dict[str, tuple[Any, ...]] = {
    **OPTIONS,
    **MORE,
    "env": (*MORE["env"], {"HTTPS_PROXY": "http://proxy:3128"}),
    "ca_bundle": (None, "/etc/ssl/corp.pem"),
    "gpus_per_job": (1, 2),
    "threads": (None, 4),
    "namespace": (None, "bench"),
    "model": MODELS,
}
# Where a cluster is, how many Jobs there are at once, how long they are waited for, and what they cost or lack.
IN_NO_JOB = {"allow_unsafe", "name", "kind", "context", "parallel", "images", "patience"}
IN_NO_JOB |= {"price_per_hour", "compute_capability"}
# What decides on volumes, accounts and variables, which is what the rules are about.
MATTER = ("weights", "collect", "ca_bundle", "service_account", "image_pull_secret", "env", "memory", "gpus", "model")
Point = Mapping[str, Any]


def every_combination() -> Iterator[Point]:
    for values in itertools.product(*(CHOICES[key] for key in MATTER)):
        yield dict(zip(MATTER, values))


def every_pair() -> Iterator[Point]:
    """Points that have each value of a key together with each value of every other key."""
    pairs = [
        {first: a, second: b}
        for first, second in itertools.combinations(CHOICES, 2)
        for a, b in itertools.product(CHOICES[first], CHOICES[second])
    ]
    while pairs:
        point: dict[str, Any] = {}
        for pair in pairs:
            if all(point.get(key, value) == value for key, value in pair.items()):
                point |= pair
        yield point
        pairs = [pair for pair in pairs if not all(point[key] == value for key, value in pair.items())]


def job_of(point: Point) -> dict[str, Any]:
    options = {key: value for key, value in point.items() if key != "model"}
    if options.get("volume_mounts"):  # they need the volumes that they name
        options["volumes"] = MORE["volumes"][-1]
    if options.get("requests"):  # and what is requested, limits that allow it
        options |= {"cpu": 0.5, "memory": "16Gi"}
    host = KubernetesHost(name="lab", **options)
    return job_manifest(task(host, point.get("model", MODELS[0])), host)


def test_each_option_of_a_host_is_tried_or_in_no_job() -> None:
    assert {*CHOICES} - {"model"} | IN_NO_JOB == {*KubernetesHost.model_fields}


@pytest.mark.parametrize("points", [every_combination, every_pair])
def test_every_job_passes_unless_it_mounts_a_folder_of_a_node(points: Callable[[], Iterator[Point]]) -> None:
    verdicts = set()
    for point in points():
        job = job_of(point)
        of_a_node = any("hostPath" in volume for volume in job["spec"]["template"]["spec"]["volumes"])
        said = refusals("sd-orchestrator-jobs", job, written=["bench-compiled"])
        assert [message for message in said if "claim that is read-only" not in message] == [], point
        assert bool(said) == of_a_node, point
        verdicts.add(of_a_node)
    assert verdicts == {False, True}


def test_a_claim_to_write_to_is_refused_until_the_policy_lists_it() -> None:
    host = HOST.model_copy(update={"cache": Claim(claim="bench-compiled")})
    job = job_manifest(task(host), host)
    assert len(refusals("sd-orchestrator-jobs", job)) == 1
    assert len(refusals("sd-orchestrator-jobs", job, written=["another"])) == 1
    assert refusals("sd-orchestrator-jobs", job, written=["bench-compiled"]) == []


def test_a_folder_of_a_node_is_refused() -> None:
    host = HOST.model_copy(update={"weights": "/data/huggingface"})
    (message,) = refusals("sd-orchestrator-jobs", job_manifest(task(host), host))
    assert "claim that is read-only" in message


BREAKS: dict[str, tuple[Change, str]] = {
    "another Secret": (
        lambda pod, _: pod["volumes"].append({"name": "x", "secret": {"secretName": "registry"}}), "volume",
    ),
    "a projected token": (
        lambda pod, _: pod["volumes"].append(
            {"name": "x", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
        ), "volume",
    ),
    "a driver's volume": (lambda pod, _: pod["volumes"].append({"name": "x", "csi": {"driver": "d"}}), "volume"),
    "a node's folder": (lambda pod, _: pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}}), "volume"),
    "a claim to write": (
        lambda pod, _: pod["volumes"].append({"name": "x", "persistentVolumeClaim": {"claimName": "hf"}}), "volume",
    ),
    "another ConfigMap": (
        lambda pod, _: pod["volumes"].append({"name": "x", "configMap": {"name": "other"}}), "volume",
    ),
    "a variable from a Secret": (
        lambda _, container: container["env"].append(
            {"name": "X", "valueFrom": {"secretKeyRef": {"name": "registry", "key": "k"}}}
        ), "variable",
    ),
    "all variables of a Secret": (
        lambda _, container: container.update(envFrom=[{"secretRef": {"name": "registry"}}]), "variable",
    ),
    "an init container": (lambda pod, it: pod.update(initContainers=[{**it, "name": "x"}]), "init"),
    "privileged": (lambda _, it: it["securityContext"].update(privileged=True), "privilege"),
    "a capability": (lambda _, it: it["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]), "capabilities"),
    "no security context": (lambda _, it: it.pop("securityContext"), "privilege"),
    "the node's network": (lambda pod, _: pod.update(hostNetwork=True), "namespaces of the node"),
    "the node's processes": (lambda pod, _: pod.update(hostPID=True), "namespaces of the node"),
    "another account": (lambda pod, _: pod.update(serviceAccountName="orchestrator"), "service account"),
    "by its old name": (lambda pod, _: pod.update(serviceAccount="orchestrator"), "service account"),
    "an account's token": (lambda pod, _: pod.update(automountServiceAccountToken=True), "service account"),
    "no word on the token": (lambda pod, _: pod.pop("automountServiceAccountToken"), "service account"),
}  # fmt: skip


@pytest.mark.parametrize("what", BREAKS)
def test_a_job_that_takes_more_is_refused(what: str) -> None:
    change, says = BREAKS[what]
    (message,) = refusals("sd-orchestrator-jobs", changed(change))
    assert says in message


@pytest.mark.parametrize("what", BREAKS)
def test_a_job_that_takes_more_is_refused_whatever_else_its_host_says(what: str) -> None:
    change, says = BREAKS[what]
    for point in every_pair():
        job = copy.deepcopy(job_of(point))
        pod = job["spec"]["template"]["spec"]
        change(pod, pod["containers"][0])
        assert any(says in message for message in refusals("sd-orchestrator-jobs", job)), point


def test_a_job_by_the_name_of_another_secret_is_refused() -> None:
    job = changed(
        lambda pod, _: [it["secret"].update(secretName="registry") for it in pod["volumes"] if "secret" in it]
    )
    job["metadata"]["name"] = "registry"
    assert any("Job's name" in message for message in refusals("sd-orchestrator-jobs", job))


def test_the_jobs_secret_passes_and_one_for_an_accounts_token_does_not() -> None:
    job = job_manifest(task(HOST), HOST)
    job["metadata"]["uid"] = "u"
    secret = secrets(job, "hf_x")
    assert refusals("sd-orchestrator-secrets", secret) == []
    (message,) = refusals("sd-orchestrator-secrets", {**secret, "type": "kubernetes.io/service-account-token"})
    assert "service account's token" in message


def test_a_pods_deadline_may_be_patched_and_its_image_may_not() -> None:
    def pod(*inits: str, image: str = "ours@sha256:0", **fields: object) -> dict[str, Any]:
        spec = {"containers": [{"name": "runner", "image": image}], **fields}
        return {"spec": {**spec, "initContainers": [{"name": "mesh", "image": it} for it in inits]} if inits else spec}

    assert refusals("sd-orchestrator-pods", pod(activeDeadlineSeconds=1), pod()) == []
    assert refusals("sd-orchestrator-pods", pod("mesh:1", activeDeadlineSeconds=1), pod("mesh:1")) == []
    for patched, before in ((pod(image="evil:1"), pod()), (pod("evil:1"), pod("mesh:1"))):
        (message,) = refusals("sd-orchestrator-pods", patched, before)
        assert "image of a pod" in message
