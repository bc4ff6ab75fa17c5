"""Intervals hold at any number of prompts, any kind of verdict and any clusters; the full grid is benchmarks/coverage.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from prefine.evaluation.gamma_sum import positive_share
from prefine.evaluation.interval import (
    CHANGE,
    RATE,
    bootstrap,
    least_clusters,
    mean_interval,
    needed_prompts,
    p_value,
    ratio_interval,
    ratio_p_value,
    standard_error,
)
from prefine.evaluation.verdict import THRESHOLDS, decide

Draw = Callable[[np.random.Generator, int, float], np.ndarray]


@pytest.mark.parametrize(("ones", "zeros"), [(1, 1), (2, 1), (3, 8), (25, 26), (1, 300)])
@pytest.mark.parametrize("mean", [0.01, 0.3, 0.5, 0.9])
def test_the_weighted_sum_is_the_beta_distribution_on_two_values(ones: int, zeros: int, mean: float) -> None:
    share = positive_share(np.array([1 - mean, -mean]), np.array([float(ones), float(zeros)]))
    assert share == pytest.approx(beta.sf(mean, ones, zeros), rel=1e-5, abs=1e-7)


def test_the_weighted_sum_agrees_with_draws() -> None:
    rng = np.random.default_rng(0)
    values = np.append(rng.normal(0.1, 1, 12), -1.5)
    drawn = (rng.exponential(size=(200_000, 13)) @ values > 0).mean()
    assert positive_share(values, np.ones(13)) == pytest.approx(drawn, abs=0.005)  # five standard errors
    assert positive_share(np.array([1.0, 2.0]), np.ones(2)) == 1.0
    assert positive_share(np.array([-1.0, 0.0]), np.ones(2)) == 0.0


@pytest.mark.parametrize("n", [1, 2, 5, 20, 49])
def test_on_wins_and_losses_it_is_clopper_and_pearson(n: int) -> None:
    for won in range(n + 1):
        found = mean_interval([1.0] * won + [0.0] * (n - won), bounds=RATE)
        assert found.low == pytest.approx(beta.ppf(0.025, won, n - won + 1) if won else 0.0, abs=1e-5)
        assert found.high == pytest.approx(beta.ppf(0.975, won + 1, n - won) if won < n else 1.0, abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6)), min_size=1, max_size=30))
def test_an_interval_holds_its_estimate_and_stays_within_bounds(rows: list[tuple[float, int]]) -> None:
    values, clusters = [v for v, _ in rows], [c for _, c in rows]
    found = mean_interval(values, clusters, bounds=RATE)
    wider = mean_interval(values, clusters, bounds=RATE, level=0.99)
    assert 0 <= found.low <= found.estimate + 1e-9
    assert found.estimate - 1e-9 <= found.high <= 1
    assert wider.low <= found.low + 1e-6
    assert wider.high >= found.high - 1e-6
    turned = mean_interval([1 - v for v in values], clusters, bounds=RATE)
    assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-5)


def test_values_that_all_but_touch_a_bound() -> None:
    for value in (1e-11, 1e-9, 2.3e-219, 5e-324, 1 - 1e-11, 1 - 1e-16):
        for n in (1, 2, 60):
            found = mean_interval([value] * n, bounds=RATE)
            assert 0 <= found.low <= value + 1e-9
            assert value - 1e-9 <= found.high <= 1
            for other in (0.0, 0.5, 1.0):
                mixed = mean_interval([value] * n + [other], bounds=RATE)
                assert mixed.low - 1e-9 <= mixed.estimate <= mixed.high + 1e-9


def near_binary(rng: np.random.Generator, n: int, rate: float) -> np.ndarray:
    away = rng.uniform(0, 0.02, n)
    return np.where(rng.random(n) < (rate - 0.01) / 0.98, 1 - away, away)


KINDS: dict[str, Draw] = {
    "uniform": lambda rng, n, rate: rng.uniform(rate - min(rate, 1 - rate), rate + min(rate, 1 - rate), n),
    "near-binary": near_binary,
    "half ties": lambda rng, n, rate: np.where(rng.random(n) < 0.5, rate, rng.random(n) < rate),
    "both orders": lambda rng, n, rate: (rng.random(n) < rate) * 0.5 + (rng.random(n) < rate) * 0.5,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 20, 60])
@pytest.mark.long
def test_it_covers_where_verdicts_are_not_only_wins_and_losses(kind: str, n: int) -> None:
    for rate in (0.1, 0.5, 0.97):
        rng = np.random.default_rng([n, int(100 * rate)])
        sets = 150
        held = sum((i := mean_interval(KINDS[kind](rng, n, rate), bounds=RATE)).low <= rate <= i.high for _ in range(sets))
        assert held / sets >= 0.94 - 2 * (0.94 * 0.06 / sets) ** 0.5, rate


def test_few_prompts_raise_no_false_alarm() -> None:
    for n in (2, 3, 4, 5, 8):
        rng = np.random.default_rng(n)
        alarms = sum(decide(mean_interval(rng.random(n), bounds=RATE)).outcome in ("better", "worse") for _ in range(200))
        assert alarms / 200 <= 0.05, n


def test_a_cluster_that_dominates_is_not_taken_for_many() -> None:
    rng = np.random.default_rng(0)
    counts = np.array([40, *[2] * 19])  # half of all comparisons are one prompt's
    held = 0
    for _ in range(200):
        own = (rng.random(20) < 0.7).astype(float)
        found = mean_interval(np.repeat(own, counts), np.repeat(np.arange(20), counts).tolist(), bounds=RATE)
        held += found.low <= 0.7 <= found.high
    assert held / 200 >= 0.92


@pytest.mark.parametrize("n", [50, 200, 805])
def test_it_is_hardly_wider_than_a_bootstrap_where_that_is_right(n: int) -> None:
    for rate in (0.3, 0.5):
        wins = np.array([1.0] * round(rate * n) + [0.0] * (n - round(rate * n)))
        low, high = bootstrap(lambda picks, w=wins: w[picks].mean(1), n)  # type: ignore[misc]
        found = mean_interval(wins, bounds=RATE)
        assert (found.high - found.low) / (high - low) <= 1.08


def test_p_values_agree_with_intervals() -> None:
    rng = np.random.default_rng(1)
    changes = rng.uniform(-0.4, 0.6, 40)
    found = mean_interval(changes, bounds=CHANGE, each_end=True)
    assert p_value(changes, None, CHANGE, found.low, "above") == pytest.approx(0.025, abs=1e-4)
    assert p_value(changes, None, CHANGE, found.high, "below") == pytest.approx(0.025, abs=1e-4)
    with pytest.raises(ValueError, match="bounds"):
        mean_interval([0.5, 1.2], bounds=RATE)


@pytest.mark.parametrize("n", [30, 100, 450, 520, 1000, 2000])
@pytest.mark.parametrize("gained", [0.0, 0.03])
@pytest.mark.long
def test_a_loss_of_what_is_allowed_is_hardly_ever_called_kept(n: int, gained: float) -> None:
    """P(kept) at a true loss of one point, summed over what can be drawn where gains are none, else simulated."""
    rng = np.random.default_rng(n)
    kept: dict[tuple[int, int], bool] = {}
    hits = 0
    for _ in range(1000):
        lost, won, same = rng.multinomial(n, [0.01 + gained, gained, 0.99 - 2 * gained])
        if (lost, won) not in kept:
            changes = [-1.0] * lost + [1.0] * won + [0.0] * same
            kept[lost, won] = mean_interval(changes, bounds=CHANGE, each_end=True).low >= -0.01
        hits += kept[lost, won]
    assert hits / 1000 <= 0.025 + 2 * (0.025 * 0.975 / 1000) ** 0.5


def test_the_standard_error_knows_clusters() -> None:
    # Ten prompts asked five times each, all five alike: as if asked once.
    wins, clusters = [float(i % 2) for i in range(10) for _ in range(5)], [i for i in range(10) for _ in range(5)]
    assert standard_error(wins, clusters) == pytest.approx(standard_error([float(i % 2) for i in range(10)]))
    assert standard_error(wins, clusters) > 2 * standard_error(wins)


def test_sample_sizes_know_what_counts_as_working() -> None:
    values = [1.0, 0.0] * 500  # a spread of one half
    assert needed_prompts(values, works=THRESHOLDS.min_win_rate, rate=0.53) is None  # never called better
    # 90 %: z(.975) + z(.8) = 2.80, (2.80 / 2 / .4)^2 = 12.3
    assert needed_prompts(values, works=THRESHOLDS.min_win_rate, rate=0.9) == 13
    # 56 %: to measure at least 55 % with 80 % power, (.84 / 2 / .01)^2 = 1,771, is more than to clear 50 %, 545
    assert needed_prompts(values, works=THRESHOLDS.min_win_rate, rate=0.56) == pytest.approx(1773, rel=0.01)
    assert needed_prompts(values, works=THRESHOLDS.min_win_rate, rate=0.4) == pytest.approx(197, rel=0.02)
    assert least_clusters(0.5) == 6  # .025^(1/6) = .541, .025^(1/5) = .478
    assert least_clusters(0.6) == 8


def test_heavy_tails_and_neighbours() -> None:
    rng = np.random.default_rng(0)
    held = sum((i := mean_interval(rng.lognormal(0, 1, 60))).low <= np.exp(0.5) <= i.high for _ in range(150))
    assert held / 150 >= 0.88  # a percentile bootstrap: .85
    held = 0
    for _ in range(150):
        noise, series = rng.normal(size=120), np.zeros(120)
        for i in range(1, 120):
            series[i] = 0.8 * series[i - 1] + 0.6 * noise[i]
        blocks = (np.arange(120) * 10 // 120).tolist()
        found = ratio_interval(series + 1, np.ones(120), blocks)
        held += found.low <= 1 <= found.high
    assert held / 150 >= 0.88  # as independent windows: .6
    assert ratio_p_value([1.0, 1.1, 0.9], [1.0, 1.0, 1.0]) < 0.01
    assert ratio_p_value([-1.0, -1.1, -0.9], [1.0, 1.0, 1.0]) > 0.99
