"""A local socket whose every connection is a command's standard input and output: `docker system dial-stdio` by ssh."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator
from pathlib import Path

from orchestrator.children import without_tokens

PING = b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"
PING_TIMEOUT_S = 20
# The first word of any engine's answer. What comes before it is what a shell's start-up files print over there.
ANSWER = b"HTTP/1."
NOISE_LIMIT_BYTES = 64 * 2**10
CHUNK_BYTES = 2**16
REFUSED = 255  # ssh's own exit code: the command over there did not run


def answers(path: Path) -> bool:
    """Whether an engine is behind a local socket. One that takes the call and says nothing in time is there too."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PING_TIMEOUT_S)
        probe.connect(str(path))
        probe.sendall(PING)
        try:
            return bool(probe.recv(1))
        except TimeoutError:
            return True
    return False


class Dial:
    """Listens at `path`. sessions: command lines for one connection, tried in turn while ssh itself refuses them.

    said: the last words of a connection that no engine answered.
    """

    def __init__(self, path: Path, sessions: Callable[[], Generator[list[str], None, None]]) -> None:
        self._sessions, self.said = sessions, ""
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(128)
        self._open: set[subprocess.Popen[bytes]] = set()
        self._lock, self._closed = threading.Lock(), False
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Ends all connections."""
        with self._lock:
            self._closed = True
            sessions = list(self._open)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
        self._listener.close()
        for session in sessions:
            session.kill()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._bridge, args=(connection,), daemon=True).start()

    def _bridge(self, connection: socket.socket) -> None:
        with connection, contextlib.closing(self._sessions()) as sessions:
            for words in sessions:
                if not self._was_refused(words, connection):
                    return

    def _was_refused(self, words: list[str], connection: socket.socket) -> bool:
        """Whether ssh refused to run it, having read nothing of the connection: then it may be tried elsewhere."""
        with tempfile.TemporaryFile() as stderr:
            with self._lock:
                if self._closed:
                    return False
                session = subprocess.Popen(
                    words,
                    stdin=connection.fileno(),
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    env=without_tokens(os.environ),
                    start_new_session=True,
                )
                self._open.add(session)
            try:
                answered = _copied(session, connection)
            finally:
                session.kill()
                code = session.wait()
                with self._lock:
                    self._open.discard(session)
            if answered:
                return False
            stderr.seek(0)
            lines = stderr.read(1 << 16).decode(errors="replace").strip().splitlines()
            self.said = lines[-1][:300] if lines else f"exit code {code}"
            return code == REFUSED


def _copied(session: subprocess.Popen[bytes], connection: socket.socket) -> bool:
    """Whether an engine answered; returns when either side is gone."""
    if session.stdout is None:
        return False
    source = session.stdout.fileno()
    noise, answered = b"", False
    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.register(connection, 0)  # only that it was closed altogether, which a stream without an end would not notice
    with session.stdout:
        while True:
            if any(fd != source for fd, _ in poll.poll()):
                return True
            chunk = os.read(source, CHUNK_BYTES)
            if not chunk:
                session.wait()
                return answered
            if not answered:
                noise += chunk
                start = noise.find(ANSWER)
                if start < 0:
                    if len(noise) > NOISE_LIMIT_BYTES:
                        return True
                    continue
                chunk, answered = noise[start:], True
            try:
                connection.sendall(chunk)
            except OSError:
                return True
