"""What `hosts --check` makes of a cluster's answers: each finding says what is wrong and how to fix it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from orchestrator.config import KubernetesHost
from orchestrator.config.kubernetes import Claim, Toleration
from orchestrator.config.pod import Affinity
from orchestrator.errors import HostUnfit
from orchestrator.executors.finding import Finding, Grade
from orchestrator.executors.kubernetes.capacity import shown
from orchestrator.executors.kubernetes.check import findings
from orchestrator.executors.kubernetes.check_nodes import MOST_REPORTED, must_have_images
from orchestrator.executors.kubernetes.cluster import Refused
from orchestrator.executors.kubernetes.facts import Facts, Unavailable
from orchestrator.executors.kubernetes.permissions import Role, permissions

A100, A6000 = "NVIDIA-A100-SXM4-80GB", "NVIDIA-RTX-A6000"
ANY_GPU_HOST = KubernetesHost(name="lab", node_selector={"nvidia.com/gpu.product": A100})


def node(name: str, gpus: int = 0, *, product: str = A100, taints: Sequence[str] = (), **more: str) -> dict[str, Any]:
    labels = {"nvidia.com/gpu.product": product, **{key.replace("_", "-"): value for key, value in more.items()}}
    allocatable = {"cpu": "31850m", "memory": "64Gi", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    kept = [{"key": key, "value": "present", "effect": "NoSchedule"} for key in taints]
    return {
        "metadata": {"name": name, "labels": labels if gpus else {}},
        "spec": {"taints": kept} if kept else {},
        "status": {"allocatable": allocatable},
    }


def pod(node_name: str, gpus: int, phase: str = "Running") -> dict[str, Any]:
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}}
    return {"spec": {"nodeName": node_name, "containers": [{"resources": resources}]}, "status": {"phase": phase}}


WELL = Facts(
    version="v1.33.1",
    took_s=0.003,
    namespace={"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
    refused=(),
    nodes=[node("a", 8), node("b")],
    pods=[pod("a", 2), pod("a", 1, "Succeeded")],
    own_pods=Unavailable.UNASKED,
    quotas=(),
    defaults=(),
    kueue=Unavailable.UNASKED,
    queue=Unavailable.UNASKED,
    runtime_class=Unavailable.UNASKED,
    weights_claim=Unavailable.UNASKED,
    cache_claim=Unavailable.UNASKED,
    service_account=Unavailable.UNASKED,
    pull_secret=Unavailable.UNASKED,
    others_pods=(),
    others_secrets=Unavailable.FORBIDDEN,
)


def found(host: KubernetesHost = ANY_GPU_HOST, images: Sequence[str] = (), **changed: Any) -> dict[str, Finding]:
    """By topic; of several on one topic, the worst."""
    order = list(Grade)
    its = findings(host, "bench", replace(WELL, **changed), images)
    return {it.topic: it for it in sorted(its, key=lambda it: order.index(it.grade))}


def host(**keys: Any) -> KubernetesHost:
    return ANY_GPU_HOST.model_copy(update=keys)


def test_a_cluster_where_all_is_well_has_no_finding_that_is_not_ok() -> None:
    assert {it.grade for it in found().values()} == {Grade.OK}
    assert found()["nodes"].text == "1 of 2 can take its jobs"


def test_gpus_are_counted_by_product_less_what_running_pods_have() -> None:
    assert found()["gpus"].text == f"{A100}: 6 of 8 free, on 1 node"


def test_a_right_that_jobs_need_is_a_problem_with_the_line_that_grants_it() -> None:
    missing = next(p for p in permissions() if (p.verb, p.resource) == ("create", "jobs"))
    finding = found(refused=[missing])["permissions"]
    assert finding.grade is Grade.PROBLEM
    assert "may not create jobs.batch in bench" in finding.text
    assert missing.where in finding.remedy
    assert "kubectl apply -k" in finding.remedy


def test_a_right_to_look_is_missed_only_where_the_host_needs_the_look() -> None:
    looks = [p for p in permissions() if p.role is not Role.RUN]
    queues = [p for p in looks if p.resource == "localqueues"]
    claims = [p for p in looks if p.resource == "persistentvolumeclaims"]
    for key in ("weights", "cache"):
        unread: dict[str, Any] = {f"{key}_claim": Unavailable.FORBIDDEN}
        missed = found(host(**{key: Claim(claim="it")}), refused=claims, **unread)
        assert missed["permissions"].grade is Grade.WARNING
        assert missed[key].text == "it may not be looked at"
    assert found(refused=[*queues, *claims])["permissions"].grade is Grade.OK
    assert found(host(queue="q"), refused=queues, kueue=Unavailable.FORBIDDEN)["permissions"].grade is Grade.WARNING


def test_without_a_right_to_list_events_jobs_run_and_less_is_told() -> None:
    events = [p for p in permissions() if p.resource == "events" and p.verb == "list"]
    its = list(findings(ANY_GPU_HOST, "bench", replace(WELL, refused=events)))
    worst = next(it for it in its if it.grade is not Grade.OK)
    assert (worst.topic, worst.grade) == ("permissions", Grade.WARNING)
    assert "may not list events in bench" in worst.text
    assert events[0].where in worst.remedy


def test_without_a_right_to_list_nodes_it_says_what_it_does_not_know() -> None:
    assert "is not known" in found(nodes=Unavailable.FORBIDDEN)["nodes"].text
    assert "gpus" not in found(nodes=Unavailable.FORBIDDEN)


def test_without_a_right_to_see_others_pods_it_counts_ours() -> None:
    seen = found(pods=Unavailable.FORBIDDEN, own_pods=[pod("a", 1)])["gpus"]
    assert seen.text == f"{A100}: 8, of which we use 1, on 1 node"


def test_a_namespace_that_is_not_there_is_a_problem() -> None:
    finding = found(namespace=Unavailable.MISSING)["namespace"]
    said = "there is no namespace 'bench', which the kubeconfig's context names"
    assert (finding.grade, finding.text) == (Grade.PROBLEM, said)
    assert "overlays/gpu" in finding.remedy
    assert "overlays/cpu" in found(host(gpus="none"), namespace=Unavailable.MISSING)["namespace"].remedy


def test_a_mistyped_namespace_is_said_once_with_the_nearest_name() -> None:
    its = [
        *findings(
            host(namespace="benhc"), "benhc", replace(WELL, namespace=Unavailable.MISSING, namespaces=("bench", "x"))
        )
    ]
    assert {it.topic for it in its} == {"namespace", "nodes", "gpus"}
    said = "there is no namespace 'benhc', which hosts.yaml names; did you mean 'bench'?"
    assert its[0].text == said
    assert "namespace: benhc" in its[0].remedy


def test_a_namespace_in_which_nothing_is_allowed_is_one_problem() -> None:
    closed = replace(WELL, namespace=Unavailable.FORBIDDEN, refused=permissions(), namespaces=("bench",))
    its = [*findings(host(namespace="benhc"), "benhc", closed)]
    assert [it.topic for it in its if it.grade is Grade.PROBLEM] == ["namespace"]
    assert its[0].text.startswith("there is no such namespace, or your account may do nothing there: 'benhc'")
    assert "did you mean 'bench'?" in its[0].text


def things(*names: str, account: str = "") -> list[dict[str, Any]]:
    annotations = {"kubernetes.io/service-account.name": account} if account else {}
    return [{"metadata": {"name": name, "annotations": annotations}} for name in names]


def test_a_namespace_with_secrets_or_pods_of_others_is_a_warning() -> None:
    finding = found(others_secrets=things("e", "d", "c", "b", "a"))["neighbours"]
    assert finding.grade is Grade.WARNING
    assert finding.text.startswith("bench holds Secrets of others (a, b, c, d, and 1 more); anyone who may create Jobs")
    assert "a namespace for benchmarks alone" in finding.remedy
    assert "pods of others (shop)" in found(others_pods=things("shop"))["neighbours"].text
    assert "neighbours" in found(others_secrets=things("t", account="admin"))


def test_the_pull_secret_and_tokens_of_our_own_accounts_are_not_of_others() -> None:
    tokens = things("default-token-x", account="default") + things("job-token", account="bench-job")
    assert "neighbours" not in found(host(image_pull_secret="hub"), others_secrets=[*things("hub"), *tokens])


def test_a_folder_of_the_node_does_not_go_with_pod_security() -> None:
    assert found(host(weights="/data"))["namespace"].grade is Grade.PROBLEM
    both = found(host(weights="/data", cache="/compiled"))["namespace"]
    assert both.text.endswith("forbids folders of a node (weights: /data, cache: /compiled)")
    assert both.remedy.startswith("weights: {claim: NAME} and cache: {claim: NAME}, or")
    claim = {"status": {"phase": "Bound"}, "spec": {"accessModes": ["ReadWriteMany"]}}
    assert found(host(weights=Claim(claim="hf")), weights_claim=claim)["namespace"].grade is Grade.OK


def test_a_product_that_no_node_has_is_a_problem_that_names_those_that_are_there() -> None:
    finding = found(host(node_selector={"nvidia.com/gpu.product": A6000}))["nodes"]
    assert finding.grade is Grade.PROBLEM
    assert f"nvidia.com/gpu.product is {A100}" in finding.text


def test_a_label_that_nobody_sets_is_one_that_feature_discovery_would() -> None:
    assert "GPU feature discovery" in found(nodes=[node("b")])["nodes"].remedy


def test_a_node_that_affinity_rules_out_is_not_one_for_its_jobs() -> None:
    def bound_to(value: str) -> Affinity:
        term = {"matchExpressions": [{"key": "nvidia.com/gpu.product", "operator": "In", "values": [value]}]}
        required = {"nodeSelectorTerms": [term]}
        return Affinity.model_validate({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}})

    assert "1 of 2 can take its jobs" in found(host(affinity=bound_to(A100)))["nodes"].text
    finding = found(host(affinity=bound_to(A6000)))["nodes"]
    assert (finding.grade, finding.text) == (Grade.PROBLEM, "none of 2 is what affinity.nodeAffinity requires")


def test_a_taint_comes_with_the_toleration_for_it() -> None:
    nodes = [node("a", 8, taints=["nvidia.com/gpu"])]
    finding = found(nodes=nodes)["nodes"]
    assert finding.grade is Grade.WARNING
    assert finding.remedy.startswith("tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]")
    tolerant = host(tolerations=(Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),))
    assert found(tolerant, nodes=nodes)["nodes"].grade is Grade.OK


@pytest.mark.parametrize(
    ("toleration", "tolerates"),
    [
        (Toleration(operator="Exists"), True),
        (Toleration(key="nvidia.com/gpu", value="present"), True),
        (Toleration(key="nvidia.com/gpu", value="absent"), False),
        (Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoExecute"), False),
        (Toleration(key="other", operator="Exists"), False),
    ],
)
def test_a_toleration_means_what_kubernetes_means_by_it(toleration: Toleration, tolerates: bool) -> None:
    grade = found(host(tolerations=(toleration,)), nodes=[node("a", 8, taints=["nvidia.com/gpu"])])["nodes"].grade
    assert (grade is Grade.OK) == tolerates


def test_a_cordoned_node_is_for_the_admin_to_bring_back() -> None:
    finding = found(nodes=[node("a", 8, taints=["node.kubernetes.io/unschedulable"])])["nodes"]
    assert "kubectl describe nodes" in finding.remedy


def test_a_gpu_by_another_name_is_named() -> None:
    mig = node("a", 8)
    mig["status"]["allocatable"] = {"nvidia.com/mig-1g.10gb": "7"}
    finding = found(nodes=[mig])["gpus"]
    assert (finding.grade, finding.remedy) == (Grade.PROBLEM, "gpu_resource: nvidia.com/mig-1g.10gb")
    assert "7 of 7" in found(host(gpu_resource="nvidia.com/mig-1g.10gb"), nodes=[mig], pods=())["gpus"].text


def test_a_job_larger_than_any_node_could_never_run() -> None:
    finding = found(host(gpus_per_job=16))["nodes"]
    assert finding.grade is Grade.PROBLEM
    assert "asks for 16 nvidia.com/gpu; the most that any of them has is 8" in finding.text
    assert found(host(memory="100g"))["nodes"].grade is Grade.PROBLEM
    assert found(host(memory="60g"))["nodes"].grade is Grade.OK


def test_gpus_that_are_all_in_use_are_a_warning() -> None:
    assert found(pods=[pod("a", 8)])["gpus"].grade is Grade.WARNING


@pytest.mark.parametrize("label", [{"product": f"{A100}-SHARED"}, {"nvidia.com/gpu.sharing-strategy": "mps"}])
def test_a_shared_gpu_is_a_warning(label: dict[str, str]) -> None:
    shared = node("a", 8, **label)
    finding = found(host(node_selector={}), nodes=[shared])["gpus"]
    assert finding.grade is Grade.WARNING
    assert "neighbours slow it down" in finding.text


def test_a_cpu_host_asks_for_no_gpu() -> None:
    seen = found(host(gpus="none", node_selector={}), nodes=[node("b")])
    assert seen["nodes"].grade is Grade.OK
    assert "gpus" not in seen


def quota(hard: dict[str, str], used: dict[str, str] | None = None) -> list[dict[str, Any]]:
    return [{"metadata": {"name": "bench"}, "spec": {}, "status": {"hard": hard, "used": used or {}}}]


def test_a_quota_below_one_job_is_a_problem_and_one_that_is_used_up_a_warning() -> None:
    assert found(quotas=quota({"requests.nvidia.com/gpu": "0"}))["quota"].grade is Grade.PROBLEM
    full = quota({"requests.nvidia.com/gpu": "8"}, {"requests.nvidia.com/gpu": "8"})
    assert found(quotas=full)["quota"].grade is Grade.WARNING
    part = quota({"requests.nvidia.com/gpu": "8"}, {"requests.nvidia.com/gpu": "3"})
    assert found(quotas=part)["quota"].text == "bench: 3 of 8 requests.nvidia.com/gpu used"


def test_a_quota_on_what_its_pods_do_not_say_is_a_problem_unless_a_limit_range_says_it() -> None:
    wants = quota({"requests.cpu": "64"})
    finding = found(quotas=wants)["quota"]
    assert finding.grade is Grade.PROBLEM
    assert "requests.cpu" in finding.text
    said = [{"spec": {"limits": [{"type": "Container", "defaultRequest": {"cpu": "1"}}]}}]
    assert "quota" not in found(quotas=wants, defaults=said)
    assert found(host(cpu=4.0), quotas=wants)["quota"].text == "bench: 0 of 64 requests.cpu used"


def test_a_queue_has_to_be_there_and_to_admit() -> None:
    served = {"preferredVersion": {"groupVersion": "kueue.x-k8s.io/v1beta2"}}
    assert "no Kueue" in found(host(queue="q"), kueue=Unavailable.MISSING, queue=Unavailable.UNASKED)["queue"].text
    missing = found(host(queue="q"), kueue=served, queue=Unavailable.MISSING)["queue"]
    assert (missing.grade, missing.text) == (Grade.PROBLEM, "there is no queue q")
    closed = {"type": "Active", "status": "False", "message": "its ClusterQueue is not there"}
    inactive = found(host(queue="q"), kueue=served, queue={"spec": {}, "status": {"conditions": [closed]}})["queue"]
    assert inactive.text == "q admits nothing: its ClusterQueue is not there"
    well = {"spec": {}, "status": {"pendingWorkloads": 3, "admittedWorkloads": 1}}
    assert found(host(queue="q"), kueue=served, queue=well)["queue"].text == "q: 1 admitted, 3 waiting"


@pytest.mark.parametrize(
    ("key", "topic", "fact"),
    [
        ("runtime_class", "runtime class", "runtime_class"),
        ("service_account", "service account", "service_account"),
        ("image_pull_secret", "pull secret", "pull_secret"),
    ],
)
def test_what_is_named_has_to_be_there(key: str, topic: str, fact: str) -> None:
    def facts(said: Any) -> dict[str, Any]:
        return {fact: said}

    named = host(**{key: "it"})
    assert found(named, **facts(Unavailable.MISSING))[topic].grade is Grade.PROBLEM
    assert "may not be looked at" in found(named, **facts(Unavailable.FORBIDDEN))[topic].text
    there = {"type": "kubernetes.io/dockerconfigjson"}
    assert found(named, **facts(there))[topic].text == "it is there"


def test_a_secret_of_another_type_pulls_nothing() -> None:
    finding = found(host(image_pull_secret="it"), pull_secret={"type": "Opaque"})["pull secret"]
    assert finding.grade is Grade.PROBLEM


def test_a_claim_that_waits_for_its_first_pod_is_a_warning_and_a_lost_one_a_problem() -> None:
    def of(phase: str) -> Grade:
        claim = {"status": {"phase": phase}, "spec": {"accessModes": ["ReadWriteOnce"]}}
        return found(host(weights=Claim(claim="hf")), weights_claim=claim)["weights"].grade

    assert [of("Bound"), of("Pending"), of("Lost")] == [Grade.OK, Grade.WARNING, Grade.PROBLEM]


@pytest.mark.parametrize(
    ("mode", "grade"), [("ReadWriteMany", Grade.OK), ("ReadWriteOnce", Grade.OK), ("ReadOnlyMany", Grade.PROBLEM)]
)
def test_a_claim_that_jobs_write_to_must_not_be_read_only(mode: str, grade: Grade) -> None:
    claim = {"status": {"phase": "Bound"}, "spec": {"accessModes": [mode]}}
    said = found(host(cache=Claim(claim="compiled")), cache_claim=claim)["cache"]
    assert said.grade is grade
    assert ("one node" in said.text + said.remedy) is (mode != "ReadWriteMany")
    assert found(host(weights=Claim(claim="hf")), weights_claim=claim)["weights"].grade is Grade.OK


def test_an_image_that_no_registry_hands_out_has_to_be_on_the_nodes() -> None:
    image = "sd-orchestrator/cuda:0123456789ab"
    assert found(images=[image])["image"].grade is Grade.WARNING
    has = node("a", 8)
    has["status"]["images"] = [{"names": [f"docker.io/{image}"]}]
    assert found(images=[image], nodes=[has])["image"].grade is Grade.OK
    pulled = "registry.example/cuda@sha256:" + "0" * 64
    assert found(host(images={"cuda": pulled}), images=[pulled])["image"].grade is Grade.OK


class Nodes:
    """A cluster of which nodes may be listed, or not."""

    namespace = "bench"

    def __init__(self, *nodes: dict[str, Any]) -> None:
        self.nodes = nodes

    def list(self, resource: str, *, keep: Any) -> list[Any]:
        if not self.nodes:
            raise Refused("nodes is forbidden", 403, "Forbidden")
        return [keep(it) for it in self.nodes]


OURS, NAMED = "sd-orchestrator/cuda:1", "registry.example/sd@sha256:0"


def having(*images: str, others: int = 3) -> dict[str, Any]:
    names = [f"docker.io/{image}" for image in images] + [f"other:{number}" for number in range(others)]
    return {"metadata": {"name": "a"}, "status": {"images": [{"names": [name]} for name in names]}}


@pytest.mark.parametrize(
    ("nodes", "images"),
    [
        ((having(OURS),), [OURS]),
        ((having(), having(OURS)), [OURS]),
        ((having(),), [NAMED]),
        ((having(others=MOST_REPORTED),), [OURS]),
        ((having(others=0),), [OURS]),
        ((), [OURS]),
    ],
    ids=["there", "on one node", "pulled", "more images than are reported", "none reported", "nodes not seen"],
)
def test_a_run_begins_where_its_images_are_or_may_be_on_nodes(nodes: Sequence[Any], images: list[str]) -> None:
    must_have_images(host(node_selector={}), images, Nodes(*nodes))  # type: ignore[arg-type]


def test_a_run_does_not_begin_where_no_node_has_an_image_that_was_not_pushed() -> None:
    said = f"image {OURS}: no registry hands it out, and 0 of 2 nodes report that they have it; fix: .*--push REGISTRY"
    with pytest.raises(HostUnfit, match=said):
        must_have_images(host(node_selector={}), [OURS], Nodes(having(), having()))  # type: ignore[arg-type]


def test_disk_that_a_job_asks_for_is_shown_as_memory_is() -> None:
    assert shown("ephemeral-storage", Decimal(50 << 30)) == "50 GiB of disk (ephemeral-storage)"


def test_without_a_right_to_watch_jobs_run_and_everything_is_listed() -> None:
    watches = [p for p in permissions() if p.verb == "watch"]
    its = [it for it in findings(ANY_GPU_HOST, "bench", replace(WELL, refused=watches)) if it.grade is not Grade.OK]
    assert {it.grade for it in its} == {Grade.WARNING}
    assert len(its) == len(watches)
    assert "may not watch jobs.batch in bench, so they are listed every few seconds" in " ".join(it.text for it in its)


def test_a_right_to_watch_what_may_not_be_listed_is_not_asked_for() -> None:
    events = [p for p in permissions() if p.resource == "events"]
    its = [it for it in findings(ANY_GPU_HOST, "bench", replace(WELL, refused=events)) if it.grade is not Grade.OK]
    assert len(events) == 2
    assert ["may not list events" in it.text for it in its] == [True]
