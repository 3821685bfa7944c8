"""What `hosts --check` found, in the same words for every kind of host."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Grade(Enum):
    """WARNING: jobs run, but. PROBLEM: they do not."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. remedy: what to do about it, where there is something to do."""

    topic: str
    grade: Grade
    text: str
    remedy: str = ""
