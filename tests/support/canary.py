"""A token that nobody else has, and where it is found again: files, processes, streams of an engine."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Canary:
    """text: the token. It is looked for as it is, and as base64, wherever in a longer text that begins."""

    text: str = field(default_factory=lambda: f"hf_{secrets.token_hex(20)}")

    @property
    def forms(self) -> tuple[bytes, ...]:
        shifted = (base64.b64encode(b"x" * shift + self.text.encode())[4:-4] for shift in range(3))
        return (self.text.encode(), *shifted)

    def is_in(self, data: bytes) -> bool:
        return any(form in data for form in self.forms)

    def is_in_stream(self, chunks: Iterable[bytes]) -> bool:
        end = b""
        for chunk in chunks:
            if self.is_in(end + chunk):
                return True
            end = (end + chunk)[-200:]
        return False

    def files(self, *roots: Path) -> list[Path]:
        """Regular files in folders, or in what they hold, that have it in them or in their name."""
        found = []
        # what vanishes while it is walked is passed over
        walked = (step for root in roots for step in os.walk(root))
        for path in (Path(folder, name) for folder, folders, files in walked for name in (*folders, *files)):
            if self.is_in(os.fsencode(path)):
                found.append(path)
            with contextlib.suppress(OSError):  # gone, or a socket
                if path.is_file() and not path.is_symlink() and self.is_in_stream(_parts(path)):
                    found.append(path)
        return found


def _parts(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            yield part


def seen_in_processes(canary: Canary, exempt: Callable[[int], bool]) -> set[str]:
    """Where it stands now in an argument or the environment of any process of this machine."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or exempt(int(entry.name)):
            continue
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                data = (entry / name).read_bytes()
                if canary.is_in(data):
                    found.add(f"{name} of {(entry / 'cmdline').read_bytes()[:200]!r}")
    return found


@contextlib.contextmanager
def watched(look: Callable[[], Iterable[str]], every_s: float = 0.05) -> Iterator[set[str]]:
    """Looks again and again in the background; gives all that was found."""
    found: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(every_s):
            found.update(look())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
