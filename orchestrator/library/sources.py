"""Reads rows from whatever a caller names: runs, folders of runs, CSV files, addresses in an object store, frames."""

from __future__ import annotations

import glob
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from orchestrator.errors import InputError
from orchestrator.frames import Column, Frame, is_frame, records
from orchestrator.runs import folder as runs
from orchestrator.runs.folder import Run
from orchestrator.table.cases import natural
from runner.schema import COLUMN, IMPORT, Row, SchemaError, parse_rows

if TYPE_CHECKING:
    from os import PathLike

Source: TypeAlias = "str | PathLike[str] | Frame"
MOST_REFUSED = 20  # of a store's refused rows that a warning names
COLUMNS = tuple(Column(each.name, each.kind, each.unit, each.meaning) for each in COLUMN.values())
NEEDED = ("status", "n_samples")  # a frame without them is not one that `load` made


@dataclass(frozen=True)
class Found:
    """rows: each with the name of its source. faults: what was refused, or is not there yet.

    runs: those that have a folder.
    """

    rows: Mapping[Row, str]
    faults: Sequence[str]
    runs: Sequence[Run] = ()


@dataclass(frozen=True)
class _Part:
    """One run or file of a source."""

    name: str
    rows: Sequence[Row]
    faults: Sequence[str] = ()
    run: Run | None = None


def read(sources: Sequence[Source], ignored: Sequence[str] = ()) -> Found:
    """Reads the rows of all sources; without a source, those of the newest run. A row that is read twice is kept once.

    ignored: patterns of a foreign file's unknown columns that are no settings. Raises InputError.
    """
    rows: dict[Row, str] = {}
    faults: list[str] = []
    folders: list[Run] = []
    for part in itertools.chain.from_iterable(_parts(source, ignored) for source in sources or [None]):
        taken = {row.run for row in rows} if any(row.is_imported for row in part.rows) else set()
        for row in part.rows:
            if row.is_imported and row.run in taken and row not in rows:
                row = replace(row, run=part.name)  # another file of that name, or a copy of a run
            rows.setdefault(row, part.name)
        faults += part.faults
        folders += [part.run] if part.run else []
    return Found(rows, faults, folders)


def one_run(title: str, found: Found) -> Found:
    """Returns the rows of a source that holds one run. Raises InputError for any other, which `title` names."""
    names = sorted({row.run or "unnamed" for row in found.rows})
    if len(names) != 1:
        has = f"holds {len(names)} runs: {', '.join(names[:5])}; fix: name one of them" if names else "holds no rows"
        raise InputError(f"{title}: {has}")
    return found


def joined(base: Iterable[Row], new: Iterable[Row]) -> list[Row] | None:
    """Returns the rows of both sides if they are parts of one run, such as a filter makes; None if they are not.

    Two states of a run, such as a copy from before it was resumed, have different rows of one case.
    """
    rows = list(dict.fromkeys((*base, *new)))
    cases = {(row.run, row.host, row.job, row.case) for row in rows if row.job and row.case and not row.is_imported}
    return rows if len(cases) == len(rows) and len({row.run for row in rows}) == 1 else None


def _parts(source: Source | None, ignored: Sequence[str]) -> Iterator[_Part]:
    if source is None:
        yield from _runs([runs.find(runs.ROOT)])
    elif is_frame(source):
        yield _Part("frame", of_frame(source))
    elif str(source).startswith("s3://"):
        yield _stored(str(source))
    else:
        for name in _paths(str(source)):
            yield from _of_path(name, ignored)


def _paths(name: str) -> Sequence[str]:
    """Expands a pattern; a file of that very name comes first."""
    if Path(name).exists() or not glob.has_magic(name):
        return [name]
    found = sorted(glob.glob(name), key=natural)
    if not found:
        raise InputError(f"{name}: no file or folder fits this pattern")
    return found


def _of_path(name: str, ignored: Sequence[str]) -> Iterator[_Part]:
    path = Path(name)
    if path.is_dir():
        yield from _runs(_in_folder(path))
    elif path.exists():
        yield _Part(name, _of_file(path, ignored))
    elif path.name != name or path.suffix:
        raise InputError(f"{name}: there is no such file or folder")
    else:
        yield from _runs([runs.find(runs.ROOT, name)])


def _in_folder(path: Path) -> Sequence[Run]:
    if (path / "results.csv").exists() or (path / "journal.db").exists():
        return [Run(path)]
    found = [run for run in runs.all_runs(path) if run.results.exists()]
    if not found:
        raise InputError(f"{path}: expected a run or a folder of runs; no results.csv is in it or one level below")
    return found


def _runs(found: Sequence[Run]) -> Iterator[_Part]:
    for run in found:
        faults: list[str] = []
        yield _Part(str(run.path), run.all_rows(faults.append), faults, run)


def _of_file(path: Path, ignored: Sequence[str]) -> Sequence[Row]:
    """Reads a file as `orchestrator import` does. Rows of a results.csv that nothing changed keep their jobs."""
    from orchestrator.results import foreign

    rows = foreign.read_file(path, ignored)
    try:
        if parse_rows(path.read_text(encoding="utf-8")) == rows:
            return rows
    except (SchemaError, UnicodeDecodeError):
        pass
    return [replace(row, job=IMPORT) for row in rows]


def _stored(address: str) -> _Part:
    from orchestrator.results import from_store

    stored = from_store.read(address)
    faults = list(stored.refused[:MOST_REFUSED])
    if len(stored.refused) > MOST_REFUSED:
        faults.append(f"… and {len(stored.refused) - MOST_REFUSED} more rows are refused")
    if stored.missing:
        faults.append(f"{stored.name} is not complete yet; missing: {', '.join(stored.missing)}")
    return _Part(address, stored.rows, faults)


def of_frame(frame: Frame) -> list[Row]:
    """Returns the rows of a frame that `load` made, perhaps filtered since. Raises InputError."""
    if missing := [name for name in NEEDED if name not in frame.columns]:
        raise InputError(f"the frame has no column {missing[0]!r}; fix: give a frame that orchestrator.load made")
    return [Row(**values) for values in records(frame, COLUMNS)]
