"""Reads a foreign file's bytes: bounded, decompressed, and only if they are text in Unicode."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import InputError

LARGEST_BYTES = 32 << 20  # a row is 0.5 to 2 kB
# Leading bytes of files that are neither CSV nor JSON: what the file is, and the fix.
NO_TEXT = {
    b"PK\x03\x04": "is an Excel or OpenDocument workbook, or a ZIP file; fix: save the sheet as 'CSV UTF-8'",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook; fix: save the sheet as 'CSV UTF-8'",
    b"PAR1": "is a Parquet file; fix: write it as CSV, with pandas: read_parquet(…).to_csv(…, index=False)",
    b"ARROW1": "is an Arrow file; fix: write it as CSV",
    b"%PDF": "is a PDF file; fix: save the table as CSV",
    b"BZh": "is compressed by bzip2; fix: decompress it",
    b"\xfd7zXZ": "is compressed by xz; fix: decompress it",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd; fix: decompress it",
    b"\x1f\x8b": "is compressed by gzip twice; fix: decompress it",
    b"\xff\xfe\0\0": "is UTF-32 text; fix: save it as 'CSV UTF-8'",
    b"\0\0\xfe\xff": "is UTF-32 text; fix: save it as 'CSV UTF-8'",
    b"**": "is a table in Markdown; fix: import results.csv of the run's folder, or save the table as CSV",
    b"<": "is HTML or XML; fix: save the table as CSV",
}
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class ForeignText:
    """name: for messages; without `.gz` if that was decompressed. stored: the file's own bytes."""

    name: str
    content: bytes
    encoding: str
    stored: bytes

    @property
    def is_json(self) -> bool:
        start = self.content[:4096].decode(self.encoding, errors="replace").lstrip("\ufeff \t\r\n")
        return start.startswith(("{", "["))

    def text(self) -> str:
        """Raises UnicodeDecodeError."""
        return self.opened().read().removeprefix("\ufeff")

    def opened(self) -> io.TextIOWrapper:
        return io.TextIOWrapper(io.BytesIO(self.content), self.encoding, newline="")

    def undecodable(self) -> InputError:
        """Returns the error for a file whose text is not in its encoding."""
        if "16" in self.encoding:
            return InputError(f"{self.name}: is not UTF-16 text; fix: save it as 'CSV UTF-8'")
        lines = enumerate(io.BytesIO(self.content), start=1)
        line = next(number for number, line in lines if line.decode(errors="replace") != line.decode(errors="ignore"))
        return InputError(f"{self.name}:{line}: is not UTF-8 text; fix: save it as 'CSV UTF-8'")


def read(path: Path) -> ForeignText:
    """Raises InputError if the file cannot be read, is too large or is no text."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a regular file")
    try:
        with path.open("rb") as file:
            stored = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    name, content = str(path), stored
    if content.startswith(GZIP):
        content, name = _decompressed(content, name), name.removesuffix(".gz")
    if len(content) > LARGEST_BYTES:
        raise InputError(f"{path}: is larger than {LARGEST_BYTES >> 20} MiB; no table of benchmarks is that large")
    for start, what in NO_TEXT.items():
        if content.startswith(start):
            raise InputError(f"{path}: {what}")
    return ForeignText(name, content, _encoding(content), stored)


def _decompressed(content: bytes, name: str) -> bytes:
    """Decompresses gzip content, up to the size limit."""
    unzip = zlib.decompressobj(wbits=31)
    try:
        data = unzip.decompress(content, LARGEST_BYTES + 1)
    except zlib.error as error:
        raise InputError(f"{name}: is not a complete gzip file: {error}") from error
    if len(data) <= LARGEST_BYTES and not unzip.eof:
        raise InputError(f"{name}: is a gzip file that was cut off")
    if unzip.unused_data.startswith(GZIP):
        raise InputError(f"{name}: holds several gzip files; fix: decompress it")
    return data


def _encoding(content: bytes) -> str:
    """Detects the encoding by the byte order mark, or by the zero bytes of UTF-16 without one."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if content[1:2] == b"\0" or content[:1] == b"\0":
        return "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    return "utf-8-sig"
