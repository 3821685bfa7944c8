"""Rows put in their place: which case (a line) and which host (a column) each belongs to."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from runner.schema import COLUMNS, ENGINES, MAX, Row, format_cell

AxisValue: TypeAlias = str | int | float | bool | None
Key: TypeAlias = tuple[AxisValue, ...]

ENGINE, PRECISION, SAMPLES = "engine", "precision", "samples"
ALWAYS_SHOWN = (ENGINE, PRECISION, SAMPLES)

AXES: Mapping[str, Callable[[Row], AxisValue]] = {
    ENGINE: lambda row: row.engine,
    PRECISION: lambda row: row.precision,
    SAMPLES: lambda row: MAX if row.samples_asked == MAX else row.n_samples,
    "model": lambda row: row.model,
    "steps": lambda row: row.steps,
    "size": lambda row: f"{row.width}×{row.height}" if row.width and row.height else None,
    "scheduler": lambda row: row.scheduler,
    "guidance": lambda row: row.guidance,
    "seed": lambda row: row.seed,
    "autocast": lambda row: row.autocast,
    "attention": lambda row: row.attention,
}

# An outcome and a hash (which knows the prompt): used only where one host has rows that the axes cannot tell apart.
TIE_BREAKERS: Mapping[str, Callable[[Row], AxisValue]] = {
    "xformers": lambda row: row.xformers,
    "work": lambda row: row.work and row.work[:6],
}

_ORDER: Mapping[str, Sequence[str]] = {ENGINE: tuple(ENGINES), PRECISION: ("single", "half")}


def canonical(rows: Iterable[Row]) -> list[Row]:
    """Without exact repetitions (a run named twice), in an order that does not depend on the order given."""
    return sorted(set(rows), key=lambda row: [format_cell(getattr(row, name)) for name in COLUMNS])


def natural(name: str) -> tuple[tuple[bool, int, str], ...]:
    """A sort key that puts host2 before host10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple(
        (part.isascii() and part.isdigit(), int(part[:18]) if part[0] in "0123456789" else 0, part) for part in parts
    )


def columns(rows: Sequence[Row]) -> list[str]:
    """Each row's column: its host, and where any host stands in several runs, host@run."""
    runs: dict[str, set[str | None]] = defaultdict(set)
    for row in rows:
        runs[_host(row)].add(row.run)
    return [f"{_host(row)}@{row.run or 'unnamed'}" if len(runs[_host(row)]) > 1 else _host(row) for row in rows]


def _host(row: Row) -> str:
    return row.host or row.device or "unnamed host"


def axis_values(rows: Sequence[Row]) -> dict[str, list[AxisValue]]:
    """Of each axis the different values that rows state, sorted; what a row leaves unsaid is no value."""
    seen = {name: {value for row in rows if (value := of(row)) is not None} for name, of in AXES.items()}
    return {name: sorted(values, key=lambda value: rank(name, value)) for name, values in seen.items()}


def label_axes(rows: Sequence[Row], row_columns: Sequence[str]) -> tuple[str, ...]:
    """The axes that name a line: engine, precision, samples, what varies, and what tells rows of one host apart."""
    values = axis_values(rows)
    axes = tuple(name for name in AXES if name in ALWAYS_SHOWN or len(values[name]) > 1)
    for name, of in TIE_BREAKERS.items():
        # by batch as well: rounds of `max` that found different ones are one case, whose work differs by that alone
        together: dict[tuple[str, Key, int | None], set[AxisValue]] = defaultdict(set)
        for row, column in zip(rows, row_columns):
            if (value := of(row)) is not None:
                together[column, key(row, axes), row.n_samples].add(value)
        if any(len(several) > 1 for several in together.values()):
            axes = (*axes, name)
    return axes


def key(row: Row, axes: Sequence[str]) -> Key:
    return tuple((AXES | TIE_BREAKERS)[name](row) for name in axes)  # type: ignore[operator]


def key_order(axes: Sequence[str]) -> Callable[[Key], tuple[object, ...]]:
    return lambda values: tuple(rank(name, value) for name, value in zip(axes, values))


def rank(axis: str, value: AxisValue) -> tuple[object, ...]:
    """Known engines and precisions in their own order, then others by name, numbers by size, the unsaid last."""
    known = _ORDER.get(axis, ())
    if value is None:
        return (3,)
    if value in known:
        return (0, known.index(str(value)))
    return (2, natural(value)) if isinstance(value, str) else (1, value)
