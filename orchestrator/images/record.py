"""Records which images this user has built: only their ids may go from one host to another."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import ImageError
from orchestrator.files import private, write_atomically
from orchestrator.images.image import ImageInfo

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MOST_LAYERS = 127  # Docker's limit


@dataclass
class Record:
    """Ids by image name, and digests by name in a registry, from this user's builds and pushes.

    file: shared by all commands of the user. If it cannot be written, this command still knows its own builds.
    """

    file: Path
    _own: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def of_user(cls, environ: Mapping[str, str] = os.environ) -> Record:
        state = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        return cls(Path(state) / "orchestrator" / "images.json")

    def knows(self, image: ImageInfo) -> bool:
        return image.id in self._all().get(image.reference, {})

    def was_built_on(self, image: ImageInfo, engine: str) -> bool:
        """Whether this engine built the image: an engine that did not build it is not trusted to push it."""
        return engine in self._all().get(image.reference, {}).get(image.id, {}).get("engines", ())

    def size_bytes(self, name: str, image_id: str) -> int:
        """Returns an image's size when it was built."""
        return int(self._all()[name][image_id]["size_bytes"])

    def digest(self, remote: str) -> str | None:
        """Returns the `sha256:…` last pushed as `registry/repository:tag`; None if nothing was pushed from here."""
        return next(reversed(self._all().get(remote, {})), None)

    def layers(self, remote: str, digest: str) -> tuple[str, ...]:
        """Returns the layers of a pushed image."""
        return tuple(self._all()[remote][digest]["layers"])

    def built(self, image: ImageInfo, engine: str) -> None:
        """Records a build. Raises ImageError if the engine reports an invalid id or size."""
        if not is_digest(image.id) or type(image.size_bytes) is not int or image.size_bytes < 0:
            said = f"{image.id!r:.100} of {image.size_bytes!r:.100} bytes"
            raise ImageError(f"{image.reference} on {engine}: its engine says that it is {said}; expected sha256:…")
        known = self._all().get(image.reference, {}).get(image.id, {}).get("engines", ())
        self._add(image.reference, image.id, {"size_bytes": image.size_bytes, "engines": [*{*known, engine}]})

    def pushed(self, remote: str, digest: str, image: ImageInfo) -> None:
        """Records a push. Raises ImageError if the engine's layers are not a list of digests."""
        if len(image.layers) > MOST_LAYERS or not all(map(is_digest, image.layers)):
            raise ImageError(f"{remote}: what its engine says of its layers is no list of digests")
        self._add(remote, digest, {"layers": list(image.layers)})

    def _add(self, name: str, key: str, value: dict[str, Any]) -> None:
        ids = self._own.setdefault(name, {})
        ids.pop(key, None)  # the last one is the newest
        ids[key] = value
        with suppress(OSError):
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(private(self.file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT), "r+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                write_atomically(self.file, json.dumps(self._all()).encode(), mode=0o600)

    def _all(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Returns the file's entries, then this command's; an unreadable file counts as empty."""
        kept: Any = {}
        with suppress(OSError, ValueError, RecursionError):
            kept = json.loads(self.file.read_text(encoding="utf-8"))
        merged: dict[str, dict[str, dict[str, Any]]] = {}
        for name, ids in kept.items() if isinstance(kept, dict) else ():
            if isinstance(ids, dict):
                merged[name] = {key: value for key, value in ids.items() if _is_entry(value)}
        for name, ids in self._own.items():
            merged[name] = {**{k: v for k, v in merged.get(name, {}).items() if k not in ids}, **ids}
        return merged


def is_digest(said: object) -> bool:
    return isinstance(said, str) and DIGEST.fullmatch(said) is not None


def _is_entry(value: object) -> bool:
    """Whether the value has the form of a build's or a push's entry."""
    if not isinstance(value, dict) or not isinstance(value.get("engines", []), list):
        return False
    return type(value.get("size_bytes")) is int or isinstance(value.get("layers"), list)
