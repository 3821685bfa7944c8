"""Locks on DeepSpeed's operators that end with the process that holds them.

While PyTorch builds an operator, a file `lock` lies beside it (torch/utils/file_baton.py). Others wait until it is
gone, without a limit, also if its process was killed. In a folder that outlives the job, one kill would block all
later jobs, and whoever removes the file cannot know whether a job in another container still builds.
"""

from __future__ import annotations

import fcntl
import os

from torch.utils import cpp_extension
from torch.utils.file_baton import FileBaton


class KernelLock(FileBaton):
    """Has the kernel hold the lock, on a file of its own beside PyTorch's. That file stays.

    Every process waits for its turn and then builds. Where the operator is there already, ninja has nothing to do;
    where the last process was killed, it builds what is missing. On a file system without such locks, PyTorch's is
    used.
    """

    held: int | None = None

    def try_acquire(self) -> bool:
        """Waits for the lock. Raises OSError if the folder cannot be written to."""
        self.held = os.open(f"{self.lock_file_path}.kernel", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self.held, fcntl.LOCK_EX)
        except OSError:
            self._close()
            return bool(super().try_acquire())
        return True

    def release(self) -> None:
        if self.held is None:
            super().release()
        else:
            self._close()

    def _close(self) -> None:
        if self.held is not None:
            os.close(self.held)
        self.held = None


def hold_in_the_kernel() -> None:
    """Replaces PyTorch's lock in this process."""
    cpp_extension.FileBaton = KernelLock  # type: ignore[attr-defined]
