"""An admission webhook of the tests' own, which adds to pods what a service mesh or a log shipper would."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from clusters import LabCluster
from engines import wait_until

NAME = "sidecars.sd-orchestrator.test"


@contextlib.contextmanager
def added_to_pods(cluster: LabCluster, folder: Path, operations: Sequence[dict[str, Any]]) -> Iterator[None]:
    """While it is open, the API server applies these operations of a JSON patch to each pod that is created."""
    patch = base64.b64encode(json.dumps(operations).encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            given = {"uid": asked["request"]["uid"], "allowed": True, "patchType": "JSONPatch", "patch": patch}
            body = json.dumps({**asked, "request": None, "response": given}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    folder.mkdir(parents=True, exist_ok=True)
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=webhook"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    hook = {
        "name": NAME,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "rules": [rule],
        "clientConfig": {
            "url": f"https://127.0.0.1:{server.server_address[1]}/",
            "caBundle": base64.b64encode(certificate.read_bytes()).decode(),
        },
    }
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": NAME},
        "webhooks": [hook],
    }
    file = folder / "webhook.json"
    file.write_text(json.dumps(configuration))
    cluster.kubectl("apply", "-f", str(file))
    # the API server reads its webhooks a moment later
    changed = ("run", "probe", "--image=none:1", "--dry-run=server", "-o", "json")
    adds = operations[0]["value"].get("name", "")
    try:
        wait_until(lambda: adds in cluster.kubectl(*changed, check=False), 240, "the webhook is not asked")
        yield
    finally:
        cluster.kubectl("delete", "-f", str(file))
        wait_until(lambda: adds not in cluster.kubectl(*changed, check=False), 240, "the webhook is asked still")
        server.shutdown()
        server.server_close()
        thread.join()
