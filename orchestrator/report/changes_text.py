"""Builds every string of a comparison of two runs that a reader sees, before format-specific syntax. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.report.labels import in_use, label, told_apart
from orchestrator.report.numbers import Widths, is_skewed, significant
from orchestrator.report.reasons import LONGEST_REASON
from orchestrator.report.table_text import Tone
from orchestrator.sanitize import clean
from orchestrator.table.cases import AxisValue
from orchestrator.table.change import Change, Verdict
from orchestrator.table.changes import Changes, Environment, Overall
from orchestrator.table.comparison import Cell
from orchestrator.table.metric import Metric
from orchestrator.table.software import Difference
from orchestrator.table.statistics import Ratio

LONGEST_NOTE = 150  # characters: two lines of a terminal of 80 columns
LONGEST_FACT = 48
SHORT_REASON = 24  # characters; a longer reason is a footnote
NOTHING = "–"
TONES = {
    Verdict.BROKEN: Tone.FAULT,
    Verdict.WORSE: Tone.WORSE,
    Verdict.BETTER: Tone.BETTER,
    Verdict.CHANGED: Tone.PLAIN,
    Verdict.NOT_SHOWN: Tone.SAME,
    Verdict.WITHIN: Tone.SAME,
    Verdict.UNTESTED: Tone.DOUBTFUL,
    Verdict.REPAIRED: Tone.BETTER,
    Verdict.NOT_COMPARABLE: Tone.NO_VALUE,
}


@dataclass(frozen=True)
class CaseText:
    """labels: in the order of ChangesText.axes. base, new: with spread. base_number, new_number: without.

    ratio: the number; interval: around it. verdict: with the number of its footnote.
    """

    labels: tuple[str, ...]
    base: str
    new: str
    base_number: str
    new_number: str
    ratio: str
    interval: str
    verdict: str
    tone: Tone


@dataclass(frozen=True)
class ChangesText:
    """summary: the answer in one line. head: the lines below it. numeric: which axes hold numbers.

    footnotes: the first is number 1.
    """

    summary: str
    is_regression: bool
    head: tuple[str, ...]
    axes: tuple[str, ...]
    numeric: tuple[bool, ...]
    cases: tuple[CaseText, ...]
    footnotes: tuple[str, ...]
    legend: tuple[str, ...]


def changes_text(changes: Changes) -> ChangesText:
    axes = changes.axes or changes_axes(changes)
    columns = [told_apart(change.key.get(axis) for change in changes.cases) for axis in axes]
    with_host = len({(change.base_host, change.new_host) for change in changes.cases}) > 1
    base_column, new_column = (Widths.of(cells) for cells in _cells(changes))
    footnotes: dict[str, int] = {}
    cases = []
    for change in changes.cases:
        labels = [texts[change.key.get(axis)] for axis, texts in zip(axes, columns)]
        cases.append(
            CaseText(
                labels=(*([hosts_words(change)] if with_host else []), *labels),
                base=_value(change.base, base_column),
                new=_value(change.new, new_column),
                base_number=_value(change.base, None),
                new_number=_value(change.new, None),
                ratio=f"{significant(change.ratio.value)[0]}×" if change.ratio else NOTHING,
                interval=interval_words(change.ratio) if change.ratio else "",
                verdict=_with_reason(changes, change, footnotes),
                tone=TONES[change.verdict],
            )
        )
    numeric = [all(_is_number(change.key.get(axis)) for change in changes.cases) for axis in axes]
    return ChangesText(
        summary=summary(changes),
        is_regression=changes.has_regression,
        head=tuple(_head(changes, with_host)),
        axes=(*(["host"] if with_host else []), *(label(axis) for axis in axes)),
        numeric=(*([False] if with_host else []), *numeric),
        cases=tuple(cases),
        footnotes=tuple(footnotes),
        legend=tuple(_legend(changes)),
    )


def changes_axes(changes: Changes) -> tuple[str, ...]:
    """Returns the axes that name a case where none differs between cases."""
    return tuple(axis for axis in ("engine", "precision", "samples") if axis in changes.cases[0].key)


def _cells(changes: Changes) -> tuple[list[Cell], list[Cell]]:
    return [each.base for each in changes.cases if each.base], [each.new for each in changes.cases if each.new]


def _is_number(value: AxisValue) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _value(cell: Cell | None, column: Widths | None) -> str:
    """Formats a cell's value; without a column, the number alone."""
    if cell is None:
        return NOTHING
    if cell.value is None:
        return cell.status.value if cell.status and cell.status.value != "ok" else "no value"
    return column.figure(cell) if column else significant(cell.value)[0]


def interval_words(ratio: Ratio) -> str:
    if ratio.interval is None:
        return ""
    _, decimals = significant(ratio.value)
    low, high = (f"{end:.{decimals}f}" for end in ratio.interval)
    return f"[{low}–{high}]"


def hosts_words(change: Change | Overall | Environment) -> str:
    base, new = label(change.base_host), label(change.new_host)
    return base if base == new else f"{base} → {new}"


def percent(share: float) -> str:
    return f"{100 * share:g}%"


def verdict_words(metric: Metric, verdict: Verdict, ratio: Ratio | None, threshold: float) -> str:
    """Returns the verdict as a reader says it: `slower`, `more memory`."""
    if verdict is Verdict.CHANGED and ratio:
        return "higher" if ratio.value > 1 else "lower"
    return {
        Verdict.BROKEN: "no longer runs",
        Verdict.WORSE: metric.declared.worse,
        Verdict.BETTER: metric.declared.improved,
        Verdict.CHANGED: "changed",
        Verdict.NOT_SHOWN: "no difference shown",
        Verdict.WITHIN: f"within {percent(threshold)}" if threshold else "no difference shown",
        Verdict.UNTESTED: "not tested",
        Verdict.REPAIRED: "runs now",
        Verdict.NOT_COMPARABLE: "not comparable",
    }[verdict]


def summary(changes: Changes) -> str:
    """Returns the counts of all verdicts, in words: `2 slower, 1 faster, 11 no difference shown`."""
    words: Counter[str] = Counter()
    for verdict, count in changes.counts.items():
        words[verdict_words(changes.metric, verdict, None, changes.threshold)] += count
    return ", ".join(f"{count} {word}" for word, count in words.items())


def _with_reason(changes: Changes, change: Change, footnotes: dict[str, int]) -> str:
    words = verdict_words(changes.metric, change.verdict, change.ratio, changes.threshold)
    why = clean(change.why, LONGEST_NOTE) if change.why else ""
    if change.verdict is Verdict.UNTESTED or (why and len(why) <= SHORT_REASON):
        words, why = f"{words}: {why}", ""
    notes = change.notes if change.base and change.new else ()
    reasons = [*([why] if why else []), *(clean(note, LONGEST_NOTE) for note in notes)]
    return words + "".join(f" [{footnotes.setdefault(reason, len(footnotes) + 1)}]" for reason in reasons)


def _head(changes: Changes, with_host: bool) -> list[str]:
    metric = changes.metric
    better = {True: ", less is better", False: ", more is better", None: ""}[metric.less_is_better]
    head = [f"{metric.heading}, {metric.unit}{better}: {label(changes.new)} against {label(changes.base)}"]
    head += [overall_words(changes, each, with_host) for each in changes.overall]
    head += [", ".join(f"{each.axis} {label(each.base)} → {label(each.new)}" for each in changes.mapped)]
    head += [_caption(changes, with_host)]
    head += [f"{hosts_words(each)}: {environment_words(each)}" for each in changes.environment]
    head += [clean(text, LONGEST_REASON) for text in changes.left_out]
    return [line for line in head if line]


def overall_words(changes: Changes, overall: Overall, with_host: bool) -> str:
    where = f" on {hosts_words(overall)}" if with_host else ""
    found = f"{significant(overall.ratio.value)[0]}× {interval_words(overall.ratio)}"
    words = verdict_words(changes.metric, overall.verdict, overall.ratio, changes.threshold)
    return f"{overall.cases} cases together{where}: {found}, {words}"


def _caption(changes: Changes, with_host: bool) -> str:
    apart = {each.axis for each in changes.mapped}
    shown = {axis: value for axis, value in changes.caption.items() if axis not in apart}
    if changes.axes:
        key = changes.cases[0].key
        shown |= {
            axis: key[axis] for axis in key if axis not in (*changes.axes, *apart, "host") and key[axis] is not None
        }
    words = [f"{label(name)} {label(value)}" for name, value in in_use(shown).items()]
    return ", ".join(words)


def environment_words(environment: Environment) -> str:
    """Returns what changed on a pair of hosts: `driver 580.1 → 590.2, torch 2.11.0 → 2.12.0 (compile)`."""
    return ", ".join(map(difference_words, environment.differences)) or "driver and versions are equal"


def difference_words(difference: Difference) -> str:
    before, after = (
        " and ".join(label(value, LONGEST_FACT) for value in side) or "not stated"
        for side in (difference.base, difference.new)
    )
    engines = f" ({', '.join(label(engine) for engine in difference.engines)})" if difference.engines else ""
    return f"{label(difference.name)} {before} → {after}{engines}"


def _legend(changes: Changes) -> list[str]:
    """Explains the verdicts that occur."""
    seen, limit = {*changes.counts, *(each.verdict for each in changes.overall)}, percent(changes.threshold)
    worse, better = changes.metric.declared.worse, changes.metric.declared.improved
    together = f" for all {changes.tests} tests together" if changes.tests > 1 else ""
    beyond = f"by more than {limit}, shown at 5%{together}" if changes.threshold else f"shown at 5%{together}"
    known = [cell for cells in _cells(changes) for cell in cells if cell.value is not None]
    skewed = [is_skewed(cell.value, cell.interval) for cell in known if cell.value is not None and cell.interval]
    lines: Mapping[str, bool] = {
        "±: half the width of the value's 95% confidence interval": not all(skewed),
        "[low–high]: the value's 95% confidence interval, if it is skewed": any(skewed),
        "×: NEW divided by BASE": True,
        "[low–high]: 95% interval of this ratio alone": changes.tests > 0,
        f"{worse}, {better}: {beyond}": bool(seen & {Verdict.WORSE, Verdict.BETTER, Verdict.NOT_SHOWN}),
        f"changed: {beyond}": Verdict.CHANGED in seen,
        f"no difference shown: neither {worse} nor {better} in this sense": Verdict.NOT_SHOWN in seen,
        f"within {limit}: the 95% interval excludes a change of more than {limit}": Verdict.WITHIN in seen
        and changes.threshold > 0,
        "not tested: no difference can be shown with one process (round) on a side; fix: rounds: 3": Verdict.UNTESTED
        in seen,
    }
    return [text for text, used in lines.items() if used]
