"""Rebuilds an image's tar stream in transit: one image, verified by its hashes, under one name.

No name, link or tag of the source's archive is passed on. Files are identified by SHA-256 only: the image's id is the
hash of its configuration (in a containerd store, of a manifest that names it), which holds its layers' hashes.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import ImageError

# A configuration or manifest has a few KB; the small files of all layers together somewhat more.
DOCUMENT_LIMIT_BYTES = 2**20
DOCUMENTS_LIMIT_BYTES = 16 * 2**20
# A configuration has about 20 values for each of 127 layers.
VALUES_LIMIT = 50_000
# An image has 127 layers at most, and an older engine's archive three files for each.
MEMBERS_LIMIT = 2000
# Headers and padding of an image's files, on top of their content.
OVERHEAD = 4
OVERHEAD_BYTES = 64 * 2**20
# The engine that built an image reports its size, so that size alone is no safe bound. Our largest has about 10 GB.
IMAGE_LIMIT_BYTES = 64 * 2**30
REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE)
NO_CONTENT = (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE)
BLOCK = tarfile.BLOCKSIZE


@dataclass
class Vouched:
    """Filters one image's stream. config_digest, layers: set once the whole image has passed."""

    name: str
    image_id: str
    size_bytes: int
    config_digest: str = ""
    layers: tuple[str, ...] = ()
    _count: int = 0
    _members: dict[str, str] = field(default_factory=dict)
    _documents: dict[str, bytes] = field(default_factory=dict)
    _document_bytes: int = 0

    def passed(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yields the archive to load. Raises ImageError before its end, so that the engine loads nothing of it."""
        source = _Reader(chunks, min(OVERHEAD * self.size_bytes + OVERHEAD_BYTES, IMAGE_LIMIT_BYTES))
        extended: int | None = None
        while (header := source.header()) is not None:
            if header.type in EXTENDED:
                extended = _size(source.take(header.size, DOCUMENT_LIMIT_BYTES))
                continue
            if header.type in LONG_NAMES:
                for _ in source.content(header.size):
                    pass
                continue
            if header.type in REGULAR:
                yield from self._member(source, header.size if extended is None else extended)
            elif header.type not in NO_CONTENT:
                raise ImageError(f"its archive holds an entry of type {header.type!r}, as no image's does")
            extended = None
        yield from self._manifest()

    def _member(self, source: _Reader, size: int) -> Iterator[bytes]:
        name, self._count = f"{self._count}.blob", self._count + 1
        yield _header(name, size)
        sha, document = hashlib.sha256(), bytearray() if size <= DOCUMENT_LIMIT_BYTES else None
        for chunk in source.content(size):
            sha.update(chunk)
            if document is not None:
                document += chunk
            yield chunk
        yield bytes(-size % BLOCK)
        if self._count > MEMBERS_LIMIT:
            raise ImageError(f"its archive holds more than {MEMBERS_LIMIT} files, as no image's does")
        digest = f"sha256:{sha.hexdigest()}"
        self._members.setdefault(digest, name)
        if document is not None and document[:1] == b"{" and digest not in self._documents:
            self._document_bytes += len(document)
            if self._document_bytes > DOCUMENTS_LIMIT_BYTES:
                raise ImageError("its archive holds more small files than any image's does")
            self._documents[digest] = bytes(document)

    def _manifest(self) -> Iterator[bytes]:
        """Yields our own end of the archive, once everything that it names has been seen."""
        config, manifest = self._configuration(self.image_id)
        self.config_digest = config
        try:
            self.layers = tuple(map(str, self._read(config)["rootfs"]["diff_ids"]))
            packed = [str(layer["digest"]) for layer in manifest["layers"]] if manifest else list(self.layers)
        except (LookupError, TypeError) as error:
            raise ImageError(f"its configuration {config} lists no layers") from error
        if len(packed) != len(self.layers):
            raise ImageError(f"its manifest has {len(packed)} layers, and its configuration {len(self.layers)}")
        names = [self._members.get(plain) or self._members.get(blob) for plain, blob in zip(self.layers, packed)]
        if None in names:
            raise ImageError(f"its layer {self.layers[names.index(None)]} was not sent")
        text = json.dumps([{"Config": self._members[config], "RepoTags": [self.name], "Layers": names}]).encode()
        yield _header("manifest.json", len(text)) + text + bytes(-len(text) % BLOCK) + bytes(2 * BLOCK)

    def _configuration(self, digest: str, depth: int = 0) -> tuple[str, dict[str, Any] | None]:
        """Returns the digest of an id's configuration, and the manifest that names it, if any."""
        document = self._read(digest) if depth < 3 else {}
        if "rootfs" in document:
            return digest, None
        config = document.get("config")
        its = config.get("digest") if isinstance(config, dict) else None
        if isinstance(its, str) and its in self._documents:
            return its, document
        listed = document.get("manifests")
        for entry in listed if isinstance(listed, list) else ():
            if isinstance(entry, dict) and isinstance(its := entry.get("digest"), str) and its in self._documents:
                return self._configuration(its, depth + 1)
        raise ImageError(f"nothing in its archive has the id {self.image_id}")

    def _read(self, digest: str) -> dict[str, Any]:
        """Parses a named file as JSON; empty if it is not JSON. Only named files: values cost far more than bytes."""
        data = self._documents.get(digest, b"")
        if sum(map(data.count, (b",", b"{", b"["))) > VALUES_LIMIT:
            raise ImageError(f"its archive's {digest} holds more values than any image's configuration does")
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


class _Reader:
    """Reads a tar stream header by header, with at most one of the source's chunks in memory."""

    def __init__(self, chunks: Iterable[bytes], limit_bytes: int) -> None:
        self._chunks, self._left, self._limit = iter(chunks), b"", limit_bytes

    def header(self) -> tarfile.TarInfo | None:
        """Returns the next entry's header; None at the archive's end."""
        block = b"".join(self._bytes(BLOCK))
        if block == bytes(BLOCK):
            for _ in self._chunks:  # the source's stream is read to its end
                pass
            return None
        try:
            found = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.TarError, ValueError) as error:
            raise ImageError(f"its archive cannot be read: {error}") from error
        if found.size < 0:
            raise ImageError("its archive cannot be read: an entry of negative size")
        return found

    def content(self, size: int) -> Iterator[bytes]:
        """Yields an entry's bytes without its padding."""
        yield from self._bytes(size)
        for _ in self._bytes(-size % BLOCK):
            pass

    def take(self, size: int, limit_bytes: int) -> bytes:
        if size > limit_bytes:
            raise ImageError(f"its archive has a header of {size} bytes")
        return b"".join(self.content(size))

    def _bytes(self, count: int) -> Iterator[bytes]:
        while count > 0:
            if not self._left:
                self._left = next(self._chunks, b"")
                self._limit -= len(self._left)
                if not self._left:
                    raise ImageError("its archive ends too early")
                if self._limit < 0:
                    raise ImageError("its archive is far longer than the image was when it was built, or than any is")
            part, self._left = self._left[:count], self._left[count:]
            count -= len(part)
            yield part


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.GNU_FORMAT)


def _size(records: bytes) -> int | None:
    """Parses the next entry's size from an extended header: `LENGTH size=NUMBER`."""
    position, size = 0, None
    while position < len(records):
        length, _, _ = records[position : position + 20].partition(b" ")
        if not length.isdigit() or int(length) < 5:
            break
        key, _, value = records[position : position + int(length)].partition(b" ")[2].rstrip(b"\n").partition(b"=")
        if key == b"size" and value.isdigit() and len(value) < 20:
            size = int(value)
        position += int(length)
    return size
