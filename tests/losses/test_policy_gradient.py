"""Advantages, penalties and clipped losses: numbers worked by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from prefine.errors import ConfigError
from prefine.losses.policy_gradient import (
    KL_ESTIMATORS,
    AdaptiveKL,
    Totals,
    check_estimator,
    gae,
    group_centred,
    group_relative,
    leave_one_out,
    loss_shares,
    policy_loss,
    reward_to_go,
    sequence_log_ratio,
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


def test_shares_of_a_loss_by_hand() -> None:
    """Two responses of 1 and 3 tokens, and one of 2 that is left out."""
    weights, which = T([1.0, 1.0, 1.0, 1.0, 0.0, 0.0]), torch.tensor([0, 1, 1, 1, 2, 2])
    totals = Totals(4.0, 2.0)
    assert loss_shares(weights, which, "token", totals, 8).tolist() == pytest.approx([0.25] * 4 + [0, 0])
    assert loss_shares(weights, which, "sequence", totals, 8).tolist() == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6, 0, 0])
    assert loss_shares(weights, which, "constant", totals, 8).tolist() == pytest.approx([1 / 16] * 4 + [0, 0])
    ratio = sequence_log_ratio(T([0.1, 0.3, 0.0, 0.6, 5.0, 5.0]), weights, which)
    assert ratio.tolist() == pytest.approx([0.1, 0.3, 0.3, 0.3, 0.0, 0.0])


def test_the_upper_clip_may_be_higher() -> None:
    """DAPO, arXiv 2503.14476, eq. 10: up to 1 + 0.28, down to 1 - 0.2."""
    found = policy_loss(T([1.25, 1.3, 0.7]).log(), T([1.0, 1.0, -1.0]), 0.2, 0.28)
    assert found.losses_N.tolist() == pytest.approx([-1.25, -1.28, 0.8])
    assert found.clipped_N.tolist() == [False, True, True]


def test_estimators_have_what_they_were_published_with(tmp_path: Path) -> None:
    from prefine import PPOConfig

    def made(name: str, **more: Any) -> Any:
        return PPOConfig(
            output_dir=str(tmp_path), advantage_estimator=name, num_samples=2 if name not in ("gae", "reinforce++") else 1, **more
        )

    grpo, dr_grpo, dapo, gspo, gae = (made(n) for n in ("grpo", "dr_grpo", "dapo", "gspo", "gae"))
    assert (grpo.kl_in_loss, grpo.kl_estimator, grpo.kl_coef, grpo.loss_aggregation, grpo.num_ppo_epochs) == (
        True,
        "k3",
        0.04,
        "sequence",
        1,
    )
    assert (dr_grpo.kl_coef, dr_grpo.loss_aggregation) == (0.0, "constant")
    assert (dapo.cliprange, dapo.cliprange_high, dapo.loss_aggregation, dapo.mask_truncated_completions, dapo.drop_equal) == (
        0.2, 0.28, "token", True, True,
    )  # fmt: skip
    assert (gspo.importance_sampling_level, gspo.cliprange, gspo.cliprange_high) == ("sequence", 3e-4, 4e-4)
    assert (gae.kl_in_loss, gae.kl_estimator, gae.kl_coef, gae.cliprange, gae.num_ppo_epochs) == (False, "k1", 0.05, 0.2, 4)
    own = made("grpo", kl_in_loss=False, kl_estimator="k1", cliprange=0.1, loss_aggregation="token")
    assert (own.kl_in_loss, own.kl_estimator, own.cliprange, own.cliprange_high, own.loss_aggregation) == (False, "k1", 0.1, 0.1, "token")
    with pytest.raises(ConfigError, match="did you mean 'sequence'"):
        made("grpo", loss_aggregation="sequences")
    assert group_centred(T([1.0, 3.0])).tolist() == [-1.0, 1.0]
