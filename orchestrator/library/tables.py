"""A comparison as a value: shown by a notebook or a terminal, and written in each format."""

from __future__ import annotations

import difflib
import io
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from orchestrator.errors import InputError
from orchestrator.frames import Library
from orchestrator.runs.folder import Run
from orchestrator.table.changes import Changes as ComparedRuns
from orchestrator.table.comparison import Comparison
from orchestrator.table.declaration import Price
from orchestrator.table.metric import Metric
from orchestrator.table.naming import shown
from runner.schema import Row

if TYPE_CHECKING:
    from os import PathLike

    import pandas
    import polars
    from rich.console import Console

Prices: TypeAlias = "Mapping[str, float] | str | PathLike[str] | None"
Names: TypeAlias = "str | Sequence[str]"
NARROWEST = 80  # columns of a terminal of unknown width


@dataclass(frozen=True, repr=False)
class Table:
    """One metric of all cases, side by side. comparison: its lines, columns and cells as values."""

    comparison: Comparison

    @overload
    def to_frame(self, frame: Literal["polars"]) -> polars.DataFrame: ...
    @overload
    def to_frame(self, frame: Literal["pandas"]) -> pandas.DataFrame: ...
    @overload
    def to_frame(self, frame: None = None) -> Any: ...
    def to_frame(self, frame: Library | None = None) -> Any:
        """Returns one record per cell, as in `results -o parquet`. frame: as for `load`."""
        from orchestrator.report.records import to_frame

        return to_frame(self.comparison, frame)

    def to_csv(self) -> str:
        from orchestrator.report.text import to_csv

        return to_csv(self.comparison)

    def to_markdown(self) -> str:
        from orchestrator.report.text import to_markdown

        return to_markdown(self.comparison)

    def to_json(self) -> str:
        from orchestrator.report.document import to_json

        return to_json(self.comparison)

    def to_html(self) -> str:
        """Returns a whole page."""
        from orchestrator.report.web import to_html

        return to_html(self.comparison)

    def to_parquet(self) -> bytes:
        """Returns the content of a Parquet file."""
        from orchestrator.report.records import parquet

        return parquet(self.comparison)

    def _repr_html_(self) -> str:
        from orchestrator.report.web import fragment

        return fragment(self.comparison)

    def __repr__(self) -> str:
        from orchestrator.report.terminal import terminal

        return printed(lambda console: terminal(self.comparison, console))


@dataclass(frozen=True, repr=False)
class Changes:
    """What got worse or better between two runs. changes: its cases, environments and verdicts as values."""

    changes: ComparedRuns

    @property
    def summary(self) -> str:
        """The answer in one line, such as `2 slower, 11 no difference shown`."""
        from orchestrator.report.changes_text import summary

        return summary(self.changes)

    @property
    def has_regression(self) -> bool:
        """Whether a case is shown to be worse, or no longer runs: exit code 1 of the command."""
        return self.changes.has_regression

    @property
    def verdicts(self) -> dict[str, int]:
        """How many cases have each verdict, by its name in `to_frame()` and in JSON."""
        return {verdict.value: count for verdict, count in self.changes.counts.items()}

    @overload
    def to_frame(self, frame: Literal["polars"]) -> polars.DataFrame: ...
    @overload
    def to_frame(self, frame: Literal["pandas"]) -> pandas.DataFrame: ...
    @overload
    def to_frame(self, frame: None = None) -> Any: ...
    def to_frame(self, frame: Library | None = None) -> Any:
        """Returns one record per case. frame: as for `load`."""
        from orchestrator.report.changes_records import to_frame

        return to_frame(self.changes, frame)

    def to_markdown(self) -> str:
        """Returns a comment for a pull request."""
        from orchestrator.report.changes_markdown import to_markdown

        return to_markdown(self.changes)

    def to_json(self) -> str:
        from orchestrator.report.changes_document import to_json

        return to_json(self.changes)

    def _repr_html_(self) -> str:
        from orchestrator.report.changes_web import fragment

        return fragment(self.changes)

    def __repr__(self) -> str:
        from orchestrator.report.changes_terminal import terminal

        return printed(lambda console: terminal(self.changes, console))


def printed(write: Callable[[Console], None]) -> str:
    """Returns what is written to a console as wide as the terminal, without colours."""
    from rich.console import Console

    file = io.StringIO()
    width = shutil.get_terminal_size((NARROWEST, 24)).columns
    write(Console(file=file, width=width, color_system=None, force_jupyter=False))  # else it shows, not writes
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def metric_of(name: str) -> Metric:
    """Returns the metric of this name. Raises InputError with the nearest name, or all."""
    by_name = {each.value: each for each in Metric}
    if name not in by_name:
        close = difflib.get_close_matches(name, by_name, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(by_name)}"
        raise InputError(f"metric {name[:40]!r} is unknown; {hint}")
    return by_name[name]


def names_of(given: Names) -> tuple[str, ...]:
    """Returns names that are given as a list, or in one text: `engine,samples`."""
    parts = given.split(",") if isinstance(given, str) else given
    return tuple(name for part in parts if (name := part.strip()))


def conditions(where: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Returns the values that each axis may have, as words: of one value, or of several."""

    def several(value: Any) -> Iterable[Any]:
        return value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)

    return {axis: tuple(shown(each) for each in several(value)) for axis, value in where.items()}


def prices_of(
    metric: Metric, rows: Sequence[Row], runs: Sequence[Run], prices: Prices
) -> Mapping[tuple[str | None, str | None], Price]:
    """Returns the price of each run and host: as given, else of the run's own hosts.yaml. Raises InputError.

    prices: a file as for `--prices`, or prices per hour by host, or by host@run.
    """
    if not metric.declared.needs_price:
        if prices:
            priced = " or ".join(repr(each.value) for each in Metric if each.declared.needs_price)
            raise InputError(f"prices do not change the {metric.value}; fix: metric={priced}")
        return {}
    from orchestrator.planning.prices import check_names, of_rows

    if not isinstance(prices, Mapping):
        return of_rows(rows, runs, None, Path(prices) if prices else None)
    for host, price in prices.items():
        if isinstance(price, bool) or not isinstance(price, (int, float)) or not 0 <= price < float("inf"):
            raise InputError(f"the price of {host!r} is {price!r}; expected a number of at least 0")
    if prices:
        check_names("prices", prices, {(row.run, row.host) for row in rows if row.host})
    found = of_rows(rows, runs, None, None)
    for row in rows:
        for name in (f"{row.host}", f"{row.host}@{row.run}"):
            if name in prices:
                found[row.run, row.host] = Price(prices[name], "the argument prices")
    return found
