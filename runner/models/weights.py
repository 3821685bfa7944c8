"""Which weights a model has, whatever it is called: the cell `weights` of a row.

A hub id has its commit; a folder the hash of its files' content; a synthetic model the hash of its recipe.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runner.models import variants

LENGTH = 16
# A hub cache names a large file by the SHA-256 of its content. Source: huggingface_hub, "Understand caching".
BLOB = re.compile(r"[0-9a-f]{64}")
# What a pipeline reads beside its weights: configurations and the tokenizer's files.
SETTINGS = (".json", ".txt", ".model")


def of_folder(folder: Path, known: Path | None = None) -> str | None:
    """A hash over the names and contents of the files that a pipeline can be loaded from; None where there are none.

    All variants are in it, so that the identity is the same in each precision. known: where hashes are kept between
    processes, by path, size and times of a file; reading 5 GB takes seconds.
    """
    kept = _Kept(known)
    try:
        files = sorted(_files(folder))
        with ThreadPoolExecutor(4) as pool:
            hashes = list(pool.map(kept.hash_of, files))
    except OSError:
        return None
    kept.save()
    lines = "".join(f"{file.relative_to(folder)} {each}\n" for file, each in zip(files, hashes))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()[:LENGTH]}" if files else None


def commit_of(snapshot: Path) -> str | None:
    """The commit of a hub cache's snapshot: the folder's name."""
    return snapshot.name if snapshot.parent.name == "snapshots" else None


def cache_file() -> Path:
    """Where this user's hashes are kept; in a container without a writable home they are not."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "sd-orchestrator" / "weights.json"


def _files(folder: Path) -> Iterator[Path]:
    """Of the parts in model_index.json. A `.bin` is left out where the same variant is there as `.safetensors`."""
    index = folder / "model_index.json"
    if index.is_file():
        yield index
    for part in variants.parts_of(folder):
        inside = [file for file in (folder / part).iterdir() if file.is_file()]
        safe = {name for file in inside if file.suffix == ".safetensors" for name in variants.variant_of(file)}
        for file in inside:
            of_variant = set(variants.variant_of(file))
            if file.suffix in SETTINGS or (of_variant and (file.suffix == ".safetensors" or not of_variant & safe)):
                yield file


class _Kept:
    """Hashes of files, and those of earlier processes for files that did not change since."""

    def __init__(self, file: Path | None) -> None:
        self._file, self._known, self._new = file, dict[str, str](), dict[str, str]()
        if file is not None:
            with contextlib.suppress(OSError, ValueError):
                found = json.loads(file.read_text(encoding="utf-8"))
                self._known = found if isinstance(found, dict) else {}

    def hash_of(self, file: Path) -> str:
        blob = os.path.basename(os.readlink(file)) if file.is_symlink() else ""
        if BLOB.fullmatch(blob):
            return blob
        stat = file.stat()
        key = f"{file.resolve()} {stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
        if not isinstance(found := self._known.get(key), str):
            with file.open("rb") as opened:
                found = _digest(opened)
            self._new[key] = found
        return found

    def save(self) -> None:
        if self._file is None or not self._new:
            return
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            draft = self._file.with_suffix(f".{os.getpid()}")
            changed = {_path_in(key) for key in self._new}
            left = {key: each for key, each in self._known.items() if _path_in(key) not in changed}
            draft.write_text(json.dumps({**left, **self._new}), encoding="utf-8")
            os.replace(draft, self._file)


def _path_in(key: str) -> str:
    return key.rsplit(" ", 5)[0]


def _digest(opened: io.BufferedReader) -> str:
    digest = hashlib.sha256()
    while piece := opened.read(1 << 22):
        digest.update(piece)
    return digest.hexdigest()
