"""The answer of a report in words: what is best, what does not fit, and what cannot be said.

A pure function of comparisons. It claims only what the table marks: "best" where a difference to every rival is shown,
"tied" where none is; otherwise it states the best value as measured and says that no difference is claimed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from orchestrator.report.cells import HOST, Keyed, differing, images_per_call, in_words, keyed, number_text
from orchestrator.report.labels import label, telling
from orchestrator.report.model import About, Sentence
from orchestrator.report.table_text import ratio_words
from orchestrator.sanitize import clean
from orchestrator.table.cases import PRECISION, SAMPLES
from orchestrator.table.comparison import OUT_OF_MEMORY, Cell, Comparison
from orchestrator.table.frontier import known_not_to_fit
from orchestrator.table.metric import IMAGES_PRICED, Metric
from orchestrator.table.work import Work
from runner.schema import MAX, Status, Validity

MOST_WORKS = 4  # whose best is named; a matrix may hold hundreds
MOST_NAMED = 4  # cells in one sentence
LONGEST_REASON = 200
ONE_ROUND = "One round shows no difference between values; fix: run the matrix with 'rounds: 3'."

_SUPERLATIVE = {
    Metric.LATENCY: (About.FASTEST, "Fastest"),
    Metric.THROUGHPUT: (About.FASTEST, "Highest throughput"),
    Metric.COST: (About.CHEAPEST, "Cheapest"),
    Metric.ENERGY: (About.FRUGAL, "Least energy"),
}


def answer(comparisons: Iterable[Comparison]) -> tuple[Sentence, ...]:
    """Returns the sentences in the order of `About`. comparisons: of the same rows, one of each metric."""
    by_metric = {comparison.metric: comparison for comparison in comparisons}
    if not by_metric:
        return ()
    first = by_metric.get(Metric.LATENCY) or next(iter(by_metric.values()))
    cells = [each for each in keyed(first) if each.cell.status is not None]
    if not cells:
        return (Sentence(About.CAVEAT, "There are no rows yet."),)
    found = [sentence for comparison in by_metric.values() for sentence in _best(comparison)]
    found += [Sentence(About.NOT_FITTING, text) for text in _not_fitting(cells)]
    found += [Sentence(About.NOT_COMPARED, text) for text in _not_compared(first, cells)]
    found += [Sentence(About.NOT_COMPARED, text) for text in _without_metric(by_metric)]
    found += [Sentence(About.CAVEAT, text) for text in _caveats(first, cells)]
    order = list(About)
    return tuple(sorted(dict.fromkeys(found), key=lambda sentence: order.index(sentence.about)))


@dataclass(frozen=True)
class _Group:
    """Ranked cells of equal work. name: what sets this work apart from the others; empty if there is one work."""

    work: Work
    cells: tuple[Keyed, ...]
    name: str = ""

    @cached_property
    def is_one_line(self) -> bool:
        """Whether all cells of the work stand on one line, where the table marks the best of the line instead."""
        return differing(self.cells) <= {HOST}


def _best(comparison: Comparison) -> Iterator[Sentence]:
    metric = comparison.metric
    if metric not in _SUPERLATIVE:
        return
    about, _ = _SUPERLATIVE[metric]
    groups = _groups(comparison)
    for group in groups[:MOST_WORKS]:
        yield Sentence(about, _best_of(comparison, group))
    if (more := len(groups) - MOST_WORKS) > 0:
        yield Sentence(about, f"{_some(more, 'other work')}: see the table, {metric.value}.")


def _groups(comparison: Comparison) -> list[_Group]:
    """Returns the works that have a ranked value, the one with the most values first. Latency: at each work's smallest
    batch size alone; larger batches are the throughput's."""
    metric = comparison.metric
    by_work: dict[Hashable, list[Keyed]] = defaultdict(list)
    for each in keyed(comparison):
        if each.cell.ranks and each.cell.work:
            by_work[each.cell.work.key(Metric.THROUGHPUT)].append(each)
    kept = []
    for cells in by_work.values():
        if metric is Metric.LATENCY:
            least = min((each.cell.samples or 0 for each in cells), default=0)
            cells = [each for each in cells if each.cell.samples == least]
        elif metric is Metric.THROUGHPUT and len({each.cell.samples for each in cells}) == 1:
            continue  # it says what the latency says
        elif len(cells) == 1 and len(by_work) > 1:
            continue  # the latency says that it is alone
        kept.append(cells)
    kept.sort(key=len, reverse=True)
    works = [cells[0].cell.work for cells in kept]
    names = _names([work for work in works if work], kept)
    return [_Group(work, tuple(cells), name) for work, cells, name in zip(works, kept, names) if work]


def _names(works: Sequence[Work], groups: Sequence[Sequence[Keyed]]) -> list[str]:
    """Returns what sets each work apart. Works that differ in nothing stated are set apart by their hosts."""
    facts = [
        {
            "model": work.model,
            "steps": f"{work.steps} steps",
            "size": "×".join(str(side) for side in (work.size[1], work.size[0])),
            "guidance": f"guidance {work.guidance}",
            "scheduler": f"scheduler {work.scheduler}",
            "seed": f"seed {work.seed}",
            "prompt": f"prompt {(work.prompt or 0) + 1}",
        }
        for work in works
    ]
    told = telling({name: [each[name] for each in facts] for name in (facts[0] if facts else {})})
    names = [", ".join(clean(str(each[name]), 80) for name in told) for each in facts]
    alike = {name for name, times in Counter(names).items() if times > 1}
    hosts = [", ".join(dict.fromkeys(label(each.key[HOST]) for each in cells)) for cells in groups]
    return [
        "; ".join(part for part in (name, f"on {where}") if part) if name in alike else name
        for name, where in zip(names, hosts)
    ]


def _best_of(comparison: Comparison, group: _Group) -> str:
    metric = comparison.metric
    cells = sorted(group.cells, key=lambda each: each.cell.value or 0.0, reverse=not metric.less_is_better)
    leader = cells[0]
    axes = differing(cells) | differing(keyed(comparison)) & {PRECISION}
    without = [SAMPLES] * (metric is Metric.LATENCY) + [HOST] * group.name.endswith(f"on {label(leader.key[HOST])}")
    at = f" at {images_per_call(leader.key[SAMPLES], leader.cell.samples)}" if metric is Metric.LATENCY else ""
    where = f"{at}{f' ({group.name})' if group.name else ''}"
    named = [
        f"{in_words(each, axes, without=without)}, {_amount(comparison, each)}"
        for each in cells
        if each is leader or _is_tied(group, each.cell)
    ]
    if len(cells) == 1:
        return f"Only one valid {metric.value}{where}: {named[0]}. Nothing is compared with it."
    best = _SUPERLATIVE[metric][1]
    if _is_best(group, leader.cell):
        return f"{best}{where}: {named[0]}{_ratio(comparison, leader.cell)}."
    if len(named) > 1:
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        return f"{best}{where}: tied, no difference is shown between {_and(named[:MOST_NAMED])}{more}."
    if _is_tied(group, leader.cell):
        untested = _untested(group, leader, axes, without)
        return f"{best} as measured{where}: {named[0]}; a difference to {untested} was not tested."
    why = "" if _are_of_one_round(cells) else "; no difference to the others can be claimed"
    return f"{best} as measured{where}: {named[0]}{_ratio(comparison, leader.cell)}{why}."


def _untested(group: _Group, leader: Keyed, axes: Iterable[str], without: Sequence[str]) -> str:
    others = [in_words(each, axes, without=without) for each in group.cells if each is not leader and _rounds(each) < 2]
    return _and(others[:MOST_NAMED]) if others else "every other value"


def _rounds(each: Keyed) -> int:
    return len(each.cell.figure.processes) if each.cell.figure else 0


def _are_of_one_round(cells: Iterable[Keyed]) -> bool:
    """Whether no value comes from several processes; a caveat says so, once."""
    return all(_rounds(each) < 2 for each in cells)


def _is_best(group: _Group, cell: Cell) -> bool:
    return cell.best or (cell.best_of_case and group.is_one_line)


def _is_tied(group: _Group, cell: Cell) -> bool:
    return cell.tied_best or (cell.tied_best_of_case and group.is_one_line)


def _amount(comparison: Comparison, each: Keyed) -> str:
    metric, number = comparison.metric, number_text(each.cell)
    if metric is not Metric.COST:
        return f"{number} {metric.unit}"
    price = comparison.prices.get(str(each.key[HOST]))
    return f"{number} for {IMAGES_PRICED} images" + (f" at {price.per_hour:g} per hour" if price else "")


def _ratio(comparison: Comparison, cell: Cell) -> str:
    base = comparison.baseline
    return f" ({ratio_words(cell.ratio)} of {label(base.name)})" if base and cell.ratio else ""


def _not_fitting(cells: Sequence[Keyed]) -> Iterator[str]:
    """Names the smallest batch that ran out of memory by host, engine and so on, and the largest that ran."""
    axes = differing(cells) - {SAMPLES}
    groups: dict[Hashable, list[Keyed]] = defaultdict(list)
    for each in cells:
        groups[tuple((axis, value) for axis, value in each.key.items() if axis != SAMPLES)].append(each)
    for group in groups.values():
        who = in_words(group[0], axes, without=[SAMPLES])
        ran = [each.cell.samples for each in group if each.cell.status is Status.OK and each.cell.samples]
        found = [each.cell.samples for each in group if _is_max(each) and each.cell.samples]
        too_large = [each for each in group if each.cell.status is Status.OOM]
        if too_large:
            sizes = sorted({value for each in too_large if isinstance(value := each.key[SAMPLES], int)})
            what = images_per_call(sizes[0], None) if sizes else "the model"
            largest = f"; the largest batch that ran is {max(ran)}" if ran else ""
            yield (
                f"{_upper(what)} does not fit: {who}{largest}."
                if what == "the model" or sizes[0] == 1
                else (f"{_upper(what)} do not fit: {who}{largest}.")
            )
        elif found:
            beyond = [size for each in group if _is_max(each) for size in known_not_to_fit(each.cell.sources)]
            limit = f" ({min(beyond)} do not)" if beyond else ""
            yield f"The largest batch that fits: {max(found)} images{limit}, {who}."


def _is_max(each: Keyed) -> bool:
    asked = each.key[SAMPLES]
    return isinstance(asked, str) and asked.startswith(MAX)


def _not_compared(comparison: Comparison, cells: Sequence[Keyed]) -> Iterator[str]:
    axes = differing(cells)
    reasons: dict[str, list[str]] = defaultdict(list)
    for each in cells:
        if why := _why_not(each.cell):
            reasons[why].append(in_words(each, axes))
    for why, who in reasons.items():
        more = f" and {len(who) - MOST_NAMED} more" if len(who) > MOST_NAMED else ""
        yield f"{_upper(why)}: {'; '.join(who[:MOST_NAMED])}{more}."
    yield from _unequal(comparison)


def _why_not(cell: Cell) -> str | None:
    """Returns why a cell is neither ranked nor out of memory; None if it is."""
    if cell.ranks or cell.status is Status.OOM:
        return None
    if cell.figure is None:
        reason = clean(cell.reason or "", LONGEST_REASON)
        status = cell.status.value if cell.status and cell.status is not Status.OK else "no value"
        return f"{status} ({reason})" if reason and reason not in (status, OUT_OF_MEMORY) else status
    if cell.unranked:
        return clean(cell.unranked, LONGEST_REASON).removeprefix("not ranked: ") + " (not ranked)"
    return f"{cell.validity.value if cell.validity else 'of unstated validity'} (not ranked)"


def _unequal(comparison: Comparison) -> Iterator[str]:
    """Says which works are not compared with each other, and why."""
    groups: dict[Hashable, list[Keyed]] = defaultdict(list)
    for each in keyed(comparison):
        if each.cell.ranks and each.cell.work:
            groups[each.cell.work.key(Metric.THROUGHPUT)].append(each)
    works = sorted(groups.values(), key=len, reverse=True)
    if len(works) < 2:
        return
    most = works[0][0].cell.work
    reasons: Counter[str] = Counter()
    for cells in works[1:]:
        ours = cells[0].cell.work
        if most and ours and (why := ours.why_unequal(most, Metric.THROUGHPUT)):
            reasons[clean(why, LONGEST_REASON)] += len(cells)
    for why, count in reasons.most_common(MOST_NAMED):
        verb = "is" if count == 1 else "are"
        yield f"{_some(count, 'value')} {verb} not compared with {_some(len(works[0]), 'other')}: {why}."


def _without_metric(by_metric: Mapping[Metric, Comparison]) -> Iterator[str]:
    """Says where a price or an energy is missing."""
    for metric, comparison in by_metric.items():
        if metric not in (Metric.COST, Metric.ENERGY):
            continue
        missing: dict[str, dict[str, None]] = defaultdict(dict)
        has_value = False
        for each in keyed(comparison):
            has_value = has_value or each.cell.figure is not None
            if each.cell.status is Status.OK and each.cell.figure is None:
                missing[clean(each.cell.reason or "", LONGEST_REASON)].setdefault(label(each.key[HOST]))
        for why, hosts in missing.items():
            where = f" of {', '.join(hosts)}" if has_value else ""
            yield f"{_upper(metric.value)}{where}: {why}."


def _caveats(comparison: Comparison, cells: Sequence[Keyed]) -> Iterator[str]:
    measured = [each for each in cells if each.cell.figure]
    if not measured:
        counts = Counter(each.cell.status.value for each in cells if each.cell.status)
        yield f"No case has a value: {', '.join(f'{count} {status}' for status, count in counts.items())}."
        return
    ranked = [each for each in measured if each.cell.ranks]
    if len(ranked) > 1 and _are_of_one_round(ranked):
        yield ONE_ROUND
    doubtful = Counter(each.cell.validity for each in measured if each.cell.validity not in (Validity.VALID, None))
    if not ranked and doubtful:
        yield "No value is valid, so none is ranked."


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _and(parts: Sequence[str]) -> str:
    return " and ".join(["; ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
