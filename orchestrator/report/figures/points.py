"""The cells of a comparison as points: where each one stands in a figure, and how sure its value is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from orchestrator.report.labels import in_use, label, telling, told_apart
from orchestrator.report.numbers import significant
from orchestrator.sanitize import clean
from orchestrator.table.cases import (
    ENGINE,
    HOST,
    MODEL,
    PRECISION,
    PROMPT,
    SAMPLES,
    TIE_BREAKERS,
    AxisValue,
    natural,
    rank,
)
from orchestrator.table.comparison import Cell, Comparison
from orchestrator.table.naming import named
from orchestrator.table.statistics import Interval
from orchestrator.table.work import is_on_cpu
from runner.catalog import OPTIONS
from runner.schema import MAX, Status, Validity

# How an image is computed. Every other axis is the work itself, and each work is a place of its own.
HOW = ("autocast", "attention", *OPTIONS, *(name for name in TIE_BREAKERS if name != "weights"))
LONGEST_HOST, LONGEST_WORK, LONGEST_HOW = 26, 40, 34  # characters; an engine with a step cache and its number fits
VENDOR = "NVIDIA "  # of most GPUs; their models say it
LONGEST_REASON = 40


class State(str, Enum):
    """How sure a value is. Only `valid` ones rank.

    UNCHECKED: published, or from a source that does not state its validity. DOUBTFUL: throttled, contended, visibly
    another image. OOM: there is no value.
    """

    VALID = "valid"
    UNCHECKED = "unchecked"
    DOUBTFUL = "doubtful"
    OOM = "oom"

    @property
    def is_joined(self) -> bool:
        """Whether lines run through it."""
        return self in (State.VALID, State.UNCHECKED)


@dataclass(frozen=True)
class Point:
    """A cell of a comparison.

    place: the host, and what work it did if the rows' work differs. host, work: the two parts. device: as its driver
    names it. how: the engine, and what else differs in how it computes.
    is_max: whether the largest batch that fits was asked for.
    value: None for `oom`. why: what makes it doubtful, in words.
    """

    host: str
    work: str
    device: str
    is_cpu: bool
    how: str
    precision: str
    samples: int | None
    is_max: bool
    state: State
    value: float | None
    interval: Interval | None
    why: str
    cell: Cell
    order: tuple[Any, ...]

    @property
    def place(self) -> str:
        return f"{self.host} · {self.work}" if self.work else self.host

    @property
    def series(self) -> str:
        return " ".join(part for part in (self.how, self.precision) if part)

    @property
    def batch(self) -> str:
        return f"batch {self.samples}" if self.samples is not None else "batch not stated"

    @property
    def name(self) -> str:
        return f"{self.place}, {self.series}, {self.batch}" if self.series else f"{self.place}, {self.batch}"

    @property
    def high(self) -> float:
        return max(self.value or 0.0, self.interval.high if self.interval else 0.0)

    @property
    def text(self) -> str:
        """The value, and in words why it is doubtful."""
        return " ".join([number(self.value), *([self.why] if self.why else [])])


def number(value: float | None) -> str:
    return "" if value is None else significant(value)[0]


def points(comparison: Comparison) -> list[Point]:
    """Returns a point for every cell with a value, and for every cell that ran out of memory."""
    cells = [cell for cell in comparison.cells() if cell.figure is not None or cell.status is Status.OOM]
    keys = [cell.key for cell in cells]
    hosts = told_apart((key.get(HOST) for key in keys), LONGEST_HOST)
    names = _names(keys)
    of_work = {name: [key.get(name) for key in keys] for name in names if _is_work(name)}
    works = _texts(keys, telling(of_work), LONGEST_WORK)
    hows = _texts(keys, [ENGINE, *(name for name in names if name in HOW)], LONGEST_HOW)
    made = [
        Point(
            host=hosts[cell.key.get(HOST)],
            work=work,
            device=_device(cell),
            is_cpu=any(map(is_on_cpu, cell.sources)),
            how=how,
            precision=label(cell.key.get(PRECISION), LONGEST_HOST) if cell.key.get(PRECISION) is not None else "",
            samples=_samples(cell),
            is_max=cell.key.get(SAMPLES) == MAX,
            state=_state(cell),
            value=cell.value,
            interval=cell.interval,
            why=_why(cell),
            cell=cell,
            order=tuple(rank(name, cell.key.get(name)) for name in (ENGINE, PRECISION, *names)),
        )
        for cell, work, how in zip(cells, works, hows)
    ]
    return sorted(made, key=lambda point: (natural(point.place), point.order, point.samples or 0))


def _names(keys: Iterable[Mapping[str, AxisValue]]) -> list[str]:
    """Returns the axes on which the cells differ."""
    seen: dict[str, set[AxisValue]] = {}
    for key in keys:
        for name, value in key.items():
            seen.setdefault(name, set()).add(value)
    return [name for name, values in seen.items() if len(values) > 1]


def _is_work(name: str) -> bool:
    return name not in (HOST, ENGINE, PRECISION, SAMPLES, *HOW)


def _texts(keys: Sequence[Mapping[str, AxisValue]], names: Sequence[str], longest: int) -> list[str]:
    """Returns each key's values of some axes in words, shortened and still told apart."""
    used = [in_use({name: key.get(name) for name in names}) for key in keys]
    whole = [", ".join(filter(None, (_word(name, value) for name, value in each.items()))) for each in used]
    shown = told_apart(whole, longest)
    return [shown[text] for text in whole]


def _word(name: str, value: AxisValue) -> str:
    if value is None:
        return ""
    return label(value) if name in (ENGINE, MODEL) else clean(named(name if name != PROMPT else "prompt", value))


def _device(cell: Cell) -> str:
    return next((label(row.device, LONGEST_HOST) for row in cell.sources if row.device), "")


def _samples(cell: Cell) -> int | None:
    asked = cell.key.get(SAMPLES)
    return cell.samples if cell.samples is not None else asked if isinstance(asked, int) else None


def _state(cell: Cell) -> State:
    if cell.figure is None:
        return State.OOM
    if cell.validity is None or any(row.is_imported for row in cell.used):
        return State.UNCHECKED
    return State.VALID if cell.ranks else State.DOUBTFUL


def _why(cell: Cell) -> str:
    if cell.figure is None:
        return "oom"
    if cell.validity not in (None, Validity.VALID):
        return str(cell.validity.value)
    return "visibly another image" if cell.unranked and _state(cell) is State.DOUBTFUL else ""


def ordered(values: Iterable[str]) -> list[str]:
    """Returns each value once, in the order of the first one."""
    return list(dict.fromkeys(values))


def busiest(points: Sequence[Point], of: Callable[[Point], str], most: int) -> tuple[list[Point], int]:
    """Keeps the points of the groups with most points. Returns them, and how many groups are left out."""
    groups: dict[str, int] = {}
    for point in points:
        groups[of(point)] = groups.get(of(point), 0) + 1
    kept = set(sorted(groups, key=lambda group: -groups[group])[:most])
    return [point for point in points if of(point) in kept], len(groups) - len(kept)


def measured(points: Iterable[Point]) -> list[Point]:
    return [point for point in points if point.value is not None]


def segments(points: Sequence[Point]) -> Iterator[tuple[Point, int]]:
    """Numbers the parts of each line: a doubtful value or `oom` ends one. points: of one series, by batch size."""
    part = 0
    for point in points:
        if point.state.is_joined:
            yield point, part
        else:
            part += 1
            yield point, part
            part += 1


def device_beside(point: Point) -> str:
    """Returns the device without its vendor; empty where the host's name says it."""
    device = point.device.removeprefix(VENDOR)
    return "" if device.lower() in point.place.lower() else device


def with_device(point: Point) -> str:
    device = device_beside(point)
    return f"{point.place} ({device})" if device else point.place
