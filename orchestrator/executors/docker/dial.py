"""A local socket that bridges each connection to a command's stdin and stdout: `docker system dial-stdio` over ssh."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import threading
from collections.abc import Callable, Generator
from pathlib import Path

from orchestrator.executors.children import without_tokens

PING = b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"
PING_TIMEOUT_S = 20
# The first word of an engine's response. Anything before it is output of the remote shell's start-up files.
ANSWER = b"HTTP/1."
NOISE_LIMIT_BYTES = 64 * 2**10
CHUNK_BYTES = 2**16
SAID_LIMIT_BYTES = 2**16
WAIT_MS = 50
REFUSED = 255  # ssh's own exit code: the remote command did not run


def answers(path: Path) -> bool:
    """Whether an engine listens on a local socket. One that accepts the call but does not answer in time counts too."""
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
    """Listens at `path`. sessions: yields the command lines for one connection, tried in turn while ssh refuses them.

    said: the last error output of a connection that no engine answered.
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
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
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
        """Whether ssh refused the command before it read from the connection: then another link may be tried."""
        with self._lock:
            if self._closed:
                return False
            session = subprocess.Popen(
                words,
                stdin=connection.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=without_tokens(os.environ),
                start_new_session=True,
            )
            self._open.add(session)
        said = bytearray()
        try:
            answered = _copied(session, connection, said)
        finally:
            session.kill()
            code = session.wait()
            with self._lock:
                self._open.discard(session)
        if answered:
            return False
        lines = said.decode(errors="replace").strip().splitlines()
        self.said = lines[-1][:300] if lines else f"exit code {code}"
        return code == REFUSED


def _copied(session: subprocess.Popen[bytes], connection: socket.socket, said: bytearray) -> bool:
    """Copies until either side closes; returns whether an engine answered. said: receives the end of its stderr."""
    if session.stdout is None or session.stderr is None:
        return False
    source, errors = session.stdout.fileno(), session.stderr.fileno()
    noise, answered = b"", False
    is_open = {source, errors}
    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.register(errors, select.POLLIN)
    poll.register(connection, 0)  # only for a full close, which an endless stream would not notice
    with session.stdout, session.stderr:
        while True:
            ready = {fd for fd, _ in poll.poll(None if source in is_open else WAIT_MS)}
            if not ready <= {source, errors}:
                return True
            for fd in ready:
                chunk = os.read(fd, CHUNK_BYTES)
                if not chunk:
                    poll.unregister(fd)
                    is_open.discard(fd)
                elif fd == errors:
                    said += chunk
                    del said[:-SAID_LIMIT_BYTES]
                else:
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
            # a child of it may keep its standard error open
            if not is_open or (source not in is_open and errors not in ready and session.poll() is not None):
                session.wait()
                return answered
