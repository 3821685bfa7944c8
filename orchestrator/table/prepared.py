"""Rows that are placed and grouped once, and compared by several metrics, baselines and layouts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from orchestrator.errors import InputError
from orchestrator.table.baseline import find_baseline, with_ratios
from orchestrator.table.best import with_best
from orchestrator.table.cases import PRECISION, Key, Placement, canonical, key_order, natural, place, spanning
from orchestrator.table.cells import Pool, cell_of, pool_of
from orchestrator.table.comparison import Baseline, Cell, Comparison
from orchestrator.table.copies import copy_of
from orchestrator.table.declaration import Price
from orchestrator.table.frontier import largest_batch
from orchestrator.table.metric import Metric
from orchestrator.table.statistics import settled
from orchestrator.table.view import View, laid_out
from orchestrator.table.where import chosen
from orchestrator.table.work import Work
from orchestrator.table.work import works as works_of
from runner.schema import Row, Status, Validity


def _without_ratio(metric: Metric, cell: Cell) -> Cell:
    return copy_of(cell, no_ratio=metric.declared.no_ratio) if cell.figure else cell


class Prepared:
    """Compares the same rows as often as asked. The values of a metric are computed once."""

    def __init__(
        self,
        rows: Iterable[Row],
        prices: Mapping[tuple[str | None, str | None], Price] | None = None,
        any_quality: bool = False,
        where: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.where = dict(where or {})
        self.rows = canonical(rows)
        if self.where:
            self.rows = chosen(self.rows, _placed(self.rows, works_of(self.rows)), self.where)
        self.prices = prices or {}
        self.any_quality = any_quality
        self._work_of = works_of(self.rows)
        self.placed = _placed(self.rows, self._work_of)
        groups: dict[Key, list[Row]] = defaultdict(list)
        self._works: dict[Key, dict[int | None, Work]] = defaultdict(dict)
        for row, key, work in zip(self.rows, self.placed.keys, self._work_of):
            groups[key].append(row)
            if row.status is Status.OK:  # a lost row does not state the model's own size
                self._works[key][row.n_samples] = work
        self._groups = {key: groups[key] for key in sorted(groups, key=key_order(self.placed.axes))}
        self._measured: dict[Metric, dict[Key, Cell]] = {}
        self._baselines: dict[tuple[str | None, tuple[str, ...]], Baseline | None] = {}

    def compare(
        self,
        metric: Metric = Metric.LATENCY,
        baseline: str | None = None,
        view: View = View(),  # noqa: B008  # frozen
    ) -> Comparison:
        """Compares by the full key of each cell; the view only arranges what was computed.

        Rows were chosen before: `where` of the view is not used. A metric with a fixed baseline ignores the one that is
        asked for.
        """
        for axis in metric.declared.spans:
            if axis in (*view.rows, *view.columns):
                raise InputError(
                    f"{metric.value} is one value of all {axis}; fix: leave {axis} out of rows and columns"
                )
        placed = spanning(self.placed, metric.declared.spans)
        base = self.baseline(baseline, metric)
        cells = self._values(metric, placed)
        if not metric.declared.has_baseline:
            cells = {key: _without_ratio(metric, cell) for key, cell in cells.items()}
        elif base:
            cells = with_ratios(metric, base, placed, cells)
        view = replace(view, where=self.where)
        layout = laid_out(with_best(metric, cells), placed, view, less_is_better=metric.less_is_better is not False)
        return Comparison(
            metric=metric,
            baseline=base,
            axes=layout.axes,
            across=layout.across,
            columns=layout.columns,
            lines=layout.lines,
            left_out=layout.left_out,
            tested=sum(cell.ratio is not None and cell.ratio.p is not None for cell in cells.values()),
            where=self.where,
            caption={
                name: value for name, value in self.placed.caption.items() if name not in (*layout.axes, *layout.across)
            },
            devices=self._devices,
            runs=self._runs,
            prices=self._prices() if metric.declared.needs_price else {},
        )

    def baseline(self, name: str | None, metric: Metric) -> Baseline | None:
        """Returns what a comparison by the metric compares with. Raises InputError if the rows do not have it."""
        asked = (name, metric.declared.spans)
        if asked not in self._baselines:
            self._baselines[asked] = self._found(name, spanning(self.placed, metric.declared.spans))
        if metric.declared.precision:
            return Baseline({PRECISION: metric.declared.precision})
        return self._baselines[asked]

    def _found(self, name: str | None, placed: Placement) -> Baseline | None:
        try:
            return find_baseline(name, self.rows, placed)
        except InputError as error:
            if not self.where:
                raise
            raise InputError(f"{error}; rows that --where leaves out are no baseline") from error

    def _values(self, metric: Metric, placed: Placement) -> dict[Key, Cell]:
        """Returns each case's value on each host, with its spread."""
        if metric not in self._measured:
            cells = self._spanning(placed) if metric.declared.spans else self._pooled(metric)
            disturbed = {key for key, cell in cells.items() if cell.validity is not Validity.VALID}
            spreads = settled({key: cell.figure for key, cell in cells.items() if cell.figure}, disturbed)
            cells |= {key: copy_of(cells[key], figure=figure) for key, figure in spreads.items()}
            self._measured[metric] = cells
        return self._measured[metric]

    def _pooled(self, metric: Metric) -> dict[Key, Cell]:
        return {key: cell_of(metric, pool, self.prices) for key, pool in self._pools.items()}

    @cached_property
    def _pools(self) -> Mapping[Key, Pool]:
        axes = self.placed.axes
        return {
            key: pool_of(dict(zip(axes, key)), rows, self._works[key], self.any_quality)
            for key, rows in self._groups.items()
        }

    def _spanning(self, placed: Placement) -> dict[Key, Cell]:
        """Returns the largest batch of each key; the only metric whose value spans several cases."""
        groups: dict[Key, list[int]] = defaultdict(list)
        for i, key in enumerate(placed.keys):
            groups[key].append(i)
        return {
            key: largest_batch(
                dict(zip(placed.axes, key)), [self.rows[i] for i in its], [self._work_of[i] for i in its]
            )
            for key, its in sorted(groups.items(), key=lambda item: key_order(placed.axes)(item[0]))
        }

    def _prices(self) -> dict[str, Price]:
        found = {host: self.prices.get((row.run, row.host)) for row, host in zip(self.rows, self.placed.hosts)}
        return {host: price for host, price in sorted(found.items(), key=lambda item: natural(item[0])) if price}

    @cached_property
    def _runs(self) -> tuple[str, ...]:
        return tuple(sorted({row.run for row in self.rows if row.run}))

    @cached_property
    def _devices(self) -> dict[str, tuple[str, ...]]:
        seen: dict[str, set[str]] = defaultdict(set)
        for row, host in zip(self.rows, self.placed.hosts):
            if row.device:
                seen[host].add(row.device)
        return {host: tuple(sorted(names)) for host, names in sorted(seen.items())}


def _placed(rows: Sequence[Row], works: Sequence[Work]) -> Placement:
    return place(rows, [work.prompt for work in works])
