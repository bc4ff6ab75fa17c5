"""Rates and differences with a bootstrap interval over prompts or clusters of them. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 4000
GROUPS = 50
SLICE = 200
"""Resamples drawn at a time: (resamples x clusters) would not fit for large sets."""


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


def cluster_sums(values: ArrayLike, clusters: Sequence[Hashable] | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and count of values in each cluster, shapes (clusters,).

    Raises:
        ValueError: no values, or lengths that differ.
    """
    array = np.asarray(values, dtype=float)
    if len(array) == 0:
        raise ValueError("no comparisons to count")
    if clusters is None:
        return array, np.ones(len(array))
    if len(clusters) != len(array):
        raise ValueError(f"{len(array)} values but {len(clusters)} clusters")
    names = {c: i for i, c in enumerate(dict.fromkeys(clusters))}
    owner = np.array([names[c] for c in clusters])
    return np.bincount(owner, array, len(names)).astype(float), np.bincount(owner, minlength=len(names)).astype(float)


def tails(clusters: int, level: float = 0.95) -> tuple[float, float]:
    """Which quantiles of the bootstrap distribution to take: wider than 2.5 and 97.5 % for few clusters.

    A percentile interval is too narrow by sqrt((n-1)/n) and for taking the normal's quantile in
    place of Student's; these tails mend both for the mean (Hesterberg, What Teachers Should Know
    About the Bootstrap, 2015, section 4.4: the expanded percentile interval).
    """
    if clusters < 2:
        return 0.0, 1.0
    from scipy.stats import norm, t

    half = (1 - level) / 2
    low = float(norm.cdf(math.sqrt(clusters / (clusters - 1)) * t.ppf(half, clusters - 1)))
    return low, 1 - low


def bootstrap(statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], clusters: int, seed: int = 0) -> tuple[float, float]:
    """Ends of the expanded percentile interval of a statistic.

    Args:
        statistic: takes picks of clusters, shape (resamples, clusters), returns (resamples,).
    """
    generator = np.random.default_rng(seed)
    drawn = [statistic(generator.integers(0, clusters, (SLICE, clusters))) for _ in range(RESAMPLES // SLICE)]
    low, high = np.quantile(np.concatenate(drawn), tails(clusters))
    return float(low), float(high)


RATE = (0.0, 1.0)
CHANGE = (-1.0, 1.0)
"""What bounds a rate, and the change of one."""


def mean_interval(
    values: ArrayLike, clusters: Sequence[Hashable] | None = None, seed: int = 0, bounds: tuple[float, float] | None = None
) -> Interval:
    """Mean of ``values`` with a bootstrap that resamples whole clusters (Efron 1979).

    Where all clusters say the same, a bootstrap knows no doubt: three wins of three would be 100 % [100, 100].
    With ``bounds`` the interval then leaves room for what n clusters can miss with probability 2.5 %, a share of
    1 - 0.025^(1/n) at either bound (the exact interval of Clopper and Pearson 1934 for n of n).

    Args:
        values: one a comparison (for a win rate: 1 win, 0.5 tie, 0 loss).
        clusters: what each belongs to (its prompt, or the prompt's family); None: each alone.
        bounds: least and largest value there can be.

    Raises:
        ValueError: no values, or lengths that differ.
    """
    sums, counts = cluster_sums(values, clusters)
    estimate = float(sums.sum() / counts.sum())
    means = sums / counts
    if bounds is not None and np.ptp(means) < 1e-12:
        missed = 1 - 0.025 ** (1 / len(sums))
        low, high = estimate - missed * (estimate - bounds[0]), estimate + missed * (bounds[1] - estimate)
    else:
        low, high = bootstrap(lambda picks: sums[picks].sum(1) / counts[picks].sum(1), len(sums), seed)
    return Interval(estimate, low, high, int(counts.sum()), len(sums))


def jackknife(statistic: Callable[[NDArray[np.int64]], float], members: Sequence[NDArray[np.int64]], seed: int = 0) -> tuple[float, float]:
    """Ends of a 95 % interval of a statistic that a bootstrap biases: counts of distinct things, which repeats shrink.

    Leaves out one of at most :data:`GROUPS` groups of clusters at a time (Quenouille 1956; Tukey 1958), with
    Student's quantile.

    Args:
        statistic: takes the places of the values that are kept.
        members: each cluster's places; at least two clusters.
    """
    from scipy.stats import t

    order = np.random.default_rng(seed).permutation(len(members))
    groups = [np.concatenate([members[i] for i in part]) for part in np.array_split(order, min(GROUPS, len(members)))]
    everything = np.concatenate(groups)
    left = np.array([statistic(np.setdiff1d(everything, g)) for g in groups])
    error = math.sqrt((len(groups) - 1) / len(groups) * float(((left - left.mean()) ** 2).sum()))
    half = float(t.ppf(0.975, len(groups) - 1)) * error
    whole = statistic(everything)
    return whole - half, whole + half


def paired_difference(first: ArrayLike, second: ArrayLike, clusters: Sequence[Hashable] | None = None, seed: int = 0) -> Interval:
    """Mean of ``first - second``, item by item: two models on the same prompts against one baseline."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} items against {len(b)}: a paired difference needs the same items")
    return mean_interval(a - b, clusters, seed, CHANGE)


def standard_error(values: ArrayLike) -> float:
    """Of the mean of independent values: sd with n - 1, over sqrt n."""
    array = np.asarray(values, float)
    return float(array.std(ddof=1) / math.sqrt(len(array))) if len(array) > 1 else float("nan")


def sign_test(values: ArrayLike, clusters: Sequence[Hashable] | None = None) -> float:
    """Exact two-sided p-value that wins and losses are as likely; clusters count once, by their mean, ties not at all."""
    from scipy.stats import binomtest

    sums, counts = cluster_sums(values, clusters)
    means = sums / counts
    wins, losses = int((means > 0.5).sum()), int((means < 0.5).sum())
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def needed_prompts(values: ArrayLike, against: float = 0.5, power: float = 0.8, clusters: Sequence[Hashable] | None = None) -> int | None:
    """How many prompts in all would tell the measured mean from ``against`` (two-sided 5 %, normal approximation).

    None where the measured mean *is* ``against``: no number tells.
    """
    from scipy.stats import norm

    sums, counts = cluster_sums(values, clusters)
    gap = abs(float(sums.sum() / counts.sum()) - against)
    spread = float((sums / counts).std(ddof=1)) if len(sums) > 1 else 0.5
    if gap < 1e-9:
        return None
    quantiles = float(norm.ppf(0.975) + norm.ppf(power))
    return max(2, math.ceil((quantiles * spread / gap) ** 2))
