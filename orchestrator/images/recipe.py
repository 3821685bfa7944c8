"""The inputs of an image as values: its files, its tag, its build context. Needs no engine."""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO

import runner
from orchestrator import installation
from orchestrator.errors import InputError
from orchestrator.installation import CPU_INDEX
from runner.catalog import FLAVOURS as FLAVOURS
from runner.schema import stable_hash

REPOSITORY = "sd-orchestrator"
# The flavour for every engine on a host with its own base: that base, with the runner added.
CUSTOM_BASE = "given"
# The levels of pins.txt that each flavour installs.
PINS = {
    "cpu": ("torch-cpu", "cpu"),
    "cuda": ("torch", "torch-cpu", "cuda"),
    "deepspeed": ("torch", "torch-cpu", "deepspeed", "deepspeed-sources", "mii"),
    CUSTOM_BASE: (),
}
SHARED = ("strip.sh",)
# Set to 1 to accept an engine's own image of a base's tag with any digest: `docker load` does not restore digests.
LOCAL_BASES = "ORCHESTRATOR_LOCAL_BASES"
WHEELS = (".whl", ".tar.gz")


@cache
def recipe(flavour: str) -> Mapping[str, bytes]:
    """Returns an image's inputs without its base and packages: context path → content, in a fixed order.

    Raises InputError if there is no such flavour.
    """
    if flavour not in (*FLAVOURS, CUSTOM_BASE):
        raise InputError(f"there is no image {flavour!r}; there are {', '.join(FLAVOURS)}")
    from orchestrator.images import pins  # here, else `python -m orchestrator.images.pins` would run it twice

    folder = installation.folder("images")
    files = {
        "Dockerfile": (folder / flavour / "Dockerfile").read_bytes(),
        **{f"images/{level}.txt": pins.select(_pins(), level).encode() for level in PINS[flavour]},
        **{f"images/{name}": (folder / name).read_bytes() for name in SHARED if flavour != CUSTOM_BASE},
        **{f"runner/{path}": content for path, content in _sources(Path(runner.__path__[0]))},
    }
    return dict(sorted(files.items()))


@cache
def _pins() -> str:
    from orchestrator.images import pins

    return pins.file().read_text(encoding="utf-8")


def digest(flavour: str, base: str | None = None) -> str:
    """Returns the SHA-256 of an image's inputs. Packages enter by their pins, wherever they are fetched from."""
    files = {path: hashlib.sha256(content).hexdigest() for path, content in recipe(flavour).items()}
    return stable_hash([files, base or default_base(flavour)], length=64)


def reference(flavour: str, base: str | None = None) -> str:
    """Returns `sd-orchestrator/cpu:0123456789ab`: the same name for the same inputs, with any folder of wheels."""
    return f"{REPOSITORY}/{flavour}:{digest(flavour, base)[:12]}"


def default_base(flavour: str) -> str:
    """Returns the Dockerfile's default base: `image:tag@sha256:…`."""
    match = re.search(rb"^ARG BASE=(\S+)", recipe(flavour)["Dockerfile"], re.MULTILINE)
    if match is None:
        raise InputError(f"images/{flavour}/Dockerfile has no line `ARG BASE=image:tag@digest`")
    return match[1].decode()


@contextmanager
def context(flavour: str, wheels: Path | None = None) -> Iterator[IO[bytes]]:
    """Yields the build context as an open, reproducible tar file; on disk, because wheels may be gigabytes."""
    packages = list(_packages(flavour, wheels)) if wheels else []
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path, content in recipe(flavour).items():
                with tempfile.SpooledTemporaryFile(max_size=2**20) as spooled:
                    spooled.write(content)
                    _add(tar, path, len(content), spooled)
            # Exists without packages too: a classic COPY has no "if it exists".
            tar.addfile(_entry("wheels", tarfile.DIRTYPE, 0o755))
            for package in packages:
                with package.open("rb") as opened:
                    _add(tar, f"wheels/{package.name}", package.stat().st_size, opened)
        file.seek(0)
        yield file


def _add(tar: tarfile.TarFile, path: str, size: int, content: IO[bytes]) -> None:
    content.seek(0)
    entry = _entry(path, tarfile.REGTYPE, 0o644)
    entry.size = size
    tar.addfile(entry, content)


def _entry(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    """Makes an entry that does not depend on this machine's clock, user or umask."""
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode = kind, mode
    return entry


def filling(flavour: str, folder: Path) -> str:
    """Returns the command that downloads every package of an image into a folder."""
    there, listed = shlex.quote(str(folder)), shlex.quote(f"{folder}.txt")
    levels = [level for level in PINS[flavour] if flavour == "cpu" or level != "torch-cpu"]
    chosen = f"{shlex.quote(sys.executable)} -m orchestrator.images.pins {' '.join(levels)} > {listed}"
    options = f"--no-deps --require-hashes -r {listed}"
    if "deepspeed-sources" in levels:  # no index has wheels of them
        return f"{chosen} && DS_BUILD_OPS=0 pip wheel {options} -w {there}"
    index = f" --extra-index-url {CPU_INDEX}" if flavour == "cpu" else ""
    return f"{chosen} && pip download {options} -d {there}{index}"


def _packages(flavour: str, folder: Path) -> Iterable[Path]:
    """Lists the wheels in a folder. Raises InputError if there are none, because pip would then ask an index."""
    found = sorted(f for f in folder.iterdir() if f.name.endswith(WHEELS)) if folder.is_dir() else []
    if not found:
        raise InputError(f"{folder}: no wheels there; with the base's Python, run: {filling(flavour, folder)}")
    return found


def _sources(package: Path) -> Iterator[tuple[str, bytes]]:
    """Yields the installed runner's files, without Python's caches."""
    for file in package.rglob("*"):
        if file.is_file() and file.suffix != ".pyc" and not file.name.startswith("."):
            yield file.relative_to(package).as_posix(), file.read_bytes()
