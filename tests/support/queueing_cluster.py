"""An API server as small as our calls, with a Job controller that suspends Jobs, and Kueue's part at the test's word.

The lab's real server (1.20) cannot suspend a Job. Here a Job with a queue's label is suspended when it is made, as by
Kueue's webhook; `admit`, `evict` and `finish` are what Kueue and a node do. A pod's container is the fake runner.
What Kueue does to a Job: it is suspended, gets the node selectors and tolerations of its flavor when it is admitted,
and is suspended again at an eviction, which deletes its pods. https://kueue.sigs.k8s.io/docs/concepts/workload/
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from engines import ROOT
from program import FAKE_RUNNER

QUEUE = "kueue.x-k8s.io/queue-name"
KINDS = {"configmaps": "ConfigMap", "events": "Event", "jobs": "Job", "namespaces": "Namespace", "nodes": "Node",
         "pods": "Pod", "secrets": "Secret"}  # fmt: skip
WATCH_S = 0.3  # it keeps no history: each watch ends after this long with a 410, and its holder lists
GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "no history"}}
Object = dict[str, Any]


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass
class QueueingCluster:
    """The objects by resource and name. `made` holds every Job that was ever created, in order."""

    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    made: list[Object] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    count: int = 0

    def put(self, resource: str, body: Object) -> Object:
        with self.lock:
            self.count += 1
            metadata = {**body["metadata"], "namespace": "bench", "creationTimestamp": now()}
            metadata |= {"uid": f"uid-{self.count}", "resourceVersion": str(self.count)}
            kind = {"kind": KINDS[resource], "apiVersion": "batch/v1" if resource == "jobs" else "v1"}
            thing = {**body, **kind, "metadata": metadata, "status": body.get("status", {})}
            if resource == "jobs":
                self.made.append(body)
                if QUEUE in metadata.get("labels", {}):
                    thing["spec"] = {**body["spec"], "suspend": True}
            self.objects[resource, metadata["name"]] = thing
            return thing

    def all(self, resource: str) -> list[Object]:
        with self.lock:
            return [thing for (kind, _), thing in self.objects.items() if kind == resource]

    def delete(self, resource: str, name: str) -> bool:
        with self.lock:
            gone = self.objects.pop((resource, name), None)
            if gone is None:
                return False
            uid = gone["metadata"]["uid"]
            for (kind, other), thing in list(self.objects.items()):
                if any(owner["uid"] == uid for owner in thing["metadata"].get("ownerReferences", ())):
                    self.delete(kind, other)
            return True

    # --- Kueue's part, and a node's

    def suspended(self) -> list[Object]:
        return [job for job in self.all("jobs") if job["spec"].get("suspend")]

    def admit(self, job: Object, flavor: dict[str, str]) -> Object:
        """The Job with its flavor's labels, and its pod, which runs."""
        with self.lock:
            spec = job["spec"]["template"]["spec"]
            spec["nodeSelector"] = {**spec.get("nodeSelector", {}), **flavor}
            spec["tolerations"] = [*spec.get("tolerations", ()), {"key": "spot", "operator": "Exists"}]
            job["spec"]["suspend"] = False
            job["status"] = {"startTime": now(), "active": 1}
            template, metadata = job["spec"]["template"], job["metadata"]
            owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
            name = f"{metadata['name']}-{self.count:05d}"
            running = {"name": "runner", "ready": True, "state": {"running": {"startedAt": now()}}}
            status = {
                "phase": "Running",
                "startTime": now(),
                "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}],
                "containerStatuses": [running],
            }
            spec = {**template["spec"], "nodeName": "node-a"}
            pod = {"metadata": {**template["metadata"], "name": name, "ownerReferences": [owner]}, "spec": spec}
            return self.put("pods", {**pod, "status": status})

    def evict(self, job: Object, why: str) -> None:
        """Suspends the Job again; its pod is told to end, and is gone once its container has ended."""
        with self.lock:
            uid, name = job["metadata"]["uid"], job["metadata"]["name"]
            job["spec"]["suspend"], job["status"] = True, {}
            event = {"reason": "Stopped", "message": why, "type": "Normal", "lastTimestamp": now()}
            about = {"kind": "Job", "uid": uid, "name": name}
            self.put("events", {**event, "metadata": {"name": f"{name}.{self.count}"}, "involvedObject": about})
            pods = [pod for pod in self.all("pods") if pod["metadata"]["ownerReferences"][0]["uid"] == uid]
            for pod in pods:
                pod["metadata"]["deletionTimestamp"] = now()
                ended = {"exitCode": 143, "reason": "Error"}
                pod["status"] |= {"phase": "Failed"}
                pod["status"]["containerStatuses"] = [{"name": "runner", "state": {"terminated": ended}}]
        # a slow reader still sees how it ended; it is removed with its Job, or after this time
        timer = threading.Timer(60.0, lambda: [self.delete("pods", pod["metadata"]["name"]) for pod in pods])
        timer.daemon = True
        timer.start()

    def finish(self, pod: Object) -> None:
        """The pod's container runs to its end: the fake runner, on the job's file of the Job's ConfigMap."""
        owner = pod["metadata"]["ownerReferences"][0]["name"]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "job.json"
            file.write_text(self.objects["configmaps", owner]["data"]["job.json"])
            env = {**os.environ, "RUNNER_FRAMES": pod["metadata"]["uid"], "PYTHONPATH": str(ROOT)}
            words = [*FAKE_RUNNER, "--job", str(file)]
            said = subprocess.run(words, env=env, cwd=folder, capture_output=True, text=True, check=True).stdout
        with self.lock:
            self.logs[pod["metadata"]["name"]] = said
            ended = {"exitCode": 0, "reason": "Completed"}
            pod["status"] |= {"phase": "Succeeded"}
            pod["status"]["containerStatuses"] = [{"name": "runner", "state": {"terminated": ended}}]
            job = self.objects["jobs", owner]
            job["status"] = {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: QueueingCluster

    def log_message(self, *words: object) -> None:
        pass

    def _answer(self, value: object, code: int = 200) -> None:
        text = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        with contextlib.suppress(ConnectionError):  # whoever asked was killed meanwhile
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(value, str) else "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    def _refuse(self, code: int, reason: str) -> None:
        self._answer({"kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": code}, code)

    def _asked(self) -> tuple[str, str, str, dict[str, str]]:
        """Resource, name, what of it, and the query."""
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        parts = parts[2:] if parts[:1] == ["namespaces"] and len(parts) > 2 else parts
        resource, name, sub = (*parts, "", "", "")[:3]
        return resource, name, sub, {key: values[-1] for key, values in parse_qs(url.query).items()}

    def _body(self) -> Object:
        length = int(self.headers.get("Content-Length") or 0)
        return dict(json.loads(self.rfile.read(length) or b"{}"))

    def do_GET(self) -> None:
        resource, name, sub, query = self._asked()
        if resource not in KINDS:
            self._refuse(404, "NotFound")
        elif query.get("watch"):
            time.sleep(WATCH_S)
            self._answer(json.dumps(GONE) + "\n")
        elif sub == "log":
            self._answer(self.cluster.logs.get(name, ""))
        elif name:
            with self.cluster.lock:
                found = self.cluster.objects.get((resource, name))
                self._answer(found) if found else self._refuse(404, "NotFound")
        else:
            with self.cluster.lock:
                items = [thing for thing in self.cluster.all(resource) if _fits(thing, query)]
                version = {"resourceVersion": str(self.cluster.count)}
                self._answer({"kind": f"{KINDS[resource]}List", "metadata": version, "items": items})

    def do_POST(self) -> None:
        resource, *_ = self._asked()
        body = self._body()
        with self.cluster.lock:
            if (resource, body["metadata"]["name"]) in self.cluster.objects:
                self._refuse(409, "AlreadyExists")
            else:
                self._answer(self.cluster.put(resource, body), 201)

    def do_PATCH(self) -> None:
        resource, name, *_ = self._asked()
        body = self._body()
        with self.cluster.lock:
            thing = self.cluster.objects.get((resource, name))
            if thing is None:
                self._refuse(404, "NotFound")
                return
            for part, values in body.items():
                thing[part] = {**thing.get(part, {}), **values}
            self._answer(thing)

    def do_DELETE(self) -> None:
        resource, name, *_ = self._asked()
        self._body()
        self._answer({"kind": "Status"}) if self.cluster.delete(resource, name) else self._refuse(404, "NotFound")


def _fits(thing: Object, query: dict[str, str]) -> bool:
    labels = thing["metadata"].get("labels") or {}
    for wanted in filter(None, query.get("labelSelector", "").split(",")):
        key, has_value, value = wanted.partition("=")
        if key not in labels or (has_value and labels[key] != value):
            return False
    for wanted in filter(None, query.get("fieldSelector", "").split(",")):
        key, _, value = wanted.partition("=")
        found: Any = thing
        for part in key.rstrip("!").split("."):
            found = found.get(part, "") if isinstance(found, dict) else ""
        if (found == value) == key.endswith("!"):
            return False
    return True


@contextlib.contextmanager
def queueing_cluster(folder: Path) -> Iterator[QueueingCluster]:
    """Serves on this machine; `folder/kubeconfig` leads to it."""
    cluster = QueueingCluster()
    for node in ("node-a",):
        cluster.put("nodes", {"metadata": {"name": node}, "spec": {}, "status": {"allocatable": {"cpu": "8"}}})
    cluster.put("namespaces", {"metadata": {"name": "bench"}})
    handler = type("Handler", (_Handler,), {"cluster": cluster})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    config = {
        "current-context": "queue",
        "clusters": [{"name": "queue", "cluster": {"server": address}}],
        "users": [{"name": "queue", "user": {"token": "anything"}}],
        "contexts": [{"name": "queue", "context": {"cluster": "queue", "user": "queue", "namespace": "bench"}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(config))
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
