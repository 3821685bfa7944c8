"""The values of a comparison: cells with a number or why there is none, laid out in lines and columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from orchestrator.table.cases import ENGINE, HOST, AxisValue
from orchestrator.table.declaration import Price
from orchestrator.table.metric import Metric
from orchestrator.table.naming import named, shown
from orchestrator.table.statistics import Figure, Interval, Ratio
from orchestrator.table.work import Work
from runner.schema import Row, Status, Validity

OUT_OF_MEMORY = "out of memory"  # the reason if the row gives none; a report need not repeat it


@dataclass(frozen=True)
class Baseline:
    """A ratio compares a cell with the one of the same key except on these axes, where it has these values.

    values: by axis; one at least.
    """

    values: Mapping[str, AxisValue]

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(self.values)

    @property
    def name(self) -> str:
        """A host or an engine by its value alone, which says what it is: `eager, precision half`."""
        return ", ".join(
            str(value) if axis in (HOST, ENGINE) else named(axis, value) for axis, value in self.values.items()
        )

    @property
    def option(self) -> str:
        """Returns the baseline as `--baseline` takes it: `eager`, or `engine=eager,precision=half`."""
        if len(self.values) == 1 and self.axes[0] in (HOST, ENGINE):
            return self.name
        return ",".join(f"{axis}={shown(value)}" for axis, value in self.values.items())


@dataclass(frozen=True)
class Cell:
    """One case on one host: a value, or the reason why there is none.

    key: the cell's value on every axis on which the rows differ, and on those asked for; host is its whole name.
    status: None if the case was not planned for this host.
    ratio: to the baseline; if None, no_ratio holds the reason. ratio_notes: other differences between the two.
    rows: the number of pooled rows. notes: what the value is based on.
    unranked: why a valid value is never best; None if it may be.
    best, tied_best: among all cells of equal work; best_of_case, tied_best_of_case: among the hosts of its case. tied:
        no difference from the best value is shown.
    samples: images in one call; they may differ between hosts where `max` was asked for.
    pays_off_after: images after which a load and first call slower than the baseline's pay off; None if that is
        unknown, or never happens.
    sources: all rows of this case on this host. used: the rows that the value comes from.
    """

    key: Mapping[str, AxisValue] = field(default_factory=dict)
    status: Status | None = None
    reason: str | None = None
    figure: Figure | None = None
    validity: Validity | None = None
    ratio: Ratio | None = None
    no_ratio: str | None = None
    ratio_notes: tuple[str, ...] = ()
    is_baseline: bool = False
    unranked: str | None = None
    best_of_case: bool = False
    best: bool = False
    tied_best_of_case: bool = False
    tied_best: bool = False
    rows: int = 0
    notes: tuple[str, ...] = ()
    pays_off_after: int | None = None
    samples: int | None = None
    work: Work | None = None
    sources: tuple[Row, ...] = field(default=(), repr=False)
    used: tuple[Row, ...] = field(default=(), repr=False)

    @property
    def value(self) -> float | None:
        return self.figure.value if self.figure else None

    @property
    def interval(self) -> Interval | None:
        return self.figure.interval if self.figure else None

    @property
    def ranks(self) -> bool:
        return self.figure is not None and self.validity is Validity.VALID and self.unranked is None


@dataclass(frozen=True)
class Column:
    """labels: the value of each axis that lies across. name: these in words; no other column has the same."""

    name: str
    labels: Mapping[str, AxisValue]


@dataclass(frozen=True)
class Line:
    """labels: in the order of the comparison's axes. cells: in the order of its columns."""

    labels: tuple[AxisValue, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Comparison:
    """axes: those that lie down, in the order of a line's labels. across: those that lie across.

    caption: what all rows share, by axis. devices: the devices that each host's rows state. runs: the compared runs.
    prices: what each host's cost was computed with. where: the values that rows had to have to be compared.
    left_out: the number of lines that a limit left out, after all was compared. tested: the number of ratios that were
    tested together, on those lines too.
    """

    metric: Metric
    baseline: Baseline | None
    axes: tuple[str, ...]
    across: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    caption: Mapping[str, AxisValue]
    devices: Mapping[str, tuple[str, ...]]
    runs: tuple[str, ...]
    prices: Mapping[str, Price] = field(default_factory=dict)
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: int = 0
    tested: int = 0

    def cells(self) -> Iterator[Cell]:
        """Yields every cell, line by line, with and without a value."""
        for line in self.lines:
            yield from line.cells
