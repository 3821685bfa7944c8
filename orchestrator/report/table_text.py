"""Builds every string of a comparison that a reader sees, before format-specific syntax. Pure and deterministic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from orchestrator.report.labels import axis_labels, in_use, label, told_apart
from orchestrator.report.legend import legend, mark_of
from orchestrator.report.numbers import Widths, significant
from orchestrator.report.reasons import CUT, is_cut, reason_text
from orchestrator.table.cases import HOST
from orchestrator.table.comparison import OUT_OF_MEMORY, Baseline, Cell, Comparison, Line
from orchestrator.table.copies import copy_of
from orchestrator.table.statistics import Ratio
from runner.schema import Status, Validity


class Tone(Enum):
    """The visual style of a cell."""

    PLAIN = "plain"
    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    DOUBTFUL = "doubtful"
    NO_VALUE = "no value"
    FAULT = "fault"
    ABSENT = "absent"


@dataclass(frozen=True)
class CellText:
    """value: the figure with its spread, or the status. ratio: to the baseline, or briefly why there is none."""

    value: str
    ratio: str
    tone: Tone
    best: bool = False


@dataclass(frozen=True)
class LineWords:
    labels: tuple[str, ...]
    cells: tuple[CellText, ...]

    def named(self, axes: Sequence[str]) -> list[str]:
        """Returns the labels with the names of their axes."""
        return [f"{name} {text}" for name, text in zip(axes, self.labels)]


@dataclass(frozen=True)
class TableText:
    """numeric: which axes hold numbers. more: how many lines are not shown. footnotes: the first is number 1."""

    title: str
    caption: tuple[str, ...]
    axes: tuple[str, ...]
    numeric: tuple[bool, ...]
    columns: tuple[str, ...]
    lines: tuple[LineWords, ...]
    more: str
    footnotes: tuple[str, ...]
    payoffs: tuple[str, ...]
    legend: tuple[str, ...]


def table_text(comparison: Comparison) -> TableText:
    cells = list(comparison.cells())
    shared = _shared_notes(comparison)
    notes = _Footnotes()
    columns = tuple(told_apart(column.name for column in comparison.columns).values())
    labels = [told_apart(values) for values in zip(*(line.labels for line in comparison.lines))]
    widths = [Widths.of(line.cells[i] for line in comparison.lines) for i in range(len(columns))]
    lines = tuple(
        LineWords(
            tuple(texts[value] for texts, value in zip(labels, line.labels)),
            tuple(
                _words(comparison, _without(cell, shared, i), width, notes)
                for i, (cell, width) in enumerate(zip(line.cells, widths))
            ),
        )
        for line in comparison.lines
    )
    return TableText(
        title=_title(comparison),
        caption=(*_caption(comparison), *_shared_words(shared, columns)),
        axes=tuple(told_apart(comparison.axes).values()),
        numeric=tuple(_is_numeric(comparison.lines, i) for i in range(len(comparison.axes))),
        columns=columns,
        lines=lines,
        more=more(comparison),
        footnotes=notes.texts,
        payoffs=_payoffs(comparison, columns, lines),
        legend=(*legend(comparison, cells), *([CUT] if any(map(is_cut, notes.texts)) else [])),
    )


def more(comparison: Comparison) -> str:
    """Says how many lines a limit cut, such as `2 more lines are not shown`; empty if none."""
    lines = "line is" if comparison.left_out == 1 else "lines are"
    return f"{comparison.left_out} more {lines} not shown" if comparison.left_out else ""


class _Footnotes:
    """Numbers reasons in reading order; equal texts share a number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self._numbers)

    def marks(self, *reasons: str) -> str:
        return "".join(f" [{self._numbers.setdefault(reason_text(r), len(self._numbers) + 1)}]" for r in reasons)


def _shared_notes(comparison: Comparison) -> dict[str, tuple[int, ...]]:
    """Finds notes shared by all values, or by all of a column with several; maps each to the columns' positions."""
    places = range(len(comparison.columns))
    by_column = [[line.cells[i].notes for line in comparison.lines if line.cells[i].figure] for i in places]
    found = dict.fromkeys(_common([notes for column in by_column for notes in column]), tuple(places))
    for place, notes in enumerate(by_column):
        for note in _common(notes):
            found[note] = (*found.get(note, ()), place) if place not in found.get(note, ()) else found[note]
    return found


def _common(notes: Sequence[Sequence[str]]) -> list[str]:
    return [note for note in notes[0] if all(note in others for others in notes)] if len(notes) > 1 else []


def _without(cell: Cell, shared: Mapping[str, tuple[int, ...]], place: int) -> Cell:
    """Returns the cell without the notes that are shown above the table, also if it has no value."""
    return copy_of(cell, notes=tuple(note for note in cell.notes if place not in shared.get(note, ())))


def _shared_words(shared: Mapping[str, tuple[int, ...]], columns: Sequence[str]) -> list[str]:
    texts = []
    for note, places in shared.items():
        whose = "All values" if len(places) == len(columns) else ", ".join(columns[i] for i in places)
        texts.append(f"{whose}: {reason_text(note)}.")
    return texts


def _words(comparison: Comparison, cell: Cell, widths: Widths, notes: _Footnotes) -> CellText:
    if cell.status is None:
        return CellText(cell.reason or "", "", Tone.ABSENT)
    if cell.figure is None:
        return _without_value(cell, notes)
    best = mark_of(cell)
    value = f"{widths.figure(cell)} {best}".rstrip() + notes.marks(*cell.notes)
    if cell.ratio:
        ratio = ratio_words(cell.ratio) + notes.marks(*cell.ratio_notes)
        return CellText(value, ratio, _tone(comparison, cell.ratio), bool(best))
    if cell.validity not in (Validity.VALID, None):
        return CellText(value, str(cell.validity.value), Tone.DOUBTFUL)
    if comparison.metric.declared.no_ratio is not None:
        return CellText(value, "", Tone.PLAIN, bool(best))
    if cell.is_baseline:
        return CellText(value, "baseline", Tone.SAME, bool(best))
    return CellText(value, "no ratio" + notes.marks(cell.no_ratio) if cell.no_ratio else "", Tone.PLAIN, bool(best))


def _without_value(cell: Cell, notes: _Footnotes) -> CellText:
    status, reason = cell.status or Status.FAILED, cell.reason or ""
    if cell.is_baseline:
        return CellText("baseline", "", Tone.SAME)
    if status is Status.OK:
        return CellText("no value" + notes.marks(reason, *cell.notes), "", Tone.NO_VALUE)
    says_no_more = reason == status.value or (status is Status.OOM and reason == OUT_OF_MEMORY)
    known = [] if says_no_more else [f"{status.value}: {reason}"]
    return CellText(
        status.value + notes.marks(*known, *cell.notes), "", Tone.FAULT if status.is_fault else Tone.NO_VALUE
    )


def ratio_words(ratio: Ratio) -> str:
    value, decimals = significant(ratio.value)
    if ratio.interval is None:
        return f"{value}× (1 round)" if ratio.value else f"{value}×"
    low, high = (f"{end:.{decimals}f}" for end in ratio.interval)
    return f"{value}× [{low}–{high}]" + (" ≈" if not ratio.shows_difference else "")


def _tone(comparison: Comparison, ratio: Ratio) -> Tone:
    if not ratio.shows_difference:
        return Tone.PLAIN if ratio.interval is None else Tone.SAME
    if comparison.metric.less_is_better is None:
        return Tone.PLAIN
    return Tone.BETTER if (ratio.value < 1) == comparison.metric.less_is_better else Tone.WORSE


def _title(comparison: Comparison) -> str:
    metric = comparison.metric
    better = "" if metric.less_is_better is None else f" ({metric.declared.better.value} is better)"
    return f"{metric.heading}, {metric.unit}{better}"


def shared_words(comparison: Comparison) -> str:
    """Describes what all rows share, such as `model synthetic:tiny, steps 50`."""
    shared = axis_labels(in_use(comparison.caption))
    return f"where the source states it: {shared}" if shared and _some_state_no_work(comparison) else shared


def _caption(comparison: Comparison) -> list[str]:
    runs = ", ".join(told_apart(comparison.runs).values())
    words = [shared_words(comparison), f"run{'s' if len(comparison.runs) > 1 else ''} {runs}" if runs else ""]
    if comparison.where:
        words.append(f"only rows with {where_words(comparison)}; the others are not compared")
    declared, base = comparison.metric.declared, comparison.baseline
    if base and declared.has_baseline:
        to = "compared with" if declared.derived else "ratio to"
        words.append(f"{to} {_baseline_name(comparison, base)}, {_where(comparison, base)}")
    if declared.no_ratio is not None:
        words.append(f"without ratios: {declared.no_ratio}")
    return [line for line in words if line]


def where_words(comparison: Comparison) -> str:
    """Describes the rows that are compared, such as `engine graph or eager, samples 1`."""
    return ", ".join(f"{label(name)} {' or '.join(map(label, texts))}" for name, texts in comparison.where.items())


def _baseline_name(comparison: Comparison, base: Baseline) -> str:
    """Returns the baseline's axes and values as labels show them; a long host's name may have a hash."""
    known = {axis: told_apart(dict.fromkeys(cell.key.get(axis) for cell in comparison.cells())) for axis in base.axes}
    parts = (f"{label(axis)} {known[axis].get(value) or label(value)}" for axis, value in base.values.items())
    return ", ".join(parts)


def _where(comparison: Comparison, base: Baseline) -> str:
    """Says where the reader finds a cell's baseline."""
    named = {*comparison.axes, *comparison.across}
    # an axis may be a part of the host's name, such as `desk (threads 2)`
    across = {(axis if axis in named else HOST) in comparison.across for axis in base.axes}
    if set(comparison.across) == set(base.axes):
        return "on the same line"
    if len(across) > 1:
        return "all else equal"
    return f"{'on the same line' if across == {True} else 'in the same column'}, all else equal"


def _some_state_no_work(comparison: Comparison) -> bool:
    """Whether some rows do not state their work, such as published rows: the caption may not hold for them."""
    if comparison.left_out:  # the lines that are cut may be those that state it
        return any(cell.work.prompt is None for cell in comparison.cells() if cell.figure and cell.work)
    return stated_by_some(comparison.cells())


def stated_by_some(cells: Iterable[Cell]) -> bool:
    """Whether some of the measured cells state their work, and others, such as published ones, do not."""
    return len({cell.work.prompt is not None for cell in cells if cell.figure and cell.work}) > 1


def _is_numeric(lines: Sequence[Line], axis: int) -> bool:
    return all(isinstance(line.labels[axis], (int, float)) for line in lines)


def _payoffs(comparison: Comparison, columns: Sequence[str], lines: Sequence[LineWords]) -> tuple[str, ...]:
    """Returns, for each line faster than the baseline engine, after how many images its slower start pays off."""
    texts = []
    for line, words in zip(comparison.lines, lines):
        after = [
            f"{column} after {cell.pays_off_after} images"
            for column, cell in zip(columns, line.cells)
            if cell.pays_off_after
        ]
        if after:
            texts.append(f"{' '.join(words.labels)}: {', '.join(after)}")
    return tuple(texts)
