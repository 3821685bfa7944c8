"""What each party was told: every byte that reached a test server, and the environment of every child process."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import ssl
import stat
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

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
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # connections that break are the caller's to see
    bridges: set[asyncio.Task[None]] = set()
    writers: set[asyncio.StreamWriter] = set()

    async def bridge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bridges.add(cast("asyncio.Task[None]", asyncio.current_task()))
        writers.add(writer)
        with contextlib.suppress(OSError), contextlib.closing(writer):
            there = await called()
            writers.add(there[1])
            with contextlib.closing(there[1]):
                await asyncio.gather(pump(reader, there[1], recorder.connection(party)), pump(there[0], writer, None))

    async def called() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(target, str):
            return await asyncio.open_unix_connection(target)
        return await asyncio.open_connection("127.0.0.1", target, ssl=tls[1] if tls else None)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, kept: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                if kept is not None:
                    kept += data
                sink.write(data)
                await sink.drain()
        with contextlib.suppress(OSError):
            sink.write_eof() if sink.can_write_eof() else sink.close()

    async def listen() -> asyncio.Server:
        if at:
            return await asyncio.start_unix_server(bridge, at)
        return await asyncio.start_server(bridge, "0.0.0.0", 0, backlog=64, ssl=tls[0] if tls else None)

    async def end() -> None:
        listener.close()
        for each in bridges:
            each.cancel()
        await asyncio.gather(*bridges, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)  # what is aborted is closed in the loop's next turns

    # One thread for both directions: OpenSSL allows no read beside a write.
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    listener = asyncio.run_coroutine_threadsafe(listen(), loop).result(240)
    try:
        yield 0 if at else int(listener.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(240)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
