"""How much memory something takes at its peak: the kernel's own count of this process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def resident_mb(pid: int | str = "self", name: str = "VmHWM") -> float:
    """The largest resident set so far, or with VmRSS the present one."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1000 if found else 0.0


@contextmanager
def grows_by_less_than(megabytes: float) -> Iterator[None]:
    """Fails where what is done inside takes more at any moment; asserts nothing where the system is not Linux."""
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        yield
        return
    reset.write_text("5")
    before = resident_mb()
    yield
    grown = resident_mb() - before
    assert grown < megabytes, f"took {grown:.0f} MB"
