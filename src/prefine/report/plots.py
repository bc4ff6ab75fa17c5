"""Charts of any numbers: pure functions that return Altair charts, which show in a notebook and ``save`` to a file.

Every chart holds its numbers once, as rows under the names that a reader sees; :func:`rows_of` gives them back for a table.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from prefine.errors import printable
from prefine.report.tables import words_of
from prefine.report.theme import COLOURS, DASHES, HEIGHT, SERIES, SHAPES, finish, legend_of

if TYPE_CHECKING:
    import altair as alt

    from prefine.report.theme import Chart

Points = Sequence[tuple[float, float]]
MOST_POINTS = 240
"""Of one line; more are thinned to the minimum and the maximum of each stretch, so that no spike is lost."""
FEW = 30
"""Up to so many points of a line are marked."""
EVALUATION = "eval"
"""Ends the name of a series that is drawn dotted and marked; ``chosen, eval`` has the colour of ``chosen``."""


def data_of(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a chart's data."""
    import altair as alt

    return alt.Data(values=rows)  # type: ignore[no-untyped-call]


def layered(rows: Sequence[Mapping[str, Any]], *layers: Any) -> Chart:
    """Layers of one chart, whose numbers are ``rows``."""
    import altair as alt

    return cast("Chart", alt.layer(*layers, data=data_of(rows)))


def rows_of(chart: Chart) -> list[dict[str, Any]]:
    """A chart's numbers."""
    return list(cast(Any, chart.data).values)


def thinned(points: Points, most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """Finite points, at most about ``most`` of them."""
    kept = [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if len(kept) <= most:
        return kept
    places = {0, len(kept) - 1}
    stretches = most // 2
    for i in range(stretches):
        here = range(i * len(kept) // stretches, (i + 1) * len(kept) // stretches)
        places |= {min(here, key=lambda p: kept[p][1]), max(here, key=lambda p: kept[p][1])}
    return [kept[p] for p in sorted(places)]


def lines(title: str, series: Mapping[str, Points], y: str, x: str = "step", marks: Mapping[float, str] | None = None) -> Chart | None:
    """Curves, each with its own colour and dash; values that are not finite are left out, and None where nothing is left.

    Args:
        series: a name and its (x, y) points; one that ends in :data:`EVALUATION` is drawn with marks.
        y: what the values are, with their unit; x: what they are over.
        marks: places of x where something happened, drawn as dashed lines, and what it was.
    """
    import altair as alt

    kept = {printable(name): found for name, points in series.items() if (found := thinned(points))}
    if not kept:
        return None
    rows = [{x: a, "series": name, y: b} for name, points in kept.items() for a, b in points]
    owners = list(dict.fromkeys(name.removesuffix(f", {EVALUATION}") for name in kept))
    colours = [SERIES[owners.index(name.removesuffix(f", {EVALUATION}")) % len(SERIES)] for name in kept]
    is_eval = [name.endswith(EVALUATION) for name in kept]
    dashes = [[1, 3] if e else DASHES[owners.index(name) % len(DASHES)] for e, name in zip(is_eval, kept, strict=True)]
    seen = [name for e, (name, points) in zip(is_eval, kept.items(), strict=True) if e or len(points) <= FEW]
    names = list(kept)
    told = "; ".join(f"{name} from {points[0][1]:.4g} to {points[-1][1]:.4g}" for name, points in kept.items())
    legend, more = legend_of(names, symbolType="stroke", symbolSize=300)
    shared: dict[str, Any] = {
        "x": alt.X(field=x, type="quantitative", title=x, scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(grid=False, tickCount=6)),
        "y": alt.Y(field=y, type="quantitative", title=y, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5, format=".4~g")),
        "color": alt.Color("series:N", scale=alt.Scale(domain=names, range=colours), legend=legend),
    }
    chart = alt.Chart(data_of(rows))
    dash = alt.StrokeDash("series:N", scale=alt.Scale(domain=names, range=dashes), legend=legend)
    drawn = chart.mark_line(strokeWidth=2).encode(**shared, strokeDash=dash)
    tooltip = [
        alt.Tooltip(field=x, type="quantitative", format=".6~g", title=x),
        alt.Tooltip(field=y, type="quantitative", format=".4~g", title=y),
    ]
    tooltip[1:1] = [alt.Tooltip(field="series", type="nominal", title="series")] if len(names) > 1 else []
    # Marks that are not seen are there for the pointer and the keyboard.
    opacity = alt.condition(alt.FieldOneOfPredicate(field="series", oneOf=seen), alt.value(1), alt.value(0))
    points = chart.mark_point(size=40, filled=True).encode(**shared, opacity=opacity, tooltip=tooltip)
    happened = [{x: place, "what": printable(what)} for place, what in (marks or {}).items()]
    rules = [
        alt.Chart(data_of(happened))
        .mark_rule(strokeDash=[4, 4], color=COLOURS["look"])
        .encode(alt.X(field=x, type="quantitative"), tooltip=[alt.Tooltip(field="what", type="nominal")])
    ]
    told += "".join(f"; at {x} {row[x]:g}: {row['what']}" for row in happened)
    return finish(layered(rows, *(rules if happened else []), drawn, points), title, f"{title}: {told}", HEIGHT + more)


@dataclass(frozen=True)
class Estimate:
    """A rate with its interval, as a line of :func:`intervals`."""

    label: str
    interval: Mapping[str, Any]
    outcome: str = ""


OUTCOMES = {"better": "better", "worse": "worse", "better, but": "worse", "degenerated": "worse", "collapsed": "worse"}
"""How an outcome is coloured; others are inconclusive."""


def intervals(title: str, estimates: Sequence[Estimate], null: float = 0.5, minimum: float = 0.55, x: str = "win rate, %") -> Chart:
    """Rates with their 95 % intervals from 0 to 100 %, each below its label; the thresholds dashed."""
    import altair as alt

    rows = [
        {
            "evaluation": printable(e.label),
            x: round(100 * e.interval["estimate"], 2),
            "low": round(100 * e.interval["low"], 2),
            "high": round(100 * e.interval["high"], 2),
            "n": e.interval.get("count"),
            "outcome": words_of(e.outcome),
            "place": i,
        }
        for i, e in enumerate(estimates)
    ]
    colour = [OUTCOMES.get(e.outcome, "inconclusive") if e.outcome else "none" for e in estimates]
    for row, kind in zip(rows, colour, strict=True):
        row["kind"] = kind
    kinds = {"better": COLOURS["fine"], "worse": COLOURS["fix"], "inconclusive": COLOURS["look"], "none": COLOURS["c0"]}
    told = "; ".join(f"{r['evaluation']}: {r[x]:g} % [{r['low']:g}, {r['high']:g}]{', ' * bool(r['outcome'])}{r['outcome']}" for r in rows)
    place = alt.Y("place:O", axis=None, scale=alt.Scale(paddingInner=0.4, paddingOuter=0.5))
    scale, axis = alt.Scale(domain=[0, 100], nice=False), alt.Axis(values=[0, 25, 50, 75, 100], grid=True)
    across = alt.X(field=x, type="quantitative", title=x, scale=scale, axis=axis)
    shade = alt.Color("kind:N", scale=alt.Scale(domain=list(kinds), range=list(kinds.values())), legend=None)
    shown = [alt.Tooltip(field=f, type="nominal" if f in ("evaluation", "outcome") else "quantitative") for f in list(rows[0])[:6]]
    chart = alt.Chart(data_of(rows))
    marks = alt.Chart(data_of([{"at": 100 * null}, {"at": 100 * minimum}]))
    text: dict[str, Any] = {"align": "left", "dy": -13, "limit": 340}
    layers = [
        marks.mark_rule(strokeDash=[3, 3], color=COLOURS["soft"]).encode(x=alt.X("at:Q", scale=scale)),
        chart.mark_rule(strokeWidth=3).encode(x=alt.X("low:Q", scale=scale, title=x), x2="high:Q", y=place, color=shade),
        chart.mark_point(size=90, filled=True, opacity=1).encode(x=across, y=place, color=shade, tooltip=shown),
        chart.mark_text(**text, stroke=COLOURS["paper"], strokeWidth=3).encode(x=alt.XDatum(0), y=place, text="evaluation:N"),
        chart.mark_text(**text).encode(x=alt.XDatum(0), y=place, text="evaluation:N"),
    ]
    about = f"{title}: {told}. Dashed: null rate {100 * null:g} % and minimum win rate {100 * minimum:g} %"
    return finish(layered(rows, *layers), title, about, 40 + 44 * len(rows))


def shares(title: str, rows: Sequence[tuple[str, float, float]]) -> Chart:
    """Shares of the base and the tuned model as bars, one above the other.

    Args:
        rows: a label, the base's share and the tuned model's, each 0 to 1.
    """
    import altair as alt

    table: list[dict[str, Any]] = [
        {"sign": name, "model": side, "share, %": round(100 * v, 3)} for name, b, t in rows for side, v in (("base", b), ("tuned", t))
    ]
    told = "; ".join(f"{name} {100 * b:.1f} % to {100 * t:.1f} %" for name, b, t in rows)
    most = max(5.0, *(r["share, %"] for r in table))
    drawn = (
        alt.Chart(data_of(table))
        .mark_bar(minBandSize=2)
        .encode(
            x=alt.X(field="share, %", type="quantitative", scale=alt.Scale(domain=[0, most]), title="share of responses, %"),
            y=alt.Y("sign:N", sort=None, title=None, axis=alt.Axis(labelLimit=110)),
            yOffset=alt.YOffset("model:N", sort=["base", "tuned"]),
            color=alt.Color("model:N", scale=_sides(), legend=legend_of(("base", "tuned"))[0]),
            tooltip=["sign:N", "model:N", alt.Tooltip(field="share, %", type="quantitative")],
        )
    )
    return finish(drawn, title, f"{title}: {told}", 40 + 34 * len(rows))


def _sides() -> alt.Scale:
    import altair as alt

    return alt.Scale(domain=["base", "tuned"], range=[COLOURS["base"], COLOURS["c0"]])


def histogram(title: str, sides: Mapping[str, tuple[Sequence[float], Sequence[int]]], x: str, log: bool = False) -> Chart | None:
    """Counts between edges, one or two series over each other; None where there are no values.

    Args:
        sides: a name -> edges (bars + 1,) and counts (bars,); log: a logarithmic axis, for edges above 0.
    """
    import altair as alt

    rows: list[dict[str, Any]] = [
        {"series": printable(name), "from": a, "to": b, "count": int(n)}
        for name, (edges, counts) in sides.items()
        for a, b, n in zip(edges, edges[1:], counts, strict=False)
    ]
    used = [r for r in rows if r["count"]]
    if not used:
        return None
    first, last = min(r["from"] for r in used), max(r["to"] for r in used)
    rows = [r for r in rows if first <= r["from"] and r["to"] <= last]
    names = [printable(n) for n in sides]
    totals = Counter({n: sum(r["count"] for r in rows if r["series"] == n) for n in names})
    told = "; ".join(f"{n}: n = {totals[n]:,}" for n in names)
    about = f"{title}: {told}, from {first:,.4g} to {last:,.4g}"
    palette = [COLOURS["base"], COLOURS["c0"]] if len(names) == 2 else [COLOURS["c0"]]
    scale = alt.Scale(type="log", nice=False) if log else alt.Scale(zero=False, nice=False)
    colour = alt.Color("series:N", scale=alt.Scale(domain=names, range=palette), legend=legend_of(names)[0])
    tooltip: list[Any] = ["series:N"] * (len(names) > 1)
    tooltip += [alt.Tooltip("from:Q", format=",.4~g"), alt.Tooltip("to:Q", format=",.4~g"), alt.Tooltip("count:Q", format=",")]
    drawn = (
        alt.Chart(data_of(rows))
        .mark_rect(opacity=0.5 if len(names) > 1 else 0.9, strokeWidth=1)
        .encode(
            x=alt.X("from:Q", scale=scale, title=x, axis=alt.Axis(grid=False, tickCount=6, format="~s" if log else ".4~g")),
            x2="to:Q",
            y=alt.Y("count:Q", title="count", axis=alt.Axis(tickCount=5)),
            y2=alt.Y2Datum(0),
            color=colour,
            tooltip=tooltip,
        )
    )
    return finish(drawn, title, about)


def binned(values: Mapping[str, Sequence[float]], bars: int = 30) -> dict[str, tuple[list[float], list[int]]]:
    """Series over common edges, for :func:`histogram`; edges are round numbers where all values are whole."""
    import numpy as np

    finite = {name: np.array([v for v in each if math.isfinite(v)], float) for name, each in values.items()}
    every = np.concatenate([np.zeros(0), *finite.values()])
    if not len(every):
        return {}
    if (every == np.round(every)).all():
        step = max(1, math.ceil((every.max() - every.min() + 1) / bars))
        edges = np.arange(every.min(), every.max() + step + 1, step)
    else:
        edges = np.histogram_bin_edges(every, bars)
    return {name: (edges.tolist(), np.histogram(each, edges)[0].tolist()) for name, each in finite.items()}


def scatter(title: str, points: Iterable[tuple[float, float]], x: str, y: str, most: int = 1000) -> Chart | None:
    """Points about the diagonal, equal ones as one that is larger; None where there are none."""
    import altair as alt

    counted = Counter((round(float(a), 4), round(float(b), 4)) for a, b in points if math.isfinite(a) and math.isfinite(b))
    if not counted:
        return None
    above = sum(n for (a, b), n in counted.items() if b > a)
    below = sum(n for (a, b), n in counted.items() if b < a)
    about = f"{title}: n = {counted.total():,}; {above:,} above the diagonal, {below:,} below, {counted.total() - above - below:,} on it"
    step = math.ceil(len(counted) / most)
    rows = [{x: a, y: b, "n": n} for (a, b), n in sorted(counted.items())[::step]]
    ends = [min(min(p) for p in counted), max(max(p) for p in counted)]
    if ends[0] == ends[1]:
        ends = [ends[0] - 1, ends[1] + 1]
    scale, axis = alt.Scale(domain=ends, nice=True, zero=False), alt.Axis(tickCount=5)
    across = alt.X(field=x, type="quantitative", scale=scale, title=x, axis=axis)
    up = alt.Y(field=y, type="quantitative", scale=scale, title=y, axis=axis)
    diagonal = alt.Chart(data_of([{"a": e} for e in ends])).mark_line(strokeDash=[3, 3], strokeWidth=1, color=COLOURS["soft"])
    most_n = max(counted.values())
    marks = alt.Chart(data_of(rows)).mark_point(filled=True, opacity=0.6, color=COLOURS["c0"])
    size = alt.Size("n:Q", scale=alt.Scale(domain=[1, most_n], range=[20, 260 if most_n > 1 else 20]), legend=None)
    tooltip = [alt.Tooltip(field=f, type="quantitative", format=".4~g") for f in (x, y, "n")]
    layers = [
        diagonal.encode(x=alt.X("a:Q", scale=scale, title=x, axis=axis), y=alt.Y("a:Q", scale=scale, title=y, axis=axis)),
        marks.encode(x=across, y=up, size=size, tooltip=tooltip),
    ]
    return finish(layered(rows, *layers), title, about, 260)


def calibration(title: str, bins: Sequence[tuple[float, float, int]], error: float | None = None) -> Chart | None:
    """Found over predicted shares, with the diagonal of a calibrated model.

    Args:
        bins: mean predicted share, found share and count of each bin, shares 0 to 1; error: expected calibration error.
    """
    import altair as alt

    x, y = "predicted, %", "found, %"
    rows = [{x: round(100 * p, 2), y: round(100 * f, 2), "n": int(n)} for p, f, n in bins]
    if not rows:
        return None
    told = f"{title}: " + "; ".join(f"{r[x]:g} % predicted, {r[y]:g} % found, n = {r['n']}" for r in rows)
    told += "" if error is None else f"; calibration error {error:.3f}"
    scale, axis = alt.Scale(domain=[0, 100], nice=False), alt.Axis(values=[0, 25, 50, 75, 100])
    diagonal = alt.Chart(data_of([{"a": 0}, {"a": 100}])).mark_line(strokeDash=[3, 3], strokeWidth=1, color=COLOURS["soft"])
    chart = alt.Chart(data_of(rows))
    across = alt.X(field=x, type="quantitative", scale=scale, title=x, axis=axis)
    up = alt.Y(field=y, type="quantitative", scale=scale, title=y, axis=axis)
    size = alt.Size("n:Q", scale=alt.Scale(range=[30, 200], zero=False), legend=None)
    tooltip = [alt.Tooltip(field=f, type="quantitative", format=".4~g") for f in (x, y, "n")]
    layers = [
        diagonal.encode(x=alt.X("a:Q", scale=scale, title=x, axis=axis), y=alt.Y("a:Q", scale=scale, title=y, axis=axis)),
        chart.mark_line(strokeWidth=1.5, color=COLOURS["c0"]).encode(x=across, y=up),
        chart.mark_point(filled=True, opacity=1, color=COLOURS["c0"]).encode(x=across, y=up, size=size, tooltip=tooltip),
    ]
    return finish(layered(rows, *layers), title, told, 260)


@dataclass(frozen=True)
class Series:
    """One line of :func:`frontier`.

    Attributes:
        points: (x, y), joined in this order; labels: what stands at some of them; cloud: single measurements behind them.
    """

    name: str
    points: Points
    labels: Sequence[str] = ()
    cloud: Points = ()


def frontier(
    title: str, series: Sequence[Series], x: str, y: str, log_x: bool = False, level: tuple[str, float] | None = None
) -> Chart | None:
    """Up to six series over two axes, told apart by colour, mark and dash; None where there is nothing.

    Args:
        log_x: a logarithmic scale across; what is not above 0 stands at the smallest value that is.
        level: a name and a height that a dashed line marks.
    """
    import altair as alt

    kept = [s for s in series if s.points]
    if not kept:
        return None
    above = [a for s in kept for a, _ in (*s.points, *s.cloud) if a > 0]
    lowest = min(above, default=1.0) if log_x else -math.inf
    names = [printable(s.name) for s in kept]
    rows: list[dict[str, Any]] = []
    for s, name in zip(kept, names, strict=True):
        labels = [*s.labels, *[""] * len(s.points)]
        rows += [
            {"series": name, x: max(a, lowest), y: b, "label": printable(w), "place": i, "seed": False}
            for i, ((a, b), w) in enumerate(zip(s.points, labels, strict=False))
        ]
        rows += [{"series": name, x: max(a, lowest), y: b, "label": "", "place": 0, "seed": True} for a, b in s.cloud]
    scale = alt.Scale(type="log") if log_x else alt.Scale(zero=False)
    across = alt.X(field=x, type="quantitative", scale=scale, title=x, axis=alt.Axis(tickCount=6, format=".4~g"))
    up = alt.Y(field=y, type="quantitative", scale=alt.Scale(zero=False), title=y)
    legend, more = legend_of(names)
    colour = alt.Color("series:N", scale=alt.Scale(domain=names, range=list(SERIES[: len(names)])), legend=legend)
    shape = alt.Shape("series:N", scale=alt.Scale(domain=names, range=list(SHAPES[: len(names)])), legend=legend)
    dash = alt.StrokeDash("series:N", scale=alt.Scale(domain=names, range=list(DASHES[: len(names)])), legend=legend)
    whole = alt.Chart(data_of(rows))
    means = whole.transform_filter("!datum.seed")
    tooltip: list[Any] = ["series:N", *(alt.Tooltip(field=f, type="quantitative", format=".4~g") for f in (x, y)), "label:N"]
    layers: list[Any] = [
        whole.transform_filter("datum.seed").mark_point(size=16, filled=True, opacity=0.35).encode(x=across, y=up, color=colour),
        means.mark_line(strokeWidth=2).encode(x=across, y=up, color=colour, strokeDash=dash, order="place:Q"),
        means.mark_point(size=70, filled=True, opacity=1).encode(x=across, y=up, color=colour, shape=shape, tooltip=tooltip),
        means.mark_text(align="left", dx=7, limit=120).encode(x=across, y=up, text="label:N"),
    ]
    told = [f"{n}: " + ", ".join(f"({a:.3g}, {b:.3g})" for a, b in s.points) for n, s in zip(names, kept, strict=True)]
    if level:
        mark = alt.Chart(data_of([{"at": level[1]}])).mark_rule(strokeDash=[3, 3], color=COLOURS["soft"])
        layers.append(mark.encode(y=alt.Y("at:Q", title=y)))
        told.append(f"{level[0]}: {level[1]:.3g} (dashed)")
    return finish(layered(rows, *layers), title, f"{title}. {y} over {x}. {'; '.join(told)}", 2 * HEIGHT + more)
