"""What is known of a trained model before any judge has compared responses, in one sentence. No torch, no I/O.

A pair's margin is DPO's implicit reward over beta: how much further the log-prob of chosen rose over its base than that of
rejected did, in nats. Its sign on held-out pairs tells whether the preferences were learned. It compares no responses,
so it is no win over the base: a model whose responses have fallen apart can have a reward accuracy of 93 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefine.evaluation.degeneration import Finding
from prefine.evaluation.interval import RATE, Interval, least_clusters, mean_interval
from prefine.evaluation.multiple import FAMILY
from prefine.evaluation.separation import area_interval

Ending = Literal["unchanged", "learned", "opposite", "not learned", "degenerated", "collapsed", "changed"]
NO_CHANGE = 0.05
"""Implicit reward (beta times the margin) up to which nothing was learned: at 0.05 the model's own probability that chosen is preferred
has moved from 50 to 51.2 %."""
SAME_KL = 0.002
"""Nats a token below which responses count as unchanged."""
COLLAPSE = {"empty": 0.5, "loop": 0.5, "repetition": 0.5}
"""Shares of the tuned model's responses from which a broken sign is called a collapse."""


@dataclass(frozen=True)
class Learning:
    """Whether training did to held-out data what it was told to do.

    Attributes:
        what: was to be learned; measure: what ``accuracy`` is; unit: of the margins.
        accuracy: share of comparisons whose margin is above 0, ties half; of labelled responses, of all pairs of a wanted one and an
            unwanted one.
        margin: mean margin; margin_interval: None for one prompt, and for labelled responses.
        spread: standard deviation of the margins; of labelled responses, of what each gained.
        floor: margin that counts as no change.
    """

    what: str
    measure: str
    unit: str
    accuracy: Interval
    margin: float
    margin_interval: Interval | None
    spread: float
    floor: float

    @property
    def moved(self) -> bool:
        """Whether the margin is more than nothing."""
        return abs(self.margin) > self.floor

    @property
    def direction(self) -> int:
        """1 where it was learned, -1 where its opposite was, 0 where neither is shown."""
        if not self.moved:
            return 0
        return int(self.accuracy.low > 0.5 and self.margin > 0) - int(self.accuracy.high < 0.5 and self.margin < 0)

    def words(self) -> str:
        """The numbers."""
        size = f", {abs(self.margin) / self.spread:.2f} of its spread" if self.spread > 0 else ""
        numbers = f"{self.measure} {self.accuracy.percent()}, n = {self.accuracy.count}"
        return f"{numbers}; mean margin {self.margin:+.3g} {self.unit}{size}"

    def summary(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def learning(tuned: ArrayLike, base: ArrayLike, clusters: Sequence[str], beta: float, epsilon: float) -> Learning:
    """Measure held-out pairs.

    Args:
        tuned, base: log-probs of chosen, rejected, chosen, ..., shapes (2 pairs,), nats.
        clusters: each pair's prompt.
        beta: of the loss.
        epsilon: the rounding of the dtype that computed them.
    """
    after, before = np.asarray(tuned, float).reshape(-1, 2), np.asarray(base, float).reshape(-1, 2)
    gains = after - before
    noise = epsilon * float(np.abs(before).mean()) / len(gains) ** 0.5
    floor = max(NO_CHANGE / beta if beta > 0 else 0.0, noise)
    return _learning("the held-out preferences", "reward accuracy", "nats", gains[:, 0] - gains[:, 1], clusters, floor)


def label_learning(
    tuned: ArrayLike, base: ArrayLike, wanted: ArrayLike, clusters: Sequence[str], beta: float, epsilon: float
) -> Learning | None:
    """Measure held-out labelled responses; None where all have one label.

    Args:
        tuned, base: log-probs of the responses, nats; wanted: whether each is.
    """
    gains, is_wanted = np.asarray(tuned, float) - np.asarray(base, float), np.asarray(wanted, bool)
    if is_wanted.all() or not is_wanted.any():
        return None
    sides = gains[is_wanted], gains[~is_wanted]
    noise = epsilon * float(np.abs(base).mean()) / min(map(len, sides)) ** 0.5
    return Learning(
        "the held-out labels",
        "a wanted response gained more than an unwanted one (AUC)",
        "nats",
        area_interval(gains, is_wanted, clusters),
        float(sides[0].mean() - sides[1].mean()),
        None,
        float(gains.std(ddof=1)),
        max(NO_CHANGE / beta if beta > 0 else 0.0, noise),
    )


def reward_learning(rows: Sequence[Mapping[str, Any]]) -> Learning | None:
    """Measure responses by the reward that was trained on, from verdict rows with scores; None where none has any."""
    scored = [r for r in rows if r.get("scores")]
    if not scored:
        return None
    margins = np.array([r["scores"][1] - r["scores"][0] for r in scored])
    clusters = [str(r["cluster"]) for r in scored]
    return _learning("the reward it was trained on", "scored higher than the base's", "of that reward", margins, clusters, 0.0)


def _learning(what: str, measure: str, unit: str, margins: NDArray[np.float64], clusters: Sequence[str], floor: float) -> Learning:
    return Learning(
        what,
        measure,
        unit,
        mean_interval(np.where(margins == 0, 0.5, margins > 0), clusters, bounds=RATE),
        float(margins.mean()),
        mean_interval(margins, clusters) if len(set(clusters)) > 1 else None,
        float(margins.std(ddof=1)) if len(margins) > 1 else 0.0,
        floor,
    )


@dataclass(frozen=True)
class Responses:
    """Responses of base and tuned to held-out prompts.

    Attributes:
        prompts: how many; same: how many of them have the same response from both.
        kl: KL(tuned || base), nats a token of the tuned model's responses; None for fewer than two prompts.
        findings: signs of degeneration.
    """

    prompts: int
    same: int
    kl: Interval | None
    findings: tuple[Finding, ...]

    @property
    def changed(self) -> bool:
        """Whether the tuned model responds otherwise at all."""
        return self.same < self.prompts and (self.kl is None or self.kl.estimate >= SAME_KL)


@dataclass(frozen=True)
class Conclusion:
    """An ending, and in words what was learned, how responses changed, what else got worse, what to do next."""

    outcome: Ending
    parts: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """All of it."""
        return f"{HEADS[self.outcome]}: {'; '.join(self.parts)}"


HEADS: dict[Ending, str] = {
    "collapsed": "COLLAPSED",
    "degenerated": "DEGENERATED",
    "unchanged": "UNCHANGED",
    "changed": "CHANGED, which way is not known",
    "learned": "LEARNED, not judged",
    "opposite": "LEARNED THE OPPOSITE",
    "not learned": "INCONCLUSIVE",
}


def conclude(learned: Learning | None, responses: Responses | None, hint: str = "", others: Sequence[str] = ()) -> Conclusion:
    """Put together what was measured.

    Args:
        learned: None where nothing was held out to tell; responses: None where none were sampled.
        hint: how to have the responses compared.
        others: what else got worse, each a phrase.
    """
    parts = [_learned(learned), _responded(responses), *others]
    if hint:
        parts.append(f"no judge compared the responses: {hint}")
    broken = [f for f in responses.findings if f.broken] if responses else []
    outcome: Ending
    if any(f.tuned >= COLLAPSE.get(f.name, 2.0) for f in broken):
        outcome = "collapsed"
    elif broken or others:
        outcome = "degenerated"
    elif responses is not None and not responses.changed and not (learned and learned.moved):
        outcome = "unchanged"
    elif learned is None:
        outcome = "changed" if responses is not None else "not learned"
    else:
        outcome = "learned" if learned.direction > 0 else "opposite" if learned.direction < 0 else "not learned"
    return Conclusion(outcome, tuple(parts))


def _learned(found: Learning | None) -> str:
    if found is None:
        return "nothing was held out that tells whether the preferences were learned"
    if not found.moved:
        return f"too little changed to say that it learned {found.what} ({found.words()}; up to {found.floor:.2g} counts as no change)"
    if found.accuracy.clusters < least_clusters(0.5):
        return f"{found.accuracy.clusters} held-out prompts are too few to tell whether it learned {found.what} ({found.words()})"
    if found.direction > 0:
        return f"learned {found.what} ({found.words()})"
    if found.direction < 0:
        return f"learned the opposite of {found.what} ({found.words()})"
    if (found.accuracy.low > 0.5 or found.accuracy.high < 0.5) and found.margin * (found.accuracy.estimate - 0.5) < 0:
        return f"accuracy and mean margin contradict each other on {found.what} ({found.words()})"
    return f"held-out data does not tell whether it learned {found.what} ({found.words()})"


def _responded(found: Responses | None) -> str:
    if found is None or not found.prompts:
        return "no responses were sampled"
    kl = f"KL {found.kl.estimate:.2g} nats/token, " if found.kl else ""
    numbers = f"{kl}{found.same} of {found.prompts} the same"
    if not found.changed:
        how = "did not change" if found.same == found.prompts else "changed too little to tell it from rounding"
        return f"responses {how} ({numbers})"
    broken = [f.suspect.phrase for f in found.findings if f.broken]
    if broken:
        return f"responses changed ({numbers}) and degenerated: {', '.join(broken)}"
    already = [f"{f.name} {f.base:.2g}" for f in found.findings if f.base >= COLLAPSE.get(f.name, 2.0)]
    if already:
        return f"responses changed ({numbers}); those of the base are degenerate themselves ({', '.join(already)})"
    # All of them, one way: two to the minus n, which Holm holds against the level over the number of signs.
    if found.prompts < math.ceil(math.log2(max(1, len(found.findings)) / FAMILY)):
        return f"responses changed ({numbers}); too few prompts to tell whether they degenerated"
    return f"responses changed ({numbers}); no sign of degeneration was shown"
