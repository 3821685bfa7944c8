"""Locks on DeepSpeed's operators that end with the process that holds them.

While PyTorch builds an operator, a file `lock` lies beside it (torch/utils/file_baton.py). Others wait until it is
gone, without a limit, also if its process was killed. In a folder that outlives the job, one kill would block all
later jobs, and whoever removes the file cannot know whether a job in another container still builds. PyTorch has such
locks itself since 2.14.
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


class KernelLock(PYTORCHS or object):  # type: ignore[misc]
    """Has the kernel hold the lock, on a file of its own beside PyTorch's. That file stays.

    Every process waits for its turn and then builds. Where the operator is there already, ninja has nothing to do;
    where the last process was killed, it builds what is missing. (A compiler that outlives its process may still
    write.) On a file system without such locks, PyTorch's is used.
    """

    held: int | None = None

    def try_acquire(self) -> bool:
        """Waits for the lock. Raises OSError if the folder cannot be written to."""
        held = os.open(f"{self.lock_file_path}.kernel", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
        except OSError as error:
            os.close(held)
            if error.errno not in NO_LOCKS:
                raise
            return bool(super().try_acquire())
        self.held = held
        return True

    def release(self) -> None:
        if self.held is None:
            super().release()
            return
        fcntl.flock(self.held, fcntl.LOCK_UN)  # a forked child may have the file open too
        os.close(self.held)
        self.held = None


def hold_in_the_kernel() -> None:
    """Replaces PyTorch's lock in this process, if it is the one that a kill leaves behind."""
    if PYTORCHS is not None:
        cpp_extension.FileBaton = KernelLock  # type: ignore[attr-defined]
