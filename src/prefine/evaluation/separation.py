"""How well a number tells two kinds of response apart: the chance that one of the first kind has more of it than one of the second."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefine.evaluation.interval import LEVEL, Interval

DRAWS, AT_ONCE = 4000, 100


def area(scores: ArrayLike, is_first: ArrayLike, weights: NDArray[np.float64] | None = None) -> float:
    """The area under the ROC curve: the weighted share of pairs, one of each kind, where the first has the higher score, ties half."""
    values, first = np.asarray(scores, float), np.asarray(is_first, bool)
    found, possible = _shares(values, first, np.ones((1, len(values))) if weights is None else weights[None])
    return float(found[0] / possible[0])


def area_interval(scores: ArrayLike, is_first: ArrayLike, clusters: Sequence[Hashable], level: float = LEVEL, seed: int = 0) -> Interval:
    """The area with its interval over clusters (prompts).

    As :func:`~prefine.evaluation.interval.mean_interval` does with a mean: weights of the clusters are drawn from a flat Dirichlet
    together with one more cluster that was not seen, with as many responses of each kind as the others have, which for the lower end
    are all on the wrong side of everything and for the upper all on the right one. So five of five in order are no certainty.

    Args:
        scores: one a response; is_first: whether it is of the first kind; clusters: the prompt of each.

    Raises:
        ValueError: there are none of one kind.
    """
    values, first = np.asarray(scores, float), np.asarray(is_first, bool)
    if first.all() or not first.any():
        raise ValueError("one of the two kinds has no responses")
    names = {c: i for i, c in enumerate(dict.fromkeys(clusters))}
    owner = np.array([names[c] for c in clusters])
    rng, lows, highs = np.random.default_rng(seed), [], []
    for _ in range(DRAWS // AT_ONCE):
        weights = rng.standard_exponential((AT_ONCE, len(names) + 1))
        found, possible = _shares(values, first, weights[:, owner])
        sides = [weights[:, owner] @ kind.astype(float) + weights[:, -1] * kind.sum() / len(names) for kind in (first, ~first)]
        whole = sides[0] * sides[1]
        lows.append(found / whole)
        highs.append((found + whole - possible) / whole)
    low, high = np.quantile(np.concatenate(lows), (1 - level) / 2), np.quantile(np.concatenate(highs), (1 + level) / 2)
    return Interval(area(values, first), max(0.0, float(low)), min(1.0, float(high)), len(values), len(names))


def _shares(values: NDArray[np.float64], first: NDArray[np.bool_], weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Weights of pairs where the first kind is above, ties half, and of all pairs; weights (draws, responses), results (draws,)."""
    order = np.argsort(values, kind="stable")
    ranked, is_first, weighed = values[order], first[order], weights[:, order]
    others = np.where(is_first, 0.0, weighed)
    below = np.concatenate((np.zeros((len(weighed), 1)), others.cumsum(1)), axis=1)
    starts, stops = np.searchsorted(ranked, ranked, "left"), np.searchsorted(ranked, ranked, "right")
    above = (below[:, starts] + below[:, stops]) / 2
    return (np.where(is_first, weighed, 0.0) * above).sum(1), np.where(is_first, weighed, 0.0).sum(1) * others.sum(1)
