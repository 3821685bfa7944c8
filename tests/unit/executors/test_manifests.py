"""What a cluster admin applies: it renders, fits every current Kubernetes version, and grants no more than it says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kustomize import EXAMPLES, MANIFESTS, OVERLAYS, VERSIONS, of_kind, rendered

from orchestrator.config.kubernetes import ASKED
from orchestrator.executors.kubernetes.permissions import permissions


@pytest.mark.parametrize("version", VERSIONS)
def test_all_that_is_applied_fits_the_version(version: str) -> None:
    objects = [it for overlay in OVERLAYS for it in rendered(MANIFESTS / "overlays" / overlay)]
    objects += [yaml.safe_load((MANIFESTS / "examples" / name).read_text()) for name in EXAMPLES]
    for it in objects:
        kubernetes_validate.validate(it, version, strict=True)


def test_the_versions_are_those_of_today() -> None:
    """The schemas come with a package: one that is a year old would let this pass for ever."""
    assert {"1.25", "1.37"} <= set(VERSIONS)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_namespace_holds_pods_to_the_restricted_standard(overlay: str) -> None:
    (namespace,) = of_kind("Namespace", MANIFESTS / "overlays" / overlay).values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_no_rule_is_a_wildcard_and_none_reads_secrets_or_changes_what_others_may_do() -> None:
    rules = [rule for kind in ("Role", "ClusterRole") for role in of_kind(kind).values() for rule in role["rules"]]
    assert not any("*" in words for rule in rules for words in rule.values())
    verbs = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert not {("secrets", verb) for verb in ("get", "list", "watch")} & verbs
    assert not {"escalate", "bind", "impersonate"} & {verb for _, verb in verbs}
    assert {rule_resource for rule_resource, _ in verbs}.isdisjoint(
        {"pods/exec", "pods/attach", "serviceaccounts/token"}
    )


def test_whoever_submits_has_the_roles_and_the_pods_account_has_none() -> None:
    bound = {
        (subject["name"], binding["roleRef"]["name"])
        for kind in ("RoleBinding", "ClusterRoleBinding")
        for binding in of_kind(kind).values()
        for subject in binding["subjects"]
    }
    roles = {*of_kind("Role"), *of_kind("ClusterRole")}
    assert bound == {("orchestrator", role) for role in roles}
    assert "bench-job" in of_kind("ServiceAccount")


def test_another_namespace_takes_one_line(tmp_path: Path) -> None:
    own = shutil.copytree(MANIFESTS, tmp_path / "manifests") / "overlays" / "own"
    own.mkdir()
    (own / "kustomization.yaml").write_text("namespace: sd\nresources: [../gpu]\n")
    assert "bench" not in re.findall(r"namespace: (\S+)", yaml.safe_dump_all(rendered(own)))
    assert [*of_kind("Namespace", own)] == ["sd"]


def test_no_pod_is_reached_and_none_reaches_a_clouds_metadata_service() -> None:
    (policy,) = of_kind("NetworkPolicy").values()
    assert policy["spec"]["podSelector"] == {}
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not policy["spec"].get("ingress")
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert ports == {53, 443}  # the metadata service hands out credentials on port 80


def test_every_pod_fits_a_quota_that_wants_requests() -> None:
    """A quota on requests refuses pods without any; a default for them keeps hosts without `cpu` and `memory` going."""
    (limits,) = of_kind("LimitRange").values()
    (default,) = limits["spec"]["limits"]
    assert {*default} == {"type", "defaultRequest"}  # a default limit would throttle what is measured
    for overlay in OVERLAYS:
        (quota,) = of_kind("ResourceQuota", MANIFESTS / "overlays" / overlay).values()
        wanted = {name for name in quota["spec"]["hard"] if name.startswith(("requests.", "limits."))}
        assert wanted - {"requests.nvidia.com/gpu"} <= {f"requests.{name}" for name in default["defaultRequest"]}


def test_both_overlays_can_be_applied_to_one_namespace() -> None:
    quotas = [of_kind("ResourceQuota", MANIFESTS / "overlays" / overlay) for overlay in OVERLAYS]
    names = [name for of_overlay in quotas for name in of_overlay]
    assert len(names) == len({*names}) == len(OVERLAYS)
    hard = [next(iter(of_overlay.values()))["spec"]["hard"] for of_overlay in quotas]
    assert not any(number == "0" for of_overlay in hard for number in of_overlay.values())


def test_the_queues_name_one_another() -> None:
    """What Kueue's own rules ask beyond its schemas; v1beta2 is served from Kueue 0.15 on."""
    kueue = MANIFESTS / "kueue"
    assert {it["apiVersion"] for it in rendered(kueue)} == {"kueue.x-k8s.io/v1beta2"}
    (local,), (cluster,) = of_kind("LocalQueue", kueue).values(), of_kind("ClusterQueue", kueue).values()
    assert local["spec"] == {"clusterQueue": cluster["metadata"]["name"]}
    assert "namespace" not in cluster["metadata"]
    for group in cluster["spec"]["resourceGroups"]:
        assert {flavor["name"] for flavor in group["flavors"]} <= {*of_kind("ResourceFlavor", kueue)}
        for flavor in group["flavors"]:
            assert [resource["name"] for resource in flavor["resources"]] == group["coveredResources"]
    # Kueue admits no Job that asks for what no queue covers
    covered = {name for group in cluster["spec"]["resourceGroups"] for name in group["coveredResources"]}
    assert covered == {*ASKED.values(), "nvidia.com/gpu"}
    (namespace,) = of_kind("Namespace").values()
    assert cluster["spec"]["namespaceSelector"]["matchLabels"].items() <= namespace["metadata"]["labels"].items()


def test_each_permission_knows_the_line_that_grants_it() -> None:
    granted = permissions()
    for permission in granted:
        path, _, line = permission.where.rpartition(":")
        assert permission.verb in Path(path).read_text().splitlines()[int(line) - 1]
    applied = {
        (role["metadata"]["name"], verb, group, resource)
        for kind in ("Role", "ClusterRole")
        for role in of_kind(kind).values()
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert len(applied) == len(granted)
    assert {words[1:] for words in applied} == {(p.verb, p.group, p.resource) for p in granted}
