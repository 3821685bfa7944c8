"""`pod_template`: merged as Kubernetes merges, and nothing that protects a pod goes without a word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pod_security
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kubernetes_validate.utils import all_versions
from test_kubernetes_manifest import container, host, pod, task

from orchestrator import config
from orchestrator.config import KubernetesHost, load_hosts, podtemplate
from orchestrator.config.strategicmerge import MERGE_KEYS, merged
from orchestrator.errors import InputError
from orchestrator.executors.kubernetes.manifest import attempt_of, job_manifest, selector
from runner.wire.tokens import TOKEN_VARIABLES

SIDE = {
    "name": "side",
    "image": "registry.example/side:1",
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}


def said(patch: object, *, allow_unsafe: bool = False) -> list[str]:
    return [words for _, words in podtemplate.problems(patch, allow_unsafe=allow_unsafe)]


def ours(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "runner", **fields}]}}


def schema(version: str) -> dict[str, Any]:
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    return dict(json.loads((folder / f"v{version}-local" / "_definitions.json").read_text())["$defs"])


def test_lists_are_merged_by_the_keys_of_kubernetes_own_schemas() -> None:
    definitions = schema(all_versions()[-1])

    def keys(kind: str, path: str) -> Iterator[tuple[str, str]]:
        for name, field in definitions[f"io.k8s.api.core.v1.{kind}"]["properties"].items():
            if key := field.get("x-kubernetes-patch-merge-key"):
                yield f"{path}.{name}", key

    wanted = dict(keys("PodSpec", "spec"))
    for containers in ("spec.containers", "spec.initContainers"):
        wanted |= dict(keys("Container", f"{containers}[]"))
    assert dict(MERGE_KEYS) == {path: key for path, key in wanted.items() if "ephemeral" not in path}


def test_a_patch_merges_maps_and_named_lists_and_replaces_others() -> None:
    there = {
        "spec": {"tolerations": [{"key": "a"}], "nodeSelector": {"a": "b"}, "containers": [{"name": "x", "image": "1"}]}
    }
    patch = {
        "spec": {
            "tolerations": [{"key": "b"}],
            "nodeSelector": {"c": "d"},
            "containers": [{"name": "y", "image": "2"}, {"name": "x", "env": [{"name": "A", "value": "1"}]}],
        }
    }
    assert merged(there, patch) == {
        "spec": {
            "tolerations": [{"key": "b"}],
            "nodeSelector": {"a": "b", "c": "d"},
            "containers": [
                {"name": "x", "image": "1", "env": [{"name": "A", "value": "1"}]},
                {"name": "y", "image": "2"},
            ],
        }
    }
    assert there["spec"]["nodeSelector"] == {"a": "b"}


def test_null_and_directives_delete_replace_and_retain() -> None:
    there = {"spec": {"nodeSelector": {"a": "b", "c": "d"}, "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w"}]}}

    def after(spec: dict[str, Any]) -> Any:
        return merged(there, {"spec": spec})["spec"]

    assert after({"nodeSelector": {"a": None}})["nodeSelector"] == {"c": "d"}
    assert after({"nodeSelector": {"$patch": "replace", "e": "f"}})["nodeSelector"] == {"e": "f"}
    assert "nodeSelector" not in after({"nodeSelector": None})
    assert after({"volumes": [{"name": "w", "$patch": "delete"}]})["volumes"] == [{"name": "v", "emptyDir": {}}]
    assert after({"volumes": [{"$patch": "replace"}, {"name": "z"}]})["volumes"] == [{"name": "z"}]
    retained = after({"volumes": [{"name": "v", "$retainKeys": ["name", "nfs"], "nfs": {"path": "/"}}]})["volumes"]
    assert retained[0] == {"name": "v", "nfs": {"path": "/"}}


UNSAFE: dict[str, tuple[dict[str, Any], str]] = {
    "the node's network": ({"spec": {"hostNetwork": True}}, "spec.hostNetwork"),
    "the node's processes": ({"spec": {"hostPID": True}}, "spec.hostPID"),
    "an account's token": ({"spec": {"automountServiceAccountToken": True}}, "spec.automountServiceAccountToken"),
    "a token by projection": (
        {"spec": {"volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}},
        "spec.volumes[name=t].projected.sources[0].serviceAccountToken",
    ),
    "another user": ({"spec": {"securityContext": {"runAsUser": 0}}}, "spec.securityContext.runAsUser"),
    "no security context": ({"spec": {"securityContext": None}}, "spec.securityContext"),
    "a node's folder": (
        {"spec": {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}}, "spec.volumes[name=x].hostPath",
    ),
    "a driver of nodes": (
        {"spec": {"volumes": [{"name": "x", "flexVolume": {"driver": "d"}}]}}, "spec.volumes[name=x].flexVolume",
    ),
    "no job file": ({"spec": {"volumes": [{"name": "config", "$patch": "delete"}]}}, "spec.volumes[name=config]"),
    "another token": (
        {"spec": {"volumes": [{"name": "secrets", "secret": {"secretName": "x"}}]}}, "spec.volumes[name=secrets]",
    ),
    "no volumes": ({"spec": {"volumes": None}}, "spec.volumes"),
    "other volumes": ({"spec": {"volumes": [{"$patch": "replace"}]}}, "spec.volumes[name=None]"),
    "a fixed node": ({"spec": {"nodeName": "node-a"}}, "spec.nodeName"),
    "processes apart": ({"spec": {"shareProcessNamespace": False}}, "spec.shareProcessNamespace"),
    "no deadline": ({"spec": {"activeDeadlineSeconds": None}}, "spec.activeDeadlineSeconds"),
    "another command": (ours(command=["sh"]), "spec.containers[name=runner].command"),
    "arguments": (ours(args=["-c"]), "spec.containers[name=runner].args"),
    "another image": (ours(image="x"), "spec.containers[name=runner].image"),
    "a hook": (ours(lifecycle={"postStart": {"exec": {"command": ["sh"]}}}), "spec.containers[name=runner].lifecycle"),
    "privileged": (ours(securityContext={"privileged": True}), "spec.containers[name=runner].securityContext"),
    "other code": (ours(env=[{"name": "PYTHONPATH", "value": "/x"}]), "[name=runner].env[name=PYTHONPATH]"),
    "another library": (ours(env=[{"name": "LD_PRELOAD", "value": "/x"}]), "[name=runner].env[name=LD_PRELOAD]"),
    "no variables": (ours(env=None), "spec.containers[name=runner].env"),
    "all of a Secret": (ours(envFrom=[{"secretRef": {"name": "x"}}]), "spec.containers[name=runner].envFrom"),
    "no mount of the job": (
        ours(volumeMounts=[{"mountPath": "/job", "$patch": "delete"}]), "[name=runner].volumeMounts[mountPath=/job]",
    ),
    "a mount over the program": (
        ours(volumeMounts=[{"mountPath": "/opt/runner", "name": "x"}]), "volumeMounts[mountPath=/opt/runner]",
    ),
    "a port of the node": (ours(ports=[{"containerPort": 1, "hostPort": 1}]), "[name=runner].ports[0].hostPort"),
    "a sidecar without limits": (
        {"spec": {"containers": [{"name": "side", "image": "x"}]}},
        "spec.containers[name=side].securityContext.allowPrivilegeEscalation",
    ),
    "a privileged sidecar": (
        {"spec": {"initContainers": [{**SIDE, "securityContext": {**SIDE["securityContext"], "privileged": True}}]}},  # type: ignore[dict-item]
        "spec.initContainers[name=side].securityContext.privileged",
    ),
    "a sidecar that reads the token": (
        {"spec": {"containers": [{**SIDE, "volumeMounts": [{"name": "secrets", "mountPath": "/s"}]}]}},
        "spec.containers[name=side].volumeMounts[mountPath=/s]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNSAFE)
def test_what_protects_a_pod_takes_a_word_and_one_message_names_it(what: str) -> None:
    patch, path = UNSAFE[what]
    (message,) = said(patch)
    assert f"{path} may weaken the pod's isolation" in message
    assert "allow_unsafe: true" in message
    assert said(patch, allow_unsafe=True) == []


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"metadata": {"labels": {"sd-orchestrator": "x"}}}, "metadata.labels.sd-orchestrator is set for each job"),
        ({"metadata": {"annotations": {"sd-orchestrator.run": None}}}, "is set for each job"),
        ({"metadata": {"labels": None}}, "metadata.labels must be keys and values"),
        ({"metadata": {"labels": {"$patch": "replace"}}}, "is set for each job"),
        ({"metadata": {"$patch": "replace"}}, "cannot be replaced"),
        ({"spec": {"$patch": "delete"}}, "cannot be replaced"),
        ({"spec": {"$retainKeys": []}}, "cannot be replaced"),
        ({"spec": {"restartPolicy": "OnFailure"}}, "must be Never"),
        ({"spec": {"containers": None}}, "must keep the container runner"),
        ({"spec": {"containers": [{"$patch": "replace"}]}}, "must keep the container runner"),
        ({"spec": {"containers": [{"name": "runner", "$patch": "delete"}]}}, "the container runner is the job"),
        (ours(env=[{"name": "HF_TOKEN", "value": "hf_x"}]), "from a Secret by valueFrom"),
        (ours(env=[{"name": "NCCL_DEBUG", "value": 1}]), "put it in quotes"),
        ({"metadata": {"annotations": {"port": 8080}}}, "put it in quotes"),
        ({"spec": {"containers": [{"image": "x"}]}}, "must have the key 'name'"),
        ({"spec": {"volumes": {}}}, "spec.volumes must be a list"),
        ({"spec": []}, "spec must be keys and values"),
        ({"spec": {"$setElementOrder/containers": []}}, "is not supported"),
        ({"kind": "Pod"}, "unknown key 'kind'"),
        ([], "must be keys and values"),
    ],
)
def test_what_no_patch_may_say_is_refused_with_allow_unsafe_too(patch: object, words: str) -> None:
    for allow_unsafe in (False, True):
        assert any(words in message for message in said(patch, allow_unsafe=allow_unsafe))


@pytest.mark.parametrize("name", TOKEN_VARIABLES)
def test_a_patch_gives_our_container_no_variable_of_a_token(name: str) -> None:
    secret = {"valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}
    (message,) = said(ours(env=[{"name": name, **secret}]), allow_unsafe=False)
    assert f"env[name={name}] may weaken the pod's isolation" in message


def test_a_patch_adds_a_sidecar_a_variable_and_a_mount_to_the_pod() -> None:
    patch = {
        "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
        "spec": {
            "schedulerName": "batch",
            "volumes": [{"name": "scratch", "emptyDir": {}}],
            "containers": [
                SIDE,
                {
                    "name": "runner",
                    "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
                    "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                },
            ],
        },
    }
    assert said(patch) == []
    made, plain = job_manifest(task(), host(pod_template=patch)), job_manifest(task(), host())
    runner, side = pod(made)["containers"]
    assert side == SIDE
    assert runner["env"] == [*container(plain)["env"], {"name": "NCCL_DEBUG", "value": "INFO"}]
    assert runner["volumeMounts"] == [*container(plain)["volumeMounts"], {"name": "scratch", "mountPath": "/scratch"}]
    assert pod(made)["schedulerName"] == "batch"
    assert made["spec"]["template"]["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
    assert made["metadata"]["labels"]["sd-orchestrator.spec"] != plain["metadata"]["labels"]["sd-orchestrator.spec"]


# Patches as somebody might write them who means harm: fields and values that matter, in any combination.
VALUES = st.sampled_from(
    [None, True, False, 0, "x", [], {}, ["ALL"], {"$patch": "replace"}, {"$patch": "delete"}, {"path": "/"}]
)
CONTEXTS = st.dictionaries(
    st.sampled_from(
        [
            "privileged",
            "runAsUser",
            "runAsNonRoot",
            "allowPrivilegeEscalation",
            "capabilities",
            "fsGroup",
            "seccompProfile",
        ]
    ),
    VALUES | st.just({"drop": ["ALL"]}) | st.just({"add": ["SYS_ADMIN"]}),
)
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from(["runner", "side"]),
            "image": st.just("x"),
            "command": VALUES,
            "env": st.just([{"name": "PATH", "value": "/x"}]) | VALUES,
            "securityContext": CONTEXTS | VALUES,
            "volumeMounts": st.lists(
                st.fixed_dictionaries(
                    {
                        "mountPath": st.sampled_from(["/job", "/run/orchestrator", "/d"]),
                        "name": st.sampled_from(["secrets", "d"]),
                    }
                )
            )
            | VALUES,
            "$patch": st.sampled_from(["replace", "delete", "merge"]),
        },
    ),
    max_size=2,
)
VOLUMES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from(["job", "config", "d"]),
            "hostPath": VALUES,
            "emptyDir": VALUES,
            "$patch": st.sampled_from(["replace", "delete"]),
            "$retainKeys": st.just(["name"]),
        },
    ),
    max_size=2,
)
PATCHES = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.dictionaries(
            st.sampled_from(["labels", "annotations", "$patch", "name"]),
            st.dictionaries(st.sampled_from(["sd-orchestrator", "x"]), VALUES) | VALUES,
        ),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "containers": CONTAINERS | VALUES,
                "initContainers": CONTAINERS | VALUES,
                "volumes": VOLUMES | VALUES,
                "securityContext": CONTEXTS | VALUES,
                "hostNetwork": VALUES,
                "restartPolicy": VALUES,
                "automountServiceAccountToken": VALUES,
                "$patch": st.sampled_from(["replace", "delete", "merge"]),
            },
        )
        | VALUES,
    },
)


@given(PATCHES)
def test_no_patch_that_is_taken_weakens_a_pod(patch: Any) -> None:
    if said(patch):
        return
    plain, made = (job_manifest(task(model="o/n"), it) for it in (host(), host(pod_template=patch)))
    of_plain, of_made = plain["spec"]["template"], made["spec"]["template"]
    assert [rule for rule in pod_security.broken(of_made) if rule != "Volume Types"] == []
    for key in ("automountServiceAccountToken", "restartPolicy", "activeDeadlineSeconds"):
        assert of_made["spec"][key] == of_plain["spec"][key]
    (before,) = of_plain["spec"]["containers"]
    (after,) = [it for it in of_made["spec"]["containers"] if it["name"] == "runner"]
    for key in ("image", "command", "workingDir", "securityContext"):
        assert after[key] == before[key]
    for key in ("env", "volumeMounts"):
        assert [it for it in before[key] if it not in after[key]] == []
    assert [it for it in of_plain["spec"]["volumes"] if it not in of_made["spec"]["volumes"]] == []
    assert attempt_of(of_made["metadata"]) == task().attempt
    wanted = dict(pair.split("=") for pair in selector(host(), task().attempt).split(","))
    assert wanted.items() <= of_made["metadata"]["labels"].items()


KEYS = st.sampled_from(
    ["containers", "initContainers", "volumes", "name", "env", "volumeMounts", "mountPath", "securityContext", "ports",
     "labels", "annotations", "projected", "sources", "hostPath", "restartPolicy", "nodeSelector", "tolerations",
     "$patch", "$retainKeys", "containerPort", "resources", "hostAliases", "ip", "value"]
)  # fmt: skip
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 9)
    | st.sampled_from(["runner", "job", "x", "/job", "delete", "replace"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)
SHAPES = st.fixed_dictionaries({}, optional={"metadata": JSON, "spec": st.dictionaries(KEYS, JSON, max_size=4)})


@given(SHAPES, st.booleans())
def test_a_patch_of_any_shape_is_refused_in_words_or_merged(patch: Any, allow_unsafe: bool) -> None:
    if not said(patch, allow_unsafe=allow_unsafe):
        made = job_manifest(task(), host(pod_template=patch, allow_unsafe=allow_unsafe))
        names = [it.get("name") for it in made["spec"]["template"]["spec"]["containers"]]
        assert "runner" in names
        assert made["spec"]["template"]["spec"]["restartPolicy"] == "Never"
        assert attempt_of(made["spec"]["template"]["metadata"]) == task().attempt


def inventory(folder: Path, keys: str) -> Path:
    path = folder / "hosts.yaml"
    path.write_text(f"hosts:\n  lab:\n    kind: kubernetes\n    {keys}\n")
    return path


def test_the_file_lies_beside_the_inventory_and_a_fault_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text("spec:\n  schedulerName: batch\n")
    path = inventory(tmp_path, "pod_template: pod.yaml")
    found = load_hosts(path)["lab"]
    assert isinstance(found, KubernetesHost)
    assert found.pod_template == {"spec": {"schedulerName": "batch"}}
    (tmp_path / "pod.yaml").write_text("spec:\n  schedulerName: batch\n  hostPID: true\n")
    with pytest.raises(InputError, match=r"pod\.yaml:3: pod_template: spec\.hostPID may weaken"):
        load_hosts(path)
    (tmp_path / "pod.yaml").unlink()
    with pytest.raises(
        InputError, match=r"hosts\.yaml:4: pod_template .*pod\.yaml: there is no such file; a relative path"
    ):
        load_hosts(path)


def test_a_run_keeps_the_patch_itself_and_so_resumes_with_the_same(tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text("spec:\n  schedulerName: batch\n")
    path = inventory(tmp_path, "pod_template: pod.yaml")
    kept = config.by_itself(path.read_text(), (), tmp_path)
    assert yaml.safe_load(kept)["hosts"]["lab"]["pod_template"] == {"spec": {"schedulerName": "batch"}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "hosts.yaml").write_text(kept)
    assert load_hosts(tmp_path / "run" / "hosts.yaml")["lab"] == load_hosts(path)["lab"]
    plain = path.read_text().replace("pod_template: pod.yaml", "cpu: 1  # a remark")
    assert config.by_itself(plain, (), tmp_path) == plain
