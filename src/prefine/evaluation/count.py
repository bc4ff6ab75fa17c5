"""A file of verdicts to numbers: win rate with its interval, and whether the judge can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prefine.evaluation.interval import RATE, Interval, bootstrap, mean_interval, needed_prompts, sign_test, standard_error
from prefine.evaluation.length import length_only_win_rate
from prefine.evaluation.verdict import THRESHOLDS, Skill, Thresholds, Verdict, decide
from prefine.evaluation.verdict_files import Judged, VerdictFile


@dataclass(frozen=True)
class Quality:
    """What the judge looks at beside quality; None where the verdicts do not tell.

    Attributes:
        flips: share of prompts judged in both orders whose verdicts contradict each other.
        first_wins: share of verdicts won by the answer shown first (ties half).
        longer_wins: share of verdicts won by the longer answer, where lengths differ (ties half).
    """

    flips: Interval | None
    first_wins: Interval | None
    longer_wins: Interval | None


@dataclass(frozen=True)
class Count:
    """A file's numbers.

    Attributes:
        standard_error: of the win rate, over verdicts, not over clusters.
        p_value: exact sign test over clusters.
        needed: prompts that would tell this win rate from 50 % with 80 % power.
        mean_lengths: characters of the base's and the tuned model's answers; None where the file does not tell.
        by_length: win rate where the tuned answer is shorter, about as long, longer.
        at_equal_length: length-only win rate with its interval; see :func:`length_only_win_rate`.
    """

    source: str
    models: tuple[str, str]
    verdict: Verdict
    standard_error: float
    wins: int
    losses: int
    draws: int
    failures: int
    p_value: float
    needed: int | None
    at_equal_length: Interval | None
    quality: Quality
    categories: dict[str, Interval]
    mean_lengths: tuple[float, float] | None
    by_length: dict[str, Interval]

    @property
    def discrete(self) -> float:
        """Win rate of verdicts rounded to win, draw (half) or loss."""
        return (self.wins + self.draws / 2) / (self.wins + self.losses + self.draws)

    def summary(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "source": self.source,
            "models": list(self.models),
            **self.verdict.summary(),
            "standard_error": self.standard_error if math.isfinite(self.standard_error) else None,
            "discrete_win_rate": self.discrete,
            **{"wins": self.wins, "losses": self.losses, "draws": self.draws, "failures": self.failures},
            **{"p_value": self.p_value, "needed_prompts": self.needed},
            "length_only_win_rate": asdict(self.at_equal_length) if self.at_equal_length else None,
            "mean_lengths": self.mean_lengths,
            "win_rate_by_length": {name: asdict(interval) for name, interval in self.by_length.items()},
            "judge_quality": {k: asdict(v) if v else None for k, v in vars(self.quality).items()},
            "categories": {name: asdict(interval) for name, interval in self.categories.items()},
        }


def count(
    file: VerdictFile,
    skills: Sequence[Skill] = (),
    harms: Sequence[str] = (),
    thresholds: Thresholds = THRESHOLDS,
    what: str | None = None,
) -> Count:
    """Count a file of verdicts.

    Args:
        skills, harms: what else the verdict weighs.
        what: what the win rate is one of, where it is not of one model over the other.
    """
    wins = np.array([j.win for j in file.judged])
    clusters = [j.cluster for j in file.judged]
    what = what or f"win rate of {file.models[1]} over {file.models[0]}"
    failed = len(file.failures) / (len(file.failures) + sum(j.asked for j in file.judged)) if file.failures else 0.0
    verdict = decide(mean_interval(wins, clusters, bounds=RATE), skills, what, harms, thresholds, failed, bool((wins == 0.5).all()))
    won, drawn = int((wins > 0.5).sum()), int((wins == 0.5).sum())
    return Count(
        file.source,
        file.models,
        verdict,
        standard_error(wins),
        won,
        len(wins) - won - drawn,
        drawn,
        len(file.failures),
        sign_test(wins, clusters),
        needed_prompts(wins, clusters=clusters),
        _at_equal_length(file.judged, wins),
        judge_quality(file.judged),
        _by_category(file.judged),
        _mean_lengths(file.judged),
        _by_length(file.judged),
    )


LENGTH_BINS = (
    ("tuned shorter by a quarter or more", 0.0, 0.75),
    ("tuned shorter", 0.75, 0.95),
    ("about as long (5 %)", 0.95, 1.05),
    ("tuned longer", 1.05, 1.25),
    ("tuned longer by a quarter or more", 1.25, float("inf")),
)
"""Ratios of the tuned answer's length to the base's, from and below."""


def _mean_lengths(judged: list[Judged]) -> tuple[float, float] | None:
    sized = [j.lengths for j in judged if j.lengths]
    return (sum(b for b, _ in sized) / len(sized), sum(t for _, t in sized) / len(sized)) if sized else None


def _by_length(judged: list[Judged]) -> dict[str, Interval]:
    out = {}
    for name, low, high in LENGTH_BINS:
        part = [j for j in judged if j.lengths and low <= (j.lengths[1] + 1) / (j.lengths[0] + 1) < high]
        if part:
            out[name] = mean_interval([j.win for j in part], [j.cluster for j in part], bounds=RATE)
    return out


def _by_category(judged: list[Judged]) -> dict[str, Interval]:
    names = list(dict.fromkeys(j.category for j in judged))
    if len(names) < 2:
        return {}
    of = {name: [j for j in judged if j.category == name] for name in names}
    return {name: mean_interval([j.win for j in part], [j.cluster for j in part], bounds=RATE) for name, part in of.items()}


def _at_equal_length(judged: list[Judged], wins: np.ndarray) -> Interval | None:
    lengths = np.array([j.lengths for j in judged if j.lengths], float).reshape(-1, 2)
    if len(lengths) < len(judged) or not (lengths[:, 0] != lengths[:, 1]).any():
        return None
    names = {c: i for i, c in enumerate(dict.fromkeys(j.cluster for j in judged))}
    owner = np.array([names[j.cluster] for j in judged])
    members = [np.flatnonzero(owner == i) for i in range(len(names))] if len(names) < len(judged) else None

    def refit(picks: np.ndarray) -> np.ndarray:
        out = []
        for row in picks[:10]:  # a fit each: 200 of them, where the mean takes 4,000
            places = row if members is None else np.concatenate([members[i] for i in row])
            out.append(length_only_win_rate(wins[places], lengths[places, 1], lengths[places, 0]))
        return np.array(out)

    low, high = bootstrap(refit, len(names))
    return Interval(length_only_win_rate(wins, lengths[:, 1], lengths[:, 0]), low, high, len(judged), len(names))


def judge_quality(judged: list[Judged]) -> Quality:
    """Position and length bias of the judge behind some verdicts."""
    by_item: dict[str, dict[str, float]] = {}
    for j in judged:
        if j.order and j.asked:
            by_item.setdefault(j.item, {})[j.order] = j.win
    both = {item: orders for item, orders in by_item.items() if len(orders) == 2}
    flips = [float((min(o.values()) < 0.5) & (max(o.values()) > 0.5)) for o in both.values()]
    owners = {j.item: j.cluster for j in judged}
    ordered = [j for j in judged if j.order and j.asked]
    first = [1 - j.win if j.order == "base first" else j.win for j in ordered]
    sized = [j for j in judged if j.lengths and j.lengths[0] != j.lengths[1]]
    longer = [j.win if j.lengths and j.lengths[1] > j.lengths[0] else 1 - j.win for j in sized]
    return Quality(
        mean_interval(flips, [owners[item] for item in both], bounds=RATE) if flips else None,
        mean_interval(first, [j.cluster for j in ordered], bounds=RATE) if first else None,
        mean_interval(longer, [j.cluster for j in sized], bounds=RATE) if longer else None,
    )
