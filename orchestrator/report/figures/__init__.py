"""Draws comparisons as figures: one Vega-Lite definition each, rendered as interactive HTML, SVG and PNG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from orchestrator.report.figures import batches, devices, pareto, processors, ratios, steps, timeline
from orchestrator.report.figures.figure import Figure, Figures, NotDrawn, NothingToDraw, Phase, Span, StepQuality
from orchestrator.report.figures.render import missing, svg, write
from orchestrator.table.comparison import Comparison
from orchestrator.table.metric import Metric

__all__ = ["METRICS", "Figure", "Figures", "NotDrawn", "Phase", "Span", "StepQuality", "figures", "svg", "write"]

# The metrics whose comparisons the figures need; cost may be left out where no host has a price.
METRICS = (Metric.LATENCY, Metric.THROUGHPUT, Metric.MEMORY, Metric.COST, Metric.ENERGY)


def figures(
    comparisons: Mapping[Metric, Comparison], spans: Sequence[Span] = (), quality: Sequence[StepQuality] = ()
) -> Figures:
    """Draws every figure that the rows have data for. The others are left out, with the reason.

    comparisons: of the same rows and view, by metric. spans: what the slots of the runs did. quality: what
    `python -m runner quality` measured. Raises InputError with the command that installs what is missing.
    """

    def of(draw: Callable[..., Figure], *metrics: Metric) -> Callable[[], Figure]:
        def drawn() -> Figure:
            if absent := [metric.value for metric in metrics if metric not in comparisons]:
                raise NothingToDraw(f"no comparison of {absent[0]}")
            return draw(*(comparisons[metric] for metric in metrics))

        return drawn

    wanted: Sequence[tuple[str, str, Callable[[], Figure]]] = (
        ("latency", devices.LATENCY, of(devices.latency, Metric.LATENCY)),
        ("ratio-to-baseline", "Ratio to the baseline", of(ratios.ratio_to_baseline, Metric.LATENCY)),
        ("latency-gpu-cpu", processors.TITLE, of(processors.gpu_against_cpu, Metric.LATENCY)),
        ("throughput-largest-batch", devices.LARGEST_BATCH, of(devices.largest_batch, Metric.THROUGHPUT)),
        ("throughput-by-batch", batches.THROUGHPUT, of(batches.throughput, Metric.THROUGHPUT)),
        ("throughput-cost", pareto.TITLE, of(pareto.throughput_against_cost, Metric.THROUGHPUT, Metric.COST)),
        ("memory", devices.MEMORY, of(devices.memory, Metric.MEMORY)),
        ("memory-by-batch", batches.MEMORY, of(batches.memory, Metric.MEMORY)),
        ("energy-by-batch", batches.ENERGY, of(batches.energy, Metric.ENERGY)),
        ("quality-by-steps", steps.TITLE, of(lambda found: steps.quality_over_steps(found, quality), Metric.LATENCY)),
        ("time", timeline.TITLE, lambda: timeline.where_time_went(spans)),
    )
    drawn, left_out = [], []
    with _unvalidated():
        for name, title, draw in wanted:
            try:
                drawn.append(draw())
            except NothingToDraw as nothing:
                left_out.append(NotDrawn(name, title, str(nothing)))
    return Figures(tuple(drawn), tuple(left_out))


@contextmanager
def _unvalidated() -> Iterator[None]:
    """Imports Altair without its validation of every part of a chart; unit tests validate the whole."""
    try:
        from altair.utils.schemapi import debug_mode
    except ImportError as error:
        raise missing(error) from error
    with debug_mode(False):
        yield
