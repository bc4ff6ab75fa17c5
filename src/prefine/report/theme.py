"""The look that all charts share, for a notebook and for a page.

A chart holds literal colours. On a page each becomes the variable of ``page.css`` of the same name, so that dark mode and
printing change the colours of what is already drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt

    Chart = alt.Chart | alt.LayerChart

COLOURS = {
    "paper": "#ffffff",
    "ink": "#1b1f24",
    "soft": "#57606a",
    "line": "#d0d7de",
    "fine": "#1a7f37",
    "look": "#8a5a00",
    "fix": "#b42318",
    "base": "#6e7781",
    "c0": "#0072b2",
    "c1": "#d55e00",
    "c2": "#009e73",
    "c3": "#cc79a7",
    "c4": "#b58900",
    "c5": "#56b4e9",
}
"""Name -> colour on white paper; ``page.css`` says the same, and what they are on dark."""
SERIES = tuple(COLOURS[f"c{i}"] for i in range(6))
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [1, 3])
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")
WIDTH, HEIGHT = 360, 190


def legend_of(names: Sequence[str], **look: Any) -> tuple[alt.Legend | None, int]:
    """A legend above a chart that fits a phone, and how much higher it makes the chart; none for one series."""
    import altair as alt

    if len(names) < 2:
        return None, 0
    columns = 2 if max(map(len, names)) <= 18 else 1
    rows = -(-len(names) // columns)
    return alt.Legend(columns=columns, labelLimit=150 if columns == 2 else 280, symbolOpacity=1, **look), 15 * (rows - 1)


def finish(chart: Chart, title: str, about: str, height: int = HEIGHT) -> Chart:
    """Give a chart its title, what it says in words, its size and the common look."""
    import altair as alt

    small: dict[str, Any] = {"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal"}
    faint: dict[str, Any] = {"labelColor": COLOURS["soft"], "titleColor": COLOURS["soft"]}
    axis = small | faint | {"gridColor": COLOURS["line"], "domainColor": COLOURS["line"], "tickColor": COLOURS["line"]}
    chart = chart.properties(title=title, description=about, width=WIDTH, height=height, background="transparent")
    chart.autosize = alt.AutoSizeParams(type="fit", contains="padding")
    chart.config = alt.Config(
        font="system-ui, sans-serif",
        view={"stroke": None},
        axis=axis | {"labelOverlap": True, "labelFlush": True},
        legend=small | faint | {"orient": "top", "title": None, "offset": 4, "symbolStrokeWidth": 2},
        title={"fontSize": 13, "color": COLOURS["ink"], "anchor": "start"},
        text={"color": COLOURS["ink"], "fontSize": 11},
    )
    return chart


def for_page(chart: Chart) -> dict[str, Any]:
    """The Vega-Lite specification that a page draws: as wide as its place, without the title, which the page writes itself."""
    spec = _with_variables(chart.to_dict())
    spec.pop("title", None)
    spec["width"] = "container"
    return dict(spec)


def _with_variables(value: Any) -> Any:
    """Literal colours become CSS variables, but not in data; numbers that are not finite, which JSON has no word for, become null."""
    if isinstance(value, dict):
        return {k: _finite(v) if k in ("data", "datasets", "description") else _with_variables(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_with_variables(v) for v in value]
    return _VARIABLES.get(value, value) if isinstance(value, str) else value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_VARIABLES = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
