from __future__ import annotations

import http.server
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.config import DockerHost
from orchestrator.executors.docker.connection import MOST_IDLE, Connection, connect

TIMES = 5


@dataclass
class Counting:
    """An engine that counts the connections that are made to it."""

    url: str
    made: int = 0


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Counting]:
    counting = Counting(f"unix://{tmp_path}/d.sock")

    class Answers(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            counting.made += 1

        def do_GET(self) -> None:
            body = b'{"ApiVersion": "1.41"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_DELETE(self) -> None:
            self.send_response(204)
            self.end_headers()

        def address_string(self) -> str:
            return "local"

        def log_message(self, *_: object) -> None:
            pass

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True
        request_queue_size = 64  # a connection to a full queue is refused at once

    with Server(counting.url.removeprefix("unix://"), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield counting
        server.shutdown()


@pytest.fixture
def connection(engine: Counting) -> Iterator[Connection]:
    with closing(connect(DockerHost(name="desk", url=engine.url))) as found:
        yield found


def test_calls_to_many_containers_use_one_connection(engine: Counting, connection: Connection) -> None:
    with connection.api() as api:
        before = engine.made
        for number in range(TIMES):
            api.inspect_container(f"job{number}")
            api.remove_container(f"job{number}")
    assert engine.made - before == 1


def test_threads_one_after_another_use_one_connection(engine: Counting, connection: Connection) -> None:
    def ask() -> None:
        with connection.api() as api:
            api.inspect_container("job")

    ask()
    before = engine.made
    for _ in range(TIMES):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert engine.made == before


def test_callers_at_the_same_time_never_share_a_client(connection: Connection) -> None:
    together = threading.Barrier(TIMES)

    def ask(_: int) -> int:
        with connection.api() as api, connection.api() as inner:
            together.wait(60)
            assert inner is not api
            return id(api)

    with ThreadPoolExecutor(TIMES) as pool:
        assert len(set(pool.map(ask, range(TIMES)))) == TIMES


def test_of_many_clients_few_are_kept(connection: Connection) -> None:
    with ExitStack() as lent:
        for _ in range(2 * MOST_IDLE):
            lent.enter_context(connection.api())
    assert len(connection._idle) == MOST_IDLE


def test_a_client_given_back_after_the_close_is_not_kept(connection: Connection) -> None:
    with connection.api() as api:
        api.inspect_container("job")
        connection.close()
    assert connection._idle == []
