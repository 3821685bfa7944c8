"""Data frames of typed columns: polars or pandas, whichever is installed. Imports neither until a frame is made."""

from __future__ import annotations

import importlib.util
import math
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from orchestrator import installation
from orchestrator.errors import InputError

if TYPE_CHECKING:
    import pandas
    import polars

Frame: TypeAlias = "polars.DataFrame | pandas.DataFrame"
Library: TypeAlias = Literal["polars", "pandas"]
LIBRARIES: tuple[Library, ...] = typing.get_args(Library)  # the first that is installed makes a frame
LARGEST_INTEGER = 2**63 - 1


@dataclass(frozen=True)
class Column:
    """kind: str, int, float, bool, an Enum of texts, or a tuple of str or float."""

    name: str
    kind: Any
    unit: str = ""
    meaning: str = ""

    @property
    def type_name(self) -> str:
        """The type's name in the docs."""
        if item := self.item:
            return f"list of {'texts' if item is str else 'numbers'}"
        words = {str: "text", int: "whole number", float: "number", bool: "truth"}
        return words.get(self.kind, "word")

    @property
    def item(self) -> Any:
        """The type of a tuple's items; None for any other kind."""
        return typing.get_args(self.kind)[0] if typing.get_origin(self.kind) is tuple else None

    @property
    def words(self) -> list[str] | None:
        """The values of an Enum; None for any other kind."""
        is_enum = isinstance(self.kind, type) and issubclass(self.kind, Enum)
        return [str(each.value) for each in self.kind] if is_enum else None


class MissingLibrary(InputError, ImportError):
    """Install a package: neither of those that could do what is asked is installed."""


def chosen(library: Library | None) -> Library:
    """Returns the library that makes a frame: the one asked for, or else the first that is installed.

    Raises InputError if it is unknown, and MissingLibrary if it is not installed.
    """
    if library is not None and library not in LIBRARIES:
        raise InputError(f"frame={library!r}: expected {' or '.join(map(repr, LIBRARIES))}")
    for each in (library,) if library else LIBRARIES:
        if importlib.util.find_spec(each) is not None:
            return each
    if library == "pandas":
        raise MissingLibrary(f"pandas is not installed; fix: {sys.executable} -m pip install pandas")
    what = f"{library} is not" if library else "neither polars nor pandas is"
    raise MissingLibrary(f"{what} installed; fix: {installation.command('report', ['polars'])}")


def frame(columns: Sequence[Column], values: Mapping[str, Sequence[Any]], library: Library | None = None) -> Any:
    """Makes a frame of values by column. None is missing. Raises InputError, also for an integer of over 64 bits."""
    made = {column.name: [_plain(column, value) for value in values[column.name]] for column in columns}
    if chosen(library) == "polars":
        import polars

        return polars.DataFrame(made, schema={column.name: _polars_type(column) for column in columns})
    import pandas

    return pandas.DataFrame({column.name: _pandas_array(column, made[column.name]) for column in columns})


def _plain(column: Column, value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise InputError(f"column {column.name}: a frame's integers have 64 bits; {str(value)[:40]} has more")
    return list(value) if isinstance(value, tuple) else value


def _polars_type(column: Column) -> Any:
    import polars

    plain = {str: polars.String, int: polars.Int64, float: polars.Float64, bool: polars.Boolean}
    if column.item:
        return polars.List(plain[column.item])
    return polars.Enum(column.words) if column.words else plain[column.kind]


def _pandas_array(column: Column, values: list[Any]) -> Any:
    import pandas

    if column.words:
        return pandas.Categorical(values, categories=column.words)
    if column.item:
        return pandas.Series(values, dtype=object)
    return pandas.array(values, dtype={str: "string", int: "Int64", float: "Float64", bool: "boolean"}[column.kind])


def is_frame(value: object) -> bool:
    """Whether a value is a frame of polars or pandas. Imports neither."""
    frames = (getattr(sys.modules.get(library), "DataFrame", None) for library in LIBRARIES)
    return any(kind is not None and isinstance(value, kind) for kind in frames)


def records(frame: Frame, columns: Sequence[Column]) -> Iterator[dict[str, Any]]:
    """Yields a frame's rows as values of the columns' kinds; a column that the frame lacks is None.

    Raises InputError that names the row, from 0, and the column of a value that is not of its kind.
    """
    present = [column for column in columns if column.name in frame.columns]
    values = [_values(frame, column) for column in present]
    for number, row in enumerate(zip(*values)):
        record: dict[str, Any] = dict.fromkeys(column.name for column in columns)
        for column, value in zip(present, row):
            try:
                record[column.name] = _of_kind(column, value)
            except (ValueError, TypeError) as error:
                expected = f"one of {', '.join(column.words)}" if column.words else f"a {column.type_name}"
                where = f"row {number} of the frame, column {column.name}"
                raise InputError(f"{where}: {str(value)[:60]!r}; expected {expected}") from error
        yield record


def _values(frame: Any, column: Column) -> list[Any]:
    values = frame[column.name]
    return list(values.to_list() if type(frame).__module__.startswith("polars") else values.astype(object))


def _of_kind(column: Column, value: Any) -> Any:
    """Converts a value to its column's kind. Raises ValueError or TypeError. NaN is missing, as pandas writes it."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    if column.item:
        return tuple(_scalar(column.item, each) for each in value)
    return column.kind(value) if column.words else _scalar(column.kind, value)


def _scalar(kind: Any, value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value  # of numpy
    if isinstance(value, bool) != (kind is bool) or isinstance(value, str) != (kind is str):
        raise TypeError(kind)
    if kind in (int, float) and (not math.isfinite(value) or kind(value) != value):
        raise ValueError(value)
    return kind(value)
