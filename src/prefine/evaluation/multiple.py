"""Many questions asked of one evaluation, and how their answers stay true together. No torch, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

FAMILY = 0.025
"""Chance of one false alarm among all that may have got worse, one-sided, as one end of a 95 % interval has."""


def holm(p_values: Sequence[float], level: float = FAMILY) -> list[bool]:
    """Which hypotheses are rejected so that any false rejection has at most probability ``level`` (Holm 1979), whatever depends on what."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    out = [False] * len(p_values)
    for place, i in enumerate(order):
        if p_values[i] > level / (len(order) - place):
            break
        out[i] = True
    return out


def together(comparisons: int, level: float = 0.95) -> float:
    """Level of each of several intervals that are all to hold at once with probability ``level`` (Bonferroni).

    It also makes good for picking the best of them: whichever is picked, its interval is one of these.
    """
    return 1 - (1 - level) / max(1, comparisons)
