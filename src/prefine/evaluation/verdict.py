"""From a win rate and what may have broken to one sentence. No torch, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from prefine.evaluation.interval import Interval, least_clusters
from prefine.evaluation.multiple import holm, together

Outcome = Literal["better", "better, but", "worse", "inconclusive", "too few prompts"]
State = Literal["kept", "broken", "inconclusive"]
MIN_WIN_RATE, NULL_RATE = 0.55, 0.50
"""Above 55 % training works, below 50 % it made the model worse."""


@dataclass(frozen=True)
class Thresholds:
    """What counts as working, as even, and as no worse.

    Attributes:
        min_win_rate: the minimum win rate that counts; null_rate: what its interval must clear.
        tolerance: how much of a skill may be lost, as a rate: 0.01 is one point.
    """

    min_win_rate: float = MIN_WIN_RATE
    null_rate: float = NULL_RATE
    tolerance: float = 0.01


THRESHOLDS = Thresholds()
MOST_FAILED = 0.2


@dataclass(frozen=True)
class Skill:
    """A skill's paired change from base to tuned, as a rate.

    Attributes:
        change: with a 95 % interval, either end of which holds with 97.5 %.
        allowed: the loss that still counts as no worse.
        p_value: McNemar's, where items are right or wrong.
        worse: one-sided p-value that it fell; unset: read off the interval as if it were a normal's.
    """

    name: str
    before: float
    after: float
    change: Interval
    allowed: float = Thresholds.tolerance
    p_value: float | None = None
    worse: float | None = None

    @property
    def kept(self) -> bool:
        """Whether "no worse than allowed" is shown: the interval of the change lies above."""
        return self.change.low >= -self.allowed

    @property
    def state(self) -> State:
        """What is shown of this skill alone; among several it is :meth:`Verdict.state` that holds."""
        return self.state_among(find_broken([self], ())[0])

    def state_among(self, broken: frozenset[str]) -> State:
        """Whether "no worse than allowed" is shown, or a loss, or neither; ``broken`` as :func:`find_broken` names it."""
        return "kept" if self.kept else "broken" if self.name in broken else "inconclusive"

    @property
    def fell(self) -> float:
        """One-sided p-value that it fell."""
        if self.worse is not None:
            return self.worse
        from scipy.stats import norm

        spread = (self.change.high - self.change.low) / 2 / 1.96
        return float(norm.cdf(self.change.estimate / spread)) if spread > 0 else float(self.change.estimate >= 0)

    @property
    def phrase(self) -> str:
        """What happened, where it broke."""
        return f"{self.name} fell from {100 * self.before:.1f} % to {100 * self.after:.1f} %"


@dataclass(frozen=True)
class Suspect:
    """Something that may have got worse beside the skills: a sign of degeneration, a text's perplexity.

    Attributes:
        phrase: what happened, for the sentence.
        worse: one-sided p-value that it got worse at all.
        matters: whether the change is as large as to be called broken.
    """

    name: str
    phrase: str
    worse: float
    matters: bool


@dataclass(frozen=True)
class Verdict:
    """The outcome, the sentence that says it, and the numbers behind.

    Attributes:
        harms: what got worse, each a phrase; words, numbers: the sentence's beginning and the win rate with its n.
        broken: names of the skills and suspects that got worse; any of them is false with at most 2.5 %.
    """

    outcome: Outcome
    sentence: str
    win_rate: Interval
    skills: tuple[Skill, ...] = ()
    harms: tuple[str, ...] = ()
    words: str = ""
    numbers: str = ""
    broken: frozenset[str] = frozenset()

    def state(self, skill: Skill) -> State:
        """Whether "no worse than allowed" is shown of a skill, or a loss, or neither."""
        return skill.state_among(self.broken)

    def summary(self) -> dict[str, Any]:
        """Plain data, for ``summary.json``."""
        return {
            "outcome": self.outcome,
            "sentence": self.sentence,
            "win_rate": asdict(self.win_rate),
            "skills": [asdict(s) | {"state": self.state(s)} for s in self.skills],
            "harms": list(self.harms),
        }


def find_broken(skills: Sequence[Skill], suspects: Sequence[Suspect]) -> tuple[frozenset[str], list[str]]:
    """Which skills and suspects got worse, and the phrases that say so, by Holm's procedure over all of them."""
    found = holm([*(s.fell for s in skills), *(s.worse for s in suspects)])
    fell = [s for s, surely in zip(skills, found, strict=False) if surely and not s.kept and s.change.estimate < -s.allowed]
    worse = [s for s, surely in zip(suspects, found[len(skills) :], strict=True) if surely and s.matters]
    names = frozenset([*(s.name for s in fell), *(s.name for s in worse)])
    return names, [*(s.phrase for s in fell), *(s.phrase for s in worse)]


def decide(
    win_rate: Interval,
    skills: Sequence[Skill] = (),
    what: str = "win rate over the base",
    suspects: Sequence[Suspect] = (),
    thresholds: Thresholds = THRESHOLDS,
    failed: float = 0.0,
    all_ties: bool = False,
    names: tuple[str, str] = ("its base", "the tuned model"),
    comparisons: int = 1,
    remark: str = "",
) -> Verdict:
    """Apply the thresholds: the interval must lie on one side of even, and a win must reach what works.

    Args:
        suspects: what else may have got worse.
        failed: share of what the judge was asked without a verdict; above :data:`MOST_FAILED` nothing is shown.
        all_ties: whether every verdict is a tie.
        names: what base and tuned are called.
        comparisons: how many win rates hold at once by this interval's level, where there are several.
        remark: what a reader of the sentence must know beside, and decides nothing.
    """
    even, works = thresholds.null_rate, thresholds.min_win_rate
    broken, phrases = find_broken(skills, suspects)
    numbers = f"{what} {win_rate.percent()} from {win_rate.count} verdicts on {win_rate.clusters} prompts"
    if comparisons > 1:
        numbers += f", the interval widened for {comparisons} comparisons"
    least = least_clusters(even, together(comparisons))
    outcome: Outcome
    if failed > MOST_FAILED:
        outcome, words = "inconclusive", f"INCONCLUSIVE: the judge gave no verdict on {100 * failed:.0f} % of what it was asked"
    elif all_ties:
        outcome, words = "inconclusive", "INCONCLUSIVE: every comparison is a tie"
    elif win_rate.clusters < least:
        outcome, words = "too few prompts", f"TOO FEW PROMPTS: {win_rate.clusters}; {least} are the least of which anything could be shown"
    elif win_rate.high < even:
        outcome, words = "worse", f"WORSE: {names[1]} loses to {names[0]}"
    elif win_rate.low <= even:
        outcome, words = "inconclusive", f"INCONCLUSIVE: the interval covers {100 * even:g} %"
    elif win_rate.estimate < works - 1e-9:
        outcome, words = "inconclusive", f"INCONCLUSIVE: above {100 * even:g} %, but short of the {100 * works:g} % that counts as working"
    elif broken:
        outcome, words = "better, but", f"BETTER, BUT something got worse: {names[1]} wins against {names[0]}"
    else:
        outcome, words = "better", f"BETTER: {names[1]} wins against {names[0]}"
    unsure = [s.name for s in skills if not s.kept and s.name not in broken]
    open_ends = [f"not shown that these lost no more than allowed: {', '.join(unsure)}"] if unsure else []
    sentence = "; ".join([f"{words} ({numbers})", *phrases, *open_ends, *([remark] if remark else [])])
    return Verdict(outcome, sentence, win_rate, tuple(skills), tuple(phrases), words, numbers, broken)
