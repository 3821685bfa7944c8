"""Identifies a model's weights independently of its name: the `weights` column.

The identity of a hub model is its commit, of a folder a hash of its content, of a synthetic model a hash of its
configuration.
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
# The hub's cache names a large file by its SHA-256. Source: huggingface_hub, "Understand caching".
BLOB = re.compile(r"[0-9a-f]{64}")
# Other files that a pipeline reads: configurations and the tokenizer's files.
SETTINGS = (".json", ".txt", ".model")


def of_folder(folder: Path, known: Path | None = None) -> str | None:
    """A hash of the names and contents of a pipeline's files; None where there are none.

    Covers all variants, so that the identity is the same in each precision.
    known: a file that caches hashes between processes, by path, size and times: reading 5 GB takes seconds.
    """
    cache = _HashCache(known)
    try:
        files = sorted(_files(folder))
        with ThreadPoolExecutor(4) as pool:
            hashes = list(pool.map(cache.hash_of, files))
    except OSError:
        return None
    cache.save()
    lines = "".join(f"{file.relative_to(folder)} {each}\n" for file, each in zip(files, hashes))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()[:LENGTH]}" if files else None


def commit_of(snapshot: Path) -> str | None:
    """The commit of a snapshot in the hub's cache, which is the folder's name; None for another folder."""
    return snapshot.name if snapshot.parent.name == "snapshots" else None


def cache_file() -> Path:
    """The user's cache of hashes; a container without a writable home has none."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "sd-orchestrator" / "weights.json"


def _files(folder: Path) -> Iterator[Path]:
    """Files of the components in model_index.json. A `.bin` is skipped if its variant exists as `.safetensors`."""
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


class _HashCache:
    """Hashes of files; reuses those of earlier processes for unchanged files."""

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
