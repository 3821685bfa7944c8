"""Where a run's time went: a lane for each slot of each host, with staging, queueing, running and idle time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.report.figures import words
from orchestrator.report.figures.figure import Figure, NothingToDraw, Phase, Span
from orchestrator.report.figures.points import number, ordered
from orchestrator.report.labels import label, told_apart
from orchestrator.table.cases import natural

ROW = 36
MOST_RUNS, MOST_LANES = 4, 24
TITLE = "Where a run's time went"
# Height of each phase's bar and how far it is from the middle of its lane, in pixels: colour is not all that tells them
# apart, and the next job is staged while one runs.
BARS = {Phase.RUNNING: (22, -3), Phase.QUEUED: (11, -3), Phase.STAGING: (6, 12)}
NAMES = {Phase.RUNNING: "running", Phase.QUEUED: "queued", Phase.STAGING: "staging, or waiting for its slot"}
UNITS = (("seconds", 1.0, 180.0), ("minutes", 60.0, 3 * 3600.0), ("hours", 3600.0, float("inf")))


@dataclass(frozen=True)
class Lane:
    """One slot of a host. running: the share of the run's time in which it ran a job."""

    name: str
    spans: Sequence[Span]
    running: float


@dataclass(frozen=True)
class Run:
    name: str
    start: float
    end: float
    lanes: Sequence[Lane]

    @property
    def took(self) -> float:
        return max(self.end - self.start, 1e-3)


def where_time_went(spans: Sequence[Span]) -> Figure:
    if not spans:
        raise NothingToDraw("no journal: imported and stored runs have none")
    names = ordered(span.run for span in sorted(spans, key=lambda span: span.start))
    runs = [_run(name, [span for span in spans if span.run == name]) for name in names]
    shown = [run for run in runs if run.took > 0.01][-MOST_RUNS:] or runs[-1:]
    lanes_out = sum(max(0, len(run.lanes) - MOST_LANES) for run in shown)
    limits = [words.limited(len(runs) - len(shown), "run"), words.limited(lanes_out, "slot")]
    unit, seconds = next((name, size) for name, size, most in UNITS if max(run.took for run in shown) <= most)
    subtitle = words.lines(
        "grey line: idle · right: the share of time in which a slot ran a job; more is better", *limits
    )
    return Figure("time", TITLE, _alt(shown, unit, seconds, limits), _chart(shown, unit, seconds, subtitle))


def _run(name: str, spans: Sequence[Span]) -> Run:
    start, end = min(span.start for span in spans), max(span.end for span in spans)
    hosts = told_apart((span.host for span in spans), 26)
    keys = sorted({(span.host, span.slot) for span in spans}, key=lambda key: (natural(key[0]), natural(key[1])))
    lanes = []
    for host, slot in keys:
        its = [span for span in spans if (span.host, span.slot) == (host, slot)]
        name_of = hosts[host] + (f" · {label(slot, 20)}" if slot else "")
        lanes.append(Lane(name_of, its, covered(its, Phase.RUNNING) / max(end - start, 1e-3)))
    return Run(label(name, 60), start, end, lanes)


def covered(spans: Sequence[Span], phase: Phase) -> float:
    """Returns the seconds in which at least one span of a phase was open."""
    total, until = 0.0, float("-inf")
    for span in sorted((span for span in spans if span.phase is phase), key=lambda span: span.start):
        total += max(0.0, span.end - max(span.start, until))
        until = max(until, span.end)
    return total


def alone(spans: Sequence[Span], phase: Phase) -> float:
    """Returns the seconds of a phase in which no job was running."""
    both = [replace(span, phase=phase) for span in spans if span.phase in (phase, Phase.RUNNING)]
    return covered(both, phase) - covered(spans, Phase.RUNNING)


def _alt(runs: Sequence[Run], unit: str, seconds: float, limits: Sequence[str]) -> str:
    said = [f"{TITLE}, in {unit} since the start of each run; more running time is better."]
    for run in runs:
        shares = sorted(run.lanes, key=lambda lane: lane.running)
        said.append(f"{run.name}: {number(run.took / seconds)} {unit} on {words.count(len(run.lanes), 'slot')}.")
        said += [f"{lane.name} ran jobs for {lane.running:.0%} of it." for lane in ordered_ends(shares)]
        for phase in (Phase.STAGING, Phase.QUEUED):
            spent = sum(alone(lane.spans, phase) for lane in run.lanes)
            said += [f"{phase.value.capitalize()} while no job ran: {number(spent / seconds)} {unit} in all."]
    return " ".join([*said, *(f"{limit}." for limit in limits if limit)])


def ordered_ends(lanes: Sequence[Lane]) -> list[Lane]:
    return [lanes[0]] if len(lanes) == 1 else [lanes[0], lanes[-1]]


def _chart(runs: Sequence[Run], unit: str, seconds: float, subtitle: Sequence[str]) -> Any:
    from orchestrator.report.figures import charts

    seen = {span.phase for run in runs for lane in run.lanes[:MOST_LANES] for span in lane.spans}
    phases = [phase for phase in BARS if phase in seen]
    panels = [_panel(run, phases, unit, seconds, title=run.name if len(runs) > 1 else "") for run in runs]
    return charts.specification(panels, TITLE, subtitle)


def _panel(run: Run, phases: Sequence[Phase], unit: str, seconds: float, *, title: str) -> Any:
    import altair as alt

    from orchestrator.report.figures import charts

    lanes = run.lanes[:MOST_LANES]
    end = run.took / seconds
    y = alt.Y("lane:N").scale(domain=[lane.name for lane in lanes], paddingInner=0.1).title(None)
    slots = charts.own(
        [{"lane": lane.name, "zero": 0, "end": end, "share": f"{lane.running:.0%} running"} for lane in lanes]
    ).encode(y=y)
    x = alt.X("start:Q").scale(domain=[0, end], nice=False).title(f"{unit} since the start of the run")
    base = alt.Chart().encode(
        y=y,
        x=x.axis(tickCount=8),
        x2=alt.X2("end:Q"),
        tooltip=[alt.Tooltip(f"{n}:N") for n in ("lane", "phase", "job")],
    )
    colour = alt.Color("phase:N").scale(domain=[NAMES[phase] for phase in BARS])
    colour = colour.legend(alt.Legend(title=None, values=[NAMES[phase] for phase in phases]))
    bars = [
        base.transform_filter(alt.FieldEqualPredicate(field="phase", equal=NAMES[phase]))
        .mark_bar(height=BARS[phase][0], yOffset=BARS[phase][1], style="span")
        .encode(colour)
        for phase in phases
    ]
    return charts.panel(
        _values(run, lanes, seconds, charts.WIDTH / run.took),
        slots.mark_bar(style="empty", height=3, yOffset=-3).encode(x=alt.X("zero:Q"), x2=alt.X2("end:Q")),
        *bars,
        base.mark_text(style="inside", yOffset=-3).encode(x=alt.X("middle:Q"), x2=alt.X2(), text=alt.Text("text:N")),
        slots.mark_text(style="value", yOffset=-3).encode(x=alt.value(charts.WIDTH), text=alt.Text("share:N")),
        title=title,
        height=ROW * len(lanes),
    )


def _values(run: Run, lanes: Sequence[Lane], seconds: float, pixels: float) -> list[dict[str, Any]]:
    """Returns a value for each span. A running job's name stands in its bar where it has room. pixels: of a second."""
    values = []
    for lane in lanes:
        for span in lane.spans:
            name = label(span.job, 40)
            has_room = span.phase is Phase.RUNNING and (span.end - span.start) * pixels > 8.4 * len(name) + 8
            start, end = ((at - run.start) / seconds for at in (span.start, span.end))
            values.append(
                {
                    "lane": lane.name,
                    "phase": NAMES[span.phase],
                    "start": start,
                    "end": end,
                    "middle": (start + end) / 2,
                    "job": name,
                    "text": name if has_room else "",
                }
            )
    return values
