"""Peak resident memory of this process, in decimal GB."""

from __future__ import annotations

import contextlib
import ctypes
import re
import resource
import sys
from pathlib import Path

CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


def reset_host_peak() -> None:
    """Returns freed memory to the kernel and resets the peak (Linux).

    Elsewhere, and where /proc is read-only, the peak remains that of the whole process.
    Source: Linux, Documentation/filesystems/proc.rst: 5 written to clear_refs resets VmHWM to the present size.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        CLEAR_REFS.write_text("5")


def host_peak_gb() -> float:
    """Peak since the last reset. Without /proc: getrusage(2), in kB on Linux and in bytes on macOS."""
    with contextlib.suppress(OSError):
        match = re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
        if match:
            return int(match[1]) * 1024 / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9
