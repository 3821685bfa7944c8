"""Something that listens where an engine or an API server should, and answers what none does: to test who believes it.

A test says by path what is answered: bytes that are sent as they are, or an iterator of them, which may be endless.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from orchestrator.config import DockerHost
from orchestrator.executors.contract import Attempt, Slot, Task
from orchestrator.executors.docker.container import labels
from runner.schema import Job

Answer = bytes | Callable[[], Iterable[bytes]]

HONEST: dict[str, object] = {
    r"/_ping": b"OK",
    r"/version": {"ApiVersion": "1.41", "Arch": "amd64"},
    r"/info": {"InitCommit": {"ID": "x"}, "Runtimes": {}},
}


def http(body: bytes = b"", *headers: str, status: str = "200 OK") -> bytes:
    """A whole response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def as_json(value: object) -> bytes:
    return http(json.dumps(value).encode(), "Content-Type: application/json")


def chunked(*headers: str) -> bytes:
    """The beginning of a response in chunks."""
    return "\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *headers, "", ""]).encode()


def endless(*beginning: bytes, again: bytes) -> Callable[[], Iterator[bytes]]:
    """`beginning`, and then `again` for as long as anybody takes it."""
    return lambda: itertools.chain(beginning, itertools.repeat(again))


def in_chunks(part: bytes) -> bytes:
    return f"{len(part):x}\r\n".encode() + part + b"\r\n"


def ended_container(attempt: Attempt, image: str = "i") -> dict[str, object]:
    """How a listing shows an attempt that has ended."""
    job = Job.from_json(json.dumps(JOB))
    task = Task(attempt, job, Slot("cpu"), image)
    return {"Id": "c" * 64, "Names": ["/c"], "State": "exited", "Labels": labels(task, DockerHost(name="liar"))}


JOB = {
    "run": "r", "id": "j", "host": "liar", "device": "cpu", "engine": "eager", "precision": "single",
    "model": "synthetic:tiny", "cases": [{"id": "c", "samples": 1}], "prompt": "", "steps": 1,
}  # fmt: skip


class LyingEngine:
    """Answers by the first pattern that is found in a request's path, else honestly.

    asked: the paths so far. received: the bodies.
    It listens on a socket, or else at a port of its own, with TLS where it has a certificate.
    """

    def __init__(self, socket_path: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Answer] = {}
        self.honest: dict[str, object] = HONEST
        self.asked: list[str] = []
        self.received: list[bytes] = []
        engine = self

        class Handler(socketserver.StreamRequestHandler):
            def setup(self) -> None:
                if tls is not None:
                    self.request = tls.wrap_socket(self.request, server_side=True)
                super().setup()

            def finish(self) -> None:
                with contextlib.suppress(OSError):
                    super().finish()
                if tls is not None:
                    self.request.close()

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    while request := self.rfile.readline(65536):
                        length = 0
                        while (header := self.rfile.readline(65536)).strip():
                            if header.lower().startswith(b"content-length:"):
                                length = int(header.split(b":")[1])
                        engine.received.append(self.rfile.read(length))
                        path = request.split()[1].decode()
                        engine.asked.append(path)
                        answer = engine.answer_to(path)
                        for part in [answer] if isinstance(answer, bytes) else answer():
                            self.wfile.write(part)

        class Quiet(socketserver.ThreadingMixIn):
            daemon_threads = True
            request_queue_size = 64  # a connection to a full queue is refused at once
            block_on_close = False

            def handle_error(self, *_: object) -> None: ...

        class OnSocket(Quiet, socketserver.UnixStreamServer): ...

        class AtPort(Quiet, socketserver.TCPServer): ...

        self._server = OnSocket(str(socket_path), Handler) if socket_path else AtPort(("127.0.0.1", 0), Handler)
        address = self._server.server_address
        self.port = int(address[1]) if isinstance(address, tuple) else 0
        self.url = f"unix://{socket_path}" if socket_path else f"tcp://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def answer_to(self, path: str) -> Answer:
        for pattern, answer in self.answers.items():
            if re.search(pattern, path):
                return answer
        for pattern, value in self.honest.items():
            if re.search(pattern, path):
                return (
                    value
                    if isinstance(value, bytes) and value.startswith(b"HTTP")
                    else (http(value) if isinstance(value, bytes) else as_json(value))
                )
        return http(b'{"message": "no such thing"}', status="404 Not Found")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
