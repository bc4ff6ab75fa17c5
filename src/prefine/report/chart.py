"""Charts as inline SVG: win rates with their intervals, and curves over steps. Each says in words what it shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from prefine.errors import printable

CLASSES = {"better": "better", "worse": "worse", "better, but": "worse", "not shown": "unsure"}


def interval_chart(rows: Sequence[tuple[str, Mapping[str, float], str]], even: float = 0.5, works: float = 0.55) -> str:
    """Rates with their intervals on a line from 0 to 100 %, the thresholds marked.

    Args:
        rows: a label, an interval (``estimate``, ``low``, ``high``) and an outcome each.
    """
    width, left, step = 400, 6, 34
    height = 22 + step * len(rows)

    def x(rate: float) -> float:
        return left + (width - 2 * left) * rate

    parts = [f'<line class="axis" x1="{x(0)}" x2="{x(1)}" y1="{height - 16}" y2="{height - 16}"></line>']
    for rate, anchor in ((0.0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1.0, "end")):
        parts.append(f'<text x="{x(rate):.0f}" y="{height - 4}" text-anchor="{anchor}">{100 * rate:.0f} %</text>')
    for rate in (even, works):
        parts.append(f'<line class="mark" x1="{x(rate):.1f}" x2="{x(rate):.1f}" y1="2" y2="{height - 16}"></line>')
    told = []
    for i, (label, found, outcome) in enumerate(rows):
        y, kind = 22 + step * i, CLASSES.get(outcome, "unsure")
        told.append(f"{label}: {100 * found['estimate']:.1f} % [{100 * found['low']:.1f}, {100 * found['high']:.1f}], {outcome}")
        parts.append(
            f'<line class="{kind}" stroke-width="3" x1="{x(found["low"]):.1f}" x2="{x(found["high"]):.1f}" y1="{y}" y2="{y}"></line>'
        )
        parts.append(f'<circle class="{kind}" cx="{x(found["estimate"]):.1f}" cy="{y}" r="4"></circle>')
        parts.append(f'<text x="{left}" y="{y - 10}">{escape(printable(label))}</text>')
    shown = "".join(f"<li>{escape(printable(line))}</li>" for line in told)
    about = escape(printable("; ".join(told)))
    caption = f"95 % intervals. Dashed: {100 * even:g} %, even, and {100 * works:g} %, from where training works."
    return (
        f'<figure><ol class="plain">{shown}</ol>'
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{about}">{"".join(parts)}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def share_chart(title: str, rows: Sequence[tuple[str, float, float]]) -> str:
    """Shares of base and tuned as bars, one below the other.

    Args:
        rows: a label, the base's share and the tuned model's, each 0 to 1.
    """
    width, left, step = 400, 110, 30
    most = max(0.05, *(max(b, t) for _, b, t in rows))
    parts, told = [], []
    for i, (label, base, tuned) in enumerate(rows):
        y = step * i
        parts.append(f'<text x="0" y="{y + 16}">{escape(label)}</text>')
        for down, share, kind in ((4, base, "base"), (14, tuned, "tuned")):
            long = max(1.0, (width - left - 100) * share / most)
            parts.append(f'<rect class="{kind}" x="{left}" y="{y + down}" width="{long:.1f}" height="8"></rect>')
        parts.append(f'<text x="{width}" y="{y + 16}" text-anchor="end">{100 * base:.1f} → {100 * tuned:.1f} %</text>')
        told.append(f"{label} {100 * base:.1f} % to {100 * tuned:.1f} %")
    about = escape(f"{title}: {'; '.join(told)}")
    return (
        f'<figure><svg viewBox="0 0 {width} {step * len(rows)}" role="img" aria-label="{about}">{"".join(parts)}</svg>'
        f"<figcaption>{escape(title)}: above the base, below the tuned model</figcaption></figure>"
    )


def line_chart(title: str, series: Mapping[str, Sequence[tuple[float, float]]], start: str = "step") -> str:
    """One or two curves over steps, with the ends of both axes; values that are not finite leave gaps.

    Args:
        series: a name and its (step, value) points.
        start: what stands before the first step.
    """
    kept = {name: [(s, v) for s, v in points if math.isfinite(v)] for name, points in series.items()}
    kept = {name: points for name, points in kept.items() if points}
    if not kept:
        return ""
    width, height, foot, left = 320, 150, 18, 52
    steps = [s for points in kept.values() for s, _ in points]
    values = [v for points in kept.values() for _, v in points]
    (first, last), (low, high) = (min(steps), max(steps)), (min(values), max(values))

    def place(step: float, value: float) -> str:
        across = (step - first) / (last - first) if last > first else 0.5
        up = (value - low) / (high - low) if high > low else 0.5
        return f"{left + across * (width - left):.1f},{(height - foot - 6) * (1 - up) + 3:.1f}"

    lines = []
    for i, points in enumerate(kept.values()):
        kind = "line second" if i else "line"
        if len(points) == 1:
            cx, cy = place(*points[0]).split(",")
            lines.append(f'<circle class="unsure" cx="{cx}" cy="{cy}" r="3"></circle>')
        lines.append(f'<polyline class="{kind}" points="{" ".join(place(s, v) for s, v in points)}"></polyline>')
    texts = (
        f'<text x="0" y="12">{high:.3g}</text><text x="0" y="{height - foot - 4}">{low:.3g}</text>'
        f'<text x="{left}" y="{height - 4}">{start} {first:g}</text><text x="{width}" y="{height - 4}" text-anchor="end">{last:g}</text>'
    )
    ends = "; ".join(f"{name} from {points[0][1]:.4g} to {points[-1][1]:.4g}" for name, points in kept.items())
    legend = "" if len(kept) == 1 else f' <span class="soft">(solid {escape(next(iter(kept)))}, dashed {escape(list(kept)[1])})</span>'
    return (
        f'<figure><figcaption>{escape(title)}{legend}</figcaption><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}: {escape(ends)}">{"".join(lines)}{texts}</svg></figure>'
    )


MARKS = ("circle", "square", "diamond", "triangle", "down", "bar")


@dataclass(frozen=True)
class Series:
    """One line of a picture.

    Attributes:
        points: (x, y), joined in this order; labels: what stands at some of them; cloud: single measurements behind them.
        dots: whether the points are marked.
    """

    name: str
    points: Sequence[tuple[float, float]]
    labels: Sequence[str] = ()
    cloud: Sequence[tuple[float, float]] = ()
    dots: bool = True


def xy_chart(
    title: str, series: Sequence[Series], x_label: str, y_label: str, log_x: bool = False, level: tuple[str, float] | None = None
) -> str:
    """Up to six series over two axes, told apart by colour, mark and dash, and named in a legend below; '' where there is nothing.

    Args:
        log_x: a logarithmic scale across; for values above 0.
        level: a name and a height that a dashed line marks.
    """
    kept = [s for s in series if s.points]
    if not kept:
        return ""
    width, top, plot, foot, left, right = 640, 22, 320, 34, 44, 12
    legend = 18 * ((len(kept) + 1) // 2)
    points = [p for s in kept for p in (*s.points, *s.cloud)]
    x_ticks = (_log_ticks if log_x else _ticks)([x for x, _ in points])
    y_ticks = _ticks([*(y for _, y in points), *([level[1]] if level else [])])
    scale: Callable[[float], float] = math.log if log_x else float

    def x(value: float) -> float:
        first, last = scale(x_ticks[0]), scale(x_ticks[-1])
        return left + (scale(max(value, x_ticks[0])) - first) / (last - first) * (width - left - right)

    def y(value: float) -> float:
        return top + (1 - (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])) * (plot - top)

    parts = []
    for tick in x_ticks:
        parts.append(f'<line class="axis" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{plot}"></line>')
        parts.append(f'<text x="{x(tick):.1f}" y="{plot + 14}" text-anchor="middle">{tick:g}</text>')
    for tick in y_ticks:
        parts.append(f'<line class="axis" x1="{left}" x2="{width - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"></line>')
        parts.append(f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    parts.append(f'<text x="{width - right}" y="{plot + 29}" text-anchor="end">{escape(x_label)}</text>')
    parts.append(f'<text x="{left}" y="12">{escape(y_label)}</text>')
    told = []
    if level:
        parts.append(f'<line class="mark" x1="{left}" x2="{width - right}" y1="{y(level[1]):.1f}" y2="{y(level[1]):.1f}"></line>')
        parts.append(f'<text x="{width - right - 4}" y="{y(level[1]) - 4:.1f}" text-anchor="end">{escape(level[0])}</text>')
        told.append(f"{level[0]}: {level[1]:.3g}")
    for i, s in enumerate(kept):
        drawn = [f'<g class="faint">{_mark(i, x(a), y(b), 2.5)}</g>' for a, b in s.cloud]
        line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in s.points)
        drawn.append(f'<polyline class="{"dashed" if i >= 3 else ""}" points="{line}"></polyline>')
        drawn += [_mark(i, x(a), y(b), 4.5) for a, b in s.points] if s.dots else []
        for (a, b), label in zip(s.points, s.labels, strict=False):
            drawn.append(f'<text x="{x(a) + 7:.1f}" y="{y(b) + 4:.1f}">{escape(label)}</text>')
        across, down = left + (i % 2) * (width - left) / 2, plot + foot + 14 + 18 * (i // 2)
        dash = ' class="dashed"' if i >= 3 else ""
        drawn.append(f'<line{dash} x1="{across}" x2="{across + 22}" y1="{down - 4}" y2="{down - 4}"></line>')
        drawn += [_mark(i, across + 11, down - 4, 4.5)] if s.dots else []
        drawn.append(f'<text x="{across + 28}" y="{down}">{escape(s.name)}</text>')
        parts.append(f'<g class="series s{i}">{"".join(drawn)}</g>')
        told.append(f"{s.name}: " + ", ".join(f"({a:.3g}, {b:.3g})" for a, b in (s.points if s.dots else (s.points[0], s.points[-1]))))
    about = escape(f"{title}. {y_label} over {x_label}. {'; '.join(told)}")
    return (
        f'<figure><svg viewBox="0 0 {width} {plot + foot + legend + 4}" role="img" aria-label="{about}">{"".join(parts)}</svg>'
        f"<figcaption>{escape(title)}</figcaption></figure>"
    )


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers around values, four to eight of them."""
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span))
    step *= next(f for f in (0.1, 0.2, 0.25, 0.5, 1.0) if span / (step * f) <= 6.5 or f == 1.0)
    first = math.floor(low / step + 1e-9)
    count = math.ceil((high - first * step) / step - 1e-9)
    return [round((first + i) * step, 10) for i in range(max(1, count) + 1)]


def _log_ticks(values: Sequence[float]) -> list[float]:
    """1, 2 and 5 times powers of ten around positive values; the smallest positive one stands in for what is not."""
    above = [v for v in values if v > 0] or [1.0]
    low, high = min(above), max(above)
    steps = [m * 10.0**e for e in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2) for m in (1, 2, 5)]
    first = max(i for i, s in enumerate(steps) if s <= low * (1 + 1e-9))
    last = max(first + 1, min(i for i, s in enumerate(steps) if s >= high * (1 - 1e-9)))
    return [round(s, 10) for s in steps[first : last + 1]]


def _mark(kind: int, x: float, y: float, size: float) -> str:
    name = MARKS[kind % len(MARKS)]
    if name == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}"></circle>'
    if name == "square":
        return f'<rect x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size}" height="{2 * size}"></rect>'
    up = {"diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)), "triangle": ((0, -1.2), (1.2, 1), (-1.2, 1))}
    corners = up.get(name, ((0, 1.2), (1.2, -1), (-1.2, -1)) if name == "down" else ((-0.5, -1.2), (0.5, -1.2), (0.5, 1.2), (-0.5, 1.2)))
    path = " ".join(f"{x + a * size:.1f},{y + b * size:.1f}" for a, b in corners)
    return f'<path d="M{path}Z"></path>'


CURVES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("loss", ("loss", "eval_loss")),
    ("reward margin", ("rewards/margins", "eval_rewards/margins")),
    ("log-probs, nats an answer", ("logps/chosen", "logps/rejected")),
    ("rewards", ("rewards/chosen", "rewards/rejected")),
    ("share of pairs with the chosen ahead", ("rewards/accuracies", "eval_rewards/accuracies")),
    ("scores of samples", ("objective/scores",)),
    ("KL to the reference, nats an answer", ("objective/kl",)),
    ("tokens of a sampled answer", ("completions/length",)),
    ("share of answers that ended", ("completions/ended",)),
    ("explained variance of values", ("val/explained_variance",)),
    ("disagreement of rewards", ("objective/disagreement",)),
    ("retention loss", ("retention/loss",)),
    ("entropy, nats a token", ("entropy",)),
    ("gradient norm", ("grad_norm",)),
    ("learning rate", ("learning_rate",)),
    ("tokens a second", ("tokens_per_second",)),
)


def training_curves(metrics: Sequence[Mapping[str, Any]]) -> str:
    """All curves that the logged steps have."""
    logged = [m for m in metrics if "step" in m and ("loss" in m or any(str(k).startswith("eval_") for k in m))]
    charts = []
    for title, names in CURVES:
        series = {n: [(float(m["step"]), float(m[n])) for m in logged if isinstance(m.get(n), int | float)] for n in names}
        charts.append(line_chart(title, {n: points for n, points in series.items() if points}))
    drawn = [c for c in charts if c]
    return f'<section><h2>Training</h2><div class="curves">{"".join(drawn)}</div></section>' if drawn else ""
