"""States where imported rows come from: the file, its hash and the address that it was published at."""

from __future__ import annotations

import hashlib
import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.results import foreign, foreign_bytes
from orchestrator.results.validate import made_harmless
from runner.schema import Row

SHOWN_DIGITS = 12
LONGEST_URL = 300


@dataclass(frozen=True)
class Source:
    """A file that rows were imported from. url: where it was published, if the user says so."""

    name: str
    stored: bytes
    url: str | None = None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.stored).hexdigest()

    def __str__(self) -> str:
        return f"{self.name} (sha256 {self.sha256[:SHOWN_DIGITS]})" + (f" of {self.url}" if self.url else "")


@dataclass(frozen=True)
class Imported:
    rows: tuple[Row, ...]
    sources: tuple[Source, ...]


def imported(paths: Sequence[Path], ignored: Sequence[str] = (), url: str | None = None) -> Imported:
    """Reads the rows of one file, or of several that state the work of each row. Raises InputError.

    ignored: as in `foreign.read_rows`.
    """
    if url is not None:
        _check_url(url)
    rows: list[Row] = []
    sources: list[Source] = []
    for path in paths:
        file = foreign_bytes.read(path)
        source = Source(_name(path, paths), file.stored, url)
        found = foreign.read_text(file, ignored)
        if len(paths) > 1 and (row := _first_unstated(found)) is not None:
            which = f"{row.device or row.host}, {row.n_samples} samples"
            raise InputError(
                f"{path}: has a row ({which}) without model or steps, and such rows of one run count as equal work; "
                "fix: import each file as a run of its own"
            )
        rows += _with_source(found, source)
        sources.append(source)
    return Imported(tuple(rows), tuple(sources))


def _name(path: Path, paths: Sequence[Path]) -> str:
    """Returns the file's name, with its folder's if another file has the same."""
    alike = sum(other.name == path.name for other in paths)
    return f"{path.resolve().parent.name}/{path.name}" if alike > 1 else path.name


def _first_unstated(rows: Iterable[Row]) -> Row | None:
    return next((row for row in rows if row.model is None or row.steps is None), None)


def _with_source(rows: Iterable[Row], source: Source) -> list[Row]:
    """Sets the rows' source; one that the file itself states comes after it."""
    return [made_harmless(replace(row, imported_from=_joined(source, row.imported_from))) for row in rows]


def _joined(source: Source, stated: str | None) -> str:
    return f"{source}, there from {stated}" if stated else str(source)


def _check_url(url: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise InputError(f"--source {url[:80]!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or len(url) > LONGEST_URL or not url.isprintable():
        raise InputError(
            f"--source {url[:80]!r}: expected the file's http or https address, of at most {LONGEST_URL} characters"
        )
    if parts.username is not None or parts.password is not None:
        raise InputError("--source: the address holds a login, and it would be kept with each row; fix: leave it out")
