"""Rates, differences and means with intervals that hold at any number of prompts. No torch.

Three kinds of number, one rule each:

* *bounded* (a win rate, a share, a paired change of one): :func:`mean_interval` with ``bounds``, exact at any n;
* *unbounded* (KL, log-probs, lengths): the same without ``bounds``, Student's interval on a bootstrap of the t-statistic;
* *a ratio of sums* (nats a token): :func:`ratio_interval`, the unbounded rule on its linear terms.

What is left out: intervals that hold at every look, which are :mod:`prefine.evaluation.sequence`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefine.evaluation.gamma_sum import positive_share

Floats = NDArray[np.float64]
LEVEL = 0.95
RESAMPLES, FITS = 4000, 1000
GROUPS = 50
SLICE = 200
"""Resamples of a mean and of a fit; groups of a jackknife; resamples drawn at a time, for (resamples x clusters) would not fit."""
MANY, UNSEEN, FAR, SKEWED, WIDER = 50, 0.8, 0.85, 0.1, 0.07
"""From MANY prompts on an unseen one counts as UNSEEN of one; and for less, so that it widens the interval by about WIDER beside a
bootstrap's, where both bounds lie within FAR sqrt(n) standard deviations and the skewness is below SKEWED sqrt(n). Found by
simulation; benchmarks/coverage.py holds them."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval, at 95 % unless said otherwise; ``count`` comparisons in ``clusters`` independent ones."""

    estimate: float
    low: float
    high: float
    count: int
    clusters: int

    def percent(self) -> str:
        """``"62.5 % [57.1, 68.0]"``."""
        return f"{100 * self.estimate:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def cluster_sums(values: ArrayLike, clusters: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
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


RATE = (0.0, 1.0)
CHANGE = (-1.0, 1.0)
"""What bounds a rate, and the change of one."""
Bounds = tuple[float, float]


def mean_interval(
    values: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
    bounds: Bounds | None = None,
    level: float = LEVEL,
    each_end: bool = False,
) -> Interval:
    """Mean of ``values`` with its interval over clusters.

    Bounded values: the weights of the clusters are drawn from a flat Dirichlet (Rubin's Bayesian bootstrap, 1981)
    together with one more cluster that was not seen and holds nothing but the bound: the lower bound for the lower
    end, the upper for the upper. That is Gaffke's bound (Three test statistics for a nonparametric one-sided hypothesis
    on the mean of a nonnegative variable, 2005), which no distribution is known to break at any n. On values of 0 and 1 it
    is Clopper and Pearson's exact interval of 1934. The tails are integrals, not draws, so nothing depends on a seed.

    Args:
        values: one a comparison (for a win rate: 1 win, 0.5 tie, 0 loss).
        clusters: what each belongs to (its prompt, or the prompt's family); None: each alone.
        seed: unbounded: of the resamples.
        bounds: least and largest value there can be; None: unbounded.
        level: how often the interval is to hold the true mean.
        each_end: bounded: either end by itself misses with (1 - level) / 2, however rare what it looks for; without, from 50
            clusters on, the two together miss with about 1 - level, and the interval is a little shorter.

    Raises:
        ValueError: no values, lengths that differ, or values beyond the bounds.
    """
    sums, counts = cluster_sums(values, clusters)
    if bounds is None:
        return _interval_of(_unbounded(sums, counts, level, seed), sums, counts)
    tail = _Tail(sums, counts, bounds, 1.0 if each_end else _unseen_shape(sums, counts, bounds))
    return _interval_of((tail.end(0, (1 - level) / 2), tail.end(1, (1 - level) / 2)), sums, counts)


def _interval_of(ends: tuple[float, float], sums: Floats, counts: Floats) -> Interval:
    return Interval(float(sums.sum() / counts.sum()), *ends, int(counts.sum()), len(sums))


Side = Literal["above", "below"]


def p_value(values: ArrayLike, clusters: Sequence[Hashable] | None, bounds: Bounds, null: float, side: Side) -> float:
    """One-sided p-value that the mean of bounded values lies on the given side of ``null``; :func:`mean_interval`'s, each end."""
    sums, counts = cluster_sums(values, clusters)
    return _Tail(sums, counts, bounds).p_value(null, side)


class _Tail:
    """Probabilities of the weighted mean of some clusters and of one unseen one."""

    def __init__(self, sums: Floats, counts: Floats, bounds: Bounds, shape: float = 1.0) -> None:
        self.bounds = bounds
        means = sums / counts
        slack = 1e-9 * (bounds[1] - bounds[0])
        if not np.isfinite(means).all() or means.min() < bounds[0] - slack or means.max() > bounds[1] + slack:
            raise ValueError(f"values between {means.min():g} and {means.max():g}, but the bounds are {bounds[0]:g} and {bounds[1]:g}")
        self.estimate = float(sums.sum() / counts.sum())
        # The unseen cluster is as large as the one that a comparison is drawn from: a dominating cluster might come again.
        self.size = float((counts**2).sum() / counts.sum())
        self.shape = shape
        rows, times = np.unique(np.column_stack((sums, counts)), axis=0, return_counts=True)
        self.sums, self.counts, self.shapes = rows[:, 0], rows[:, 1], times.astype(float)

    def above(self, mean: float, unseen: float) -> float:
        """P(weighted mean > mean) where the unseen cluster holds ``unseen``."""
        terms = np.append(self.sums - mean * self.counts, self.size * (unseen - mean))
        return positive_share(terms, np.append(self.shapes, self.shape))

    def p_value(self, null: float, side: Side) -> float:
        low, high = self.bounds
        return 1 - self.above(null, low) if side == "above" else self.above(null, high)

    def end(self, upper: int, share: float) -> float:
        """Where the tail beyond the lower (0) or upper (1) end holds ``share``."""
        from scipy.optimize import brentq

        low, high = self.bounds
        bound = self.bounds[upper]

        def missing(mean: float) -> float:
            return (self.above(mean, high) if upper else 1 - self.above(mean, low)) - share

        span = high - low
        if abs(self.estimate - bound) < 1e-12 * span:
            return bound
        near = self.estimate
        if missing(near) <= 0:  # the estimate is no median of so skewed a sample: the end lies on its other side
            return near
        far = bound - 1e-12 * span * (1 if upper else -1)
        if missing(far) >= 0:  # nearer to the bound than can be told
            return bound
        return float(brentq(missing, near, far, xtol=1e-7 * span))


def _unseen_shape(sums: Floats, counts: Floats, bounds: Bounds) -> float:
    """How much of a cluster the unseen one is: 1, and less where n is large, both bounds are near and the sample is not skewed."""
    effective = float(counts.sum() ** 2 / (counts**2).sum())
    if effective < MANY:
        return 1.0
    mean = sums.sum() / counts.sum()
    rests = sums - mean * counts
    spread = math.sqrt(float((rests**2).sum()) * effective) / float(counts.sum())
    if spread < 1e-12:
        return 1.0
    skewness = float((rests**3).mean() / (rests**2).mean() ** 1.5)
    distances = ((bounds[1] - mean) / spread, (mean - bounds[0]) / spread)
    root = math.sqrt(effective)
    if max(distances) > FAR * root or abs(skewness) > SKEWED * root:
        return UNSEEN
    allowed = 3.92 * root * (WIDER + 1.7 / effective)
    return float(min(UNSEEN, allowed / sum(distances)))


def _unbounded(sums: Floats, counts: Floats, level: float, seed: int = 0) -> tuple[float, float]:
    """Ends for the mean of unbounded values: the wider, at each end, of Student's interval and of the bootstrap-t.

    The bootstrap of the t-statistic (Efron 1982; Hall 1988) follows a skewed sample, Student's a symmetric one with long tails;
    either alone is too narrow on the other's ground. No interval holds for every unbounded distribution: with a log-normal
    whose sigma is 1.5, 30 clusters cover in about 89 % (benchmarks/coverage.py).
    """
    from scipy.stats import t

    estimate, size = sums.sum() / counts.sum(), len(sums)
    if size < 2:
        return -math.inf, math.inf
    rests = sums - estimate * counts

    def t_error(rest: Floats, mean_size: ArrayLike) -> Floats:
        return np.sqrt((rest**2).sum(-1) / (size * (size - 1))) / mean_size  # type: ignore[no-any-return]

    error = float(t_error(rests, counts.mean()))
    if error == 0:
        return float(estimate), float(estimate)
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES // SLICE):
        picks = generator.integers(0, size, (SLICE, size))
        s, c = sums[picks], counts[picks]
        means = s.sum(1) / c.sum(1)
        errors = t_error(s - means[:, None] * c, c.mean(1))
        drawn.append((means - estimate) / np.where(errors > 0, errors, np.inf))
    half = (1 - level) / 2
    student = float(t.ppf(1 - half, size - 1))
    low, high = np.quantile(np.concatenate(drawn), (half, 1 - half))
    return float(estimate - max(high, student) * error), float(estimate + max(-low, student) * error)


def ratio_interval(numerators: ArrayLike, denominators: ArrayLike, clusters: Sequence[Hashable] | None = None) -> Interval:
    """Sum of numerators over sum of denominators (nats a token), unbounded; clusters as in :func:`mean_interval`."""
    above, _ = cluster_sums(numerators, clusters)
    below, counts = cluster_sums(denominators, clusters)
    return Interval(float(above.sum() / below.sum()), *_unbounded(above, below, LEVEL), int(counts.sum()), len(above))


def ratio_p_value(numerators: ArrayLike, denominators: ArrayLike, clusters: Sequence[Hashable] | None = None) -> float:
    """One-sided p-value that the ratio of sums is above 0, by Student's t over clusters."""
    from scipy.stats import t

    above, _ = cluster_sums(numerators, clusters)
    below, _ = cluster_sums(denominators, clusters)
    ratio = above.sum() / below.sum()
    error = math.sqrt(float(((above - ratio * below) ** 2).sum()) * len(above) / max(1, len(above) - 1)) / float(below.sum())
    if len(above) < 2 or error == 0:
        return float(ratio <= 0 or len(above) < 2)
    return float(t.sf(ratio / error, len(above) - 1))


def tails(clusters: int, level: float = LEVEL) -> tuple[float, float]:
    """Which quantiles of a percentile bootstrap to take: wider than 2.5 and 97.5 % for few clusters.

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


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], Floats], clusters: int, resamples: int = RESAMPLES, level: float = LEVEL
) -> tuple[float, float]:
    """Ends of the expanded percentile interval of a statistic that is no mean: a fit's coefficient.

    Args:
        statistic: takes picks of clusters, shape (resamples, clusters), returns (resamples,).
    """
    generator = np.random.default_rng(0)
    drawn = [statistic(generator.integers(0, clusters, (min(SLICE, resamples), clusters))) for _ in range(max(1, resamples // SLICE))]
    low, high = np.quantile(np.concatenate(drawn), tails(clusters, level))
    return float(low), float(high)


def resampled(
    statistic: Callable[[Floats], Floats], clusters: Sequence[Hashable], resamples: int = FITS, level: float = LEVEL
) -> tuple[float, float]:
    """As :func:`bootstrap`, for a statistic that takes weights: a fit.

    Args:
        statistic: takes how often each value was drawn, shape (resamples, values), returns (resamples,).
        clusters: each value's.
    """
    names = {c: i for i, c in enumerate(dict.fromkeys(clusters))}
    owner = np.array([names[c] for c in clusters])
    generator = np.random.default_rng(0)
    draws = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    drawn = np.concatenate([statistic(part[:, owner].astype(float)) for part in np.array_split(draws, -(-resamples // SLICE))])
    low, high = np.quantile(drawn, tails(len(names), level))
    return float(low), float(high)


def jackknife(
    statistic: Callable[[NDArray[np.int64]], float], members: Sequence[NDArray[np.int64]], level: float = LEVEL
) -> tuple[float, float]:
    """Ends of an interval of a statistic that a bootstrap biases: counts of distinct things, which repeats shrink.

    Leaves out one of at most :data:`GROUPS` groups of clusters at a time (Quenouille 1956; Tukey 1958), with
    Student's quantile.

    Args:
        statistic: takes the places of the values that are kept.
        members: each cluster's places; at least two clusters.
    """
    from scipy.stats import t

    order = np.random.default_rng(0).permutation(len(members))
    groups = [np.concatenate([members[i] for i in part]) for part in np.array_split(order, min(GROUPS, len(members)))]
    everything = np.concatenate(groups)
    left = np.array([statistic(np.setdiff1d(everything, g)) for g in groups])
    error = math.sqrt((len(groups) - 1) / len(groups) * float(((left - left.mean()) ** 2).sum()))
    half = float(t.ppf((1 + level) / 2, len(groups) - 1)) * error
    whole = statistic(everything)
    return whole - half, whole + half


def paired_difference(first: ArrayLike, second: ArrayLike, clusters: Sequence[Hashable] | None = None, level: float = LEVEL) -> Interval:
    """Mean of ``first - second``, item by item, both rates: two models on the same prompts against one baseline."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} items against {len(b)}: a paired difference needs the same items")
    return mean_interval(a - b, clusters, bounds=CHANGE, level=level, each_end=True)


def standard_error(values: ArrayLike, clusters: Sequence[Hashable] | None = None) -> float:
    """Of the mean, over clusters: the root of the summed squared residuals of clusters, times n / (n - 1), over the number of values.

    Without clusters: sd with n - 1, over sqrt n. NaN for one cluster.
    """
    sums, counts = cluster_sums(values, clusters)
    if len(sums) < 2:
        return float("nan")
    rests = sums - sums.sum() / counts.sum() * counts
    return float(math.sqrt(len(sums) / (len(sums) - 1) * float((rests**2).sum())) / counts.sum())


def sign_test(values: ArrayLike, clusters: Sequence[Hashable] | None = None) -> float:
    """Exact two-sided p-value that wins and losses are as likely; clusters count once, by their mean, ties not at all."""
    from scipy.stats import binomtest

    sums, counts = cluster_sums(values, clusters)
    means = sums / counts
    wins, losses = int((means > 0.5).sum()), int((means < 0.5).sum())
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def least_clusters(even: float, level: float = LEVEL) -> int:
    """The fewest clusters whose interval can clear ``even``, were all of them won (or all lost): 6 for 50 % at 95 %."""
    return math.ceil(math.log((1 - level) / 2) / math.log(max(even, 1 - even)))


def needed_prompts(
    values: ArrayLike,
    against: float = 0.5,
    power: float = 0.8,
    clusters: Sequence[Hashable] | None = None,
    works: float | None = None,
    rate: float | None = None,
) -> int | None:
    """Prompts with which a true ``rate`` would be called better (below ``against``: worse) with this power, by the normal approximation.

    Args:
        values: what was measured; its spread over clusters is taken, and its mean as the true rate where none is given.
        against: what the 95 % interval has to clear.
        works: what the measured rate has to reach as well, to be called better; None: nothing.

    Returns:
        None where no number does: a rate of ``against``, or above it and no higher than ``works``.
    """
    from scipy.stats import norm

    sums, counts = cluster_sums(values, clusters)
    error = standard_error(values, clusters)
    spread = error * math.sqrt(len(sums)) if math.isfinite(error) else 0.5
    rate = float(sums.sum() / counts.sum()) if rate is None else rate
    if abs(rate - against) < 1e-9 or (works is not None and against < rate <= works):
        return None
    reach = float(norm.ppf(power))
    needed = ((float(norm.ppf(0.975)) + reach) * spread / (rate - against)) ** 2
    if works is not None and rate > works:
        needed = max(needed, (reach * spread / (rate - works)) ** 2)
    return max(2, math.ceil(needed))
