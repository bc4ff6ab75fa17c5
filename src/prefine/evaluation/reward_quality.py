"""Whether a reward model can be relied on: accuracy on held-out pairs, calibration, accuracy by gap, length bias. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from prefine.evaluation.interval import RATE, Interval, mean_interval

BINS = 10


@dataclass(frozen=True)
class RewardQuality:
    """A reward model on held-out pairs.

    Attributes:
        accuracy: share of pairs whose chosen has the higher reward, ties half.
        calibration_error: ECE: |predicted - found| share of pairs where the first wins, over ten bins, weighted.
        reliability: each bin's mean predicted share, found share and count.
        by_gap: accuracy by the size of the reward difference, quartile by quartile.
        length_correlation: of reward and length in tokens, over all answers.
        shorter_chosen: accuracy on pairs whose chosen is the shorter; None where there are none.
        longer_chosen: the same where it is the longer.
    """

    accuracy: Interval
    calibration_error: float
    reliability: list[tuple[float, float, int]]
    by_gap: list[tuple[float, float, Interval]]
    length_correlation: float
    shorter_chosen: Interval | None
    longer_chosen: Interval | None

    def summary(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def reward_quality(chosen: ArrayLike, rejected: ArrayLike, lengths: ArrayLike, clusters: Sequence[str] | None = None) -> RewardQuality:
    """Measure a reward model.

    Args:
        chosen, rejected: rewards, shapes (pairs,).
        lengths: tokens of chosen and rejected, shape (pairs, 2).
        clusters: each pair's prompt.
    """
    a, b, sizes = np.asarray(chosen, float), np.asarray(rejected, float), np.asarray(lengths, float)
    owners = list(clusters) if clusters is not None else [str(i) for i in range(len(a))]
    right = np.where(a == b, 0.5, (a > b).astype(float))
    gap = a - b
    # Both orders of each pair: predicted P(first wins) = sigmoid(gap) is symmetric, and no label is always "first".
    predicted = np.concatenate((1 / (1 + np.exp(-gap)), 1 / (1 + np.exp(gap))))
    found = np.concatenate((np.ones(len(a)), np.zeros(len(a))))
    place = np.minimum((predicted * BINS).astype(int), BINS - 1)
    reliability, error = [], 0.0
    for i in range(BINS):
        here = place == i
        if here.any():
            pair = float(predicted[here].mean()), float(found[here].mean())
            reliability.append((*pair, int(here.sum())))
            error += abs(pair[0] - pair[1]) * here.mean()
    edges = np.quantile(np.abs(gap), (0, 0.25, 0.5, 0.75, 1))
    by_gap = []
    for i in range(4):
        here = (np.abs(gap) >= edges[i]) & ((np.abs(gap) < edges[i + 1]) if i < 3 else True)
        if here.any():
            by_gap.append((float(edges[i]), float(edges[i + 1]), _share(right, owners, here)))
    rewards, tokens = np.concatenate((a, b)), np.concatenate((sizes[:, 0], sizes[:, 1]))
    varied = rewards.std() > 0 and tokens.std() > 0
    shorter, longer = sizes[:, 0] < sizes[:, 1], sizes[:, 0] > sizes[:, 1]
    return RewardQuality(
        mean_interval(right, owners, bounds=RATE),
        float(error),
        reliability,
        by_gap,
        float(np.corrcoef(rewards, tokens)[0, 1]) if varied else 0.0,
        _share(right, owners, shorter) if shorter.any() else None,
        _share(right, owners, longer) if longer.any() else None,
    )


def _share(right: np.ndarray, owners: Sequence[str], here: np.ndarray) -> Interval:
    return mean_interval(right[here], [o for o, keep in zip(owners, here, strict=True) if keep], bounds=RATE)
