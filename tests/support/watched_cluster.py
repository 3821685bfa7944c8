"""A cluster in memory, with lists, and watches that tests end, cut, silence or make forget; in place of `Cluster`."""

from __future__ import annotations

import contextlib
import copy
import json
import queue
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import HostUnreachable
from orchestrator.executors.bounded_http import MALFORMED
from orchestrator.executors.contract import LABEL
from orchestrator.executors.kubernetes.cluster import Refused
from orchestrator.executors.kubernetes.manifest import RUN

Object = dict[str, Any]
BEGAN = "2026-11-29T00:00:00Z"


@dataclass(eq=False)
class Stream:
    """One open watch, which is its response too."""

    resource: str
    query: Mapping[str, str]
    accept: str
    lines: queue.Queue[bytes | Exception | None] = field(default_factory=queue.Queue)
    may_speak: threading.Event = field(default_factory=threading.Event)
    is_held: bool = False
    late: list[bytes] = field(default_factory=list)

    def read1(self, *_: Any, **__: Any) -> bytes:
        self.may_speak.wait()
        said = self.lines.get()
        if isinstance(said, Exception):
            raise said
        return said or b""

    def shutdown(self) -> None:
        self.may_speak.set()
        self.lines.put(None)

    def hold(self) -> None:
        """What is told from now on arrives late: after `go_on`."""
        self.is_held = True

    def go_on(self) -> None:
        self.is_held = False
        for line in self.late:
            self.lines.put(line)
        self.late.clear()

    def put(self, line: bytes) -> None:
        self.late.append(line) if self.is_held else self.lines.put(line)

    def tell(self, kind: str, thing: Object, before: Object | None = None) -> None:
        """An event as a server sends it: what leaves a selector is deleted for it, what enters it is added."""
        fits, fitted = _fits(thing, self.query), before is not None and _fits(before, self.query)
        if kind == "MODIFIED" and fits != fitted:
            kind = "ADDED" if fits else "DELETED"
        elif not fits and kind != "BOOKMARK":
            return
        self.put(json.dumps({"type": kind, "object": self._form(thing)}).encode() + b"\n")

    def _form(self, thing: Object) -> Object:
        if "as=Table" in self.accept:
            version = {"resourceVersion": thing["metadata"]["resourceVersion"]}
            cells = [thing["metadata"].get("name", ""), "0/1", "Pending"]
            return {"kind": "Table", "metadata": version, "rows": [{"cells": cells, "object": None}]}
        return thing


class WatchedCluster:
    """listed, watched: the resources of all lists and watches so far. is_down: no call is answered.

    refuses: the resource that may not be watched. forgotten: of versions before it, the server knows no events.
    is_late: watches that open say nothing before `release`.
    """

    namespace, skew_s, host_name = "bench", 0.0, "lab"

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.streams: list[Stream] = []
        self.listed: list[str] = []
        self.watched: list[str] = []
        self.version, self.forgotten = 10, 0
        self._lock = threading.RLock()  # a list or a new watch has all that happened before it, and nothing is between
        self.history: list[tuple[str, str, Object, Object | None]] = []
        self.writes = self.unclear = 0
        self.is_down, self.is_late, self.refuses = False, False, ""
        self.heard: Any = lambda resource, name, found: None
        self.context = self
        self.name = f"context-{id(self)}"  # no other test shares its watch

    @contextlib.contextmanager
    def understood(self) -> Iterator[None]:
        try:
            yield
        except MALFORMED as error:
            raise HostUnreachable("malformed") from error

    def path(self, resource: str) -> str:
        return resource

    def misread(self, error: Exception) -> HostUnreachable:
        return HostUnreachable(f"malformed: {error}")

    def versioned(self, path: str, query: Any = None, *, keep: Any = None, **_: Any) -> tuple[list[Object], str]:
        if self.is_down:
            raise HostUnreachable("nobody is there")
        with self._lock:
            self.listed.append(path)
            found = [thing for (kind, _), thing in self.objects.items() if kind == path and _fits(thing, query or {})]
            return [keep(each) if keep else each for each in copy.deepcopy(found)], str(self.version)

    def list(self, resource: str, query: Any = None, **options: Any) -> Sequence[Object]:
        return self.versioned(resource, query, **options)[0]

    @contextlib.contextmanager
    def stream(self, _: str, path: str, query: Mapping[str, str], *, accept: str, **__: Any) -> Iterator[Stream]:
        if self.is_down:
            raise HostUnreachable("nobody is there")
        if path == self.refuses:
            raise Refused(f"cannot watch {path}", 403, "Forbidden")
        stream = Stream(path, query, accept)
        with self._lock:
            self.watched.append(path)
            self._begin(stream)
        try:
            yield stream
        finally:
            with self._lock:
                self.streams.remove(stream)

    def _begin(self, stream: Stream) -> None:
        if not self.is_late:
            stream.may_speak.set()
        after = int(stream.query["resourceVersion"])
        if after < self.forgotten:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            stream.lines.put(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
        for kind, resource, thing, before in self.history:
            if resource == stream.resource and int(thing["metadata"]["resourceVersion"]) > after >= self.forgotten:
                stream.tell(kind, thing, before)
        self.streams.append(stream)

    # --- what happens there

    def put(self, resource: str, thing: Object) -> Object:
        """Creates or changes an object."""
        with self._lock:
            before = self.objects.get((resource, thing["metadata"]["name"]))
            made = copy.deepcopy(thing)
            self.version += 1
            made["metadata"] |= {"resourceVersion": str(self.version)}
            self.objects[resource, made["metadata"]["name"]] = made
            self._tell("MODIFIED" if before else "ADDED", resource, made, before)
            return made

    def delete(self, resource: str, name: str) -> None:
        with self._lock:
            gone = copy.deepcopy(self.objects.pop((resource, name)))
            self.version += 1
            gone["metadata"]["resourceVersion"] = str(self.version)
            self._tell("DELETED", resource, gone, None)

    def _tell(self, kind: str, resource: str, thing: Object, before: Object | None) -> None:
        self.history.append((kind, resource, thing, before))
        for stream in self.open(resource):
            stream.tell(kind, thing, before)

    def open(self, resource: str = "") -> Sequence[Stream]:
        return [stream for stream in tuple(self.streams) if resource in ("", stream.resource)]

    def end(self, resource: str = "", error: Exception | None = None) -> None:
        """Ends the open watches, as a server does at their timeout, or cuts them."""
        for stream in self.open(resource):
            stream.lines.put(error)

    def release(self) -> None:
        with self._lock:
            self.is_late = False
            for stream in self.open():
                stream.may_speak.set()

    def cut(self, resource: str = "") -> None:
        self.end(resource, HostUnreachable("the connection is cut"))


def _fits(thing: Object, query: Mapping[str, str]) -> bool:
    """By the selectors that the orchestrator uses."""
    named = re.search(rf"{LABEL}\.host(?:=([^,]+)| in \(([^)]*)\))", query.get("labelSelector", ""))
    if named and (thing["metadata"].get("labels") or {}).get(f"{LABEL}.host") not in (named[1] or named[2]).split(","):
        return False
    fields = query.get("fieldSelector", "").split(",")
    node = (thing.get("spec") or {}).get("nodeName", "")
    if ("spec.nodeName=" in fields and node) or ("spec.nodeName!=" in fields and not node):
        return False
    wanted = {key: value for key, _, value in (each.partition("=") for each in fields)}
    about = thing.get("involvedObject") or {}
    has = {"metadata.name": thing["metadata"].get("name"), "involvedObject.uid": about.get("uid")}
    return all(wanted.get(key) in (None, value) for key, value in has.items())


# --- an attempt's objects


def metadata(name: str, uid: str, owner: str = "", host: str = "lab", job: str = "j") -> Object:
    marks = {"job": job, "attempt": "1", "slot": "1", "host": host}
    owners = [{"kind": "Job", "name": f"sd-{job}", "uid": owner}] if owner else []
    return {
        "name": name,
        "uid": uid,
        "creationTimestamp": BEGAN,
        "labels": {LABEL: "job", **{f"{LABEL}.{key}": value for key, value in marks.items()}},
        "annotations": {RUN: "r"},
        **({"ownerReferences": owners} if owners else {}),
    }


def config(job: str = "j", *, begun: bool = True, host: str = "lab") -> Object:
    return {"metadata": metadata(f"sd-{job}", f"config-{job}", f"job-{job}" if begun else "", host, job)}


def a_kube_job(job: str = "j", *, ended: bool = False, host: str = "lab", suspended: bool = False) -> Object:
    conditions = [{"type": "Complete", "status": "True"}] if ended else []
    spec = {"suspend": True} if suspended else {}
    return {
        "metadata": metadata(f"sd-{job}", f"job-{job}", host=host, job=job),
        "spec": spec,
        "status": {"conditions": conditions},
    }


def a_pod(job: str = "j", *, node: str = "", exit_code: int | None = None, why: str = "", host: str = "lab") -> Object:
    """Waiting with the scheduler's words; with a node, running; with an exit code, ended."""
    condition: Object = {"type": "PodScheduled", "status": "True" if node else "False", "lastTransitionTime": BEGAN}
    status: Object = {"phase": "Pending", "conditions": [{**condition, "message": why}]}
    spec: Object = {"containers": [{"name": "runner", "image": "i:1"}]}
    if node:
        ended = {"terminated": {"exitCode": exit_code, "reason": "Completed"}}
        state = {"running": {}} if exit_code is None else ended
        phase = "Running" if exit_code is None else "Succeeded"
        status |= {"phase": phase, "startTime": BEGAN, "containerStatuses": [{"name": "runner", "state": state}]}
        spec["nodeName"] = node
    named = metadata(f"sd-{job}-x1y2z", f"pod-{job}", f"job-{job}", host, job)
    return {"metadata": named, "spec": spec, "status": status}
