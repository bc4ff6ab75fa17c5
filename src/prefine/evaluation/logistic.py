"""Logistic regressions for outcomes in [0, 1], many weightings at once. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def fit_weighted(design: Floats, wins: Floats, weights: Floats, ridge: float = 1e-6, steps: int = 50) -> Floats:
    """Coefficients of logistic regressions for outcomes in [0, 1], by Newton's method, one for each row of weights.

    Args:
        design: shape (comparisons, coefficients); weights: shape (fits, comparisons). ridge: keeps separable data finite.

    Returns:
        Shape (fits, coefficients).
    """
    out = np.zeros((len(weights), design.shape[1]))
    penalty = ridge * np.eye(design.shape[1])
    for first in range(0, len(weights), 100):
        part = weights[first : first + 100]
        coefficients = out[first : first + 100]
        for _ in range(steps):
            p = 1 / (1 + np.exp(-np.clip(coefficients @ design.T, -30, 30)))
            gradient = (part * (wins - p)) @ design - ridge * coefficients
            curvature = np.einsum("fn,ni,nj->fij", part * p * (1 - p), design, design, optimize=True) + penalty
            step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
            coefficients += np.clip(step, -5, 5)
            if np.abs(step).max() < 1e-10:
                break
    return out
