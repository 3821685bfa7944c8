"""What each party was told: every byte that reached a test server, and the environment of every child process."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import socket
import ssl
import stat
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from canary import Canary

# Writes its arguments, its environment and what it reads at once, and then is the program that it stands for.
WRAPPER = """\
#!{python}
import os, sys, tempfile
handle, _ = tempfile.mkstemp(dir={folder!r})
with os.fdopen(handle, "wb") as out:
    out.write(b"\\0".join(map(os.fsencode, sys.argv)) + b"\\0")
    out.write(b"\\0".join(k + b"=" + v for k, v in os.environb.items()))
os.execvp({program!r}, [{program!r}, *sys.argv[1:]])
"""


@dataclass
class Recorder:
    """told: by party and connection. children: by party, the folder into which its wrapper writes."""

    told: dict[tuple[str, int], bytearray] = field(default_factory=dict)
    children: dict[str, Path] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def connection(self, party: str) -> bytearray:
        """What is added to it was told to this party."""
        return self.told.setdefault((party, next(self._numbers)), bytearray())

    def wrapped(self, party: str, program: str, folder: Path) -> Path:
        """A program in `folder` that records what it is given, and then runs `program`."""
        its = self.children.setdefault(party, folder / f"{party}-was-given")
        its.mkdir(parents=True, exist_ok=True)
        wrapper = folder / Path(program).name
        wrapper.write_text(WRAPPER.format(python=sys.executable, folder=str(its), program=program))
        wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
        return wrapper

    def parties(self) -> set[str]:
        """All that were told anything."""
        started = {party for party, folder in self.children.items() if any(folder.iterdir())}
        return {party for (party, _), data in self.told.items() if data} | started

    def who_saw(self, secret: Canary) -> set[str]:
        """In a header, a query, a body, plain, packed or in base64; in an argument or the environment."""
        given = ((party, file.read_bytes()) for party, its in self.children.items() for file in its.iterdir())
        said = ((party, bytes(data)) for (party, _), data in list(self.told.items()))
        return {party for party, data in (*said, *given) if secret.is_in(data) or secret.is_in(unpacked(data))}


def unpacked(data: bytes) -> bytes:
    """All that is packed by gzip in it."""
    out, at = b"", data.find(gzip.compress(b"")[:3])
    while at >= 0:
        with contextlib.suppress(zlib.error):
            out += zlib.decompressobj(wbits=31).decompress(data[at:], 1 << 24)
        at = data.find(gzip.compress(b"")[:3], at + 1)
    return out


@contextlib.contextmanager
def between(
    recorder: Recorder,
    party: str,
    target: str | int,
    at: Path | None = None,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
) -> Iterator[int]:
    """Listens, records for `party` what clients say, and passes everything on; yields its port.

    target: a socket's path, or a port of this machine. at: a socket to listen at in place of a port.
    tls: what clients meet, and how the target is called.
    """
    listener = socket.socket(socket.AF_UNIX if at else socket.AF_INET)
    listener.bind(str(at) if at else ("0.0.0.0", 0))
    listener.listen(64)
    open_now: set[socket.socket] = {listener}

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=bridge, args=(client,), daemon=True).start()

    def bridge(client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX if isinstance(target, str) else socket.AF_INET)
        with contextlib.suppress(OSError), client, server:
            server.connect(target if isinstance(target, str) else ("127.0.0.1", target))
            if tls:
                client, server = tls[0].wrap_socket(client, server_side=True), tls[1].wrap_socket(server)
            open_now.update((client, server))
            with client, server:
                back = threading.Thread(target=pump, args=(server, client, None), daemon=True)
                back.start()
                pump(client, server, recorder.connection(party))
                back.join()

    def pump(source: socket.socket, sink: socket.socket, kept: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if kept is not None:
                    kept += data
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_WR if end is sink else socket.SHUT_RD)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield 0 if at else int(listener.getsockname()[1])
    finally:
        for one in list(open_now):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        listener.close()
