"""Labels of lines and columns as text: sanitised, truncated, and unique."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.sanitize import clean
from runner.catalog import NONE, OPTIONS

if TYPE_CHECKING:  # the table package is slow to import
    from orchestrator.table.cases import AxisValue

LONGEST = 120


def label(value: AxisValue, longest: int | None = LONGEST) -> str:
    """Formats a value. Truncates long text in the middle, because paths and names differ at their ends."""
    match value:
        case None:
            return "not stated"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}" if float(f"{value:g}") == value else repr(value)
        case _:
            return _shortened(clean(str(value)), longest)


def axis_labels(values: Mapping[str, AxisValue], longest: int | None = LONGEST) -> str:
    """Formats axes with their values: `engine eager, samples 1`."""
    return ", ".join(f"{label(axis, longest)} {label(value, longest)}" for axis, value in values.items())


def in_use(values: Mapping[str, AxisValue]) -> dict[str, AxisValue]:
    """Leaves out the options that are not used: a reader need not know of them. values: by axis."""
    return {name: value for name, value in values.items() if not (name in OPTIONS and value == NONE)}


def telling(columns: Mapping[str, Sequence[Hashable]]) -> tuple[str, ...]:
    """Returns the names of columns, each with a value for every row, in which rows differ, in their order.

    One that follows from the model, as its default scheduler does, tells nothing more than the model.
    """
    models = columns.get("model", ())
    return tuple(
        name
        for name, values in columns.items()
        if len(set(values)) > 1 and (name == "model" or not models or len(set(zip(models, values))) > len(set(models)))
    )


def told_apart(values: Iterable[AxisValue], longest: int | None = LONGEST) -> dict[AxisValue, str]:
    """Returns each value's label. Labels that become equal by sanitising and truncating get a hash of the value."""
    labels = {value: label(value, longest) for value in values}
    alike = {text for text, times in Counter(labels.values()).items() if times > 1}
    apart = {value: _hashed(value, text, longest) if text in alike else text for value, text in labels.items()}
    if len(set(apart.values())) == len(apart):
        return apart
    # a label may equal another one with its hash
    return {value: _hashed(value, text, longest) for value, text in labels.items()}


def _hashed(value: AxisValue, text: str, longest: int | None) -> str:
    if not isinstance(value, str):
        return text
    digest = f" ({hashlib.sha256(value.encode(errors='surrogatepass')).hexdigest()[:8]})"
    return _shortened(text, longest and longest - len(digest)) + digest


def _shortened(text: str, longest: int | None) -> str:
    if longest is None or len(text) <= longest:
        return text
    end = (longest - 1) // 2
    return f"{text[: longest - 1 - end]}…{text[-end:]}"
