"""Win rates at equal style."""

from __future__ import annotations

import numpy as np
import pytest

from prefine.evaluation.length import length_only_interval
from prefine.evaluation.style import rate_at_equal, style_of


def test_counts() -> None:
    text = "# Title\n\nSome **bold** and __more__.\n\n- one\n* two\n1. three\n\n```py\n# no heading\n- no item\n```\n"
    assert style_of(text) == (len(text), 1, 3, 2, 1)
    assert style_of("") == (0, 0, 0, 0, 0)
    assert style_of("2 * 3 - 4 # not a heading") == (25, 0, 0, 0, 0)
    assert style_of("```\nnever closed\n# x")[1:] == (0, 0, 0, 1)


def test_a_judge_of_lists_alone_finds_no_difference_at_equal_style() -> None:
    rng = np.random.default_rng(0)
    n = 600
    base, tuned = rng.integers(50, 150, (n, 5)), rng.integers(50, 150, (n, 5))
    base[:, 2], tuned[:, 2] = rng.integers(1, 4, n), rng.integers(2, 9, n)
    x = (tuned[:, 2] - base[:, 2]) / (tuned[:, 2] + base[:, 2])
    wins = (rng.random(n) < 1 / (1 + np.exp(-4 * x))).astype(float)
    assert wins.mean() > 0.75
    found = rate_at_equal(wins, base, tuned, list(range(n)))
    assert found is not None
    interval, coefficients = found
    assert interval.low < 0.5 < interval.high
    assert max(coefficients) == coefficients[2]
    # an independent fit
    from sklearn.linear_model import LogisticRegression

    features = (tuned - base) / (tuned + base)
    other = LogisticRegression(C=1e9, tol=1e-10, max_iter=2000).fit(features / features.std(0), wins)
    assert interval.estimate == pytest.approx(1 / (1 + np.exp(-other.intercept_[0])), abs=1e-3)
    assert coefficients == pytest.approx(other.coef_[0], abs=1e-3)


def test_too_few_prompts_say_nothing() -> None:
    counts = np.array([[10, 0, 0, 0, 0]] * 20)
    assert rate_at_equal(np.ones(20), counts, counts + 1, list(range(20))) is None
    assert rate_at_equal(np.ones(200), np.tile(counts, (10, 1)), np.tile(counts, (10, 1)), list(range(200))) is None


def test_equality_that_was_never_near_says_nothing() -> None:
    rng = np.random.default_rng(0)
    n = 200
    base, tuned = np.zeros((n, 5), int), np.zeros((n, 5), int)
    base[:, 0], tuned[:, 0] = rng.integers(20, 60, n), rng.integers(80, 200, n)  # always the longer
    wins = (rng.random(n) < 0.8).astype(float)
    assert rate_at_equal(wins, base, tuned, list(range(n))) is None
    assert length_only_interval(wins, tuned[:, 0].astype(float), base[:, 0].astype(float), list(range(n))) is None
    mixed = rng.integers(20, 200, n)
    assert length_only_interval(wins, mixed.astype(float), base[:, 0].astype(float), list(range(n))) is not None
    assert length_only_interval(np.ones(n), mixed.astype(float), base[:, 0].astype(float), list(range(n))) is None  # all won
