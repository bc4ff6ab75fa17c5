"""AlpacaEval's numbers from its raw preferences.

A preference lies in [1, 2]: 1 is the baseline's win, 2 the model's, 1.5 a draw; with log-probs
of the judge anything between. Formulas as that project's own (tatsu-lab/alpaca_eval,
``metrics/winrate.py`` and ``metrics/glm_winrate.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefine.evaluation.interval import standard_error


@dataclass(frozen=True)
class WinRate:
    """Win rate over the baseline and its parts; rates in per cent.

    Attributes:
        standard_error: sampling error of ``win_rate``, points.
        discrete: every preference rounded to win, draw (half) or loss.
    """

    win_rate: float
    standard_error: float
    wins: int
    losses: int
    draws: int
    count: int
    discrete: float


def win_rate(preferences: Sequence[float]) -> WinRate:
    """Count raw preferences.

    Args:
        preferences: in [1, 2], one a prompt; none may be missing.
    """
    raw = np.asarray(preferences, float)
    if len(raw) == 0 or not np.isfinite(raw).all() or raw.min() < 1 or raw.max() > 2:
        raise ValueError("raw preferences must be numbers from 1 to 2, at least one")
    y = raw - 1
    wins, draws = int((y > 0.5).sum()), int((y == 0.5).sum())
    return WinRate(
        100 * float(y.mean()), 100 * standard_error(y), wins, len(y) - wins - draws, draws, len(y), 100 * (wins + draws / 2) / len(y)
    )


def length_only_win_rate(wins: NDArray[np.float64], tokens: NDArray[np.float64], base_tokens: NDArray[np.float64]) -> float:
    """What the win rate would be at equal lengths, from a logistic regression on the length difference alone.

    logit P(win) = theta + phi tanh(d / sd(d)), with d the difference of lengths; the value at
    d = 0 is 1 / (1 + exp(-theta)). It is *not* AlpacaEval's length-controlled win rate, which has a
    term for each instruction's difficulty as well (arXiv 2404.04475, section 3).

    Args:
        wins: in [0, 1]; tokens, base_tokens: lengths (any unit), shapes (comparisons,).
    """
    difference = tokens - base_tokens
    spread = difference.std()
    x = np.tanh(difference / spread) if spread > 0 else np.zeros_like(difference)
    theta, _ = fit_logistic(np.column_stack((np.ones_like(x), x)), wins)
    return float(1 / (1 + np.exp(-theta)))


def fit_logistic(design: NDArray[np.float64], wins: NDArray[np.float64], ridge: float = 1e-6, steps: int = 50) -> NDArray[np.float64]:
    """Coefficients of a logistic regression for outcomes in [0, 1], by Newton's method.

    Args:
        design: shape (comparisons, coefficients). ridge: keeps separable data finite.
    """
    coefficients = np.zeros(design.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(design @ coefficients, -30, 30)))
        gradient = design.T @ (wins - p) - ridge * coefficients
        curvature = (design * (p * (1 - p))[:, None]).T @ design + ridge * np.eye(design.shape[1])
        step = np.linalg.solve(curvature, gradient)
        coefficients = coefficients + np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-10:
            break
    return coefficients
