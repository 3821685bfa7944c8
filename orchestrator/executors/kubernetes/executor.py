"""Runs jobs on a Kubernetes cluster. It stores no job state: labels and annotations on its objects hold it.

A staged attempt is a ConfigMap with the job's file and the rendered Job, so that it occupies no node. A start creates
the Job, then its Secret, and then makes the Job the ConfigMap's owner; after a crash in between, another start does the
rest. From then on the cluster's scheduler places the pod, and no slot needs a lock.

Others may write in the namespace. A start renders the Job again and compares the stored one with it, but never uses it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from orchestrator.config import KubernetesHost
from orchestrator.errors import HostUnreachable, NoRoom, StartError
from orchestrator.executors.contract import Attempt, Observation, Slot, Task
from orchestrator.executors.kubernetes import compare, logs
from orchestrator.executors.kubernetes.cluster import Cluster, Refused
from orchestrator.executors.kubernetes.cluster_view import ClusterView
from orchestrator.executors.kubernetes.fit import exceeded, exceeds_alone, uncounted
from orchestrator.executors.kubernetes.manifest import (
    SPEC,
    attempt_of,
    job_manifest,
    needs_secrets,
    object_name,
    owned_by,
    secrets,
    selector,
    staged,
)
from orchestrator.executors.kubernetes.namespaces import must_be_there
from orchestrator.executors.kubernetes.observation import chosen, last_word
from orchestrator.executors.kubernetes.pods import has_begun, has_ended
from orchestrator.executors.kubernetes.waiting import seconds_of
from orchestrator.executors.kubernetes.watch import SETTLE_S, HostWatch
from orchestrator.executors.network import at_start, variables_of
from runner.wire.result_bundle import Receipt

MOST_NAMED = 4  # of the differences between the stored and the rendered object
# Number of ended pods whose files are cached between fetches: a log is read once for all of its files, and again if
# they are larger than a real runner's.
FILES_KEPT, KEPT_CHARACTERS = 16, 2**20
Told = ParamSpec("Told")
Answer = TypeVar("Answer")


def understood(
    method: Callable[Concatenate[KubernetesExecutor, Told], Answer],
) -> Callable[Concatenate[KubernetesExecutor, Told], Answer]:
    """Turns a malformed response into HostUnreachable, wherever it is noticed."""

    @wraps(method)
    def careful(self: KubernetesExecutor, /, *args: Told.args, **kwargs: Told.kwargs) -> Answer:
        with self.cluster.understood():
            return method(self, *args, **kwargs)

    return careful


class KubernetesExecutor:
    """The Executor of a `kubernetes` host. cluster: a shared one; `close` closes it too."""

    def __init__(self, host: KubernetesHost, cluster: Cluster | None = None) -> None:
        self.host = host
        self.cluster = cluster or Cluster(host)
        self._watch = HostWatch(self.cluster)
        self._view = ClusterView(self.cluster, host)
        # what this process staged: the only source of a start's Job
        self._tasks: dict[Attempt, Task] = {}
        # the version in which this process created an attempt's ConfigMap; empty: it was there
        self._made: dict[Attempt, str] = {}
        # by pod uid, for ended pods: their logs no longer change
        self._files: dict[str, Mapping[str, str]] = {}

    @understood
    def slots(self) -> tuple[Slot, ...]:
        must_be_there(self.host, self.cluster)
        query = {"labelSelector": selector(self.host), "limit": "1"}
        self.cluster.call("GET", self.cluster.path("jobs"), query)
        return tuple(Slot(str(number + 1), exclusive_per_run=True) for number in range(self.host.parallel))

    @understood
    def stage(self, task: Task) -> None:
        rendered = staged(task, self.host, at_start(lambda: variables_of(self.host, os.environ)))
        made, is_new = self._create_or_adopt("configmaps", rendered)
        self._made[task.attempt] = str(made["metadata"].get("resourceVersion")) if is_new else ""
        self._tasks[task.attempt] = task

    def hold(self, attempt: Attempt, slot: Slot) -> AbstractContextManager[None]:
        return nullcontext()

    @understood
    def start(self, attempt: Attempt, token: str | None = None, upload_grant: str | None = None) -> None:
        name, task = object_name(attempt), self._tasks.get(attempt)
        network = at_start(lambda: variables_of(self.host, os.environ))
        if task is None or not self._is_as_staged(attempt):
            config = self.cluster.get("configmaps", name)
            if config is None or attempt_of(config["metadata"]) != attempt:
                raise StartError(f"host {self.host.name}: nothing is staged as {name}; stage it again")
            if config["metadata"].get("ownerReferences"):
                if self.cluster.get("jobs", name) is None:
                    raise StartError(f"host {self.host.name}: Job {name} was deleted")
                return
            if task is None:
                raise StartError(f"host {self.host.name}: {name} was not staged by this process; stage it again")
            self._must_not_differ(name, "ConfigMap", compare.of_config(config, staged(task, self.host, network)))
        wanted = job_manifest(task, self.host, network)
        job, _ = self._create_or_adopt("jobs", wanted)
        wanted["metadata"]["uid"] = job["metadata"]["uid"]
        if needs_secrets(wanted):
            self._hand_over(wanted, token, upload_grant)
        self.cluster.patch("configmaps", name, {"metadata": {"ownerReferences": [owned_by(wanted)]}})

    @understood
    def observe(self) -> Mapping[Attempt, Observation]:
        return self._view.all(self._watch.shared)

    def wait(self, timeout_s: float) -> None:
        # a refresh begins a little after its wake-up
        self._watch.wait(timeout_s, max(SETTLE_S, 2 * self._view.pause_s))

    @understood
    def fetch(self, attempt: Attempt, file: str, instance: str = "") -> bytes | None:
        pod = self._pod(attempt, instance)
        if pod is None or not has_ended(pod):
            return None
        uid = pod["metadata"]["uid"]
        if uid not in self._files:
            found = logs.files(self.cluster, pod)
            if sum(map(len, found.values())) <= KEPT_CHARACTERS:
                self._files = {**dict(list(self._files.items())[1 - FILES_KEPT :]), uid: found}
        else:
            found = self._files[uid]
        text = found.get(file)
        return None if text is None else text.encode(errors="replace")  # a lone surrogate cannot be encoded

    @understood
    def receipt(self, attempt: Attempt, instance: str = "") -> Receipt | None:
        pod = self._pod(attempt, instance)
        return None if pod is None else Receipt.from_line(last_word(pod))

    def log(self, attempt: Attempt, *, follow: bool = False, instance: str = "") -> Iterator[str]:
        with self.cluster.understood():
            yield from logs.lines(self.cluster, lambda: self._pod_to_come(attempt, follow, instance), follow=follow)

    @understood
    def stop(self, attempt: Attempt, grace_s: float) -> None:
        """Sets a deadline of now, which ends the container but keeps the pod and its log.

        The grace is the pod's own, which cannot change after creation. A pod that does not run yet is left to `remove`.
        A deadline can only be shortened: a pod that was told before and still exists needs no second call.
        """
        pod = self._pod(attempt)
        if pod is not None and has_begun(pod) and not has_ended(pod):
            ran_s = time.time() + self.cluster.skew_s - seconds_of(pod["status"]["startTime"])
            deadline_s = max(1, int(ran_s))
            if (pod["spec"].get("activeDeadlineSeconds") or math.inf) <= deadline_s:
                return
            deadline = {"spec": {"activeDeadlineSeconds": deadline_s}}
            try:
                self.cluster.patch("pods", pod["metadata"]["name"], deadline)
            except Refused as refusal:
                if refusal.code != 404:
                    raise

    @understood
    def remove(self, attempt: Attempt) -> None:
        name = object_name(attempt)
        job = self.cluster.get("jobs", name)
        if job is not None:
            self.cluster.delete("jobs", name, job["metadata"]["uid"])
            if needs_secrets(job):
                self.cluster.delete("secrets", name)
        self.cluster.delete("configmaps", name)
        self._tasks.pop(attempt, None)
        self._made.pop(attempt, None)

    def close(self) -> None:
        self._watch.close()
        self.cluster.close()

    def _is_as_staged(self, attempt: Attempt) -> bool:
        """Whether the watch shows that nobody has changed the ConfigMap since this process created it.

        That saves a call for each Job. The pod compares the file in it with the Job's hash once more.
        """
        version, watch = self._made.get(attempt), self._watch.shared
        return bool(version) and watch is not None and watch.configs.shows(object_name(attempt), str(version))

    def _create_or_adopt(self, resource: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Creates or finds the object, and tells whether it is new.

        Raises StartError if one of that name is foreign or has another spec.
        """
        name = body["metadata"]["name"]
        for _ in range(3):
            try:
                made = self._created(resource, body)
                self._must_be_the_same(made, body)
                return made, True
            except Refused as refusal:
                if refusal.reason != "AlreadyExists":
                    raise
            there = self.cluster.get(resource, name)
            if there is not None:
                self._must_be_the_same(there, body)
                if resource == "jobs":  # the cluster's own admission may change one that we create now
                    self._must_not_differ(name, "Job", compare.of_job(there, body))
                return there, False
        raise HostUnreachable(f"host {self.host.name}: {resource} {name} keeps coming and going")

    def _created(self, resource: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Creates an object. Raises NoRoom if a quota is full or uncounted for now, Refused if it can never fit."""
        try:
            return self.cluster.create(resource, body)
        except Refused as refusal:
            where = f"host {self.host.name}, namespace {self.cluster.namespace}"
            if refusal.code in (403, 409) and (name := uncounted(str(refusal))):
                raise NoRoom(f"{where}: the cluster is still counting what quota {name} has left") from refusal
            quota = exceeded(str(refusal)) if refusal.code == 403 else None
            if quota is None or exceeds_alone(str(refusal)):
                raise
            raise NoRoom(f"{where}: {quota}; it waits until something there is deleted") from refusal

    def _must_be_the_same(self, there: Mapping[str, Any], body: Mapping[str, Any]) -> None:
        found, wanted = there["metadata"], body["metadata"]
        where = f"host {self.host.name}, namespace {self.cluster.namespace}: {body['kind']} {wanted['name']}"
        if attempt_of(found) != attempt_of(wanted):
            raise StartError(f"{where} is there, and is not ours; delete it")
        asked, has = wanted["labels"][SPEC], (found.get("labels") or {}).get(SPEC)
        if has != asked:
            raise StartError(
                f"{where} is there with another spec ({has}, and {asked} is asked for): hosts.yaml or this program "
                f"changed since it was made"
            )

    def _must_not_differ(self, name: str, kind: str, differences: Sequence[str]) -> None:
        if differences:
            more = len(differences) - MOST_NAMED
            named = ", ".join(differences[:MOST_NAMED]) + (f", and {more} more" if more > 0 else "")
            raise StartError(
                f"host {self.host.name}, namespace {self.cluster.namespace}: {kind} {name} is not what was staged: it "
                f"differs in {named}. Somebody else changed it; no token was sent. fix: kubectl -n "
                f"{self.cluster.namespace} get {kind.lower()} {name} -o yaml --show-managed-fields says who"
            )

    def _hand_over(self, job: Mapping[str, Any], token: str | None, upload_grant: str | None) -> None:
        secret = secrets(job, token, upload_grant)
        for _ in range(3):
            try:
                self._created("secrets", secret)
                return
            except Refused as refusal:
                if refusal.reason != "AlreadyExists":
                    raise
            # from before a crash, or of a removed Job of the same name, whose Secret is deleted after it
            self.cluster.delete("secrets", secret["metadata"]["name"])
        raise HostUnreachable(f"host {self.host.name}: Secret {secret['metadata']['name']} keeps coming and going")

    def _pod(self, attempt: Attempt, instance: str = "") -> Mapping[str, Any] | None:
        """Returns the attempt's pod if its Job still exists.

        instance: the pod that was seen. It may have been deleted since, and Kubernetes may have created another.
        """
        pods = self.cluster.list("pods", {"labelSelector": selector(self.host, attempt)})
        own = [pod for pod in pods if attempt_of(pod["metadata"]) == attempt]
        pod = chosen([pod for pod in own if instance in ("", pod["metadata"]["uid"])])
        if pod is None or self.cluster.get("jobs", object_name(attempt)) is None:
            return None
        return pod

    def _pod_to_come(self, attempt: Attempt, follow: bool, instance: str) -> Mapping[str, Any] | None:
        """Returns the attempt's pod; with follow, waits for it as long as the attempt exists."""
        while (pod := self._pod(attempt, instance)) is None:
            if not follow or attempt not in self.observe():
                return None
            time.sleep(logs.LOOK_EVERY_S)
        return pod
