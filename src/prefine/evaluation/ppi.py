"""People's verdicts on some prompts and a judge's on all, in one number: prediction-powered inference. No torch, no I/O.

PPI++ (Angelopoulos, Duchi and Zrnic, arXiv 2311.01453, section 3 and proposition 2 for the weight); for model judges
arXiv 2601.05420. Suffixes: N prompts that people judged, U prompts that the judge alone judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from prefine.evaluation.interval import RATE, Floats, Interval, mean_interval

LEAST_PROMPTS = 20
"""The weight is estimated from the prompts that people judged; with fewer the interval would be too narrow."""


@dataclass(frozen=True)
class Powered:
    """A win rate by people, helped by a judge.

    Attributes:
        combined: what people would say of all prompts, from both.
        people: from people's verdicts alone; judge: from the judge's alone, whatever people say of those prompts.
        weight: how far the judge is trusted: 0 not at all, 1 wholly but for its measured bias.
        correlation: of people's and the judge's verdicts, prompt by prompt.
        worth: how many more prompts people would have had to judge for the same standard error without the judge.
    """

    combined: Interval
    people: Interval
    judge: Interval
    weight: float
    correlation: float
    worth: float


def power(human: Sequence[float], judged: Sequence[float], others: Sequence[float]) -> Powered:
    """Combine verdicts; each is one prompt's mean, so that prompts are independent.

    The prompts that people judged must be a random part of all, or the answer is one about those prompts alone.

    Args:
        human, judged: people's and the judge's verdicts on the same prompts, shapes (N,).
        others: the judge's verdicts on the remaining prompts, shape (U,).

    Raises:
        ValueError: lengths differ, or fewer than :data:`LEAST_PROMPTS` prompts that people judged.
    """
    y_N, f_N, f_U = (np.asarray(v, float) for v in (human, judged, others))
    if len(y_N) != len(f_N):
        raise ValueError(f"{len(y_N)} verdicts of people but {len(f_N)} of the judge on the same prompts")
    if len(y_N) < LEAST_PROMPTS:
        raise ValueError(f"people judged {len(y_N)} prompts; at least {LEAST_PROMPTS} are needed")
    n, others_count = len(y_N), len(f_U)
    alone = float(y_N.var(ddof=1)) / n
    spread = float(np.concatenate((f_N, f_U)).var(ddof=1))
    covariance = float(np.cov(y_N, f_N)[0, 1])
    weight = 0.0
    if others_count and spread > 0:
        weight = min(1.0, max(0.0, covariance / ((1 + n / others_count) * spread)))
    variance, estimate = _at(weight, y_N, f_N, f_U)
    if weight == 0 or variance >= alone:
        weight, variance, estimate = 0.0, alone, float(y_N.mean())
    from scipy.stats import t

    people = mean_interval(y_N, bounds=RATE)
    combined = _logit_interval(estimate, math.sqrt(variance), float(t.ppf(0.975, n - 2)))
    if combined.high - combined.low >= people.high - people.low:  # never worse than without the judge
        weight, variance = 0.0, alone
    correlation = float(np.corrcoef(y_N, f_N)[0, 1]) if y_N.std() > 0 and f_N.std() > 0 else 0.0
    combined = people if weight == 0 else replace(combined, count=n + others_count, clusters=n + others_count)
    worth = n * (alone / variance - 1) if variance > 0 else 0.0
    return Powered(combined, people, mean_interval(np.concatenate((f_N, f_U)), bounds=RATE), weight, correlation, worth)


def _at(weight: float, y_N: Floats, f_N: Floats, f_U: Floats) -> tuple[float, float]:
    """Variance and value of weight * mean(f_U) + mean(y_N - weight * f_N).

    One degree of freedom goes to the weight. A quarter of a disagreement is added to those found: of a good judge few are seen among
    few prompts, or none, which would make the interval of 30 prompts hold in 90 % where it should in 95.
    """
    if not len(f_U):
        return math.inf, float(y_N.mean())
    n = len(y_N)
    rests = y_N - weight * f_N
    squares = float(((rests - rests.mean()) ** 2).sum()) + weight / 4
    return squares / (n - 2) / n + weight**2 * float(f_U.var()) / len(f_U), float(weight * f_U.mean() + rests.mean())


def _logit_interval(estimate: float, error: float, quantile: float) -> Interval:
    """Student's interval on the scale of the log-odds, where a rate near 0 or 1 has even tails."""
    inside = min(1 - 1e-6, max(1e-6, estimate))
    center, half = math.log(inside / (1 - inside)), quantile * error / (inside * (1 - inside))
    low, high = (1 / (1 + math.exp(-max(-700.0, min(700.0, center + side * half)))) for side in (-1, 1))
    return Interval(inside, low, high, 0, 0)
