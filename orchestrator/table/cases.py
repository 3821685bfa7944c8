"""Assigns each row to a case and a host. Rows of the same case and host are pooled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from operator import attrgetter, itemgetter

from orchestrator.table.hosts import (
    CONDITIONS,
    DEVICE,
    HOST,
    RUN,
    AxisValue,
    HostName,
    Key,
    named_hosts,
    natural,
    with_conditions,
    with_several,
)
from runner.catalog import ENGINES, NONE, OFFLOADS, PRECISIONS, STEP_CACHES
from runner.schema import COLUMNS, MAX, Row, Status

ENGINE, PRECISION, SAMPLES, MODEL = "engine", "precision", "samples", "model"
ALWAYS_SHOWN = (ENGINE, PRECISION, SAMPLES)

AXES: Mapping[str, Callable[[Row], AxisValue]] = {
    ENGINE: attrgetter("engine"),
    PRECISION: attrgetter("precision"),
    SAMPLES: lambda row: MAX if row.samples_asked == MAX else row.n_samples,
    MODEL: attrgetter("model"),
    "steps": attrgetter("steps"),
    "size": lambda row: f"{row.width}×{row.height}" if row.width and row.height else None,
    "scheduler": attrgetter("scheduler"),
    "guidance": attrgetter("guidance"),
    "seed": attrgetter("seed"),
    "autocast": attrgetter("autocast"),
    "attention": attrgetter("attention"),
    "offload": lambda row: _option(row, row.offload),
    "step_cache": lambda row: _option(row, row.step_cache),
}

# Outcomes and hashes become an axis only if rows that differ in them would otherwise be pooled in one column.
TIE_BREAKERS: Mapping[str, Callable[[Row], AxisValue]] = {
    "xformers": attrgetter("xformers"),
    "runtime": attrgetter("runtime"),
    "weights": attrgetter("weights"),
}
PROMPT = "prompt"  # a tie-breaker too, which takes all rows to tell: work.prompts

__all__ = ["CONDITIONS", "HOST", "RUN", "AxisValue", "HostName", "Key", "Placement", "canonical", "natural", "place"]

_all_columns = attrgetter(*COLUMNS)
_first_columns = attrgetter(*COLUMNS[: COLUMNS.index("memory")])  # up to the latency, in which most rows differ
_ORDER: Mapping[str, Sequence[str]] = {
    ENGINE: tuple(ENGINES),
    PRECISION: PRECISIONS,
    "offload": tuple(OFFLOADS),
    "step_cache": (NONE, *STEP_CACHES),
}


def _option(row: Row, value: str | None) -> str | None:
    """Returns an option of a row. Rows from before the option existed did not use it; imported rows may have."""
    return NONE if value is None and not row.is_imported else value


@dataclass(frozen=True)
class Placement:
    """The key of each row, in the order of the rows: its case and, last, its host. Rows with the same key are pooled.

    axes: the names of a key's values. caption: the axes on which all rows state the same value. facts: each row's value
    on every axis there is, in the order of the rows. host_names: the parts of each host's name in a key.
    """

    axes: tuple[str, ...]
    keys: tuple[Key, ...]
    caption: Mapping[str, AxisValue]
    facts: Mapping[str, Sequence[AxisValue]]
    host_names: Mapping[str, HostName]

    @cached_property
    def hosts(self) -> tuple[str, ...]:
        """Each row's host, as a key names it."""
        return tuple(str(key[-1]) for key in self.keys)

    @property
    def known_axes(self) -> tuple[str, ...]:
        """Every axis that may be asked for; those on which the rows differ come first."""
        return (*self.axes, *(name for name in self.facts if name not in self.axes))

    def divides_hosts(self, axis: str) -> bool:
        """Whether an axis is a part of some host's name, such as `desk (threads 2)`."""
        return any(axis in name.parts for name in self.host_names.values())

    def on(self, axis: str) -> Callable[[Key], AxisValue]:
        """Returns what gives each key's value on an axis."""
        if axis in self.axes:
            return itemgetter(self.axes.index(axis))
        values: dict[Key, AxisValue] = {}
        for key, value in zip(self.keys, self.facts[axis]):  # a row without a measurement may not state it
            values[key] = values[key] if values.get(key) is not None else value
        return values.__getitem__

    def apart_from(self, axes: Iterable[str]) -> Callable[[Key], Key]:
        """Returns what gives all other values of a key: two keys that differ only in these axes have the same."""
        apart = frozenset(axes)
        kept = [i for i, name in enumerate(self.axes[:-1]) if name not in apart]
        shorter = {} if HOST in apart else {text: name.text(without=apart) for text, name in self.host_names.items()}
        return lambda key: (*(key[i] for i in kept), shorter.get(str(key[-1])))


def spanning(placed: Placement, spans: Sequence[str]) -> Placement:
    """Returns keys without the axes that a metric's value spans."""
    kept = [i for i, name in enumerate(placed.axes) if name not in spans]
    axes, keys = (placed.axes[i] for i in kept), (tuple(key[i] for i in kept) for key in placed.keys)
    facts = {name: values for name, values in placed.facts.items() if name not in spans}
    return replace(placed, axes=tuple(axes), keys=tuple(keys), facts=facts)


def canonical(rows: Iterable[Row]) -> list[Row]:
    """Removes exact duplicates (a run named twice), and sorts independently of the given order.

    Few rows are alike up to their latency, and the text of all columns takes eight times as long to make.
    """
    distinct = sorted(set(rows), key=lambda row: str(_first_columns(row)))
    found: list[Row] = []
    for _, group in groupby(distinct, _first_columns):
        alike = list(group)
        found += sorted(alike, key=lambda row: str(_all_columns(row))) if len(alike) > 1 else alike
    return found


def place(rows: Sequence[Row], prompts: Sequence[int | None]) -> Placement:
    """Gives each row its key. prompts: one number per row, equal for rows of the same prompt."""
    facts = _facts(rows)
    stated = {name: {value for value in values if value is not None} for name, values in facts.items()}
    axes = [name for name in facts if name in ALWAYS_SHOWN or len(stated[name]) > 1]
    tie_breakers = {name: [of(row) for row in rows] for name, of in TIE_BREAKERS.items()}
    tie_breakers |= {PROMPT: _prompt_labels(rows, prompts)}
    measured = [row.status is Status.OK for row in rows]
    unsplit, names = named_hosts(rows), []
    columns = [name.text() for name in unsplit]

    asked = zip(*(facts[name] for name in axes))
    pools = _Pools(zip(columns, asked, (row.n_samples for row in rows)), measured)
    stated_conditions = {name: [of(row) for row in rows] for name, of in CONDITIONS.items()}
    conditions: dict[str, tuple[set[str], list[AxisValue]]] = {}
    for name, values in stated_conditions.items():
        split = with_several(columns, values) if name == DEVICE else set()
        split |= {columns[i] for pool in pools.differing(values) for i in pool}
        if split:
            conditions[name] = (split, values)
            pools.divide(values)
    for name, values in ({n: v for n, v in facts.items() if n not in axes} | tie_breakers).items():
        if pools.differing(values):
            names.append(name)
            pools.divide(values)
    axes = [name for name in facts if name in (*axes, *names)] + [name for name in tie_breakers if name in names]
    every = facts | tie_breakers
    cases = _joined(rows, columns, list(zip(*(every[name] for name in axes))))
    hosts = with_conditions(unsplit, cases, conditions, measured)
    return Placement(
        axes=(*axes, HOST),
        keys=tuple((*case, host.text()) for case, host in zip(cases, hosts)),
        caption={n: next(iter(values)) for n, values in stated.items() if n not in axes and len(values) == 1},
        facts={**every, **stated_conditions, RUN: [row.run for row in rows]},
        host_names={host.text(): host for host in dict.fromkeys(hosts)},
    )


def _facts(rows: Sequence[Row]) -> dict[str, list[AxisValue]]:
    """Returns what each row states for each axis; settings of imported files keep their own names."""
    facts = {name: [of(row) for row in rows] for name, of in AXES.items()}
    facts[MODEL] = _model_names(rows)
    settings = [row.other_settings for row in rows]
    for name in sorted({name for each in settings for name in each}, key=natural):
        ours = name in facts or name in TIE_BREAKERS or name in (PROMPT, HOST)
        facts[f"{name} (imported)" if ours else name] = [each.get(name) for each in settings]
    return facts


def _model_names(rows: Sequence[Row]) -> list[AxisValue]:
    """Returns each row's model, with all names of its weights: one folder may be a copy of another."""
    names: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.weights is not None and row.model is not None:
            names[row.weights].add(row.model)
    joined = {weights: " = ".join(sorted(several, key=natural)) for weights, several in names.items()}
    weights_of: dict[str | None, set[str]] = defaultdict(set)
    for weights, several in names.items():
        for each in several:
            weights_of[each].add(weights)

    def name(row: Row) -> str | None:
        known = weights_of[row.model] if row.weights is None else {row.weights}
        is_told = row.weights is not None or (row.status is not Status.OK and len(known) == 1)
        return joined[next(iter(known))] if is_told and row.model is not None else row.model

    return [name(row) for row in rows]


def _joined(rows: Sequence[Row], columns: Sequence[str], keys: Sequence[Key]) -> list[Key]:
    """Returns each row's line. A row without a measurement does not state what only a measurement shows, such as the
    model's own size. It joins the only line that it can belong to, in its column or else in its run.

    It cannot join a line that already has a row of its column and round.
    """
    may_join = [row.status is not Status.OK and None in key and not row.is_imported for row, key in zip(rows, keys)]
    if not any(may_join):
        return list(keys)
    in_column: dict[Hashable, dict[Key, set[int | None]]] = defaultdict(lambda: defaultdict(set))
    in_run: dict[Hashable, dict[Key, set[int | None]]] = defaultdict(dict)
    for row, column, key in zip(rows, columns, keys):
        if row.status is Status.OK and not row.is_imported:
            in_column[column, row.run][key].add(row.round)
            in_run[row.run][key] = set()
    done = []
    for row, column, key, may in zip(rows, columns, keys, may_join):
        lines: set[Key] = set()
        if may:
            lines = _lines_of(key, row.round, in_column[column, row.run]) or _lines_of(key, None, in_run[row.run])
        done.append(next(iter(lines)) if len(lines) == 1 and key not in lines else key)
    return done


def _lines_of(key: Key, round_: int | None, lines: Mapping[Key, set[int | None]]) -> set[Key]:
    """Returns the lines that agree with everything a key states, and have no row of its round."""
    return {
        line
        for line, rounds in lines.items()
        if (round_ is None or round_ not in rounds) and all(a is None or a == b for a, b in zip(key, line))
    }


def _prompt_labels(rows: Sequence[Row], prompts: Sequence[int | None]) -> list[AxisValue]:
    """Returns a label for each prompt: the first `prompt` or, without one, `work` hash among its rows."""
    first: dict[int, str] = {}
    for row, prompt in zip(rows, prompts):
        if prompt is not None:
            first.setdefault(prompt, row.prompt if row.prompt is not None else (row.work or "")[:6])
    return [None if prompt is None else first[prompt] for prompt in prompts]


class _Pools:
    """Measured rows, by number, that would be pooled. Ignores rows that stand alone."""

    def __init__(self, places: Iterable[Hashable], measured: Sequence[bool]) -> None:
        pools: dict[Hashable, list[int]] = defaultdict(list)
        for i, here in enumerate(places):
            if measured[i]:
                pools[here].append(i)
        self._pools = [pool for pool in pools.values() if len(pool) > 1]

    def differing(self, values: Sequence[AxisValue]) -> list[list[int]]:
        """Returns the pools whose rows differ in a value. An unstated value differs from every other."""
        if len({*values}) < 2:
            return []
        return [pool for pool in self._pools if len({values[i] for i in pool}) > 1]

    def divide(self, values: Sequence[AxisValue]) -> None:
        divided = []
        for pool in self._pools:
            parts: dict[AxisValue, list[int]] = defaultdict(list)
            for i in pool:
                parts[values[i]].append(i)
            divided += [part for part in parts.values() if len(part) > 1]
        self._pools = divided


def key_order(axes: Sequence[str]) -> Callable[[Key], tuple[object, ...]]:
    return lambda values: tuple(rank(name, value) for name, value in zip(axes, values))


def rank(axis: str, value: AxisValue) -> tuple[object, ...]:
    """Sorts known engines, precisions and options as declared, others by name, numbers by size, unstated last."""
    known = _ORDER.get(axis, ())
    if value is None:
        return (3,)
    if value in known:
        return (0, known.index(str(value)))
    return (2, natural(value)) if isinstance(value, str) else (1, value)
