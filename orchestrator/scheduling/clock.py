"""The clock of a run: a wall clock that ignores later adjustments."""

from __future__ import annotations

import time
from collections.abc import Callable


def steady(
    not_before: float = 0.0, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
) -> Callable[[], float]:
    """Returns a clock that reads the wall clock once and from there on counts the seconds that pass.

    not_before: time of the last recorded event; the clock continues after it even if the wall clock was set back since.
    So a job's age, a backoff and a host's silence are never negative, and an adjustment makes none of them a day long.
    """
    began, origin = monotonic(), max(wall(), not_before)
    return lambda: origin + (monotonic() - began)
