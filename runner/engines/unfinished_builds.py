"""Removes libraries that a killed job left unfinished in the cache of compiled code: PyTorch would load them.

The C++ compiler writes a library straight to its place. If the job is killed meanwhile, for its timeout or for its
memory, a part of the library stays there, and every later job that needs it fails with "file too short".
"""

from __future__ import annotations

import shutil
from pathlib import Path

from filelock import FileLock, Timeout

# A folder beside the library until that is done: NAME_CxxBuild beside NAME.so (PyTorch 2.13, cpp_builder.py).
BUILDING = "_CxxBuild"
SOURCES = (".cpp", ".h")


def remove(cache: Path) -> list[Path]:
    """Removes the unfinished libraries from PyTorch's cache folder; returns them.

    A library that another job is building stays: that job holds the lock that PyTorch takes for it (codecache.py).
    """
    removed = []
    for building in cache.glob(f"*/*{BUILDING}"):
        name = building.name.removesuffix(BUILDING)
        lock = cache / "locks" / f"{name.partition('.')[0]}.lock"
        try:
            lock.parent.mkdir(exist_ok=True)
            with FileLock(lock, timeout=0):
                if not building.exists():
                    continue  # that job finished it meanwhile
                found = [each for each in building.parent.iterdir() if each.name.startswith(f"{name}.")]
                unfinished = [each for each in found if each.suffix not in SOURCES]
                for each in unfinished:
                    each.unlink()
                shutil.rmtree(building)
                removed += unfinished
        except (Timeout, OSError, NotImplementedError):  # the last two: on a file system without locks, or read-only
            continue
    return removed
