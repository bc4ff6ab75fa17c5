"""Rates and differences with a bootstrap interval over prompts or clusters of them. No torch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 4000


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; ``count`` comparisons in ``clusters`` independent ones."""

    estimate: float
    low: float
    high: float
    count: int
    clusters: int

    def percent(self) -> str:
        """``"62.5 % [57.1, 68.0]"``."""
        return f"{100 * self.estimate:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def mean_interval(values: Sequence[float], clusters: Sequence[Hashable] | None = None, seed: int = 0) -> Interval:
    """Mean of ``values`` with a percentile bootstrap that resamples whole clusters (Efron 1979).

    Args:
        values: one a comparison (for a win rate: 1 win, 0.5 tie, 0 loss).
        clusters: what each belongs to (its prompt, or the prompt's family); None: each alone.

    Raises:
        ValueError: no values, or lengths that differ.
    """
    if len(values) == 0:
        raise ValueError("no comparisons to count")
    if clusters is None:
        clusters = range(len(values))
    if len(clusters) != len(values):
        raise ValueError(f"{len(values)} values but {len(clusters)} clusters")
    names = {c: i for i, c in enumerate(dict.fromkeys(clusters))}
    owner = np.array([names[c] for c in clusters])
    sums = np.bincount(owner, np.asarray(values, dtype=float), len(names))
    counts = np.bincount(owner, minlength=len(names)).astype(float)
    generator = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, 200):  # in slices: (resamples x clusters) would not fit for large sets
        picks = generator.integers(0, len(names), (200, len(names)))
        means[start : start + 200] = sums[picks].sum(1) / counts[picks].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high), len(values), len(names))
