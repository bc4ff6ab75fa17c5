"""The distribution of a weighted sum of gamma variables, exactly: what the intervals of bounded means are read from. No torch.

Suffixes: K terms, U nodes of the quadrature.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
STEP = 0.09
NODES = STEP * np.arange(0, 135)
"""Places of u in t = scale sinh(u): up to 9e4 scales, where terms that decay like t^-2 no longer count."""


def positive_share(terms_K: Floats, shapes_K: Floats) -> float:
    """P(sum of terms * Gamma(shapes, 1) > 0), to about 1e-7.

    The sum's moment generating function is known, exp(K(s)) with K(s) = -sum shapes log(1 - s terms), and its
    tail is an integral of exp(K(s)) / s along a vertical line. It is taken through the saddle point
    (Daniels 1954), where the integrand is largest and hardly turns, by the trapezoidal rule in u.

    Args:
        terms_K: of either sign, shape (terms,); zeros, and what beside the largest is one, play no part.
        shapes_K: above 0, shape (terms,).
    """
    kept = np.abs(terms_K) > 1e-14 * np.abs(terms_K).max(initial=0.0)
    terms_K, shapes_K = terms_K[kept], shapes_K[kept]
    if not len(terms_K) or terms_K.max() < 0:
        return 0.0
    if terms_K.min() > 0:
        return 1.0
    if float(terms_K @ shapes_K) > 0:  # the small tail is the one that is known well
        return 1.0 - positive_share(-terms_K, shapes_K)
    terms_K = terms_K / np.abs(terms_K).max()
    center = _saddle(terms_K, shapes_K)
    ratios_K = terms_K / (1 - center * terms_K)
    scale = 1 / math.sqrt(float(shapes_K @ ratios_K**2) + center**-2)
    heights_U = scale * np.sinh(NODES)
    points_U = center + 1j * heights_U
    # log((1 - s a) / (1 - c a)) with s = c + it, so that nothing overflows.
    turned_U = np.zeros(len(NODES), complex)
    for first in range(0, len(terms_K), 256):
        part = slice(first, first + 256)
        turned_U -= shapes_K[part] @ np.log1p(-1j * np.outer(ratios_K[part], heights_U))
    values_U = (np.exp(turned_U) / points_U).real * scale * np.cosh(NODES)
    level = math.exp(-float(shapes_K @ np.log1p(-center * terms_K)))
    return float(min(1.0, max(0.0, level * STEP * (values_U.sum() - values_U[0] / 2) / math.pi)))


def _saddle(terms_K: Floats, shapes_K: Floats) -> float:
    """Where K(s) - log s is least between 0 and 1 / max(terms); its slope grows from minus to plus infinity there."""
    low, high = 0.0, 1 / float(terms_K.max())
    for _ in range(60):
        middle = (low + high) / 2
        if float((shapes_K * terms_K / (1 - middle * terms_K)).sum()) < 1 / middle:
            low = middle
        else:
            high = middle
        if high - low < 1e-6 * high:
            break
    return (low + high) / 2
