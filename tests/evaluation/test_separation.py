"""The area under the ROC curve against counting pairs, and intervals that hold what they say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefine.evaluation.conclusion import label_learning
from prefine.evaluation.separation import area, area_interval


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.integers(0, 4)), min_size=2, max_size=30))
def test_area_is_the_share_of_pairs(rows: list[tuple[int, bool, int]]) -> None:
    scores, kinds, weights = map(np.array, zip(*rows, strict=True))
    one, other = [i for i in range(len(rows)) if kinds[i]], [i for i in range(len(rows)) if not kinds[i]]
    pairs = [(weights[i] * weights[j], scores[i], scores[j]) for i, j in itertools.product(one, other)]
    if sum(w for w, _, _ in pairs) == 0:
        return
    expected = sum(w * ((a > b) + 0.5 * (a == b)) for w, a, b in pairs) / sum(w for w, _, _ in pairs)
    assert area(scores, kinds, weights.astype(float)) == pytest.approx(expected)


def test_what_was_not_seen_counts() -> None:
    few = area_interval([1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 1, 1], range(6))
    assert (few.estimate, few.high) == (1.0, 1.0)
    assert few.low < 0.5  # three above three happens by chance one time in twenty
    many = area_interval(np.arange(60), np.arange(60) >= 30, range(60))
    assert many.low > 0.8
    with pytest.raises(ValueError, match="no responses"):
        area_interval([1, 2], [1, 1], range(2))


@pytest.mark.parametrize(("prompts", "each", "shift", "share"), [(8, 1, 0.0, 0.5), (20, 3, 1.0, 0.5), (40, 2, 0.5, 0.8), (15, 4, 2.0, 0.3)])
def test_intervals_hold_the_true_area(prompts: int, each: int, shift: float, share: float) -> None:
    """Responses of a prompt share some of their score; the true area is that of normal variables."""
    from statistics import NormalDist

    rng, held, runs = np.random.default_rng(prompts), 0, 300
    truth = NormalDist().cdf(shift / (2 * 1.5) ** 0.5)
    for _ in range(runs):
        kinds = rng.random(prompts * each) < share
        kinds[:2] = True, False
        scores = shift * kinds + rng.normal(size=prompts * each) + np.repeat(rng.normal(scale=0.5**0.5, size=prompts), each)
        found = area_interval(scores, kinds, np.repeat(np.arange(prompts), each).tolist())
        held += found.low <= truth <= found.high
    assert held / runs >= 0.93  # 95 % less what 300 runs scatter by


def test_learning_of_labels() -> None:
    wanted = np.arange(80) % 2 == 0
    before = np.full(80, -50.0)
    clusters = [str(i // 2) for i in range(80)]
    noise = np.random.default_rng(0).normal(size=80)
    learned = label_learning(before + 3 * wanted + noise, before, wanted, clusters, 0.1, 1e-7)
    assert learned is not None
    assert learned.direction == 1
    assert learned.margin == pytest.approx(3, abs=0.6)
    opposite = label_learning(before - 3 * wanted + noise, before, wanted, clusters, 0.1, 1e-7)
    assert opposite is not None
    assert opposite.direction == -1
    same = label_learning(before, before, wanted, clusters, 0.1, 1e-7)
    assert same is not None
    assert (same.accuracy.estimate, same.direction) == (0.5, 0)
    assert label_learning(before, before, np.ones(80), clusters, 0.1, 1e-7) is None
