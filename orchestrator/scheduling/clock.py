"""The time by which a run is driven: the wall clock's, of which no step back or forward is followed."""

from __future__ import annotations

import time
from collections.abc import Callable


def steady(
    not_before: float = 0.0, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
) -> Callable[[], float]:
    """Seconds since the epoch as they were when this process asked first, and from there on as they pass.

    not_before: the last moment that is written down, so that time goes on after it where the clock was set back since.
    A job's age, a backoff and a host's silence are then never negative, nor a day long because the clock was corrected.
    """
    began, origin = monotonic(), max(wall(), not_before)
    return lambda: origin + (monotonic() - began)
