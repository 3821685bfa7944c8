"""Throughput against cost, with the Pareto front: the cases that no other one beats in both."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from orchestrator.report.figures import words
from orchestrator.report.figures.batches import why_nothing
from orchestrator.report.figures.figure import Figure, NothingToDraw
from orchestrator.report.figures.points import Point, State, number, ordered, points
from orchestrator.report.figures.theme import MOST_SERIES
from orchestrator.report.labels import label
from orchestrator.table.comparison import Comparison

HEIGHT, ROW = 330, 24
MOST_LISTED = 10
OTHERS = "other hosts"
TITLE = "Throughput against cost"
COST, SPEED = "cost of 1000 images, in the currency of the prices", "images per minute"


@dataclass(frozen=True)
class Offer:
    """A case with its throughput and its cost.

    rivals: equal for cases of equal work. rank: its number on a front, from 1; 0 is off it. front: which one.
    """

    point: Point
    cost: float
    state: State
    rivals: Hashable
    rank: int = 0
    front: int = 0

    @property
    def speed(self) -> float:
        return self.point.value or 0.0


def throughput_against_cost(throughput: Comparison, cost: Comparison) -> Figure:
    costs = {frozenset(point.cell.key.items()): point for point in points(cost)}
    offers = [
        offer
        for point in points(throughput)
        if (paired := costs.get(frozenset(point.cell.key.items()))) and (offer := _offer(point, paired, throughput))
    ]
    if not offers:
        raise NothingToDraw(why_nothing(cost))
    fronts = pareto_fronts(offers)
    front = [offer for its in fronts for offer in its]
    best, others = front[:MOST_LISTED], [offer for offer in offers if not any(_is_same(offer, one) for one in front)]
    limit = words.limited(len(front) - len(best), "case of the front", "cases of the front")
    marks = ["numbered: Pareto front, where no other case is both faster and cheaper"] if front else []
    marks += ["work that is not known to be equal has a front of its own"] if len(fronts) > 1 else []
    marks += words.states([offer.point for offer in offers], with_whiskers=False)
    subtitle = words.lines(words.scope(throughput, "logarithmic axes"), "; ".join(marks), _prices(cost), limit)
    alt = words.alt(
        TITLE, [offer.point for offer in offers], SPEED, less_is_better=False, extra=[*_said(offers, best), limit]
    )
    return Figure("throughput-cost", TITLE, alt, _chart([*front, *others], best, subtitle))


def _is_same(one: Offer, other: Offer) -> bool:
    return one.point is other.point


def _said(offers: Sequence[Offer], best: Sequence[Offer]) -> list[str]:
    costs = [number(end(offer.cost for offer in offers)) for end in (min, max)]
    said = [f"{COST.capitalize()}, less is better, is from {costs[0]} to {costs[1]}"]
    listed = [f"{offer.point.name}: {number(offer.speed)} {SPEED} at {number(offer.cost)}" for offer in best]
    return [*said, *([f"On a Pareto front: {'; '.join(listed)}"] if listed else [])]


def _offer(point: Point, paired: Point, throughput: Comparison) -> Offer | None:
    if point.value is None or not paired.value or point.cell.work is None:
        return None
    state = point.state if paired.state is State.VALID else paired.state
    return Offer(point, paired.value, state, point.cell.work.key(throughput.metric))


def pareto_fronts(offers: Sequence[Offer]) -> list[list[Offer]]:
    """Returns for each work the offers that no rival beats in throughput and cost, the cheapest first, numbered.

    Only valid offers count. Those of unequal work are no rivals; the work with most offers comes first.
    """
    groups: dict[Hashable, list[Offer]] = {}
    for offer in offers:
        if offer.state is State.VALID:
            groups.setdefault(offer.rivals, []).append(offer)
    ranks = count(1)
    return [
        [replace(offer, rank=next(ranks), front=number_) for offer in _front(its)]
        for number_, its in enumerate(sorted(groups.values(), key=lambda its: -len(its)))
    ]


def _front(rivals: Sequence[Offer]) -> list[Offer]:
    front: list[Offer] = []
    for offer in sorted(rivals, key=lambda offer: (offer.cost, -offer.speed)):
        if not front or offer.speed > front[-1].speed:
            front.append(offer)
    return front


def _prices(cost: Comparison) -> str:
    said = [f"{label(host, 26)} {price.per_hour:g} an hour" for host, price in cost.prices.items()]
    return f"prices: {words.listing(said)}" if said else ""


def _chart(offers: Sequence[Offer], best: Sequence[Offer], subtitle: Sequence[str]) -> Any:
    import altair as alt

    from orchestrator.report.figures import charts

    places = ordered(offer.point.place for offer in offers)
    named = places if len(places) <= MOST_SERIES else [*places[: MOST_SERIES - 1], OTHERS]
    values = [
        {
            "place": offer.point.place if offer.point.place in named else OTHERS,
            "state": offer.state.value,
            "cost": offer.cost,
            "speed": offer.speed,
            "rank": str(offer.rank) if offer in best else "",
            "is_front": offer.rank > 0,
            "front": offer.front,
            "case": offer.point.name,
        }
        for offer in offers
    ]
    scales = {}
    for name, ends, length in (
        ("cost", [offer.cost for offer in offers], charts.WIDTH),
        ("speed", [offer.speed for offer in offers], HEIGHT),
    ):
        low, high = charts.log_domain(ends)
        scales[name] = (alt.Scale(type="log", domain=[low, high], nice=False), charts.log_ticks(low, high, length))
    x = alt.X("cost:Q", scale=scales["cost"][0]).axis(values=scales["cost"][1], format="~g")
    y = alt.Y("speed:Q", scale=scales["speed"][0]).axis(values=scales["speed"][1], format="~g")
    base = alt.Chart().encode(
        x=x.title(f"{COST} · {words.LEFT}"),
        y=y.title([SPEED, words.MORE]),
        tooltip=[
            alt.Tooltip("case:N"),
            *(alt.Tooltip(f"{name}:Q", format=charts.NUMBER) for name in ("speed", "cost")),
        ],
    )
    colour, shape = (charts.colour("place", named, channel=channel) for channel in (alt.Color, alt.Shape))
    stroke = charts.colour("place", named, legend=False, channel=alt.Stroke)
    on_front = base.transform_filter(alt.FieldEqualPredicate(field="is_front", equal=True))
    drawn = charts.panel(
        values,
        on_front.mark_line(style="front").encode(detail=alt.Detail("front:O")),
        *charts.marks(base, [offer.state for offer in offers], (colour, shape), stroke, size=110),
        base.mark_text(style="rank").encode(text=alt.Text("rank:N")),
        height=HEIGHT,
    )
    return charts.specification([drawn, _list(best)] if best else [drawn], TITLE, subtitle)


def _list(best: Sequence[Offer]) -> Any:
    import altair as alt

    from orchestrator.report.figures import charts

    values = [
        {
            "place": ROW * (place + 0.5),
            "text": f"{offer.rank}: {offer.point.name}: {number(offer.speed)} per minute at {number(offer.cost)}",
        }
        for place, offer in enumerate(best)
    ]
    lines = (
        alt.Chart()
        .mark_text(style="line")
        .encode(x=alt.value(0), y=alt.Y("place:Q", scale=None, axis=None), text=alt.Text("text:N"))
    )
    return charts.panel(
        values, lines, title="On a Pareto front, the cheapest of each work first", height=ROW * len(best)
    )
