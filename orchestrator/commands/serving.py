"""Serves one page to this machine alone: on loopback, by GET, and below a secret path."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hmac import compare_digest
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from orchestrator.errors import InputError

ADDRESS = "127.0.0.1"
REQUEST_TIMEOUT_S = 30.0
# The page's own policy, in the page, names its script and style by their hashes; a browser applies both.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@contextmanager
def serving(content: Callable[[], tuple[str, str]], port: int) -> Iterator[str]:
    """Serves while the context is open; yields the page's address. Its secret part keeps out the machine's other users.

    content: returns the page and report.json. port: 0 is a free one. Raises InputError if the port is taken.
    """
    secret = secrets.token_urlsafe(16)
    try:
        server = _Server((ADDRESS, port), _handler(content, secret))
    except OSError as error:
        raise InputError(f"--port {port}: {error.strerror}; fix: choose another port, or leave it out") from error
    with server:
        threading.Thread(target=server.serve_forever, name="report", daemon=True).start()
        try:
            yield f"http://{ADDRESS}:{server.server_address[1]}/{secret}/"
        finally:
            server.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that goes away in the middle of an answer is no error."""


def _handler(content: Callable[[], tuple[str, str]], secret: str) -> type[BaseHTTPRequestHandler]:
    paths = {f"/{secret}/": ("text/html; charset=utf-8", 0), f"/{secret}/report.json": ("application/json", 1)}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = REQUEST_TIMEOUT_S

        def do_GET(self) -> None:
            port = self.server.server_address[1]  # type: ignore[index]
            hosts = (f"{ADDRESS}:{port}", f"localhost:{port}")
            if self.headers.get_all("Host") not in [[host] for host in hosts]:  # a name that resolves to this machine
                self._answer(HTTPStatus.FORBIDDEN, b"This page is served to this machine alone.\n")
                return
            path = next((known for known in paths if compare_digest(known.encode(), self.path.encode())), None)
            if path is None:
                self._answer(HTTPStatus.NOT_FOUND, b"There is no such page.\n")
                return
            kind, which = paths[path]
            try:
                data = content()[which].encode()
            except InputError as error:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode())
                return
            tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
            if self.headers.get("If-None-Match") == tag:
                self._answer(HTTPStatus.NOT_MODIFIED, b"", kind, tag)
            else:
                self._answer(HTTPStatus.OK, data, kind, tag)

        def _refuse(self) -> None:
            self.close_connection = True  # its body is not read
            self._answer(HTTPStatus.METHOD_NOT_ALLOWED, b"Only GET.\n")

        do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

        def do_HEAD(self) -> None:
            self.close_connection = True
            self._answer(HTTPStatus.METHOD_NOT_ALLOWED, b"")

        def _answer(
            self, status: HTTPStatus, data: bytes, kind: str = "text/plain; charset=utf-8", tag: str = ""
        ) -> None:
            self.send_response(status)
            for name, value in HEADERS.items():
                self.send_header(name, value)
            if tag:
                self.send_header("ETag", tag)
            if status is HTTPStatus.METHOD_NOT_ALLOWED:
                self.send_header("Allow", "GET")
            if status is not HTTPStatus.NOT_MODIFIED:
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def version_string(self) -> str:
            return "orchestrator"

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not logged: the address holds a secret."""

    return Handler
