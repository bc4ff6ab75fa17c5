"""An interval that holds at every look: judging may stop as soon as it decides. No torch, no I/O.

A betting confidence sequence (Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting,
arXiv 2010.09686, theorem 1 and section 4): against each possible mean a gambler bets on every verdict, and a mean is
ruled out once his wealth is 20 times what he began with, which by Ville's inequality happens to the true one in at
most 5 % of all runs, however often one looks. His wealth is spread over stakes (their section on mixtures), so that
small differences are found late and large ones soon. A fixed-n interval looked at after every prompt is wrong far more
often than 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from prefine.evaluation.interval import LEVEL, Interval
from prefine.evaluation.verdict import Thresholds

GRID = 401
STAKES = np.array([0.05, 0.08, 0.12, 0.2, 0.3, 0.45, 0.7])
"""Shares of the wealth that are lost if the verdict is as far on the other side as it can be; each has an equal part of the wealth."""
Decision = Literal["better", "worse", "short", "undecided"]


class ConfidenceSequence:
    """All means of values in [0, 1] that no bet has ruled out yet."""

    def __init__(self, level: float = LEVEL) -> None:
        self.threshold = math.log(2 * len(STAKES) / (1 - level))
        self.means = np.linspace(0, 1, GRID)[1:-1, None]  # the bounds themselves are ruled out by nothing and never matter
        self.wealth = np.zeros((2, GRID - 2, len(STAKES)))
        self.alive = np.ones(GRID - 2, bool)
        self.count, self.total = 0, 0.0

    def add(self, value: float) -> None:
        """One more cluster's mean.

        Raises:
            ValueError: not between 0 and 1.
        """
        if not 0 <= value <= 1:
            raise ValueError(f"{value} lies outside 0 to 1")
        self.count += 1
        self.total += value
        away = value - self.means
        self.wealth[0] += np.log1p(STAKES / self.means * away)
        self.wealth[1] += np.log1p(-STAKES / (1 - self.means) * away)
        # Half the wealth is on either side; sums of wealth in logarithms.
        self.alive &= np.logaddexp.reduce(self.wealth, axis=(0, 2)) < self.threshold

    def interval(self) -> Interval:
        """The mean so far, between the outermost means that are left; a grid step is added at either end."""
        left = np.flatnonzero(self.alive)
        estimate = self.total / max(1, self.count)
        if not len(left):  # every mean is ruled out: an event of probability 1 - level, or values that are not exchangeable
            return Interval(estimate, estimate, estimate, self.count, self.count)
        low, high = (float(self.means[left[end], 0]) for end in (0, -1))
        step = 1 / (GRID - 1)
        return Interval(estimate, max(0.0, low - step), min(1.0, high + step), self.count, self.count)

    def decision(self, thresholds: Thresholds) -> Decision:
        """What is decided: *short* is a rate as near to even on either side as what counts as working is above it.

        A rate below what works is no reason to stop by itself: it may be worse than even, which more verdicts would show.
        """
        found = self.interval()
        if found.high < thresholds.null_rate:
            return "worse"
        if found.low > thresholds.null_rate and found.estimate >= thresholds.min_win_rate:
            return "better"
        near = found.low > 2 * thresholds.null_rate - thresholds.min_win_rate and found.high < thresholds.min_win_rate
        return "short" if near else "undecided"


@dataclass(frozen=True)
class Looked:
    """How judging went: what was decided, with how many clusters of how many; ``interval`` holds at every look."""

    decision: Decision
    interval: Interval
    available: int

    def words(self) -> str:
        """What was saved."""
        judged = self.interval.clusters
        if self.decision == "undecided":
            return f"undecided after {judged} of {self.available} prompts"
        return f"decided after {judged} of {self.available} prompts: {self.available - judged} were not judged"

    def summary(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def until_decided(
    order: Sequence[int],
    verdicts_of: Callable[[Sequence[int]], Iterable[float | None]],
    thresholds: Thresholds,
    at_once: int = 1,
    room: Callable[[], int] | None = None,
) -> Looked:
    """Judge clusters in the given (random) order until it is decided or none is left.

    Args:
        verdicts_of: means of some clusters by their places; None where the judge gave none.
        at_once: how many are asked about between two looks.
        room: how many clusters may still be asked about; None: all.
    """
    sequence = ConfidenceSequence()
    first = 0
    while first < len(order) and sequence.decision(thresholds) == "undecided":
        size = at_once if room is None else min(at_once, room())
        if size < 1:
            break
        for value in verdicts_of(order[first : first + size]):
            if value is not None:
                sequence.add(value)
        first += size
    return Looked(sequence.decision(thresholds), sequence.interval(), len(order))
