"""A local socket that is a command's input and output: test_ssh_ways_live has ssh and docker behind it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from memory import grows_by_less_than

from orchestrator.executors.docker.dial import Dial, answers

ENGINE = "read line; printf 'HTTP/1.1 200 OK\\r\\n\\r\\n%s' \"$line\""


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a socket's path is short
        yield Path(folder) / "d.sock"


@contextlib.contextmanager
def dial(path: Path, *scripts: str) -> Iterator[Dial]:
    made = Dial(path, lambda: (["sh", "-c", script] for script in scripts))
    try:
        yield made
    finally:
        made.close()


def asked(path: Path, said: bytes = b"hello\n") -> bytes:
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(ConnectionError):
        client.settimeout(120)
        client.connect(str(path))
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))
    return b""


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_a_shell_prints_before_the_engine_answers_is_left_out(path: Path) -> None:
    with dial(path, f"printf 'Welcome! 42 updates'; {ENGINE}"):
        assert asked(path) == b"HTTP/1.1 200 OK\r\n\r\nhello"


def test_a_connection_that_ssh_refuses_goes_to_the_next_link_unread(path: Path) -> None:
    with dial(path, "echo full >&2; exit 255", "exit 255", ENGINE):
        assert asked(path).endswith(b"hello")


def test_a_command_that_fails_over_there_is_not_tried_again_and_its_last_words_are_kept(path: Path) -> None:
    with dial(path, "echo 'sh: docker: not found' >&2; exit 127", ENGINE) as made:
        assert asked(path) == b""
        eventually(lambda: made.said == "sh: docker: not found")
        assert not answers(path)


def test_40_connections_at_once_are_kept_apart(path: Path) -> None:
    with dial(path, ENGINE), ThreadPoolExecutor(40) as pool:
        said = list(pool.map(lambda n: asked(path, f"{n}\n".encode()), range(40)))
    assert [one.rpartition(b"\n")[2] for one in said] == [str(n).encode() for n in range(40)]


def test_a_megabyte_each_way_arrives_whole(path: Path) -> None:
    data = os.urandom(1 << 20)
    code = "import sys; d = sys.stdin.buffer.read(); sys.stdout.buffer.write(b'HTTP/1.1 200 OK\\r\\n\\r\\n' + d)"
    with dial(path, f'{sys.executable} -c "{code}"'):
        assert asked(path, data) == b"HTTP/1.1 200 OK\r\n\r\n" + data


def test_a_stream_without_an_end_ends_with_its_reader(path: Path, tmp_path: Path) -> None:
    with dial(path, f"echo $$ > {tmp_path}/pid; printf 'HTTP/1.1 200 OK\\r\\n'; exec sleep 600"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            assert client.recv(1) == b"H"
        pid = int((tmp_path / "pid").read_text())
        eventually(lambda: not Path(f"/proc/{pid}").exists() if Path("/proc/self").exists() else True)


def test_closing_ends_every_connection(path: Path) -> None:
    with dial(path, "printf 'HTTP/1.1 200 OK\\r\\n'; exec sleep 600") as made, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(120)
        client.connect(str(path))
        assert client.recv(1) == b"H"
        made.close()
        assert b"".join(iter(lambda: client.recv(100), b"")) == b"TTP/1.1 200 OK\r\n"


def test_noise_without_end_is_no_engine(path: Path) -> None:
    with dial(path, "exec yes noise"):
        assert not answers(path)


def test_a_host_that_complains_without_end_costs_no_disk_and_no_memory(path: Path, tmp_path: Path) -> None:
    script = "head -c 30000000 /dev/zero >&2; printf '\\nits last words' >&2; exit 1"
    with dial(path, script) as made, grows_by_less_than(20):
        assert asked(path) == b""
        eventually(lambda: made.said == "its last words")
    script = f"yes >&2 & echo $! > {tmp_path}/pid; printf 'HTTP/1.1 200 OK\\r\\n'; wait"
    with dial(path, script), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert client.recv(1) == b"H"
        goes_to = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/fd/2")
        assert not goes_to.exists() or os.readlink(goes_to).startswith("pipe:")


def test_what_a_command_leaves_running_holds_up_no_connection(path: Path) -> None:
    with dial(path, "sleep 30 >/dev/null & echo failed >&2; exit 3") as made:
        assert asked(path) == b""
        eventually(lambda: made.said == "failed")
