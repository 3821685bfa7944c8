"""Keeps the objects of one resource up to date: one list, then watches that continue from its version.

What a reader may rely on:

- No object goes back to an older state. Lists and events go into one store; events wait while a list is made, and
  those that are older than the list are dropped.
- `refresh` gives the state at some time after its call, as a list does, with the errors of a list.
- After `catch_up`, the objects are at least as new as all calls of ours that were told with `heard`.
- While `is_live`, each change arrives, or `is_live` ends within SILENCE_S: a dead connection is not taken for silence.

A new list is made by itself only if the server no longer has the last version, or nothing was heard of it for long, as
after a suspend.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import HostUnreachable
from orchestrator.executors.bounded_http import MALFORMED
from orchestrator.executors.kubernetes.cluster import JSON, Cluster, Keep
from orchestrator.executors.kubernetes.kept import Objects, number
from orchestrator.executors.kubernetes.stream import Stream

# Up to this many stale objects are read one by one: the list of all others would be larger.
MOST_SINGLE = 4
# Reads of stale objects take at most this share of the time, and begin at most this often. The third is the longest
# pause between two: an overloaded server makes each read slow.
READ_SHARE, READ_EVERY_S, READ_WITHIN_S = 0.05, 2.0, 60.0
# A list is made again if another host joined meanwhile.
MOST_LISTS = 5

Query = Callable[[], Mapping[str, str]]


@dataclass(frozen=True)
class Part:
    """The part of the objects that one watch is about, and the form of its events."""

    query: Mapping[str, str] = field(default_factory=dict)
    events: str = JSON


class Informer:
    """Follows one resource. query: the selectors of list and watches, asked before each. accept: the form of a list.

    parts: one watch for each. changed: called after each change that others made.
    """

    def __init__(
        self,
        cluster: Cluster,
        resource: str,
        query: Query,
        keep: Keep,
        changed: Callable[[], None],
        *,
        accept: str = JSON,
        parts: Sequence[Part] = (Part(),),
    ) -> None:
        self._cluster, self.resource, self._query, self._keep = cluster, resource, query, keep
        self._changed, self._accept, self._parts = changed, accept, parts
        self.objects = Objects(keep, time.monotonic, len(parts))
        self.streams = [self._stream(part, number) for number, part in enumerate(parts)]
        self._news = threading.Condition()
        self._taking = threading.Lock()  # events wait for it while a list is made
        self._queries, self._listed_at = 0, 0.0
        self._wanted = ""
        self._deleted: set[str] = set()
        self._reading = threading.Lock()
        self._missed: set[str] = set()
        self._read_again_at = 0.0

    def _stream(self, part: Part, number: int) -> Stream:
        return Stream(self._cluster, self.resource, lambda: {**self._query(), **part.query}, part.events, number)

    def start(self) -> None:
        for stream in self.streams:
            stream.start(self)

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
        for stream in self.streams:
            stream.join()

    def restart(self) -> None:
        """Lists again with what `query` says now."""
        with self._news:
            self._queries += 1
            self.objects.forget()
        for stream in self.streams:
            stream.cut()

    @property
    def is_live(self) -> bool:
        return all(self.objects.versions) and all(stream.is_live for stream in self.streams)

    @property
    def error(self) -> Exception | None:
        return next((stream.error for stream in self.streams if stream.error), None)

    @property
    def listed_at(self) -> float:
        """When the last list began, by the monotonic clock."""
        return self._listed_at

    def shows(self, name: str, version: str) -> bool:
        """Whether the watch shows an object in this version."""
        return self.is_live and self.objects.version_of(name) == version

    def await_sync(self, deadline: float) -> bool:
        """Waits until the watches are open. Returns False if one fails or is not open by the deadline."""
        with self._news:
            self._news.wait_for(lambda: self.is_live or self.error is not None, _until(deadline))
        return self.is_live

    def refresh(self, since: float, cluster: Cluster | None = None) -> None:
        """Lists, unless a list that began after `since` did. cluster: the caller's, whose errors it raises."""
        with self._taking:
            for _ in range(MOST_LISTS):
                if self._listed_at >= since and all(self.objects.versions):
                    return
                self._list(cluster or self._cluster)
        if self._listed_at < since:
            said = f"its {self.resource} are not listed yet, as other hosts keep joining; they are listed again"
            raise HostUnreachable(f"host {self._cluster.host_name}: {said}")

    def _list(self, cluster: Cluster) -> None:
        with self._news:
            queries, wanted, deleted = self._queries, self._wanted, self._deleted.copy()
        began = time.monotonic()
        query = {key: value for key, value in self._query().items() if key.endswith("Selector")}
        path = cluster.path(self.resource)
        listed, version = cluster.versioned(path, query, accept=self._accept, keep=self._keep)
        with self._news:
            if queries != self._queries:  # `restart` was called meanwhile
                return
            is_change = self.objects.replace(listed, version)
            self._listed_at = began
            # the list began after those calls
            self._wanted = "" if self._wanted == wanted else self._wanted
            self._deleted -= deleted
            self._news.notify_all()
        if is_change:
            self._changed()

    # --- our own calls, which the watch reports a moment later

    def heard(self, name: str, found: Mapping[str, Any] | None) -> None:
        """Notes what a call of ours returned for an object; None: it was deleted."""
        with self._news:
            if found is not None:
                version = str(found["metadata"].get("resourceVersion") or "")
                if number(version) > number(self._wanted):
                    self._wanted = version
            elif name in self.objects:
                self._deleted.add(name)

    def catch_up(self, deadline: float) -> bool:
        """Waits until the watch has told what our own calls returned. False if it has not at the deadline."""
        with self._news:
            return self._news.wait_for(self._has_caught_up, _until(deadline))

    def _has_caught_up(self) -> bool:
        self._deleted = {name for name in self._deleted if name in self.objects}
        return not self._deleted and number(self.objects.versions[-1]) >= number(self._wanted)

    # --- objects of which a watch of rows reports only that they changed

    def read(self, names: Collection[str], cluster: Cluster, *, at_once: bool = False) -> None:
        """Reads stale objects of the first part, if it is time to. cluster: the caller's, whose errors it raises."""
        if not names:
            return
        is_early = time.monotonic() < self._read_again_at and not at_once
        if is_early or not self._reading.acquire(blocking=at_once):
            with self._news:  # the next read, of whichever host, reads them too
                self._missed.update(names)
            return
        try:
            names = {*names, *self._still_missed()}
            began, asked_at = time.monotonic(), self.objects.versions[0]
            query = {**self._query(), **self._parts[0].query}
            query = {key: value for key, value in query.items() if key.endswith("Selector")}
            fields = query.pop("fieldSelector", "")
            singly = [f"metadata.name={name}" for name in names] if len(names) <= MOST_SINGLE else [""]
            for one in singly:
                which = {"fieldSelector": joined} if (joined := ",".join(filter(None, (fields, one)))) else {}
                found = cluster.list(self.resource, {**query, **which}, keep=self._keep)
                with self._news:
                    self.objects.read(found, asked_at)
            took_s = time.monotonic() - began
            pause_s = min(max(READ_EVERY_S, took_s / READ_SHARE), took_s + READ_WITHIN_S)
            self._read_again_at = began + pause_s
        finally:
            self._reading.release()

    def _still_missed(self) -> set[str]:
        with self._news:
            missed, self._missed = self._missed, set()
        kept = self.objects.all() if missed else {}
        return {name for name in missed if name in kept and not kept[name].is_current}

    # --- for the streams

    def begin(self, watch: int) -> str:
        with self._news:
            return self.objects.begin(watch)

    def is_listed(self) -> bool:
        return all(self.objects.versions)

    def list_again(self, since: float | None) -> None:
        self.refresh(-1.0 if since is None else since)

    def take(self, line: bytes, watch: int) -> None:
        with self._taking:
            with self._news:
                if not self.objects.versions[watch]:  # `restart` was called
                    return
                try:
                    is_change = self.objects.apply(json.loads(line), watch)
                except MALFORMED:
                    self.objects.forget()
                    raise
            if is_change:
                self._changed()

    def forget(self) -> None:
        with self._news:
            self.objects.forget()

    def tell(self) -> None:
        with self._news:
            self._news.notify_all()


def _until(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
