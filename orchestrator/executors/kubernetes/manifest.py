"""Renders a task as Kubernetes objects. Pure: `plan --containers` shows the Job that would be created.

The pod passes the Pod Security Standard "restricted", except where a folder of the nodes (`weights: /path`, `cache:
/path`, a model's folder) is mounted. API: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from orchestrator.config import KubernetesHost
from orchestrator.config import pod as config_pod
from orchestrator.config.env import PROXY_VARIABLES
from orchestrator.config.kubenames import bytes_of
from orchestrator.config.kubernetes import ASKED, Claim
from orchestrator.config.strategicmerge import merged
from orchestrator.errors import TaskUnfit
from orchestrator.executors.container_paths import (
    CACHE,
    COMPILED,
    FOLDER,
    GRANT_FILE,
    RUNNER_UID,
    SECRETS,
    TOKEN_FILE,
    WEIGHTS,
    below,
    cache_environment,
    model_mount,
)
from orchestrator.executors.contract import LABEL, Attempt, Task, needs_download
from orchestrator.executors.environment import HUB, hub_environment
from orchestrator.executors.network import CA_BUNDLE, NOTHING, authorities
from runner.schema import Device, stable_hash
from runner.wire import frames

CONTAINER = config_pod.CONTAINER
JOB_FILE = "job.json"
MANIFEST = "manifest.json"
SPEC = f"{LABEL}.spec"
RUN = f"{LABEL}.run"
SECRETS_VOLUME = "secrets"
# A container's termination message, at most 4096 bytes, which the API shows with its exit code.
TERMINATION_LOG = "/dev/termination-log"

# Grace between asking a container to end and killing it; fixed when the pod is created.
STOP_GRACE_S = 10
# A pod's deadline counts from when its node accepted it, so it includes the image pull. A running orchestrator's own
# deadline comes first: this one is for pods whose orchestrator is gone.
IMAGE_TIME_S = 1800
# A Job's deadline includes the queue, and deletes the pod and its log.
QUEUE_TIME_S = 7 * 86400
# Finished Jobs that nobody collects are deleted automatically (servers from 1.23 on).
KEPT_S = 3 * 86400
# Tells autoscalers that move pods to save nodes to leave a measurement alone.
STAY = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}


def object_name(attempt: Attempt) -> str:
    """Returns the name of the Job and all its objects: readable, a DNS label with its pod's suffix, unique per attempt.

    A run's name may be longer or have capitals, so a hash of the attempt makes the name unique.
    """
    readable = re.sub(r"[^a-z0-9]+", "-", f"{attempt.run}-{attempt.job}-{attempt.number}".lower())
    return f"sd-{readable[-44:].strip('-')}-{stable_hash(list(attempt), 8)}"


def labels(task: Task, host: KubernetesHost) -> dict[str, str]:
    run, job, number = task.attempt
    named = {"run": label_value(run), "job": job, "attempt": str(number), "slot": task.slot.name, "host": host.name}
    return {**host.labels, LABEL: "job", **{f"{LABEL}.{name}": value for name, value in named.items()}}


def label_value(text: str) -> str:
    """Shortens a text to a label value's 63 characters; an annotation has a run's full name."""
    return text if len(text) <= 63 else f"{text[:50]}-{stable_hash(text)}"


def selector(host: KubernetesHost, attempt: Attempt | None = None) -> str:
    """Returns the label selector for the objects of a host, or of one attempt on it."""
    wanted = {}
    if attempt is not None:
        wanted = {
            f"{LABEL}.run": label_value(attempt.run),
            f"{LABEL}.job": attempt.job,
            f"{LABEL}.attempt": str(attempt.number),
        }
    return ",".join((selector_of(host.name), *(f"{name}={value}" for name, value in wanted.items())))


def selector_of(*hosts: str) -> str:
    """Returns the label selector for the objects of several hosts."""
    among = f"={hosts[0]}" if len(hosts) == 1 else f" in ({','.join(hosts)})"
    return f"{LABEL}=job,{LABEL}.host{among}"


def attempt_of(metadata: Mapping[str, Any]) -> Attempt | None:
    """Returns the attempt that an object belongs to; None if it names none."""
    try:
        found = metadata["labels"]
        return Attempt.named(metadata["annotations"][RUN], found[f"{LABEL}.job"], found[f"{LABEL}.attempt"])
    except (KeyError, TypeError):
        return None


def staged(task: Task, host: KubernetesHost, network: Mapping[str, str] = NOTHING) -> dict[str, Any]:
    """Renders a staged attempt's ConfigMap: the job's file and the Job to create."""
    job = job_manifest(task, host, network)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": job["metadata"],
        "immutable": True,  # a pod mounts the job's file long after its comparison
        "data": {JOB_FILE: task.job.to_json(), MANIFEST: json.dumps(job)},
    }


def job_manifest(task: Task, host: KubernetesHost, network: Mapping[str, str] = NOTHING) -> dict[str, Any]:
    """Renders the body of the create call. Raises TaskUnfit if the model is a relative folder, unknown to any node.

    network: variables that only a pod that downloads or uploads gets.
    """
    name, marks = object_name(task.attempt), labels(task, host)
    annotations = {**host.annotations, RUN: task.attempt.run}
    pod = _pod(task, host, name, network)
    queue = {"kueue.x-k8s.io/queue-name": host.queue} if host.queue else {}
    template = merged(
        {"metadata": {"labels": marks, "annotations": {**STAY, **annotations}}, "spec": pod}, host.pod_template or {}
    )
    for each in template["spec"]["containers"]:
        if each.get("image") == task.image and is_unpushed(task.image, host):
            each["imagePullPolicy"] = "Never"  # the patch may set another
    spec = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": pod["activeDeadlineSeconds"] + QUEUE_TIME_S,
        "ttlSecondsAfterFinished": KEPT_S,
        "template": template,
    }
    marks = {**marks, **queue, SPEC: stable_hash(spec, 16)}
    metadata = {"name": name, "labels": marks, "annotations": annotations}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def secrets(job: Mapping[str, Any], token: str | None, upload_grant: str | None = None) -> dict[str, Any]:
    """The secrets of a Job that exists: the Hugging Face token, and the address to deliver to. They go with it.

    An empty value means that there is none.
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": job["metadata"]["name"],
            "labels": {name: value for name, value in job["metadata"]["labels"].items() if name.startswith(LABEL)},
            "ownerReferences": [owned_by(job)],
        },
        "stringData": {PurePosixPath(TOKEN_FILE).name: token or "", PurePosixPath(GRANT_FILE).name: upload_grant or ""},
    }


def objects(task: Task, host: KubernetesHost, network: Mapping[str, str] = NOTHING) -> tuple[dict[str, Any], ...]:
    """Renders all objects of an attempt, to show them or apply them by hand; the Secret has no values."""
    job = job_manifest(task, host, network)
    created = [staged(task, host, network), job]
    if needs_secrets(job):
        empty = secrets({**job, "metadata": {**job["metadata"], "uid": ""}}, None)
        created.insert(1, {**empty, "metadata": {key: empty["metadata"][key] for key in ("name", "labels")}})
    place = {"namespace": host.namespace} if host.namespace else {}
    return tuple(
        {**each, "metadata": {"name": each["metadata"]["name"], **place, **each["metadata"]}} for each in created
    )


def owned_by(job: Mapping[str, Any]) -> dict[str, Any]:
    of = job["metadata"]
    return {"apiVersion": "batch/v1", "kind": "Job", "name": of["name"], "uid": of["uid"]}


def needs_secrets(job: Mapping[str, Any]) -> bool:
    """Whether a Job's pod waits for a Secret."""
    return any(volume["name"] == SECRETS_VOLUME for volume in job["spec"]["template"]["spec"].get("volumes", ()))


def _pod(task: Task, host: KubernetesHost, name: str, network: Mapping[str, str]) -> dict[str, Any]:
    online = needs_download(task.job.model, host)
    volumes, mounts = _volumes(task, host, name, online)
    optional = {
        "nodeSelector": host.node_selector,
        "tolerations": [toleration.model_dump(exclude_none=True) for toleration in host.tolerations],
        "affinity": host.affinity and host.affinity.model_dump(exclude_none=True, mode="json"),
        "topologySpreadConstraints": [
            _spread(each.model_dump(exclude_none=True, mode="json"), host) for each in host.topology_spread
        ],
        "priorityClassName": host.priority_class,
        "runtimeClassName": host.runtime_class,
        "serviceAccountName": host.service_account,
        "imagePullSecrets": [{"name": host.image_pull_secret}] if host.image_pull_secret else [],
    }
    return {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": round(task.job.timeout_s * task.job.timed_parts) + IMAGE_TIME_S,
        "terminationGracePeriodSeconds": STOP_GRACE_S,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # the runner is then not process 1: signals end it as usual, and its orphans are reaped
        "shareProcessNamespace": True,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": RUNNER_UID,
            "runAsGroup": RUNNER_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
            # a new volume belongs to root; its files are changed once, and not again for each pod
            **(
                {"fsGroup": RUNNER_UID, "fsGroupChangePolicy": "OnRootMismatch"}
                if isinstance(host.cache, Claim)
                else {}
            ),
        },
        **{key: value for key, value in optional.items() if value},
        "volumes": volumes,
        "containers": [
            {
                "name": CONTAINER,
                "image": task.image,
                "imagePullPolicy": pull_policy(task.image, host),
                "command": ["python", "-m", "runner", "--job", f"{FOLDER}/{JOB_FILE}"],
                "workingDir": FOLDER,
                "env": _environment(task, host, online, network),
                "resources": _resources(task, host),
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                },
                "volumeMounts": mounts,
            }
        ],
    }


def pull_policy(image: str, host: KubernetesHost) -> str:
    """Returns Never for an unpushed image, whatever the entry says: anyone may register its name at a registry.

    An image that the entry names or that we pushed has a digest, or a tag that means one image. A node that has it
    need not pull it again, unless the entry says so.
    """
    return "Never" if is_unpushed(image, host) else host.image_pull_policy or "IfNotPresent"


def is_unpushed(image: str, host: KubernetesHost) -> bool:
    """Whether the image is in no registry: neither does the host's entry name it, nor did we push it."""
    return "@" not in image and image not in host.images.values()


def _environment(task: Task, host: KubernetesHost, online: bool, network: Mapping[str, str]) -> list[dict[str, Any]]:
    # default: as many threads as requested CPUs, not as the node has
    cpus = host.cpu or host.requests.cpu
    threads = task.job.threads or host.threads or (max(1, int(cpus)) if cpus else None)
    plain = {
        **(network if online or host.collect else {}),
        **(authorities(CA_BUNDLE) if host.ca_bundle and (online or host.collect) else {}),
        "HOME": FOLDER,
        "TMPDIR": "/tmp",  # noqa: S108  # the pod's own volume
        # in the Job, which is immutable: its ConfigMap may be deleted and created again while the pod waits
        "RUNNER_JOB_SHA256": hashlib.sha256(task.job.to_json().encode()).hexdigest(),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",
        **hub_environment(WEIGHTS if host.weights else CACHE, CACHE, online=online),
        **({"RUNNER_TOKEN_FILE": TOKEN_FILE} if online else {}),
        **({"RUNNER_TICKET_FILE": GRANT_FILE, "RUNNER_RECEIPT_FILE": TERMINATION_LOG} if host.collect else {}),
        **(cache_environment(stable_hash([host.name, task.image])) if host.cache else {}),
        **({"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} if threads else {}),
    }
    uid = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}}
    return [
        *({"name": name, "value": value} for name, value in plain.items()),
        *(_from_objects(host) if online or host.collect else ()),
        {"name": frames.VARIABLE, "valueFrom": uid},
    ]


def _from_objects(host: KubernetesHost) -> Iterator[dict[str, Any]]:
    """Yields the variables whose values the cluster holds."""
    for name, given in host.env.items():
        if isinstance(given, config_pod.FromObject):
            source = given.valueFrom.model_dump(exclude_none=True)
            for each in (name, name.lower()) if name in PROXY_VARIABLES else (name,):
                yield {"name": each, "valueFrom": source}


def _spread(constraint: dict[str, Any], host: KubernetesHost) -> dict[str, Any]:
    return {"labelSelector": {"matchLabels": {LABEL: "job", f"{LABEL}.host": host.name}}, **constraint}


def _resources(task: Task, host: KubernetesHost) -> dict[str, Any]:
    """Requests equal limits unless the host sets them apart: then neighbours do not affect the measurement."""
    gpu = {host.gpu_resource: str(host.gpus_per_job)} if task.job.device is Device.CUDA else {}
    limits = {**_quantities(host), **gpu}
    requests = {**limits, **_quantities(host.requests)}
    return {name: value for name, value in (("requests", requests), ("limits", limits)) if value}


def _quantities(of: object) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, resource in ASKED.items():
        if (said := getattr(of, key)) is not None:
            found[resource] = str(bytes_of(said)) if isinstance(said, str) else f"{round(said * 1000)}m"
    return found


def _volumes(
    task: Task, host: KubernetesHost, name: str, online: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    volumes: list[dict[str, Any]] = [
        {"name": "job", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(bytes_of(host.shm))}},
        {"name": "config", "configMap": {"name": name, "items": [{"key": JOB_FILE, "path": JOB_FILE}]}},
    ]
    mounts: list[dict[str, Any]] = [
        {"name": "job", "mountPath": FOLDER},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  # where it is mounted, not what is in it
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        {"name": "config", "mountPath": f"{FOLDER}/{JOB_FILE}", "subPath": JOB_FILE, "readOnly": True},
    ]
    if online or host.collect:
        volumes.append({"name": SECRETS_VOLUME, "secret": {"secretName": name, "defaultMode": 0o444}})
        mounts.append({"name": SECRETS_VOLUME, "mountPath": SECRETS, "readOnly": True})
    if host.ca_bundle and (online or host.collect):
        volumes.append({"name": "ca-bundle", "hostPath": {"path": host.ca_bundle, "type": "File"}})
        mounts.append({"name": "ca-bundle", "mountPath": CA_BUNDLE, "readOnly": True})
    if host.cache:
        volumes.append(_claimed("cache", host.cache) if isinstance(host.cache, Claim) else _folder("cache", host.cache))
        mounts.append({"name": "cache", "mountPath": COMPILED})
    volumes += [volume.model_dump(exclude_none=True) for volume in host.volumes]
    mounts += [mount.model_dump(exclude_none=True) for mount in host.volume_mounts]
    model = task.job.model
    if model.startswith(("./", "../", "~")):
        raise TaskUnfit(f"model {model!r}: on the cluster {host.name} a folder must be an absolute path of its nodes")
    if host.weights:
        # only the part of the weights that the job reads: the cache's parent folder holds its owner's login
        inside = model.startswith(f"{WEIGHTS}/")
        part = model_mount(model).removeprefix(f"{WEIGHTS}/") if inside else HUB
        read = {"name": "weights", "mountPath": f"{WEIGHTS}/{part}", "readOnly": True}
        if isinstance(host.weights, Claim):
            volumes.append(_claimed("weights", host.weights, readOnly=True))
            mounts.append({**read, "subPath": part})
        else:
            volumes.append(_folder("weights", below(host.weights, part)))
            mounts.append(read)
        if inside:
            return volumes, mounts
    if model.startswith("/"):
        volumes.append(_folder("model", model_mount(model)))
        mounts.append({"name": "model", "mountPath": model_mount(model), "readOnly": True})
    return volumes, mounts


def _claimed(name: str, claim: Claim, **more: bool) -> dict[str, Any]:
    return {"name": name, "persistentVolumeClaim": {"claimName": claim.claim, **more}}


def _folder(name: str, path: str) -> dict[str, Any]:
    # a missing Directory is an error; without a type it would be created, empty and owned by root
    return {"name": name, "hostPath": {"path": path, "type": "Directory"}}
