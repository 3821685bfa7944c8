"""A host's attempts from what the shared watch keeps, without lists.

The watch gives only the names of Jobs and waiting pods. The rest is read when it is needed: why no node takes a pod,
and why a Job has no pod.

The watches of ConfigMaps, Jobs and pods have no common order: each may be behind the others by any time. Lists in
creation order (ConfigMaps, Jobs, pods) are at least as new as what they follow from. So each conclusion from something
that is missing is confirmed by a list that began after the rest was seen:

- A ConfigMap names its Job as owner, and that Job was never seen here: Jobs are listed.
- A Job has ended and has no pod, or has had none for some time: pods are listed.
- A pod was shown and is gone: its Job is read at once, because it says whether it ended.
- A pod left the watch of waiting pods, and the watch of placed pods does not show it soon: pods are listed.

Something that was seen here and is gone needs no list: only its deletion takes it out of the watch's objects.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from orchestrator.config import KubernetesHost
from orchestrator.executors.contract import LABEL, Attempt
from orchestrator.executors.kubernetes.cluster import Cluster
from orchestrator.executors.kubernetes.kept import Kept
from orchestrator.executors.kubernetes.manifest import attempt_of
from orchestrator.executors.kubernetes.observation import AttemptObjects, finished
from orchestrator.executors.kubernetes.watch import ClusterWatch

# A Job gets its pod within about a second, and the two watches differ by less: nothing is read before that.
NO_POD_AFTER_S = 3.0
# A placed pod is in the second watch some milliseconds after it left the first one. After this, pods are listed.
BETWEEN_S = 2.0
# Lists that confirm that Jobs have no pod take at most this share of the time, and begin at most this often. A Job that
# has ended does not wait for it.
SEARCH_SHARE, SEARCH_EVERY_S = 0.02, 5.0
Object = Mapping[str, Any]


class WatchedAttempts:
    """The attempts of one host. has_gaps: whether something was not read yet, as reads are not made all the time."""

    def __init__(self, cluster: Cluster, host: KubernetesHost) -> None:
        self._cluster, self._host = cluster, host
        # names of Jobs that were seen or that a list did not show; names of those whose pod was shown
        self._known: set[str] = set()
        self._had_pod: set[str] = set()
        self._search_again_at = 0.0
        self.has_gaps = False

    def attempts(self, watch: ClusterWatch, now: float) -> dict[Attempt, AttemptObjects]:
        """Returns the objects of each attempt. now: the cluster's time."""
        watch.pods.read(_stale(watch.pods.objects.all()), self._cluster)
        everyones = watch.configs.objects.all()
        configs = {name: (kept.found or {})["metadata"] for name, kept in everyones.items() if self._is_own(kept.found)}
        jobs = self._jobs(watch, configs)
        names = [*configs, *(jobs.keys() - everyones.keys())]
        pods = _Pods(watch)
        jobs = self._read(watch, jobs, names, configs, pods)
        pods = self._searched(watch, {name: jobs[name] for name in names if name in jobs}, pods)
        self.has_gaps |= bool(_stale(watch.pods.objects.all()))
        shown = {name: self._one(configs.get(name), jobs.get(name), name, pods, now) for name in names}
        self._had_pod = {name for name, its in shown.items() if its and its[1].pods}
        return dict(filter(None, shown.values()))

    def _is_own(self, thing: Object | None) -> bool:
        labels = (thing or {"metadata": {}})["metadata"].get("labels") or {}
        return bool(labels.get(f"{LABEL}.host") == self._host.name)

    def _jobs(self, watch: ClusterWatch, configs: Mapping[str, Object]) -> Mapping[str, Kept]:
        """Returns all Jobs, at least as new as the ConfigMaps."""
        jobs = watch.jobs.objects.all()
        begun = {name for name, config in configs.items() if config.get("ownerReferences")}
        self._known = (self._known & begun) | (begun & jobs.keys())
        if begun - self._known:
            watch.jobs.refresh(time.monotonic(), self._cluster)
            jobs = watch.jobs.objects.all()
            self._known = begun
        return jobs

    def _read(
        self,
        watch: ClusterWatch,
        jobs: Mapping[str, Kept],
        names: Iterable[str],
        configs: Collection[str],
        pods: _Pods,
    ) -> Mapping[str, Kept]:
        """Reads the Jobs whose contents matter."""
        unknown = [name for name in names if name in jobs and _must_be_read(jobs[name], name in configs, name in pods)]
        lost = [it for it in self._had_pod if it in jobs and it not in pods and not jobs[it].is_current]
        watch.jobs.read(unknown, self._cluster)
        watch.jobs.read(lost, self._cluster, at_once=True)
        jobs = watch.jobs.objects.all() if unknown or lost else jobs
        self.has_gaps = not set(unknown).isdisjoint(_stale(jobs))
        return jobs

    def _searched(self, watch: ClusterWatch, jobs: Mapping[str, Kept], pods: _Pods) -> _Pods:
        """Lists pods if a conclusion depends on one that the watch does not show."""
        began = time.monotonic()
        unsure = [each for name, each in jobs.items() if _may_have_pod(name, each, pods)]
        between = any(name in jobs for name in pods.between(began - BETWEEN_S))
        must = between or any(finished(each.found or {}) for each in unsure)
        if must or (unsure and began >= self._search_again_at):
            watch.pods.refresh(began, self._cluster)
            self._search_again_at = began + max(SEARCH_EVERY_S, (time.monotonic() - began) / SEARCH_SHARE)
            return _Pods(watch)
        self.has_gaps |= bool(unsure)
        return pods

    def _one(
        self, config: Object | None, kept: Kept | None, name: str, pods: _Pods, now: float
    ) -> tuple[Attempt, AttemptObjects] | None:
        job = kept.found if kept else None
        if config is None and not self._is_own(job):  # another host's, or not read yet
            return None
        attempt = attempt_of(config if config is not None else (job or {})["metadata"])
        if attempt is None:
            return None
        if kept is None:
            return attempt, AttemptObjects(config)
        its = pods.of(name, (job or _unread(config or {}, now))["metadata"]["uid"])
        if job is None or (not its and (name in pods or _may_have_pod(name, kept, pods))):
            job = _unread(config or {}, now)
        return attempt, AttemptObjects(config, job, its)


class _Pods:
    """Pods by the name of their Job, of which a pod's name is made."""

    def __init__(self, watch: ClusterWatch) -> None:
        self.listed_at = watch.pods.listed_at  # before the pods, which may be newer
        self._found: dict[str, list[Object]] = {}
        self._names: set[str] = set()  # of those that were not read, too
        self._left: dict[str, float] = {}
        for name, kept in watch.pods.objects.all().items():
            self._names.add(name.rpartition("-")[0])
            if kept.left is not None:
                self._left[name.rpartition("-")[0]] = kept.left
            for owner in (kept.found or {"metadata": {}})["metadata"].get("ownerReferences") or ():
                self._names.add(owner["name"])
                self._found.setdefault(owner["name"], []).append(kept.found or {})

    def __contains__(self, job: str) -> bool:
        return job in self._names

    def of(self, job: str, uid: str) -> tuple[Object, ...]:
        """Returns those of the Job with this uid; empty: it is not known."""
        return tuple(pod for pod in self._found.get(job, ()) if not uid or uid in _owners(pod))

    def between(self, since: float) -> Iterator[str]:
        """Yields the Jobs of pods that left the watch of waiting ones before `since`, and were not seen since then."""
        return (job for job, left in self._left.items() if left < since)


def _may_have_pod(name: str, job: Kept, pods: _Pods) -> bool:
    """Whether a Job seems to have no pod, and no list of pods that began after the Job's last change confirms it.

    A suspended Job is not expected to have one.
    """
    if name in pods or not job.is_current or pods.listed_at >= job.since:
        return False
    is_suspended = bool((job.found or {}).get("spec", {}).get("suspend"))
    return not is_suspended or finished(job.found or {}) is not None


def _owners(pod: Object) -> Iterator[str]:
    return (str(owner["uid"]) for owner in pod["metadata"].get("ownerReferences") or ())


def _stale(kept: Mapping[str, Kept]) -> list[str]:
    return [name for name, each in kept.items() if not each.is_current]


def _must_be_read(job: Kept, has_config: bool, has_pod: bool) -> bool:
    """Whether the Job has to be read: to find its attempt without a ConfigMap, or why it has no pod."""
    if not has_config and job.found is None:
        return True
    return not job.is_current and not has_pod and time.monotonic() > job.since + NO_POD_AFTER_S


def _unread(config: Object, now: float) -> Object:
    """Returns a placeholder for a Job that was not read yet: one that has just been created."""
    owners = config.get("ownerReferences") or ({"uid": ""},)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    metadata = {"labels": config.get("labels") or {}, "creationTimestamp": stamp, "uid": owners[0]["uid"]}
    return {"metadata": metadata, "spec": {}, "status": {}}
