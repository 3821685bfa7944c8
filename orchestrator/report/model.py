"""The values that a report shows. They hold no markup, and every text of a host was sanitised before.

`page` renders a `Report` as HTML. A number that is shown and sorted comes twice: as a number and as formatted text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from orchestrator.table.cases import AxisValue, Key


class About(str, Enum):
    """What a sentence of the answer is about, in the order in which they are shown."""

    FASTEST = "fastest"
    CHEAPEST = "cheapest"
    FRUGAL = "most frugal"
    NOT_FITTING = "does not fit"
    NOT_COMPARED = "not compared"
    CAVEAT = "caveat"


@dataclass(frozen=True)
class Sentence:
    about: About
    text: str


@dataclass(frozen=True)
class SourceFile:
    """A file to copy in order to reproduce a run. name: such as matrix.yaml."""

    name: str
    text: str


@dataclass(frozen=True)
class RunInfo:
    """A run of the report. imported and stored runs have neither times, command nor files.

    state: as `orchestrator runs` shows it, such as "done". start, end: ISO 8601 in UTC. took: in words.
    counts: cases by status; `open` ones have no row yet. command: reproduces the run with `files` in the folder.
    images: the container images of its rows, with their digests. versions: orchestrator and libraries, in words.
    """

    name: str
    state: str = ""
    start: str | None = None
    end: str | None = None
    took: str | None = None
    hosts: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    command: str | None = None
    files: tuple[SourceFile, ...] = ()
    images: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()


class Mark(str, Enum):
    """Whether a value is the best of its rivals. TIED: the best value, or no shown difference to it."""

    NONE = ""
    BEST = "best"
    TIED = "tied"


@dataclass(frozen=True)
class RatioTo:
    """value: over the baseline's. text: with its interval. shows_difference: None if nothing can be said."""

    value: float | None
    text: str
    shows_difference: bool | None = None
    is_better: bool | None = None


@dataclass(frozen=True)
class Value:
    """One metric of one case.

    number: None without a value; then `text` is the status and `reason` says why. low, high: the 95% interval.
    validity: empty if the source states none; only `valid` values rank.
    mark: among all cases of equal work. line_mark: among those on one line of `Table.columns`.
    ratios: by the name of a baseline in `Table.baselines`.
    """

    number: float | None
    text: str
    status: str
    low: float | None = None
    high: float | None = None
    validity: str = ""
    reason: str = ""
    notes: tuple[str, ...] = ()
    mark: Mark = Mark.NONE
    line_mark: Mark = Mark.NONE
    ratios: Mapping[str, RatioTo] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricValues:
    """A metric for all cases. values: in the order of `Table.cases`. prices: where the cost's prices come from.

    less_is_better: None if neither less nor more is better. remark: what the values compare with and why they have no
    ratio, if they have none. spans: the axes that one value is of all values of; cases that differ there alone have the
    same value.
    """

    name: str
    unit: str
    less_is_better: bool | None
    values: tuple[Value, ...]
    legend: tuple[str, ...] = ()
    prices: tuple[str, ...] = ()
    remark: str = ""
    spans: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """All cases under all metrics: what a reader sorts, filters and turns.

    axes: what identifies a case, `host` included. cases: their values, in the order of `axes`, in the table's default
    order. columns: the axes that stand across by default. metrics: the first is shown first; one that no case has is
    left out. baselines: by names such as `engine eager` and `host h100`, what `--baseline` takes; the first is the
    default. caption: what all cases share. hosts: each host's device in words.
    """

    axes: tuple[str, ...] = ()
    cases: tuple[Key, ...] = ()
    columns: tuple[str, ...] = ("host",)
    metrics: tuple[MetricValues, ...] = ()
    baselines: Mapping[str, str] = field(default_factory=dict)
    caption: Mapping[str, AxisValue] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A drawn figure. svg: for a light page. svg_dark: for a dark one. alt: what it shows, in words."""

    name: str
    title: str
    alt: str
    svg: str
    svg_dark: str = ""


@dataclass(frozen=True)
class Strip:
    """The reference image and a job's own image of the same case, side by side, as one PNG.

    quality: name and text of each figure, such as ("PSNR", "59.8 dB").
    """

    caption: str
    alt: str
    png: bytes
    width: int
    height: int
    quality: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Fact:
    """One fact of every host. values: in the order of `Environment.hosts`; None where a host does not state it."""

    name: str
    values: tuple[str | None, ...]
    differs: bool = False


@dataclass(frozen=True)
class Environment:
    """facts: those that differ between hosts come first."""

    hosts: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A case without a measurement. error: whole. log: the last lines of its job's log. log_path: where all of it is.

    is_fault: False for an outcome that is no fault, such as `oom`.
    """

    run: str
    host: str
    case: str
    status: str
    error: str
    is_fault: bool = True
    job: str = ""
    log: tuple[str, ...] = ()
    log_path: str | None = None


@dataclass(frozen=True)
class HostProgress:
    """cases: by state, such as {"ok": 3, "running": 1, "waiting": 4}."""

    host: str
    cases: Mapping[str, int]


@dataclass(frozen=True)
class RunningJob:
    """A job at work. since: ISO 8601. line: the last line of its log; empty if it is not known."""

    job: str
    host: str
    what: str
    phase: str
    since: str
    line: str = ""


@dataclass(frozen=True)
class Live:
    """The progress of a run that `report --watch` serves. left: the time that it may still take, in words."""

    is_open: bool
    done: int
    total: int
    elapsed: str = ""
    left: str = ""
    hosts: tuple[HostProgress, ...] = ()
    jobs: tuple[RunningJob, ...] = ()
    notice: str = ""


@dataclass(frozen=True)
class Report:
    """Everything that report.html shows.

    version: of the orchestrator that wrote the report. generated: ISO 8601 in UTC.
    notes: what the report leaves out and why, such as "not drawn: no price".
    live: set while `report --watch` serves the page; None in a file.
    """

    title: str
    version: str
    generated: str
    runs: tuple[RunInfo, ...] = ()
    answer: tuple[Sentence, ...] = ()
    table: Table = Table()
    pictures: tuple[Picture, ...] = ()
    strips: tuple[Strip, ...] = ()
    environment: Environment = Environment()
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    live: Live | None = None
