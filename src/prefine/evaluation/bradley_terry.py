"""Strengths of three and more models from who beat whom (Bradley and Terry 1952; Hunter 2004, the MM algorithm)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefine.evaluation.interval import FITS, tails


@dataclass(frozen=True)
class Game:
    """``win`` is how far ``second`` beat ``first``, 0 to 1; ties are half a win for each."""

    first: str
    second: str
    win: float
    cluster: Hashable


@dataclass(frozen=True)
class Rating:
    """A model's strength on Elo's scale (400 points: ten times the odds), mean 1000, with its 95 % interval."""

    model: str
    rating: float
    low: float
    high: float


def strengths(wins: NDArray[np.float64], met: NDArray[np.bool_] | None = None, steps: int = 1000) -> NDArray[np.float64]:
    """Log strengths, mean 0.

    A tenth of a game drawn between every two that have met keeps a model that always wins finite; between two that have not,
    it would pull them together by games that nobody played.

    Args:
        wins: ``wins[i, j]`` is how often i beat j (ties half), shape (models, models).
        met: which two have met, where ``wins`` is a resample that may miss some; shape (models, models).
    """
    met = wins + wins.T > 0 if met is None else met
    wins = wins + 0.05 * (met & ~np.eye(len(wins), dtype=bool))
    games = wins + wins.T
    power = np.ones(len(wins))
    for _ in range(steps):
        updated = wins.sum(1) / (games / (power[:, None] + power[None, :])).sum(1)
        updated /= np.exp(np.log(updated).mean())
        if np.abs(np.log(updated / power)).max() < 1e-9:
            power = updated
            break
        power = updated
    return np.log(power)


def ratings(games: Sequence[Game], seed: int = 0, resamples: int = FITS) -> list[Rating]:
    """Ratings, best first, with intervals by resampling clusters."""
    models = sorted({m for g in games for m in (g.first, g.second)})
    place = {m: i for i, m in enumerate(models)}
    clusters = {c: i for i, c in enumerate(dict.fromkeys(g.cluster for g in games))}
    tables = np.zeros((len(clusters), len(models), len(models)))
    for g in games:
        a, b = place[g.first], place[g.second]
        tables[clusters[g.cluster], b, a] += g.win
        tables[clusters[g.cluster], a, b] += 1 - g.win
    scale = 400 / np.log(10)
    played = tables.sum(0)
    met = played + played.T > 0
    estimate = strengths(tables.sum(0)) * scale + 1000
    generator = np.random.default_rng(seed)
    count = len(clusters)
    picks = (np.bincount(generator.integers(0, count, count), minlength=count) for _ in range(resamples))
    drawn = np.array([strengths(np.tensordot(times, tables, 1), met) * scale + 1000 for times in picks])
    low, high = np.quantile(drawn, tails(count), axis=0)
    out = [Rating(m, float(estimate[i]), float(low[i]), float(high[i])) for i, m in enumerate(models)]
    return sorted(out, key=lambda r: -r.rating)
