"""The findings of `hosts --check`, in one form for every kind of host."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Grade(Enum):
    """WARNING: jobs run, with a drawback. PROBLEM: jobs do not run."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """The result of one check. remedy: what to do, if anything."""

    topic: str
    grade: Grade
    text: str
    remedy: str = ""
