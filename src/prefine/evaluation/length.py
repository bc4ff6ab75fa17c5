"""What a win rate would be at equal lengths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
