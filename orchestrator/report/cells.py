"""The cells of a comparison as its readers name them: by the axes on which they differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.report.labels import in_use, label
from orchestrator.report.numbers import number_text
from orchestrator.table.cases import ENGINE, MODEL, PRECISION, SAMPLES, AxisValue
from orchestrator.table.comparison import Cell, Comparison
from runner.schema import MAX

HOST = "host"
# Worded on their own; another axis is named, such as "guidance 7.5".
_WORDED = (ENGINE, PRECISION, SAMPLES, HOST)


@dataclass(frozen=True)
class Keyed:
    """A cell with its value on every axis, host included."""

    key: Mapping[str, AxisValue]
    cell: Cell


def keyed(comparison: Comparison) -> Iterator[Keyed]:
    for line in comparison.lines:
        for column, cell in zip(comparison.columns, line.cells):
            yield Keyed({**dict(zip(comparison.axes, line.labels)), **column.labels}, cell)


def differing(cells: Iterable[Keyed]) -> frozenset[str]:
    """Returns the axes on which cells differ."""
    seen: dict[str, set[AxisValue]] = {}
    for each in cells:
        for axis, value in each.key.items():
            seen.setdefault(axis, set()).add(value)
    return frozenset(axis for axis, values in seen.items() if len(values) > 1)


def in_words(each: Keyed, axes: Iterable[str], *, without: Sequence[str] = ()) -> str:
    """Names a cell, such as `graph half, 4 images per call, on h200`. axes: those worth naming; engine and host always.

    without: axes that the sentence has named already.
    """
    key, named = each.key, {*axes, ENGINE, HOST} - set(without)
    words = [label(key[axis]) for axis in (ENGINE, PRECISION) if axis in named and key.get(axis) is not None]
    parts = [" ".join(words)] if words else []
    if SAMPLES in named and key.get(SAMPLES) is not None:
        parts.append(images_per_call(key[SAMPLES], each.cell.samples))
    parts += [f"{axis} {label(value)}" for axis, value in in_use(key).items() if axis in named and axis not in _WORDED]
    text = ", ".join(parts)
    if HOST not in named:
        return text
    return f"{text}{', ' if len(parts) > 1 else ' '}on {label(key[HOST])}" if text else label(key[HOST])


def images_per_call(samples: AxisValue, found: int | None) -> str:
    """found: the batch size that was found for `max`."""
    if isinstance(samples, str) and samples.startswith(MAX):
        return f"the largest batch ({found} images)" if found else "the largest batch"
    return "1 image per call" if samples == 1 else f"{label(samples)} images per call"


__all__ = ["HOST", "MODEL", "Keyed", "differing", "images_per_call", "in_words", "keyed", "number_text"]
