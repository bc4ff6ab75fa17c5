"""How good a judge is, on pairs that people have judged: to be quoted wherever it judges afterwards. No torch, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prefine.evaluation.count import judge_quality
from prefine.evaluation.interval import RATE, Interval, mean_interval, paired_difference
from prefine.evaluation.verdict_files import Judged


@dataclass(frozen=True)
class Leaning:
    """How often the judge prefers a kind of response, how often people do, and the difference with its interval."""

    judge: Interval
    people: Interval
    difference: Interval


@dataclass(frozen=True)
class Qualification:
    """A judge against people.

    Attributes:
        accuracy: share of the prompts on which people do not tie where the judge is on their side, its ties half.
        consistency: share of prompts whose two orders do not contradict each other; None where it sees none.
        first: how often it prefers what it sees first; one half is even.
        longer: for the longer response; styled: for the one with more headings, lists and bold.
    """

    accuracy: Interval
    consistency: Interval | None
    first: Interval | None
    longer: Leaning | None
    styled: Leaning | None

    def summary(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def lines(self) -> list[str]:
        """In words."""
        out = [f"agrees with people on {self.accuracy.percent()} of {self.accuracy.clusters} prompts on which they do not tie"]
        if self.consistency is not None:
            out.append(f"says the same in both orders on {self.consistency.percent()}")
        if self.first is not None:
            out.append(f"prefers what it sees first in {self.first.percent()}")
        for found, what in ((self.longer, "the longer response"), (self.styled, "the response with more headings, lists and bold")):
            if found is not None:
                d = found.difference
                out.append(
                    f"prefers {what} in {found.judge.percent()}, people in {found.people.percent()}: "
                    f"{100 * d.estimate:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
                )
        return out


def qualify(judge: Sequence[Judged], people: Sequence[Judged]) -> Qualification | None:
    """Hold a judge against people on the prompts that both judged, by their items; None where there are none without ties.

    Args:
        judge: its verdicts, in one order or both; their lengths and styles are what leanings are measured by.
        people: theirs, named as the judge's are.
    """
    said: dict[str, list[float]] = {}
    for j in people:
        said.setdefault(j.item, []).append(j.win)
    of: dict[str, list[Judged]] = {}
    for j in judge:
        if j.item in said:
            of.setdefault(j.item, []).append(j)
    human = {item: float(np.mean(said[item])) for item in of}
    model = {item: float(np.mean([j.win for j in given])) for item, given in of.items()}
    untied = [item for item in of if human[item] != 0.5]
    if not untied:
        return None
    right = [1.0 if (model[i] - 0.5) * (human[i] - 0.5) > 0 else 0.5 if model[i] == 0.5 else 0.0 for i in untied]
    quality = judge_quality([j for given in of.values() for j in given])
    consistency = None
    if quality.flips is not None:
        f = quality.flips
        consistency = Interval(1 - f.estimate, 1 - f.high, 1 - f.low, f.count, f.clusters)

    def leaning(size: Callable[[Judged], tuple[int, int] | None]) -> Leaning | None:
        sizes = {i: size(of[i][0]) for i in of}
        places = [i for i, s in sizes.items() if s is not None and s[0] != s[1]]
        if not places:
            return None
        to_tuned = [s is not None and s[1] > s[0] for s in (sizes[i] for i in places)]
        sides = [[v[i] if t else 1 - v[i] for i, t in zip(places, to_tuned, strict=True)] for v in (model, human)]
        clusters = [of[i][0].cluster for i in places]
        rates = [mean_interval(side, clusters, bounds=RATE) for side in sides]
        return Leaning(rates[0], rates[1], paired_difference(sides[0], sides[1], clusters))

    return Qualification(
        mean_interval(right, [of[i][0].cluster for i in untied], bounds=RATE),
        consistency,
        quality.first_wins,
        leaning(lambda j: j.lengths),
        leaning(lambda j: j.style and (sum(j.style[0][1:4]), sum(j.style[1][1:4]))),
    )
