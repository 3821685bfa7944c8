"""A host's view of a cluster whose watches are late, each by any number of events; nothing happens by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from watched_cluster import Object, Stream, WatchedCluster

from orchestrator.config import KubernetesHost
from orchestrator.executors.contract import Observation
from orchestrator.executors.kubernetes import cluster_view, informer, stream, watch, watched
from orchestrator.executors.kubernetes.cluster_view import ClusterView
from orchestrator.executors.kubernetes.informer import Informer
from orchestrator.executors.kubernetes.observation import AttemptObjects, observation
from orchestrator.executors.kubernetes.waiting import WaitingEvidence
from orchestrator.executors.kubernetes.watch import ClusterWatch

RESOURCES = ("configmaps", "jobs", "pods")
# the watches that a look needs: resource, number of the watch
WATCHES = (("configmaps", 0), ("jobs", 0), ("pods", 0), ("pods", 1))


@contextmanager
def without_pauses(shared_s: float = 0.0) -> Iterator[None]:
    """Nothing is waited for, no read is put off, and a stream is live if a test says so.

    shared_s: so old a list may be that stands for interrupted watches.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream.Stream, "is_live", property(lambda self: getattr(self, "alive", True)))
        patch.setattr(informer, "READ_EVERY_S", 0.0)
        patch.setattr(informer, "READ_SHARE", 1e9)
        patch.setattr(watched, "SEARCH_EVERY_S", 0.0)
        patch.setattr(watched, "SEARCH_SHARE", 1e9)
        patch.setattr(watched, "NO_POD_AFTER_S", 0.0)
        patch.setattr(watched, "BETWEEN_S", 0.0)
        patch.setattr(cluster_view, "LOOK_SHARE", 1e9)
        patch.setattr(cluster_view, "CHEAP_S", shared_s)
        patch.setattr(watch, "CATCH_UP_S", 0.0)
        patch.setattr(watch, "SYNC_S", 0.0)
        yield


class LateWatches:
    """during: called after each list, as the cluster does not stand still between two lists of a look."""

    def __init__(self, during: Callable[[], None] = lambda: None) -> None:
        self.cluster, self.during = WatchedCluster(), during
        self.shared = ClusterWatch(self.cluster)  # type: ignore[arg-type]
        self.shared._hosts.append("lab")
        self.host = KubernetesHost(name="lab")
        self.view = ClusterView(self.cluster, self.host)  # type: ignore[arg-type]
        self.cluster.heard = self.shared.heard
        versioned: Any = self.cluster.versioned

        def listed(*asked: Any, **options: Any) -> Any:
            found = versioned(*asked, **options)
            self.during()
            return found

        self.cluster.versioned = listed  # type: ignore[method-assign]
        self._open: dict[tuple[str, int], Stream] = {}
        for key in WATCHES:
            self.informer(key).list_again(None)
            self.reconnect(key)

    def informer(self, key: tuple[str, int]) -> Informer:
        return next(each for each in self.shared.informers if each.resource == key[0])

    def reconnect(self, key: tuple[str, int]) -> None:
        """Opens a watch again from the version that is known; all that was on its way comes again."""
        if key in self._open:
            self.cluster.streams.remove(self._open[key])
        its, part = self.informer(key), self.informer(key)._parts[key[1]]
        after = int(its.begin(key[1]))
        made = Stream(key[0], {**its._query(), **part.query}, part.events)
        for kind, resource, thing, before in self.cluster.history:
            if resource == key[0] and int(thing["metadata"]["resourceVersion"]) > after:
                made.tell(kind, thing, before)
        self.cluster.streams.append(made)
        self._open[key] = made

    def deliver(self, key: tuple[str, int], most: int) -> None:
        """Up to so many events of a watch arrive."""
        lines = self._open[key].lines
        for _ in range(min(most, lines.qsize())):
            line = lines.get()
            assert isinstance(line, bytes)
            self.informer(key).take(line, key[1])

    def bookmark(self, key: tuple[str, int]) -> None:
        self._open[key].tell("BOOKMARK", {"metadata": {"resourceVersion": str(self.cluster.version)}})

    def expire(self, key: tuple[str, int]) -> None:
        """The server no longer has a watch's version."""
        its = self.informer(key)
        its.forget()
        its.list_again(None)
        for each in WATCHES:
            if each[0] == key[0]:
                self.reconnect(each)

    def interrupt(self, key: tuple[str, int], *, alive: bool) -> None:
        self.informer(key).streams[key[1]].alive = alive  # type: ignore[attr-defined]

    def look(self) -> tuple[dict[str, AttemptObjects], dict[str, Observation]]:
        """A new look: the objects and the observations by job."""
        self.view._last = replace(self.view._last, writes=-1)
        seen = self.view.all(self.shared)
        shown = self.view._last.shown
        return {a.job: its for a, its in shown.items()}, {a.job: its for a, its in seen.items()}


Timeline = list[tuple[int, tuple[Object, ...]]]


def timeline(cluster: WatchedCluster, resource: str, job: str) -> Timeline:
    """The objects of a job in each version in which they changed."""
    now: dict[str, Object] = {}
    found: Timeline = [(0, ())]
    for kind, each, thing, _ in cluster.history:
        if each == resource and thing["metadata"]["labels"]["sd-orchestrator.job"] == job:
            now = {name: it for name, it in now.items() if name != thing["metadata"]["name"]}
            if kind != "DELETED":
                now[thing["metadata"]["name"]] = thing
            found.append((int(thing["metadata"]["resourceVersion"]), tuple(now.values())))
    return found


def allowed(
    cluster: WatchedCluster, job: str, since: Mapping[str, int], now: float, patience_s: float
) -> list[Observation | None]:
    """All that lists in creation order could have shown of a job. since: the version of each list, at least."""
    lines = [timeline(cluster, resource, job) for resource in RESOURCES]
    found = []
    for picked in product(*(range(len(line)) for line in lines)):
        at = 0
        for resource, line, index in zip(RESOURCES, lines, picked):
            begins = max(line[index][0], since[resource], at)
            ends = line[index + 1][0] if index + 1 < len(line) else cluster.version + 1
            if begins >= ends:
                break
            at = begins
        else:
            configs, jobs, pods = (line[index][1] for line, index in zip(lines, picked))
            uid = jobs[0]["metadata"]["uid"] if jobs else ""
            its = tuple(pod for pod in pods if pod["metadata"]["ownerReferences"][0]["uid"] == uid)
            config = configs[0]["metadata"] if configs else None
            shown = AttemptObjects(config, jobs[0] if jobs else None, its)
            is_there = configs or jobs
            found.append(observation(shown, now, patience_s, WaitingEvidence()) if is_there else None)
    return found
