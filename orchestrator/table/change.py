"""Compares a case of two runs: its ratio, or why it has none, and the verdict in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from orchestrator.table.baseline import unlike
from orchestrator.table.beyond import is_beyond, is_within
from orchestrator.table.cases import AxisValue
from orchestrator.table.cells import IMPORTED
from orchestrator.table.comparison import Cell
from orchestrator.table.metric import Metric
from orchestrator.table.pairing import BASE, NEW, Pair
from orchestrator.table.statistics import Figure, Ratio, ratio
from runner.schema import Status, Validity

BROKEN = (Status.OOM, Status.UNSUPPORTED, Status.FAILED, Status.TIMEOUT)


class Verdict(str, Enum):
    """What is said of a case, in the order in which a reader wants it.

    BROKEN: it was measured in BASE, and NEW is out of memory, refused, failed, or draws visibly another image.
    WORSE, BETTER: shown, beyond the threshold. CHANGED: the same, of a metric without a better direction.
    WITHIN: its 95% interval excludes a change beyond the threshold.
    UNTESTED: the difference between processes is not known (one round).
    """

    BROKEN = "broken"
    WORSE = "worse"
    BETTER = "better"
    CHANGED = "changed"
    NOT_SHOWN = "not shown"
    WITHIN = "within"
    UNTESTED = "untested"
    REPAIRED = "repaired"
    NOT_COMPARABLE = "not comparable"

    @property
    def is_regression(self) -> bool:
        return self in (Verdict.BROKEN, Verdict.WORSE)


@dataclass(frozen=True)
class Change:
    """One case. key: its value of every axis, as NEW names them (BASE, where only that has it).

    why: of a verdict without a test. p: that the true ratio is within the threshold, for the whole family.
    ratio: NEW over BASE. notes: what to know of either value.
    """

    key: Mapping[str, AxisValue]
    base_host: str
    new_host: str
    base: Cell | None
    new: Cell | None
    verdict: Verdict
    ratio: Ratio | None = None
    p: float | None = None
    why: str | None = None
    notes: tuple[str, ...] = ()


def compared(metric: Metric, pair: Pair) -> Change:
    """Returns the case with its ratio, or with the verdict that needs no test."""
    base, new = pair.base, pair.new
    change = Change(
        key=pair.key,
        base_host=pair.base_host,
        new_host=pair.new_host,
        base=base,
        new=new,
        verdict=Verdict.NOT_COMPARABLE,
        notes=tuple(_notes(base, new)),
    )
    if base is None or new is None:
        return replace(change, why=f"only in {NEW if base is None else BASE}")
    if base.figure and new.status in BROKEN:
        return replace(change, verdict=Verdict.BROKEN, why=_outcome(new))
    if new.figure and base.status in BROKEN:
        return replace(change, verdict=Verdict.REPAIRED, why=f"{BASE}: {_outcome(base)}")
    if why := _unmeasured(base, new):
        return replace(change, why=why)
    if _another_image(new) and not _another_image(base):
        return replace(change, verdict=Verdict.BROKEN, why=_another_image(new))
    if why := _invalid(base, new) or unlike(metric, new, base):
        return replace(change, why=why)
    assert base.figure is not None  # noqa: S101  # _unmeasured said so
    assert new.figure is not None  # noqa: S101
    found = ratio(new.figure, base.figure)
    if found is None:
        return replace(change, why=f"the value in {BASE} is not above 0")
    if found.spread is None:
        return replace(change, ratio=found, verdict=Verdict.UNTESTED, why=_rounds(base.figure, new.figure))
    return replace(change, ratio=found, verdict=Verdict.NOT_SHOWN)


def _outcome(cell: Cell) -> str:
    status = cell.status.value if cell.status else "not measured"
    return status if cell.reason in (None, status) else f"{status}: {cell.reason}"


def _unmeasured(base: Cell, new: Cell) -> str | None:
    """Returns why one of two cells has no value; None if both have one."""
    missing = {title: cell for title, cell in ((BASE, base), (NEW, new)) if cell.figure is None}
    if not missing:
        return None
    outcomes = {title: _outcome(cell) for title, cell in missing.items()}
    if len(outcomes) == 2 and base.status is new.status:
        return f"{base.status.value if base.status else 'not measured'} in both runs"
    return "; ".join(f"{title}: {outcome}" for title, outcome in outcomes.items())


def _another_image(cell: Cell) -> str | None:
    """Returns why a valid value is not ranked because of its image."""
    return cell.unranked if cell.unranked != IMPORTED else None


def _invalid(base: Cell, new: Cell) -> str | None:
    for_each = {
        title: cell.validity.value if cell.validity not in (Validity.VALID, None) else _another_image(cell)
        for title, cell in ((BASE, base), (NEW, new))
    }
    if for_each[BASE] and for_each[BASE] == for_each[NEW]:
        return f"{for_each[BASE]} in both runs"
    return "; ".join(f"{title}: {why}" for title, why in for_each.items() if why) or None


def _rounds(base: Figure, new: Figure) -> str:
    single = [title for title, figure in ((BASE, base), (NEW, new)) if len(figure.processes) < 2]
    if not single:
        return "a value of 0 has no interval"
    return f"1 round in {'both runs' if len(single) > 1 else single[0]}"


def _notes(base: Cell | None, new: Cell | None) -> Iterator[str]:
    """Yields what to know of the values; once if it holds for both."""
    ours, theirs = (base.notes if base else ()), (new.notes if new else ())
    yield from (note for note in ours if note in theirs)
    yield from (f"{BASE}: {note}" for note in ours if note not in theirs)
    yield from (f"{NEW}: {note}" for note in theirs if note not in ours)


def with_verdict(metric: Metric, change: Change, p: float | None, threshold: float) -> Change:
    if change.ratio is None or p is None:
        return change
    return replace(change, p=p, verdict=tested(metric, change.ratio, p, threshold))


def tested(metric: Metric, found: Ratio, p: float | None, threshold: float) -> Verdict:
    if is_beyond(p):
        if metric.less_is_better is None:
            return Verdict.CHANGED
        return Verdict.BETTER if (found.value < 1) == metric.less_is_better else Verdict.WORSE
    return Verdict.WITHIN if is_within(found, threshold) else Verdict.NOT_SHOWN
