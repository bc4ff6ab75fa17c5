"""Advantages, penalties and clipped losses: numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from prefine.errors import ConfigError
from prefine.losses.policy_gradient import (
    KL_ESTIMATORS,
    AdaptiveKL,
    check_estimator,
    gae,
    group_relative,
    leave_one_out,
    policy_loss,
    reward_to_go,
    value_loss,
    whiten,
)
from prefine.losses.reward import bradley_terry_loss

T = torch.tensor


def test_gae_by_hand() -> None:
    # gamma .9, lambda .5, rewards 1 0 2, values .5 1 .2
    # delta_2 = 2 - .2 = 1.8; delta_1 = 0 + .9 * .2 - 1 = -.82; delta_0 = 1 + .9 * 1 - .5 = 1.4
    # A_2 = 1.8; A_1 = -.82 + .45 * 1.8 = -.01; A_0 = 1.4 + .45 * -.01 = 1.3955
    found = gae(T([1.0, 0.0, 2.0]), T([0.5, 1.0, 0.2]), 0.9, 0.5)
    assert found.tolist() == pytest.approx([1.3955, -0.01, 1.8], abs=1e-6)
    # lambda 1: return less value, whatever the values between
    assert gae(T([1.0, 0.0, 2.0]), T([0.5, 1.0, 0.2]), 1.0, 1.0).tolist() == pytest.approx([2.5, 1.0, 1.8])


def test_rloo_and_grpo_by_hand() -> None:
    # 1, 2, 6: others' means 4, 3.5, 1.5
    assert leave_one_out(T([1.0, 2.0, 6.0])).tolist() == pytest.approx([-3.0, -1.5, 4.5])
    # mean 3, standard deviation (n - 1) sqrt(7)
    assert group_relative(T([1.0, 2.0, 6.0]), 0.0).tolist() == pytest.approx([-2 / 7**0.5, -1 / 7**0.5, 3 / 7**0.5])
    assert group_relative(T([2.0, 2.0])).tolist() == [0.0, 0.0]
    for estimator in (leave_one_out, group_relative):
        with pytest.raises(ConfigError, match="at least 2"):
            estimator(T([1.0]))


def test_returns_and_whitening_by_hand() -> None:
    assert reward_to_go(T([1.0, 2.0, 4.0]), 0.5).tolist() == [3.0, 4.0, 4.0]
    assert whiten(T([1.0, 3.0])).tolist() == pytest.approx([-1.0, 1.0])
    assert whiten(T([0.0, 4.0]), shift_mean=False).tolist() == pytest.approx([1.0, 3.0])  # mean 2 kept, deviation 2 divided out


def test_kl_estimators_by_hand() -> None:
    ratio = T([math.log(2.0), -math.log(2.0)])
    assert KL_ESTIMATORS["k1"](ratio).tolist() == pytest.approx([0.693147, -0.693147], abs=1e-6)
    assert KL_ESTIMATORS["k2"](ratio).tolist() == pytest.approx([0.240227, 0.240227], abs=1e-6)
    # exp(-x) - 1 + x: 1/2 - 1 + ln 2, and 2 - 1 - ln 2
    assert KL_ESTIMATORS["k3"](ratio).tolist() == pytest.approx([0.193147, 0.306853], abs=1e-6)


def test_k1_and_k3_are_unbiased() -> None:
    p, q = T([0.7, 0.2, 0.1]), T([0.3, 0.3, 0.4])
    exact = float((p * (p / q).log()).sum())
    for name in ("k1", "k3"):
        assert float((p * KL_ESTIMATORS[name]((p / q).log())).sum()) == pytest.approx(exact, abs=1e-6)


def test_clipped_policy_loss_by_hand() -> None:
    logps, old = T([math.log(1.5), math.log(1.5), math.log(0.5), math.log(0.5), 0.0]), torch.zeros(5)
    found = policy_loss(logps - old, T([1.0, -1.0, 1.0, -1.0, 2.0]), 0.2)
    # A > 0 held at 1.2; A < 0 not held above; A > 0 not held below; A < 0 held at 0.8
    assert found.losses_N.tolist() == pytest.approx([-1.2, 1.5, -0.5, 0.8, -2.0])
    assert found.clipped_N.tolist() == [True, False, False, True, False]


def test_clipped_value_loss_by_hand() -> None:
    found = value_loss(T([1.0, 0.1]), T([0.0, 0.0]), T([2.0, 2.0]), 0.2)
    # held at 0.2: (0.2 - 2)^2 = 3.24 beats 1; within the range: (0.1 - 2)^2 = 3.61
    assert found.losses_N.tolist() == pytest.approx([1.62, 1.805])
    assert found.clipped_N.tolist() == [True, False]


def test_adaptive_kl_by_hand() -> None:
    steered = AdaptiveKL(0.1, target=2.0, horizon=1000)
    steered.update(8.0, 100)  # held at + 0.2
    assert steered.coefficient == pytest.approx(0.1 * 1.02)
    steered.update(1.9, 100)
    assert steered.coefficient == pytest.approx(0.1 * 1.02 * 0.995)
    fixed = AdaptiveKL(0.1)
    fixed.update(8.0, 100)
    assert fixed.coefficient == 0.1


def test_bradley_terry_by_hand() -> None:
    chosen, rejected = T([1.0, 0.0]), T([0.0, 0.0])
    assert bradley_terry_loss(chosen, rejected).tolist() == pytest.approx([math.log(1 + math.exp(-1)), math.log(2)])
    # margin 1 takes the first pair's lead away; 0.2 of the turned-round loss; 0.1 x (1 + 0)^2
    assert bradley_terry_loss(chosen, rejected, T([1.0, 0.0])).tolist() == pytest.approx([math.log(2), math.log(2)])
    smoothed = 0.8 * math.log(1 + math.exp(-1)) + 0.2 * math.log(1 + math.exp(1))
    assert bradley_terry_loss(chosen, rejected, label_smoothing=0.2)[0].item() == pytest.approx(smoothed)
    assert bradley_terry_loss(chosen, rejected, center_coefficient=0.1)[0].item() == pytest.approx(math.log(1 + math.exp(-1)) + 0.1)


def test_estimators_by_name() -> None:
    assert check_estimator("gae", 1).uses_values
    with pytest.raises(ConfigError, match="did you mean 'rloo'"):
        check_estimator("rlo", 4)
    with pytest.raises(ConfigError, match="at least 2"):
        check_estimator("grpo", 1)
