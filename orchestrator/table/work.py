"""Derives what a row computed from what it states. Only rows of equal work are compared and ranked."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from orchestrator.table.metric import Metric
from runner.catalog import SYNTHETIC
from runner.schema import Row

_CPU_NAME = re.compile(r"\b(CPU|Xeon|EPYC|Ryzen|Threadripper|Opteron|Core|Celeron|Pentium|Atom|Neoverse)\b", re.I)
UNKNOWN = "equal work is not known: a source does not state it"


@dataclass(frozen=True)
class Work:
    """One row's work. Fields that the row does not state are None.

    prompt: a number that rows of the same prompt share; None if a source states neither prompt nor `work`.
    run: the run of such a source; equal work is assumed within it.
    weights: identity of the model's weights. If the row does not state it: the name of a synthetic model, or else the
        name with the run and the host, because the same name elsewhere may hold other weights.
    """

    prompt: int | None
    run: str | None
    states_prompt: bool
    model: str | None
    weights: Hashable
    states_weights: bool
    steps: int | None
    size: tuple[int | None, int | None]
    guidance: float | None
    scheduler: str | None
    seed: int | None
    samples: int | None

    def key(self, metric: Metric) -> Hashable:
        """Returns a key that all rows of equal work share. A per-image metric means the same at any batch size."""
        source = self.run if self.prompt is None else None
        asked = (self.steps, self.size, self.guidance, self.scheduler, self.seed)
        return (self.prompt, source, self.weights, *asked, None if metric.declared.is_per_image else self.samples)

    def why_unequal(self, other: Work, metric: Metric) -> str | None:
        """Returns what differs or is unknown; None if both did equal work."""
        if self.key(metric) == other.key(metric):
            return None
        if (self.prompt is None) != (other.prompt is None):
            return UNKNOWN
        if self.prompt is None and self.run != other.run:
            return UNKNOWN
        pairs = list(self._differing(other, metric))
        unequal = [f"{name} {ours} against {theirs}" for name, ours, theirs in pairs if None not in (ours, theirs)]
        if self.states_weights and other.states_weights and self.weights != other.weights and self.model == other.model:
            unequal.insert(0, f"other weights of {self.model}")
        if self.prompt != other.prompt:
            both = self.states_prompt and other.states_prompt
            unequal.append("another prompt" if both else "`work` differs, by the prompt or by a size left to the model")
        if unequal:
            return f"unequal work: {', '.join(unequal)}"
        unknown = [name for name, *_ in pairs] or [f"which weights {self.model} had (older runs do not)"]
        return f"equal work is not known: a row does not state {', '.join(unknown)}"

    def _differing(self, other: Work, metric: Metric) -> Iterator[tuple[str, object, object]]:
        if self.weights != other.weights and self.model != other.model:
            yield "model", self.model, other.model
        for name in ("steps", "size", "guidance", "scheduler", "seed", "samples"):
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours == theirs or (name == "samples" and metric.declared.is_per_image):
                continue
            if name == "size":
                ours, theirs = _size(ours), _size(theirs)
            yield {"samples": "batch size"}.get(name, name), ours, theirs


def _size(size: tuple[int | None, int | None]) -> str | None:
    return None if None in size else f"{size[0]}×{size[1]}"


def works(rows: Sequence[Row]) -> list[Work]:
    """Returns each row's work. Rows of equal work share one object."""
    known: dict[Hashable, Work] = {}
    return [_shared(row, prompt, known) for row, prompt in zip(rows, prompts(rows))]


def _shared(row: Row, prompt: int | None, known: dict[Hashable, Work]) -> Work:
    weights = _weights(row, states_work=prompt is not None)
    stated = (row.prompt is not None, row.weights is not None)
    asked = (row.steps, row.width, row.height, row.guidance, row.scheduler, row.seed, row.n_samples)
    key = (prompt, row.run, stated, row.model, weights, asked)
    if key not in known:
        known[key] = Work(
            prompt=prompt,
            run=row.run,
            states_prompt=row.prompt is not None,
            model=row.model,
            weights=weights,
            states_weights=row.weights is not None,
            steps=row.steps,
            size=(row.width, row.height),
            guidance=row.guidance,
            scheduler=row.scheduler,
            seed=row.seed,
            samples=row.n_samples,
        )
    return known[key]


def _weights(row: Row, *, states_work: bool) -> Hashable:
    if row.weights is not None:
        return row.weights
    if not states_work or (row.model or "").startswith(SYNTHETIC):
        return ("name", row.model)
    return ("name", row.model, row.run, row.host)


def prompts(rows: Sequence[Row]) -> list[int | None]:
    """Returns for each row a number that rows of the same prompt share; None if a row has neither prompt nor `work`.

    Rows older than the column `prompt` have the prompt only in `work`, a hash of everything requested. Equal hashes
    mean equal prompts. So does the same run, unless two of its rows differ in nothing else.
    """
    several = _runs_of_several(rows)
    sets = _Sets()
    nodes: list[Hashable] = []
    for row in rows:
        node: Hashable = ("prompt", row.prompt) if row.prompt is not None else None
        if node is None and row.work is not None:
            node = ("work", row.work) if row.run is None or row.run in several else ("run", row.run)
        if row.work is not None:
            sets.join(node, ("work", row.work))
        nodes.append(node)
    numbers: dict[Hashable, int] = {}
    return [None if node is None else numbers.setdefault(sets.of(node), len(numbers)) for node in nodes]


def _runs_of_several(rows: Sequence[Row]) -> set[str | None]:
    """Returns runs of several prompts: rows without `prompt` that differ in `work` but in none of its other inputs."""
    seen: dict[Hashable, set[str]] = defaultdict(set)
    for row in rows:
        if row.prompt is None and row.work is not None:
            size = (row.height, row.width)
            asked = (row.model, row.steps, size, row.guidance, row.scheduler, row.seed, row.n_samples)
            seen[(row.run, asked)].add(row.work)
    return {place[0] for place, hashes in seen.items() if len(hashes) > 1}  # type: ignore[index]


class _Sets:
    """Disjoint sets of nodes (union-find)."""

    def __init__(self) -> None:
        self._parents: dict[Hashable, Hashable] = {}

    def of(self, node: Hashable) -> Hashable:
        while (parent := self._parents.get(node, node)) != node:
            self._parents[node] = self._parents.get(parent, parent)
            node = parent
        return node

    def join(self, one: Hashable, other: Hashable) -> None:
        self._parents[self.of(one)] = self.of(other)


def is_on_cpu(row: Row) -> bool:
    """Whether its memory is a resident set. An imported row may show it only by its device's name."""
    if row.cuda is not None or row.driver is not None or row.sm_clock_mhz is not None:
        return row.device is not None and row.device == row.cpu
    return row.device is not None and (row.device == row.cpu or bool(_CPU_NAME.search(row.device)))
