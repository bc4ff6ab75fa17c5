"""Ranked answers to pairs by a stated policy. A tie never makes a pair."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise

from prefine.errors import ConfigError, nearest
from prefine.preferences.records import Pair, Ranked

Choice = tuple[int, int]
"""Places of the better and the worse answer, in best-first order."""


def _best_worst(order: list[float], rng: random.Random) -> Iterator[Choice]:
    yield 0, len(order) - 1


def _best_random(order: list[float], rng: random.Random) -> Iterator[Choice]:
    below = [i for i, score in enumerate(order) if score < order[0]]
    if below:
        yield 0, rng.choice(below)


def _adjacent(order: list[float], rng: random.Random) -> Iterator[Choice]:
    yield from pairwise(range(len(order)))


def _all(order: list[float], rng: random.Random) -> Iterator[Choice]:
    yield from combinations(range(len(order)), 2)


POLICIES: dict[str, Callable[[list[float], random.Random], Iterator[Choice]]] = {
    "best-vs-worst": _best_worst,
    "best-vs-random": _best_random,
    "adjacent": _adjacent,
    "all": _all,
}


def check_policy(policy: str) -> str:
    """The policy, if there is one of that name."""
    if policy not in POLICIES:
        raise ConfigError(f"pairing is {policy!r}; expected one of {', '.join(POLICIES)}{nearest(policy, POLICIES)}", code="PF-C03")
    return policy


def to_pairs(ranked: Ranked, policy: str = "best-vs-worst", min_gap: float = 0.0, seed: int = 0) -> list[Pair]:
    """Pairs of a ranked record.

    Args:
        policy: a name of :data:`POLICIES`.
        min_gap: the least difference of scores; equal scores never make a pair.
        seed: of ``best-vs-random``; with the row's number it decides, so order does not matter.
    """
    order = sorted(range(len(ranked.answers)), key=lambda i: -ranked.scores[i])
    scores = [ranked.scores[i] for i in order]
    choices = POLICIES[policy](scores, random.Random(f"{seed} {ranked.row} {len(ranked.prompt)}"))
    return [
        Pair(
            ranked.prompt,
            ranked.answers[order[a]],
            ranked.answers[order[b]],
            ranked.row,
            (scores[a], scores[b]),
            ranked.tools,
            ranked.template_kwargs,
        )
        for a, b in choices
        if scores[a] > scores[b] and scores[a] - scores[b] >= min_gap
    ]
