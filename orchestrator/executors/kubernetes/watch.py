"""Follows all objects of our hosts in one namespace of a cluster, and wakes their loops when something changes.

One watch is shared by all hosts of a process that use the same namespace in the same context. A waiting pod or a Job
has 9 kB, half of them managedFields, and a watch is never compressed. So what waits is watched as rows of a table of
0.3 kB, which tell that something changed; what it is, is read when it is needed, in compressed lists. Pods that a node
has taken are watched whole: their ends come with the watch itself. docs/performance.md has the figures.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from orchestrator.executors.kubernetes import kubeconfig, projection
from orchestrator.executors.kubernetes.cluster import JSON, METADATA_ONLY, ONES_METADATA, Cluster
from orchestrator.executors.kubernetes.informer import Informer, Part
from orchestrator.executors.kubernetes.manifest import selector_of
from orchestrator.executors.wakeups import Wakeups

# Changes come in bursts (a pod's start has four): changes within this time of the last one share one refresh.
SETTLE_S = 0.1
# For the first lists, and for the watch to show what our own calls did; after that, a look makes lists of its own.
SYNC_S, CATCH_UP_S = 30.0, 5.0
ROWS = "application/json;as=Table;g=meta.k8s.io;v=v1,application/json"
# A pod that no node takes has one more every few minutes, and its own condition has the same words.
WARNINGS = "type=Warning,reason!=FailedScheduling"


class ClusterWatch:
    """The objects of some hosts in one namespace. It starts with the first `start`, and ends when all have left."""

    def __init__(self, cluster: Cluster) -> None:
        self.wakeups = Wakeups()
        self._hosts: list[str] = []
        self._lock = threading.Lock()

        def informer(resource: str, keep: projection.Keep, *parts: Part, accept: str = JSON) -> Informer:
            return Informer(cluster, resource, self._ours, keep, self.wakeups.bump, accept=accept, parts=parts)

        row = {"includeObject": "None"}
        waiting, placed = ({"fieldSelector": f"spec.nodeName{sign}"} for sign in ("=", "!="))
        self.configs = informer("configmaps", projection.of_config, Part(events=ONES_METADATA), accept=METADATA_ONLY)
        self.jobs = informer("jobs", projection.of_job, Part(row, ROWS))
        self.pods = informer("pods", projection.of_own_pod, Part({**row, **waiting}, ROWS), Part(placed))
        self.warnings = Informer(
            cluster, "events", lambda: {"fieldSelector": WARNINGS}, projection.of_event, self.wakeups.bump
        )
        # in the order in which an attempt's objects are created: what a list of a later one lacks was not there yet
        self._needed = (self.configs, self.jobs, self.pods)

    def start(self, host: str) -> None:
        """Follows the objects of this host too."""
        with self._lock:
            if host in self._hosts:
                return
            self._hosts.append(host)
            for each in self._needed:
                each.restart() if len(self._hosts) > 1 else each.start()
            self.warnings.start()  # of the whole namespace

    def close(self) -> None:
        for each in self.informers:
            each.close()

    @property
    def informers(self) -> tuple[Informer, ...]:
        return (*self._needed, self.warnings)

    @property
    def told(self) -> int:
        """The number of changes so far."""
        return self.wakeups.count

    def is_live(self) -> bool:
        """Waits for the watches to open and for what our own calls changed. False if the objects may be out of date."""
        began = time.monotonic()
        synced = all(each.await_sync(began + SYNC_S) for each in self._needed)
        deadline = time.monotonic() + CATCH_UP_S
        return synced and all(each.catch_up(deadline) for each in self._needed)

    def refresh(self, since: float, cluster: Cluster) -> None:
        """Lists everything in creation order. cluster: the caller's, whose errors it raises.

        Lists that began after `since` are enough, if they have the effect of all our calls.
        """
        if not all(each.catch_up(0.0) for each in self._needed):
            since = time.monotonic()
        for each in self._needed:
            each.refresh(since, cluster)

    def heard(self, resource: str, name: str, found: Mapping[str, Any] | None) -> None:
        """Notes what a call of ours returned for an object; None: it was deleted."""
        for each in self._needed:
            if each.resource == resource:  # a pod that we change runs: its watch is the second one
                each.heard(name, found)

    def _ours(self) -> dict[str, str]:
        return {"labelSelector": selector_of(*self._hosts)}


class HostWatch:
    """One host's part in the watch that it shares. It begins with the first `wait`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._shared: ClusterWatch | None = None
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._woken = 0.0

    @property
    def shared(self) -> ClusterWatch | None:
        return self._shared

    def wait(self, timeout_s: float, settle_s: float = SETTLE_S) -> None:
        """Waits for a change. settle_s: after a wake-up, changes within this time cause no other."""
        shared = self._started()
        pause_s = max(0.0, self._woken + settle_s - time.monotonic())
        if shared is None or pause_s >= timeout_s:
            self._closed.wait(timeout_s)
            return
        self._closed.wait(pause_s)
        shared.wakeups.wait(timeout_s - pause_s)
        self._woken = time.monotonic()

    def close(self) -> None:
        self._closed.set()
        with self._starting:
            if self._shared is not None:
                _leave(self._shared)
                self._shared = None

    def _started(self) -> ClusterWatch | None:
        with self._starting:
            if self._shared is None and not self._closed.is_set():
                shared = _joined(self._cluster)
                self._cluster.heard = shared.heard
                shared.start(self._cluster.host_name)
                self._shared = shared
            return self._shared


# The watches of this process, with the number of hosts that use each.
_watches: dict[object, tuple[ClusterWatch, int]] = {}
_lock = threading.Lock()


def _joined(cluster: Cluster) -> ClusterWatch:
    key = (*map(str, kubeconfig.files(os.environ)), cluster.context.name, cluster.namespace)
    with _lock:
        watch, users = _watches.get(key) or (ClusterWatch(cluster), 0)
        _watches[key] = watch, users + 1
    return watch


def _leave(watch: ClusterWatch) -> None:
    with _lock:
        ((key, users),) = [(key, users) for key, (one, users) in _watches.items() if one is watch]
        _watches[key] = watch, users - 1
        if users > 1:
            return
        del _watches[key]
    watch.close()
