"""Locks on DeepSpeed's operators that end with the process that holds them.

While PyTorch builds an operator, a file `lock` lies beside it (torch/utils/file_baton.py). Others wait without a limit
until it is gone, even if its process was killed. In a folder that outlives the job, one kill would block all later
jobs. Removing the file is no way out: a job in another container may still be building. PyTorch has such locks itself
since 2.14.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Any

from torch.utils import cpp_extension

PYTORCHS: Any = getattr(cpp_extension, "FileBaton", None)  # not in 2.14
# Of a file system without such locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class SystemLock:
    """In place of PyTorch's FileBaton: the operating system holds the lock, on a file of its own, which stays.

    Every process waits for its turn and then builds. Where the operator is there already, ninja has nothing to do;
    where the last process was killed, it builds what is missing. (A compiler that outlives its process may still
    write.) On a file system without such locks, PyTorch's is used.
    """

    def __init__(self, lock_file_path: str, *more: Any, **named: Any) -> None:
        self._file = f"{lock_file_path}.flock"
        self._pytorchs = PYTORCHS(lock_file_path, *more, **named)
        self._held: int | None = None

    def try_acquire(self) -> bool:
        """Waits for the lock. Raises OSError if the folder cannot be written to."""
        held = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
        except OSError as error:
            os.close(held)
            if error.errno not in NO_LOCKS:
                raise
            return bool(self._pytorchs.try_acquire())
        self._held = held
        return True

    def wait(self) -> None:
        self._pytorchs.wait()

    def release(self) -> None:
        if self._held is None:
            self._pytorchs.release()
            return
        fcntl.flock(self._held, fcntl.LOCK_UN)  # a forked child may have the file open too
        os.close(self._held)
        self._held = None


def use_system_locks() -> None:
    """Replaces PyTorch's lock in this process, if it is the one that a kill leaves behind."""
    if PYTORCHS is not None:
        cpp_extension.FileBaton = SystemLock  # type: ignore[attr-defined,assignment]
