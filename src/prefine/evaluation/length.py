"""What a win rate would be at equal lengths."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from prefine.evaluation.interval import Interval, resampled
from prefine.evaluation.logistic import fit_weighted

LEAST, LEAST_EITHER_WAY = 30, 5
"""Prompts, and comparisons in which either side is the longer, below which a slope by length says nothing."""


def length_only_win_rate(wins: NDArray[np.float64], tokens: NDArray[np.float64], base_tokens: NDArray[np.float64]) -> float:
    """What the win rate would be at equal lengths, from a logistic regression on the length difference alone.

    logit P(win) = theta + phi tanh(d / sd(d)), with d the difference of lengths; the value at
    d = 0 is 1 / (1 + exp(-theta)). It is *not* AlpacaEval's length-controlled win rate, which has a
    term for each instruction's difficulty as well (arXiv 2404.04475, section 3).

    Args:
        wins: in [0, 1]; tokens, base_tokens: lengths (any unit), shapes (comparisons,).
    """
    theta, _ = fit_logistic(_design(tokens, base_tokens), wins)
    return float(1 / (1 + np.exp(-theta)))


def _design(tokens: NDArray[np.float64], base_tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    difference = tokens - base_tokens
    spread = difference.std()
    x = np.tanh(difference / spread) if spread > 0 else np.zeros_like(difference)
    return np.column_stack((np.ones_like(x), x))


def length_only_interval(
    wins: NDArray[np.float64], tokens: NDArray[np.float64], base_tokens: NDArray[np.float64], clusters: Sequence[Hashable]
) -> Interval | None:
    """:func:`length_only_win_rate` with its interval; None where there is too little to tell it from."""
    count = len(set(clusters))
    either_way = min((tokens > base_tokens).sum(), (tokens < base_tokens).sum())
    if count < LEAST or either_way < LEAST_EITHER_WAY or np.ptp(wins) == 0:
        return None
    design = _design(tokens, base_tokens)
    low, high = resampled(lambda weights: 1 / (1 + np.exp(-fit_weighted(design, wins, weights)[:, 0])), clusters)
    return Interval(length_only_win_rate(wins, tokens, base_tokens), low, high, len(wins), count)


def fit_logistic(design: NDArray[np.float64], wins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of one logistic regression for outcomes in [0, 1], shape (coefficients,).

    Args:
        design: shape (comparisons, coefficients).
    """
    found: NDArray[np.float64] = fit_weighted(design, wins, np.ones((1, len(wins))))[0]
    return found
