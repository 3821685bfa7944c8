"""Lets DeepSpeed's operators be built although a job that was killed has left its lock.

While PyTorch builds an operator, a file `lock` lies beside it. Others wait for its end, without a limit, also if the
builder is gone (torch/utils/file_baton.py). In a folder that outlives the job, one kill would block all later jobs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

IN_USE = "in-use"


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Wraps whatever may build operators. Removes locks that are there while no other process is within it.

    The kernel ends a process's own lock on the folder with the process. A file system without such locks is left as it
    is.
    """
    named = os.environ.get("TORCH_EXTENSIONS_DIR")
    if not named:
        yield
        return
    folder = Path(named)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / IN_USE).open("ab") as held:
        with contextlib.suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in folder.rglob("lock"):
                left.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_SH)
        yield
