"""From a win rate and what may have broken to one sentence. No torch, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from prefine.evaluation.interval import Interval

Outcome = Literal["better", "better, but", "worse", "not shown"]
WORKS, EVEN = 0.55, 0.50
"""Above 55 % training works, below 50 % it made the model worse."""


@dataclass(frozen=True)
class Thresholds:
    """What counts as working, as even, and as no worse.

    Attributes:
        works: the least win rate that counts; even: what its interval must clear.
        allowed: how much of a skill may be lost, as a rate: 0.01 is one point.
    """

    works: float = WORKS
    even: float = EVEN
    allowed: float = 0.01


THRESHOLDS = Thresholds()
MOST_FAILED = 0.2


@dataclass(frozen=True)
class Skill:
    """A skill's paired change from base to tuned, as a rate.

    Attributes:
        allowed: the loss that still counts as no worse.
        p_value: McNemar's, where items are right or wrong.
    """

    name: str
    before: float
    after: float
    change: Interval
    allowed: float = Thresholds.allowed
    p_value: float | None = None

    @property
    def state(self) -> Literal["kept", "broken", "not shown"]:
        """Whether "no worse than allowed" is shown (the interval lies above), refuted, or neither."""
        if self.change.low >= -self.allowed:
            return "kept"
        return "broken" if self.change.estimate < -self.allowed and self.change.high < 0 else "not shown"


@dataclass(frozen=True)
class Verdict:
    """The outcome, the sentence that says it, and the numbers behind."""

    outcome: Outcome
    sentence: str
    win_rate: Interval
    skills: tuple[Skill, ...] = ()
    harms: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Plain data, for ``summary.json``."""
        return {
            "outcome": self.outcome,
            "sentence": self.sentence,
            "win_rate": asdict(self.win_rate),
            "skills": [asdict(s) | {"state": s.state} for s in self.skills],
            "harms": list(self.harms),
        }


def decide(
    win_rate: Interval,
    skills: Sequence[Skill] = (),
    what: str = "win rate over the base",
    harms: Sequence[str] = (),
    thresholds: Thresholds = THRESHOLDS,
    failed: float = 0.0,
    all_ties: bool = False,
) -> Verdict:
    """Apply the thresholds: the interval must lie on one side of even, and a win must reach what works.

    Args:
        harms: what else surely got worse, each a phrase.
        failed: share of what the judge was asked without a verdict; above :data:`MOST_FAILED` nothing is shown.
        all_ties: whether every verdict is a tie.
    """
    even, works = thresholds.even, thresholds.works
    numbers = f"{what} {win_rate.percent()} from {win_rate.count} verdicts on {win_rate.clusters} prompts"
    outcome: Outcome
    if failed > MOST_FAILED:
        outcome, words = "not shown", f"NOT SHOWN: the judge gave no verdict on {100 * failed:.0f} % of what it was asked"
    elif all_ties:
        outcome, words = "not shown", "NOT SHOWN: every comparison is a tie, the two answer alike"
    elif win_rate.high < even:
        outcome, words = "worse", "WORSE: the tuned model loses to its base"
    elif win_rate.low <= even:
        outcome, words = "not shown", f"NOT SHOWN: the interval covers {100 * even:g} %, more prompts or more training would tell"
    elif win_rate.estimate < works:
        outcome, words = "not shown", f"NOT SHOWN: above {100 * even:g} %, but short of the {100 * works:g} % that counts as working"
    else:
        outcome, words = "better", "BETTER: the tuned model wins against its base"
    broken = [f"{s.name} fell from {100 * s.before:.1f} % to {100 * s.after:.1f} %" for s in skills if s.state == "broken"]
    broken += harms
    if broken and outcome == "better":
        outcome, words = "better, but", "BETTER, BUT something broke"
    unsure = [s.name for s in skills if s.state == "not shown"]
    open_ends = [f"not shown that these lost no more than allowed: {', '.join(unsure)}"] if unsure else []
    sentence = "; ".join([f"{words} ({numbers})", *broken, *open_ends])
    return Verdict(outcome, sentence, win_rate, tuple(skills), tuple(harms))
