"""The marks of a table, and what explains them below it."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.labels import label, told_apart
from orchestrator.report.numbers import is_skewed
from orchestrator.report.reasons import reason_text
from orchestrator.table.cases import HOST
from orchestrator.table.comparison import Cell, Comparison
from orchestrator.table.statistics import Limit
from orchestrator.table.view import NO_ROW
from runner.schema import Validity

BEST, TIED, BEST_OF_CASE, TIED_OF_CASE = "**", "**≈", "*", "*≈"
_INVALID = {
    Validity.THROTTLED: "the GPU slowed its clock down while it was measured",
    Validity.CONTENDED: "something else used the device, or kept the process from its CPUs, while it was measured",
    Validity.FALLBACK: "another provider or device did the work",
    Validity.SPILLED: "memory beyond the GPU's was used",
    Validity.UNSTABLE: "the trials scatter too much to rank",
}


def _is_of_one_work(comparison: Comparison, cells: Sequence[Cell]) -> bool:
    return len({cell.work.key(comparison.metric) for cell in cells if cell.figure and cell.work}) == 1


def price_words(comparison: Comparison) -> list[str]:
    """Returns the prices per hour, grouped by the file that sets them."""
    hosts = told_apart(dict.fromkeys((*(cell.key[HOST] for cell in comparison.cells()), *comparison.prices)))
    by_source: dict[str, list[str]] = {}
    for host, price in comparison.prices.items():
        by_source.setdefault(price.source, []).append(f"{hosts[host]} {label(price.per_hour)}")
    return [f"price per hour, of {reason_text(source)}: {', '.join(each)}" for source, each in by_source.items()]


def _span(numbers: Sequence[int]) -> str:
    """Formats the range of sorted numbers."""
    return f"{numbers[0]} to {numbers[-1]}" if numbers[1:] else "".join(map(str, numbers))


def legend(comparison: Comparison, cells: Sequence[Cell]) -> list[str]:
    """Explains the marks that the table uses."""
    ratios = [cell.ratio for cell in cells if cell.ratio]
    tested, family = [ratio for ratio in ratios if ratio.p is not None], comparison.tested
    processes = sorted({len(cell.figure.processes) for cell in cells if cell.figure})
    marks = {mark_of(cell) for cell in cells}
    case = "its line" if comparison.across == (HOST,) else "its case on all hosts"
    rivals = "the table" if _is_of_one_work(comparison, cells) else "all rows with equal work"
    seen = {cell.validity for cell in cells if cell.figure and not cell.notes}  # with notes, those say why
    limits = [cell.figure.limit for cell in cells if cell.figure]
    left_out = ", or --where leaves it out" if comparison.where else ""
    skewed = [is_skewed(c.value, c.interval) for c in cells if c.value is not None and c.interval]
    lines = {
        f"value: geometric mean of {_span(processes)} processes (rounds)": processes[-1:] > [1],
        "±: half the width of the value's 95% confidence interval between processes": not all(skewed),
        "[low–high]: the value's 95% confidence interval, if it is skewed": any(skewed),
        f"≥: no larger batch was tried{left_out}": Limit(None) in limits,
        "(oom at n): the smallest batch that is out of memory": any(limit and limit.beyond for limit in limits),
        "×: the value divided by the baseline's": bool(ratios),
        "× [low–high]: 95% interval of this ratio alone": bool(tested),
        f"≈: no difference shown at 5%{f' for all {family} ratios together' if family > 1 else ''}": any(
            not ratio.shows_difference for ratio in tested
        ),
        "(1 round): a single process on one side, so no difference is claimed": any(
            ratio.p is None and ratio.value for ratio in ratios
        ),
        **{f"{validity.value}: {_INVALID[validity]}": validity in seen for validity in _INVALID},
        f"{NO_ROW}: not in the matrix, or left out by --where": any(cell.reason == NO_ROW for cell in cells),
        **dict.fromkeys(price_words(comparison), True),
        f"{BEST_OF_CASE}: best of {case}": BEST_OF_CASE in marks,
        f"{TIED_OF_CASE}: tied best of {case} (the best value, or no shown difference to it)": TIED_OF_CASE in marks,
        f"{BEST}: best of {rivals}": BEST in marks,
        f"{TIED}: tied best of {rivals} (the best value, or no shown difference to it)": TIED in marks,
    }
    return [text for text, used in lines.items() if used]


def mark_of(cell: Cell) -> str:
    marks = {BEST: cell.best, TIED: cell.tied_best, BEST_OF_CASE: cell.best_of_case}
    return next((mark for mark, is_so in marks.items() if is_so), TIED_OF_CASE if cell.tied_best_of_case else "")
