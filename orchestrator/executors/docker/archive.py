"""Copies files into and out of containers as the engine's tar streams. Output is untrusted until it is checked."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from orchestrator.errors import BadResult
from orchestrator.executors.container_paths import RUNNER_UID
from orchestrator.executors.contract import FILE_LIMIT_BYTES

# One member's headers, its padding and the two end blocks: tar needs 2 KiB, Go's extended headers somewhat more.
OVERHEAD_BYTES = 64 * 2**10
# Go's fs.FileMode: directory, link, device, pipe, socket, character device, irregular. https://pkg.go.dev/io/fs#FileMode
NOT_REGULAR = 1 << 31 | 1 << 27 | 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19
LONGEST_NAME = 255


@dataclass(frozen=True)
class PathStat:
    """The engine's stat of a path in a container, sent before the content. mode: Go's bits, not POSIX's."""

    name: str
    size: int
    mode: int

    @classmethod
    def from_header(cls, header: str) -> PathStat:
        """Parses `X-Docker-Container-Path-Stat`. Raises BadResult."""
        try:
            fields = json.loads(base64.b64decode(header))
            stat = cls(str(fields["name"])[:LONGEST_NAME], int(fields["size"]), int(fields["mode"]))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise BadResult(f"the engine does not say what it sends: {error}") from error
        if stat.size < 0 or stat.mode < 0:
            raise BadResult(f"the engine does not say what it sends: size {stat.size}, mode {stat.mode}")
        return stat

    @property
    def is_regular(self) -> bool:
        return not self.mode & NOT_REGULAR


def check_stat(stat: PathStat, limit: int = FILE_LIMIT_BYTES) -> None:
    """Raises BadResult if the path is not a regular file of bounded size."""
    if not stat.is_regular:
        raise BadResult(f"{stat.name} is not a regular file (mode {stat.mode:o})")
    if stat.size > limit:
        raise BadResult(f"{stat.name} has {stat.size} bytes, more than the {limit} that are taken")


def read_member(chunks: Iterable[bytes], stat: PathStat, limit: int = FILE_LIMIT_BYTES) -> bytes:
    """Returns the bytes of the one regular file in a tar stream, whatever its name. Holds at most `limit` bytes.

    Raises BadResult if the stream holds anything else, more, or less.
    """
    check_stat(stat, limit)
    stream = _Capped(chunks, limit + OVERHEAD_BYTES)
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=64 * 2**10) as archive:
            member = archive.next()
            if member is None or not member.isreg() or member.issparse():
                raise BadResult(f"{stat.name}: the archive does not hold one regular file")
            if member.size > limit:
                raise BadResult(f"{stat.name}: {member.size} bytes are more than the {limit} that are taken")
            file = archive.extractfile(member)
            content = file.read() if file else b""
            if len(content) != member.size:
                raise BadResult(f"{stat.name}: the archive ends in the middle of the file")
            if archive.next() is not None:
                raise BadResult(f"{stat.name}: the archive holds more than one file")
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise BadResult(f"{stat.name}: the archive cannot be read: {error}") from error
    return content


def pack(files: Mapping[str, bytes], folders: Iterable[str] = ()) -> bytes:
    """Builds a tar of files and empty folders that the runner's user owns."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in folders:
            archive.addfile(_owned(tarfile.TarInfo(name), 0o700, tarfile.DIRTYPE))
        for name, content in files.items():
            entry = _owned(tarfile.TarInfo(name), 0o600, tarfile.REGTYPE)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _owned(entry: tarfile.TarInfo, mode: int, kind: bytes) -> tarfile.TarInfo:
    entry.uid = entry.gid = RUNNER_UID
    entry.mode, entry.type = mode, kind
    return entry


class _Capped(io.RawIOBase):
    """A file object over chunks that raises BadResult past a size limit."""

    def __init__(self, chunks: Iterable[bytes], limit: int) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._left, self._pending = limit, b""

    def read(self, size: int = -1) -> bytes:
        while len(self._pending) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._left -= len(chunk)
            if self._left < 0:
                raise BadResult("the archive is longer than the file that it should hold")
            self._pending += chunk
        taken, self._pending = self._pending[:size], self._pending[size:]
        return taken
