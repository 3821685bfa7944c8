"""What a Kubernetes host's entry may say of its pods, and how it stands in the Job."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from test_kubernetes_manifest import container, host, pod, task

from orchestrator.config import KubernetesHost, load_hosts
from orchestrator.config.jsonschemas import hosts_schema
from orchestrator.config.kubenames import bytes_of
from orchestrator.errors import InputError
from orchestrator.executors.kubernetes.manifest import attempt_of, job_manifest

Load = Callable[[str], KubernetesHost]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def made(keys: str) -> KubernetesHost:
        path = tmp_path / "hosts.yaml"
        path.write_text(f"hosts:\n  lab:\n    kind: kubernetes\n    {keys}\n")
        found = load_hosts(path)["lab"]
        assert isinstance(found, KubernetesHost)
        return found

    return made


def refused(load: Load, keys: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        load(keys)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("text", "much"),
    [
        ("16g", 16 << 30), ("16Gi", 16 << 30), ("16G", 16 * 10**9), ("1.5Gi", 3 << 29), ("512Mi", 512 << 20),
        ("512m", 512 << 20), ("2Ti", 2 << 40), ("1gib", 1 << 30), ("1073741824", 1 << 30), ("5M", 5_000_000),
    ],
)  # fmt: skip
def test_sizes_are_read_as_kubernetes_and_docker_write_them(text: str, much: int) -> None:
    assert bytes_of(text) == much


@pytest.mark.parametrize("text", ["16", "true", "16 Gi", "16Q", "-1Gi", "Gi", "[16g]", "1e99"])
def test_what_is_no_size_is_refused_with_an_example(load: Load, text: str) -> None:
    (said,) = refused(load, f"memory: {text}")
    assert "hosts.yaml:4: memory must be a size such as 16Gi or 16g" in said


def test_cpus_may_be_thousandths(load: Load) -> None:
    quarter = job_manifest(task(), load("cpu: 250m"))
    assert container(quarter)["resources"]["limits"]["cpu"] == "250m"
    assert [load(f"cpu: {text}").cpu for text in ("500m", "'2'", "0.5", "4")] == [0.5, 2, 0.5, 4]
    assert "cpu must be a number of CPUs such as 4, 0.5 or 500m" in refused(load, "cpu: 4Gi")[0]


def test_requests_may_be_less_than_the_limits_and_no_more(load: Load) -> None:
    asked = load(
        "cpu: 4\n    memory: 16Gi\n    ephemeral_storage: 50Gi\n    requests: {cpu: 500m, ephemeral_storage: 1Gi}"
    )
    resources = container(job_manifest(task(), asked))["resources"]
    gpu = {"nvidia.com/gpu": "1"}
    limits = {"cpu": "4000m", "memory": str(16 << 30), "ephemeral-storage": str(50 << 30)}
    assert resources["limits"] == {**limits, **gpu}
    assert resources["requests"] == {**limits, **gpu, "cpu": "500m", "ephemeral-storage": str(1 << 30)}
    (said,) = refused(load, "memory: 4Gi\n    requests: {memory: 8Gi}")
    assert "requests.memory is 8Gi, more than the limit memory: 4Gi" in said


def test_a_request_alone_makes_no_limit_and_as_many_threads() -> None:
    made = container(job_manifest(task(), host(gpus="none", requests={"cpu": "2", "memory": "1Gi"})))
    assert made["resources"]["requests"]["cpu"] == "2000m"
    assert "cpu" not in made["resources"].get("limits", {})
    assert {"name": "OMP_NUM_THREADS", "value": "2"} in made["env"]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("imagePullPolicy: Never", "image_pull_policy: Never"),
        ("ephemeral-storage: 4Gi", "ephemeral_storage: 4Gi"),
        ("requests: {ephemeral-storage: 4Gi}", "requests: {ephemeral_storage: 4Gi}"),
        ("nodeSelector: {a: b}", "node_selector: {a: b}"),
        ("priorityClassName: low", "priority_class: low"),
        ("runtimeClassName: nvidia", "runtime_class: nvidia"),
        ("serviceAccountName: x", "service_account: x"),
        (
            "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]",
            "topology_spread: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]",
        ),
        (
            "volumes: [{name: s, emptyDir: {}}]\n    volumeMounts: [{name: s, mountPath: /s}]",
            "volumes: [{name: s, emptyDir: {}}]\n    volume_mounts: [{name: s, mountPath: /s}]",
        ),
    ],
)
def test_a_key_may_be_spelled_as_in_a_pod(load: Load, theirs: str, ours: str) -> None:
    import yaml

    assert load(theirs) == load(ours)
    for keys in (theirs, ours):
        document = yaml.safe_load(f"hosts:\n  lab:\n    kind: kubernetes\n    {keys}\n")
        jsonschema.validate(document, hosts_schema())


def test_two_spellings_of_one_key_and_a_wrong_value_name_their_line(load: Load) -> None:
    (said,) = refused(load, "imagePullPolicy: Never\n    image_pull_policy: Always")
    assert "image_pull_policy and imagePullPolicy are one key; keep one" in said
    (said,) = refused(load, "cpu: 1\n    imagePullPolicy: Sometimes")
    assert "hosts.yaml:5: " in said
    assert "'Sometimes' is unknown" in said


def test_labels_and_annotations_stand_on_the_job_and_the_pod_beside_ours() -> None:
    made = job_manifest(task(), host(labels={"team": "vision"}, annotations={"a.example/b": "any text"}))
    for metadata in (made["metadata"], made["spec"]["template"]["metadata"]):
        assert metadata["labels"]["team"] == "vision"
        assert metadata["annotations"]["a.example/b"] == "any text"
        assert attempt_of(metadata) == task().attempt


@pytest.mark.parametrize("key", ["sd-orchestrator", "sd-orchestrator.run", "job-name", "kueue.x-k8s.io/queue-name"])
def test_labels_that_a_job_is_known_by_are_not_set(load: Load, key: str) -> None:
    for where in ("labels", "annotations"):
        assert f"{where} must not set '{key}'" in refused(load, f"{where}: {{{key}: x}}")[0]


def test_a_variable_may_come_from_a_secret_for_jobs_that_use_the_network(load: Load) -> None:
    asked = load(
        "env: {HTTPS_PROXY: {valueFrom: {secretKeyRef: {name: proxy-login, key: url}}}, HF_ENDPOINT: 'https://hub'}"
    )
    wanted = {"valueFrom": {"secretKeyRef": {"name": "proxy-login", "key": "url"}}}
    online = container(job_manifest(task(model="owner/name"), asked))["env"]
    assert {"name": "HTTPS_PROXY", **wanted} in online
    assert {"name": "https_proxy", **wanted} in online
    assert "proxy-login" not in json.dumps(job_manifest(task(), asked))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("env: {HF_TOKEN: {valueFrom: {secretKeyRef: {name: a, key: b}}}}", "must not set 'HF_TOKEN'"),
        ("env: {HF_ENDPOINT: {valueFrom: {}}}", "env HF_ENDPOINT must be text, or {valueFrom:"),
        ("env: {HF_ENDPOINT: {valueFrom: {fieldRef: {fieldPath: x}}}}", "or configMapKeyRef"),
        ("env: {HF_ENDPOINT: 3}", "must hold text (HF_ENDPOINT)"),
        ("affinity: {nodeAffinty: {}}", "did you mean 'nodeAffinity'?"),
        ("topology_spread: [{maxSkew: 0, topologyKey: z, whenUnsatisfiable: DoNotSchedule}]", "at least 1"),
        ("volumes: [{name: x}]", "must have one source"),
        ("volumes: [{name: job, emptyDir: {}}]", "must not be called 'job'"),
        ("weights: {claim: a}\n    cache: {claim: a}", "cache must be apart from weights"),
        ("weights: /data/hf\n    cache: /data/hf/compiled", "cache must be apart from weights"),
        ("cache: /", "must be a folder of its own"),
        (
            "volumes: [{name: x, persistentVolumeClaim: {claimName: a}}]\n    cache: {claim: a}",
            "volumes and cache name the same claim, a",
        ),
        ("volumes: [{name: x, hostPath: {path: /}}]", "volumes[0].hostPath may weaken"),
        (
            "volumes: [{name: x, projected: {sources: [{serviceAccountToken: {path: t}}]}}]",
            "volumes[0].projected.sources[0].serviceAccountToken may weaken",
        ),
        ("volume_mounts: [{name: x, mountPath: /x}]", "which is not in volumes"),
        ("image_pull_policy: Sometimes", "is one of Always, IfNotPresent, Never"),
    ],
)
def test_what_a_pod_cannot_have_is_one_message(load: Load, keys: str, said: str) -> None:
    (message,) = refused(load, keys)
    assert said in message


@pytest.mark.parametrize(
    "path", ["/", "/job", "/job/x", "/opt", "/opt/venv/lib", "/usr/lib", "/run/orchestrator", "/x/.."]
)
def test_a_mount_hides_nothing_of_the_program_or_the_job(load: Load, path: str) -> None:
    (said,) = refused(
        load, f"volumes: [{{name: x, emptyDir: {{}}}}]\n    volume_mounts: [{{name: x, mountPath: {path}}}]"
    )
    assert f"must not mount at {path}" in said


def test_a_folder_of_the_node_takes_a_word_that_it_is_meant(load: Load) -> None:
    made = load("allow_unsafe: true\n    volumes: [{name: x, hostPath: {path: /data}}]")
    assert {"name": "x", "hostPath": {"path": "/data"}} in pod(job_manifest(task(), made))["volumes"]


def test_what_places_a_pod_stands_where_the_scheduler_looks(load: Load) -> None:
    made = load(
        "priority_class: low\n"
        "    topology_spread: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]\n"
        "    affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: zone}]}}"
    )
    spec: dict[str, Any] = pod(job_manifest(task(), made))
    assert spec["priorityClassName"] == "low"
    assert spec["affinity"]["podAntiAffinity"] == {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]
    }
    (spread,) = spec["topologySpreadConstraints"]
    assert spread["labelSelector"] == {"matchLabels": {"sd-orchestrator": "job", "sd-orchestrator.host": "lab"}}
