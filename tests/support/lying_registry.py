"""A registry in memory that takes pushes and gives them out again, and tells any lie that a test puts into it.

As https://distribution.github.io/distribution/spec/api/ says it, as far as Docker's engines ask for it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterable
from urllib.parse import parse_qs, urlsplit

from recorder import Recorder

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


Lie = Callable[[bytes], Iterable[bytes]]


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class LyingRegistry:
    """lies: by a pattern in `METHOD /path`, what becomes of the honest answer: the parts that are sent.

    login: `user:password` that it demands, or (realm: an address) a token that is given for it over there.
    """

    def __init__(self, recorder: Recorder, party: str, login: str = "") -> None:
        self.lies: dict[str, Lie] = {}
        self.login, self.realm, self.token = login, "", ""
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, bytes] = {}
        self.asked: list[str] = []
        self._uploads: dict[str, bytes] = {}
        self._names = map(str, itertools.count())
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                said = f"{self.command} {self.path}"
                registry.asked.append(said)
                body = self._body()
                recorder.connection(party).extend(f"{said}\r\n{self.headers}".encode() + body)
                status, headers, content = registry.answer_to(self.command, self.path, dict(self.headers), body)
                sent = self.command != "HEAD"
                lines = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in headers.items())]
                honest = "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content * sent
                lie = next((lie for pattern, lie in registry.lies.items() if re.search(pattern, said)), None)
                for part in lie(honest) if lie else (honest,):
                    self.wfile.write(part)
                self.close_connection = lie is not None

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = bytearray()
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return bytes(body)

            do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = answer

            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):
                    super().handle()

            def log_message(self, *_: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer_to(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content, as an honest registry's."""
        if path.startswith("/token"):
            return 200, {"Content-Type": "application/json"}, json.dumps({"token": self.token}).encode()
        if self.login and headers.get("Authorization", "") not in (self._basic, f"Bearer {self.token}"):
            scope = f'Bearer realm="{self.realm}",service="s",scope="repository:any:pull,push"'
            return 401, {"WWW-Authenticate": scope if self.realm else 'Basic realm="r"'}, b"{}"
        parts = urlsplit(path)
        _, _, rest = parts.path.partition("/v2/")
        asked = re.fullmatch(r"(.+)/(blobs/uploads|blobs|manifests)/(.*)", rest)
        if asked is None:
            return 200, {}, b"{}"
        name, kind, ref = asked.groups()
        if kind == "blobs":
            content = self.blobs.get(ref)
            return self._found(content, ref, "application/octet-stream")
        if kind == "manifests":
            if method == "PUT":
                self.manifests[f"{name}@{digest_of(body)}"] = self.manifests[f"{name}:{ref}"] = body
                return 201, {"Docker-Content-Digest": digest_of(body)}, b""
            content = self.manifests.get(f"{name}@{ref}" if ref.startswith("sha256:") else f"{name}:{ref}")
            return self._found(content, digest_of(content or b""), MANIFEST)
        if method == "POST":
            ref = next(self._names)
        self._uploads[ref] = self._uploads.get(ref, b"") + body
        where = {"Location": f"/v2/{name}/blobs/uploads/{ref}", "Docker-Upload-UUID": ref}
        if method != "PUT":
            return 202, {**where, "Range": f"0-{max(0, len(self._uploads[ref]) - 1)}"}, b""
        (digest,) = parse_qs(parts.query)["digest"]
        self.blobs[digest] = self._uploads.pop(ref)
        return 201, {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}, b""

    @property
    def _basic(self) -> str:
        return f"Basic {base64.b64encode(self.login.encode()).decode()}"

    def _found(self, content: bytes | None, digest: str, kind: str) -> tuple[int, dict[str, str], bytes]:
        if content is None:
            return (
                404,
                {"Content-Type": "application/json"},
                json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN"}]}).encode(),
            )
        return 200, {"Docker-Content-Digest": digest, "Content-Type": kind}, content
