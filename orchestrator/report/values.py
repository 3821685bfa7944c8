"""Turns comparisons into the report's table: every case under every metric, with its ratio to every baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.report.cells import Keyed, keyed, number_text
from orchestrator.report.labels import axis_labels, in_use, label, told_apart
from orchestrator.report.model import Mark, MetricValues, RatioTo, Table, Value
from orchestrator.report.table_text import ratio_words
from orchestrator.sanitize import clean
from orchestrator.table.cases import AxisValue, Key
from orchestrator.table.comparison import OUT_OF_MEMORY, Baseline, Cell, Comparison
from orchestrator.table.metric import Metric
from orchestrator.table.statistics import Ratio
from runner.schema import Status

LONGEST_REASON = 1000  # the longest `error` of a row


def table(metrics: Sequence[Sequence[Comparison]]) -> Table:
    """metrics: for each metric, comparisons of the same rows with one baseline each; the first is the default.

    A metric without any value is left out, unless no metric has one.
    """
    useful = [each for each in metrics if any(keyed_cell.cell.figure for keyed_cell in keyed(each[0]))] or metrics[:1]
    if not useful:
        return Table()
    first = useful[0][0]
    with_ratios = next((each for each in useful if each[0].metric.declared.no_ratio is None), ())
    cells = [each for each in keyed(first) if each.cell.status is not None]
    axes = (*first.axes, *first.across)
    names = [told_apart([each.key[axis] for each in cells]) for axis in axes]
    keys = [tuple(each.key[axis] for axis in axes) for each in cells]
    shown = [tuple(_shown(value, texts) for value, texts in zip(key, names)) for key in keys]
    return Table(
        axes=tuple(map(label, axes)),
        cases=tuple(shown),
        metrics=tuple(_metric(comparisons, axes, keys) for comparisons in useful),
        baselines={baseline_name(base): base.option for comparison in with_ratios if (base := comparison.baseline)},
        caption={
            label(name): value if _is_plain(value) else label(value) for name, value in in_use(first.caption).items()
        },
        hosts={label(host): label(", ".join(devices)) for host, devices in first.devices.items()},
    )


def baseline_name(base: Baseline | None) -> str:
    return axis_labels(base.values) if base else ""


def _is_plain(value: AxisValue) -> bool:
    return not isinstance(value, str)


def _shown(value: AxisValue, texts: Mapping[AxisValue, str]) -> AxisValue:
    return value if _is_plain(value) else texts[value]


def _metric(comparisons: Sequence[Comparison], axes: Sequence[str], keys: Sequence[Key]) -> MetricValues:
    first = comparisons[0]
    metric = first.metric
    spans = [axis for axis in axes if axis in metric.declared.spans]
    kept = [i for i, axis in enumerate(axes) if axis not in spans]
    names = [axes[i] for i in kept]
    keys = [tuple(key[i] for i in kept) for key in keys] if spans else keys
    by_baseline = {}
    for comparison in comparisons:
        by_baseline[baseline_name(comparison.baseline)] = {
            tuple(each.key[axis] for axis in names): each for each in keyed(comparison)
        }
    default = next(iter(by_baseline.values()))
    if metric.declared.no_ratio is not None:
        by_baseline = {}
    values = tuple(
        _value(default[key], {name: _ratio(metric, cells[key].cell) for name, cells in by_baseline.items() if name})
        for key in keys
    )
    prices = tuple(
        f"{label(host)}: {price.per_hour:g} per hour, {clean(price.source)}" for host, price in first.prices.items()
    )
    return MetricValues(
        metric.value,
        metric.unit,
        metric.less_is_better,
        values,
        prices=prices,
        remark=_remark(first),
        spans=tuple(map(label, spans)),
    )


def _remark(comparison: Comparison) -> str:
    declared = comparison.metric.declared
    against = f"compared with {baseline_name(comparison.baseline)}" if declared.derived else ""
    return "; ".join(filter(None, (against, declared.no_ratio)))


def _value(each: Keyed, ratios: Mapping[str, RatioTo]) -> Value:
    cell = each.cell
    low, high = cell.interval or (None, None)
    return Value(
        number=cell.value,
        text=number_text(cell) or _status(cell),
        status=cell.status.value if cell.status else "",
        low=low,
        high=high,
        validity=cell.validity.value if cell.validity else "",
        reason=_reason(cell),
        notes=tuple(clean(note, LONGEST_REASON) for note in cell.notes),
        mark=_mark(cell.best, cell.tied_best),
        line_mark=_mark(cell.best_of_case, cell.tied_best_of_case),
        ratios=ratios,
    )


def _status(cell: Cell) -> str:
    if cell.is_baseline:
        return "baseline"
    return "no value" if cell.status is Status.OK else cell.status.value if cell.status else ""


def _reason(cell: Cell) -> str:
    return "" if cell.figure or cell.is_baseline else clean(cell.reason or OUT_OF_MEMORY, LONGEST_REASON)


def _mark(is_best: bool, is_tied: bool) -> Mark:
    return Mark.BEST if is_best else Mark.TIED if is_tied else Mark.NONE


def _ratio(metric: Metric, cell: Cell) -> RatioTo:
    if cell.ratio is None:
        return RatioTo(None, "baseline" if cell.is_baseline else clean(cell.no_ratio or "", LONGEST_REASON))
    return RatioTo(
        cell.ratio.value, ratio_words(cell.ratio), cell.ratio.shows_difference, _is_better(metric, cell.ratio)
    )


def _is_better(metric: Metric, ratio: Ratio) -> bool | None:
    if metric.less_is_better is None or not ratio.shows_difference:
        return None
    return (ratio.value < 1) == metric.less_is_better
