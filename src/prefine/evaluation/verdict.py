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
class Skill:
    """A skill's paired change from base to tuned, as a rate; broken when it surely lost more than ``allowed``."""

    name: str
    before: float
    after: float
    change: Interval
    allowed: float = 0.02

    @property
    def broken(self) -> bool:
        """Whether the loss is beyond what is allowed and surely not chance."""
        return self.change.estimate < -self.allowed and self.change.high < 0


@dataclass(frozen=True)
class Verdict:
    """The outcome, the sentence that says it, and the numbers behind."""

    outcome: Outcome
    sentence: str
    win_rate: Interval
    skills: tuple[Skill, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Plain data, for ``summary.json``."""
        return {
            "outcome": self.outcome,
            "sentence": self.sentence,
            "win_rate": asdict(self.win_rate),
            "skills": [asdict(s) | {"broken": s.broken} for s in self.skills],
        }


def decide(win_rate: Interval, skills: Sequence[Skill] = (), what: str = "win rate over the base") -> Verdict:
    """Apply the thresholds: the interval must lie on one side of 50 %, and a win must reach 55 %."""
    numbers = f"{what} {win_rate.percent()} from {win_rate.count} comparisons on {win_rate.clusters} prompts"
    outcome: Outcome
    if win_rate.high < EVEN:
        outcome, words = "worse", "WORSE: the tuned model loses to its base"
    elif win_rate.low <= EVEN:
        outcome, words = "not shown", "NOT SHOWN: the interval covers 50 %, more prompts or more training would tell"
    elif win_rate.estimate < WORKS:
        outcome, words = "not shown", "NOT SHOWN: above 50 %, but short of the 55 % that counts as working"
    else:
        outcome, words = "better", "BETTER: the tuned model wins against its base"
    broken = [s for s in skills if s.broken]
    if broken and outcome == "better":
        outcome, words = "better, but", "BETTER, BUT something broke"
    lost = "".join(f"; {s.name} fell from {100 * s.before:.1f} % to {100 * s.after:.1f} %" for s in broken)
    return Verdict(outcome, f"{words} ({numbers}){lost}", win_rate, tuple(skills))
