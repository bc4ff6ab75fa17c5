"""What a win rate would be at equal length, and at equal style: length, headings, lists, bold, code. No torch.

Style is counted and compared as Chatbot Arena's style control does (Li, Angelopoulos, Chiang, Does style matter?, 2024):
Bradley-Terry with covariates, each the difference of two responses' counts over their sum. With two models that is a
logistic regression; its value where both are styled alike is the rate. It is *not* AlpacaEval's length-controlled win
rate, which has a term for each instruction's difficulty (arXiv 2404.04475, section 3).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from prefine.evaluation.interval import Interval, resampled
from prefine.evaluation.logistic import fit_weighted

Floats = NDArray[np.float64]
Style = tuple[int, int, int, int, int]
NAMES = ("characters", "headings", "list items", "bold", "code blocks")
LEAST_PER_COEFFICIENT, LEAST_EITHER_WAY = 15, 5
"""Prompts for each coefficient, and comparisons in which either side has the more, below which nothing is said."""
FENCED = re.compile(r"^```.*?(?:^```|\Z)", re.MULTILINE | re.DOTALL)
PARTS = (
    re.compile(r"^#{1,6}\s", re.MULTILINE),
    re.compile(r"^\s*(?:[-*+]|\d+[.)])\s", re.MULTILINE),
    re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
)


def style_of(text: str) -> Style:
    """Counts of a response: characters, headings, list items, bold spans, code blocks; what stands in code blocks is length alone."""
    prose = FENCED.sub("", text)
    headings, items, bold = (len(part.findall(prose)) for part in PARTS)
    return len(text), headings, items, bold, len(FENCED.findall(text))


def rate_at_equal(
    wins: Floats, base: NDArray[np.int64], tuned: NDArray[np.int64], clusters: Sequence[Hashable]
) -> tuple[Interval, tuple[float, ...]] | None:
    """The win rate where base and tuned have equal counts, and the coefficients of the counts, in log-odds a standard deviation.

    Counts in which no two responses differ play no part; None where none is left, or where there are fewer than
    :data:`LEAST_PER_COEFFICIENT` prompts a coefficient.

    Args:
        wins: in [0, 1], shape (comparisons,); base, tuned: counts, shapes (comparisons, counts).
        clusters: what is resampled.
    """
    total = base + tuned
    x = np.where(total > 0, (tuned - base) / np.maximum(1, total), 0.0)
    spread = x.std(axis=0)
    varied = spread > 1e-12
    # Where one side has always the more of something, or wins always, equality is nowhere near what was seen.
    varied &= (np.minimum((x > 0).sum(0), (x < 0).sum(0)) >= LEAST_EITHER_WAY) | ((x != 0).sum(0) < LEAST_EITHER_WAY)
    if ((x != 0).sum(0) >= LEAST_EITHER_WAY)[0] and not varied[0]:
        return None
    prompts = len(set(clusters))
    if not varied.any() or np.ptp(wins) == 0 or prompts < LEAST_PER_COEFFICIENT * (1 + int(varied.sum())):
        return None
    design = np.column_stack((np.ones(len(wins)), x[:, varied] / spread[varied]))

    def rates(weights: Floats) -> Floats:
        return 1 / (1 + np.exp(-fit_weighted(design, wins, weights)[:, 0]))

    found = fit_weighted(design, wins, np.ones((1, len(wins))))[0]
    low, high = resampled(rates, clusters)
    coefficients = np.zeros(len(spread))
    coefficients[varied] = found[1:]
    return Interval(float(1 / (1 + np.exp(-found[0]))), low, high, len(wins), prompts), tuple(map(float, coefficients))
