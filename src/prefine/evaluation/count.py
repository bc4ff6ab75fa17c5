"""A file of verdicts to numbers: win rate with its interval, and whether the judge can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from prefine.evaluation.interval import RATE, Interval, least_clusters, mean_interval, needed_prompts, sign_test, standard_error
from prefine.evaluation.length import length_only_interval
from prefine.evaluation.multiple import together
from prefine.evaluation.style import NAMES, rate_at_equal
from prefine.evaluation.verdict import THRESHOLDS, Skill, Suspect, Thresholds, Verdict, decide
from prefine.evaluation.verdict_files import Judged, OtherCount, VerdictFile, other_count


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
        standard_error: of the win rate, over clusters.
        p_value: exact sign test over clusters; None where the interval is no fixed number's, for neither would it hold.
        needed: prompts with which the measured rate, if it is the true one, would be called better (or worse) with 80 % power.
        needed_most: the same for the end of the interval nearer to even; None where no number tells.
        failed_votes: verdicts that were asked for and not given; left_out: those whose other order failed.
        mean_lengths: characters of the base's and the tuned model's answers; None where the file does not tell.
        by_length: win rate where the tuned answer is shorter, about as long, longer.
        at_equal_length: length-only win rate with its interval; see :func:`length_only_win_rate`.
        at_equal_style: the same at equal length, headings, lists, bold and code; style: what each counts for, in log-odds.
        other: the count by other rules, where the file's project has some.
    """

    source: str
    models: tuple[str, str]
    verdict: Verdict
    standard_error: float
    wins: int
    losses: int
    draws: int
    failures: int
    p_value: float | None
    needed: int | None
    needed_most: int | None
    failed_votes: int
    left_out: int
    at_equal_length: Interval | None
    at_equal_style: Interval | None
    style: dict[str, float]
    quality: Quality
    categories: dict[str, Interval]
    mean_lengths: tuple[float, float] | None
    by_length: dict[str, Interval]
    other: OtherCount | None = None

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
            **{"failed_votes": self.failed_votes, "left_out": self.left_out},
            **{"p_value": self.p_value, "needed_prompts": self.needed, "needed_prompts_most": self.needed_most},
            "style_controlled_win_rate": asdict(self.at_equal_style) if self.at_equal_style else None,
            "style_coefficients": self.style,
            "length_only_win_rate": asdict(self.at_equal_length) if self.at_equal_length else None,
            "mean_lengths": self.mean_lengths,
            "win_rate_by_length": {name: asdict(interval) for name, interval in self.by_length.items()},
            "judge_quality": {k: asdict(v) if v else None for k, v in vars(self.quality).items()},
            "categories": {name: asdict(interval) for name, interval in self.categories.items()},
            "other_count": asdict(self.other) if self.other else None,
        }


def count(
    file: VerdictFile,
    skills: Sequence[Skill] = (),
    suspects: Sequence[Suspect] = (),
    thresholds: Thresholds = THRESHOLDS,
    what: str | None = None,
    names: tuple[str, str] | None = None,
    comparisons: int = 1,
    interval: Interval | None = None,
) -> Count:
    """Count a file of verdicts.

    Args:
        skills, suspects: what else the verdict weighs.
        what: what the win rate is one of, where it is not of one model over the other.
        names: what the sentence calls base and tuned; unset: as the file does.
        interval: of the win rate, where another than a fixed number's is right.
        comparisons: how many files are counted together; their intervals all hold at once.
    """
    judged, votes = file.counted, file.votes
    wins = np.array([j.win for j in votes])
    clusters = [j.cluster for j in votes]
    what = what or f"win rate of {file.models[1]} over {file.models[0]}"
    given = interval
    interval = interval or replace(mean_interval(wins, clusters, bounds=RATE, level=together(comparisons)), count=len(judged))
    verdict = decide(
        interval,
        skills,
        what,
        suspects,
        thresholds,
        file.failed_share,
        bool((wins == 0.5).all()) and given is None,
        names or file.models,
        comparisons,
        _other_length(votes),
    )
    won, drawn = sum(j.win > 0.5 for j in judged), sum(j.win == 0.5 for j in judged)
    nearer = interval.low if interval.estimate > thresholds.null_rate else interval.high
    same_side = (nearer > thresholds.null_rate) == (interval.estimate > thresholds.null_rate)

    def needed(rate: float | None = None) -> int | None:
        if given is not None:  # what is needed of people, or at every look, is another question
            return None
        return needed_prompts(wins, thresholds.null_rate, clusters=clusters, works=thresholds.min_win_rate, rate=rate)

    styled = _at_equal_style(votes, wins, clusters)
    return Count(
        file.source,
        file.models,
        verdict,
        standard_error(wins, clusters),
        won,
        len(judged) - won - drawn,
        drawn,
        len(file.failures),
        sign_test(wins, clusters) if given is None else None,
        needed(),
        needed(nearer) if same_side else None,
        file.failed_votes,
        len(file.judged) - len(judged),
        _at_equal_length(votes, wins, clusters),
        styled[0] if styled else None,
        dict(zip(NAMES, styled[1], strict=True)) if styled else {},
        judge_quality(judged),
        _by_category(votes),
        _mean_lengths(judged),
        _by_length(votes),
        other_count(file),
    )


OTHER_LENGTH = 2.0
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


def _other_length(judged: list[Judged]) -> str:
    """Said where responses became :data:`OTHER_LENGTH` times as long or as short, surely: a judge may like nothing else about them."""
    means = _mean_lengths(judged)
    sized = [(j.lengths, j.cluster) for j in judged if j.lengths]
    if means is None or len({cluster for _, cluster in sized}) < least_clusters(0.5):
        return ""
    base, tuned = means
    ratio = (tuned + 1) / (base + 1)
    change = mean_interval([math.log((t + 1) / (b + 1)) for (b, t), _ in sized], [cluster for _, cluster in sized])
    if max(ratio, 1 / ratio) < OTHER_LENGTH or change.low <= 0 <= change.high:
        return ""
    times = f"{ratio:.1f} times as long" if ratio > 1 else f"{1 / ratio:.1f} times as short"
    return f"responses are {times} ({base:.0f} to {tuned:.0f} characters)"


def _by_length(judged: list[Judged]) -> dict[str, Interval]:
    out = {}
    for name, low, high in LENGTH_BINS:
        part = [j for j in judged if j.lengths and low <= (j.lengths[1] + 1) / (j.lengths[0] + 1) < high]
        if _enough(part):
            out[name] = mean_interval([j.win for j in part], [j.cluster for j in part], bounds=RATE)
    return out


def _enough(judged: Sequence[Judged]) -> bool:
    """Whether a rate of some verdicts can say anything at all."""
    return len({j.cluster for j in judged}) >= least_clusters(0.5)


def _by_category(judged: list[Judged]) -> dict[str, Interval]:
    names = list(dict.fromkeys(j.category for j in judged))
    if len(names) < 2:
        return {}
    of = {name: [j for j in judged if j.category == name] for name in names}
    level = together(len(of))  # a category that stands out was picked among all
    enough = {name: part for name, part in of.items() if _enough(part)}
    return {
        name: mean_interval([j.win for j in part], [j.cluster for j in part], bounds=RATE, level=level) for name, part in enough.items()
    }


def _at_equal_length(judged: list[Judged], wins: np.ndarray, clusters: list[str]) -> Interval | None:
    lengths = np.array([j.lengths for j in judged if j.lengths], float).reshape(-1, 2)
    return length_only_interval(wins, lengths[:, 1], lengths[:, 0], clusters) if len(lengths) == len(judged) else None


def _at_equal_style(judged: list[Judged], wins: np.ndarray, clusters: list[str]) -> tuple[Interval, tuple[float, ...]] | None:
    counts = np.array([j.style for j in judged if j.style], int).reshape(-1, 2, len(NAMES))
    return rate_at_equal(wins, counts[:, 0], counts[:, 1], clusters) if len(counts) == len(judged) else None


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

    def rate(values: list[float], clusters: list[str]) -> Interval | None:
        return mean_interval(values, clusters, bounds=RATE) if values else None

    return Quality(
        rate(flips, [owners[item] for item in both]),
        rate(first, [j.cluster for j in ordered]),
        rate(longer, [j.cluster for j in sized]),
    )
