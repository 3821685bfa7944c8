"""The values that figures are made of, and a figure itself. Nothing here imports a charting library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class NothingToDraw(Exception):
    """The rows lack what a figure shows; the message says what, such as "no price"."""


@dataclass(frozen=True)
class Figure:
    """A chart as a Vega-Lite specification without colours, which `render` adds for a light or a dark page.

    name: of its files. alt: what it shows, in words with its extremes and units.
    """

    name: str
    title: str
    alt: str
    chart: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class NotDrawn:
    """A figure that is left out. reason: such as "no price: set price_per_hour in hosts.yaml, or give --prices"."""

    name: str
    title: str
    reason: str


@dataclass(frozen=True)
class Figures:
    drawn: tuple[Figure, ...] = ()
    left_out: tuple[NotDrawn, ...] = ()


class Phase(str, Enum):
    """What a slot of a host was busy with."""

    STAGING = "staging"
    QUEUED = "queued"
    RUNNING = "running"


@dataclass(frozen=True)
class Span:
    """A phase of one job on one slot of a host. start, end: seconds since the epoch. job: in words, `graph half`."""

    run: str
    host: str
    slot: str
    phase: Phase
    start: float
    end: float
    job: str = ""


@dataclass(frozen=True)
class StepQuality:
    """The difference of two precisions' images after so many steps, in dB. source: the file's folder."""

    source: str
    steps: int
    psnr: float
    remark: str = ""
