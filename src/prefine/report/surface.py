"""A chart of a rate over settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefine.errors import printable
from prefine.report.plots import data_of, layered
from prefine.report.theme import HEIGHT, SERIES, SHAPES, finish, legend_of

if TYPE_CHECKING:
    from prefine.report.theme import Chart

FEW_TICKS = 8
"""Fewer values than so many each have their tick."""


@dataclass(frozen=True)
class Measured:
    """A rate at one place of :func:`surface`: the line it belongs to, where it stands across, the rate with its interval."""

    series: str
    at: float | str
    interval: Mapping[str, Any]


def surface(title: str, measured: Sequence[Measured], x: str, y: str) -> Chart | None:
    """Rates with their intervals over a setting, a line per value of the others; None of nothing.

    Numbers above 0 that span more than a factor of two stand on a logarithmic axis; what is no number, side by side.
    """
    import altair as alt

    if not measured:
        return None
    numbers = [m.at for m in measured if not isinstance(m.at, str)]
    numeric = len(numbers) == len(measured)
    log = numeric and min(numbers) > 0 and max(numbers) > 2 * min(numbers)
    rows: list[dict[str, Any]] = [
        {
            "series": printable(m.series),
            x: m.at if numeric else printable(str(m.at)),
            y: round(100 * m.interval["estimate"], 2),
            "low": round(100 * m.interval["low"], 2),
            "high": round(100 * m.interval["high"], 2),
        }
        for m in measured
    ]
    names = list(dict.fromkeys(str(r["series"]) for r in rows))
    legend, more = legend_of(names)
    colours = [SERIES[i % len(SERIES)] for i in range(len(names))]
    scale = alt.Scale(type="log", nice=False, padding=20) if log else alt.Scale(zero=False, padding=20) if numeric else alt.Undefined
    form = "~e" if log and min(numbers) < 0.001 else ".3~g"
    ticks: dict[str, Any] = {"values": sorted(set(numbers)), "format": form} if numeric and len(set(numbers)) < FEW_TICKS else {}
    axis = alt.Axis(grid=False, **ticks)
    across = alt.X(field=x, type="quantitative" if numeric else "nominal", title=x, scale=scale, axis=axis)
    ends = alt.Scale(domain=[min(r["low"] for r in rows), max(r["high"] for r in rows)], zero=False, padding=6)
    up = alt.Y(field=y, type="quantitative", title=y, scale=ends, axis=alt.Axis(tickCount=5))
    shared: dict[str, Any] = {"x": across, "color": alt.Color("series:N", scale=alt.Scale(domain=names, range=colours), legend=legend)}
    tooltip = [alt.Tooltip(field=f, type="quantitative" if f != "series" and (f != x or numeric) else "nominal") for f in rows[0]]
    chart = alt.Chart(data_of(rows))
    shape = alt.Shape("series:N", scale=alt.Scale(domain=names, range=[SHAPES[i % len(SHAPES)] for i in range(len(names))]), legend=legend)
    layers = [
        chart.mark_rule(strokeWidth=2, opacity=0.5).encode(**shared, y=alt.Y("low:Q", scale=ends, title=y), y2="high:Q"),
        chart.mark_line(strokeWidth=2).encode(**shared, y=up),
        chart.mark_point(size=70, filled=True, opacity=1).encode(**shared, y=up, shape=shape, tooltip=tooltip),
    ]
    told = "; ".join(f"{r['series']}{', ' * bool(r['series'])}{x} {r[x]}: {r[y]:g} % [{r['low']:g}, {r['high']:g}]" for r in rows)
    return finish(layered(rows, *layers), title, f"{title}: {told}", HEIGHT + 60 + more)
