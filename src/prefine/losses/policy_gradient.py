"""PPO and its value-free kin: penalties, advantages, clipped losses. Pure functions; nothing of models.

Legend: T tokens of one completion, N tokens of several end to end, K samples of one prompt, M completions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from prefine.errors import ConfigError, nearest


def _k1(log_ratio_N: torch.Tensor) -> torch.Tensor:
    return log_ratio_N


def _k2(log_ratio_N: torch.Tensor) -> torch.Tensor:
    return log_ratio_N.square() / 2


def _k3(log_ratio_N: torch.Tensor) -> torch.Tensor:
    return torch.expm1(-log_ratio_N) + log_ratio_N


KL_ESTIMATORS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {"k1": _k1, "k2": _k2, "k3": _k3}
"""Estimators of KL(policy || reference) a token, from log policy - log reference at the policy's own samples
(Schulman 2020, "Approximating KL divergence"): k1 is unbiased, k2 has less variance, k3 is unbiased and never negative.
"""


def gae(rewards_T: torch.Tensor, values_T: torch.Tensor, gamma: float = 1.0, lam: float = 0.95) -> torch.Tensor:
    """Generalised advantage estimation (arXiv 1506.02438, eq. 16) of one completion, shape (T,).

    delta_t = r_t + gamma V_{t+1} - V_t, A_t = delta_t + gamma lam A_{t+1}; nothing follows the last token.
    """
    rewards, values = rewards_T.tolist(), values_T.tolist()
    following = next_value = 0.0
    out = []
    for reward, value in zip(reversed(rewards), reversed(values), strict=True):
        following = reward + gamma * next_value - value + gamma * lam * following
        next_value = value
        out.append(following)
    return rewards_T.new_tensor(out[::-1])


def leave_one_out(scores_K: torch.Tensor) -> torch.Tensor:
    """RLOO (arXiv 2402.14740, eq. 9): a sample's score less the mean of its prompt's others, shape (K,).

    Raises:
        ConfigError: a single sample, which has no others.
    """
    if len(scores_K) < 2:
        raise ConfigError("rloo compares samples of one prompt: num_samples must be at least 2")
    return (scores_K - scores_K.mean()) * len(scores_K) / (len(scores_K) - 1)


def group_relative(scores_K: torch.Tensor, epsilon: float = 1e-4) -> torch.Tensor:
    """GRPO (arXiv 2402.03300, section 4.1.2): a sample's score, standardised among its prompt's, shape (K,)."""
    if len(scores_K) < 2:
        raise ConfigError("grpo compares samples of one prompt: num_samples must be at least 2")
    return (scores_K - scores_K.mean()) / (scores_K.std() + epsilon)


def group_centred(scores_K: torch.Tensor) -> torch.Tensor:
    """Dr. GRPO (arXiv 2503.20783, section 3.2): a sample's score less its prompt's mean, shape (K,)."""
    if len(scores_K) < 2:
        raise ConfigError("dr_grpo compares samples of one prompt: num_samples must be at least 2")
    return scores_K - scores_K.mean()


def reward_to_go(rewards_T: torch.Tensor, gamma: float = 1.0) -> torch.Tensor:
    """What follows from each token on, shape (T,): REINFORCE's return (REINFORCE++ standardises it over the batch, arXiv 2501.03262)."""
    following = 0.0
    out = []
    for reward in reversed(rewards_T.tolist()):
        following = reward + gamma * following
        out.append(following)
    return rewards_T.new_tensor(out[::-1])


REWARD_AGGREGATES: Mapping[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "sum": lambda scores_RM, c: torch.where(scores_RM.isnan().all(0), torch.nan, scores_RM.nansum(0)),
    "mean": lambda scores_RM, c: scores_RM.mean(0),
    "min": lambda scores_RM, c: scores_RM.min(0).values,
    "mean-std": lambda scores_RM, c: scores_RM.mean(0) - c * scores_RM.std(0, unbiased=False),
}
"""How R rewards of M answers become one, shape (R, M) to (M,): a sum leaves out those that have none (NaN), as TRL's;
min and mean-std (the mean less c standard deviations) are
lower bounds, which an ensemble's disagreement pulls down where the policy leaves what the rewards were trained on
(arXiv 2310.02743)."""


def combine_rewards(
    scores_RM: torch.Tensor, weights: Sequence[float], aggregate: str, scales: Sequence[tuple[float, float]], std_weight: float = 1.0
) -> torch.Tensor:
    """R rewards of M answers as one, shape (M,): first on one scale, where ``scales`` (mean, spread) are given, then weighted.

    Args:
        std_weight: how many standard deviations ``mean-std`` takes off.
    """
    if scales:
        mean_R, spread_R = torch.tensor(scales, dtype=scores_RM.dtype).T
        scores_RM = (scores_RM - mean_R[:, None]) / spread_R[:, None]
    weighted = scores_RM * torch.tensor(list(weights), dtype=scores_RM.dtype)[:, None]
    return REWARD_AGGREGATES[aggregate](weighted, std_weight)


def whiten(values_N: torch.Tensor, shift_mean: bool = True) -> torch.Tensor:
    """Unit variance over all tokens, shape (N,), and zero mean, or the mean they had (arXiv 2403.17031, PPO details)."""
    mean = values_N.mean()
    whitened = (values_N - mean) * torch.rsqrt(values_N.var(unbiased=False) + 1e-8)
    return whitened if shift_mean else whitened + mean


@dataclass(frozen=True)
class Totals:
    """Of a minibatch: tokens that count, and responses that have such tokens."""

    tokens: float
    responses: float


@dataclass(frozen=True)
class Estimator:
    """How scores become advantages.

    Attributes:
        uses_values: whether a value model is trained.
        num_samples: samples a prompt that it needs at least.
        about: in words, with the source.
        settings: what it was published with, of :data:`PPO_SETTINGS`.
    """

    uses_values: bool
    num_samples: int
    about: str
    settings: Mapping[str, Any]


PPO_SETTINGS: Mapping[str, Any] = {
    **{"kl_in_loss": False, "kl_estimator": "k1", "kl_coef": 0.05, "cliprange": 0.2, "cliprange_high": 0.2},
    **{"loss_aggregation": "token", "importance_sampling_level": "token", "mask_truncated_completions": False},
    **{"drop_equal": False, "num_ppo_epochs": 4},
}
"""TRL's PPO, and what is unset for an estimator that says nothing of it."""
GRPO_SETTINGS: Mapping[str, Any] = {
    **{"kl_in_loss": True, "kl_estimator": "k3", "kl_coef": 0.04, "loss_aggregation": "sequence", "num_ppo_epochs": 1},
}
"""arXiv 2402.03300, eq. 3 and 4 (KL in the loss, each response's mean over its tokens) and section 4.2 (coefficient, one update)."""
NO_KL: Mapping[str, Any] = {"kl_in_loss": False, "kl_estimator": "k1", "kl_coef": 0.0}

ESTIMATORS: Mapping[str, Estimator] = {
    "gae": Estimator(True, 1, "PPO: generalised advantages against a value model (arXiv 1707.06347, 1506.02438)", {}),
    "rloo": Estimator(False, 2, "leave-one-out among a prompt's samples (arXiv 2402.14740)", {}),
    "grpo": Estimator(False, 2, "GRPO: standardised among a prompt's samples (arXiv 2402.03300)", GRPO_SETTINGS),
    "dr_grpo": Estimator(
        False,
        2,
        "Dr. GRPO: a prompt's scores less their mean, summed over tokens and divided by a constant (arXiv 2503.20783, section 3.2)",
        {**GRPO_SETTINGS, **NO_KL, "loss_aggregation": "constant"},
    ),
    "dapo": Estimator(
        False,
        2,
        "DAPO: GRPO's advantages, a higher upper clip, token mean, truncated responses masked, no KL (arXiv 2503.14476, section 3)",
        {
            **GRPO_SETTINGS,
            **NO_KL,
            "loss_aggregation": "token",
            "cliprange_high": 0.28,
            "mask_truncated_completions": True,
            "drop_equal": True,
        },
    ),
    "gspo": Estimator(
        False,
        2,
        "GSPO: GRPO's advantages, one ratio a response (arXiv 2507.18071, eq. 5 and section 5.1)",
        {**GRPO_SETTINGS, "importance_sampling_level": "sequence", "cliprange": 3e-4, "cliprange_high": 4e-4},
    ),
    "reinforce++": Estimator(False, 1, "returns standardised over the batch (arXiv 2501.03262)", {}),
}
LOSS_AGGREGATIONS = ("token", "sequence", "constant")
IMPORTANCE_LEVELS = ("token", "sequence")


def loss_shares(weights_N: torch.Tensor, completion_N: torch.Tensor, aggregation: str, totals: Totals, longest: int) -> torch.Tensor:
    """What each token's loss is multiplied by before all are summed, shape (N,).

    ``token``: a mean over all tokens that count. ``sequence``: each response's mean over its tokens, then the mean over responses
    (GRPO). ``constant``: a sum over tokens, divided by responses x ``longest`` (Dr. GRPO), so that length weighs nothing.

    Args:
        weights_N: 1 or 0, whether a token counts; completion_N: which response it is of, from 0.
        totals: of the minibatch, of which these tokens may be a part.
        longest: most tokens of a response.
    """
    if aggregation == "token":
        return weights_N / totals.tokens
    if aggregation == "constant":
        return weights_N / (totals.responses * longest)
    lengths_M = torch.zeros(int(completion_N.max()) + 1, device=weights_N.device).index_add(0, completion_N, weights_N)
    return weights_N / (lengths_M.clamp(min=1)[completion_N] * totals.responses)


def sequence_log_ratio(log_ratio_N: torch.Tensor, weights_N: torch.Tensor, completion_N: torch.Tensor) -> torch.Tensor:
    """Each response's mean log-ratio at all of its tokens, shape (N,): GSPO's ratio (arXiv 2507.18071, eq. 7)."""
    size = int(completion_N.max()) + 1
    sums_M = torch.zeros(size, device=weights_N.device, dtype=log_ratio_N.dtype).index_add(0, completion_N, log_ratio_N * weights_N)
    lengths_M = torch.zeros(size, device=weights_N.device).index_add(0, completion_N, weights_N)
    return (sums_M / lengths_M.clamp(min=1))[completion_N]


def check_estimator(name: str, num_samples: int) -> Estimator:
    """An estimator by its name.

    Raises:
        ConfigError: unknown, or too few samples for it.
    """
    if name not in ESTIMATORS:
        raise ConfigError(
            f"advantage_estimator is {name!r}; expected one of {', '.join(ESTIMATORS)}{nearest(name, ESTIMATORS)}", code="PF-C03"
        )
    found = ESTIMATORS[name]
    if num_samples < found.num_samples:
        raise ConfigError(f"advantage_estimator {name} needs num_samples of at least {found.num_samples}, not {num_samples}")
    return found


@dataclass(frozen=True)
class Clipped:
    """A clipped loss of each token, shape (N,), and which tokens the clip held."""

    losses_N: torch.Tensor
    clipped_N: torch.Tensor


def policy_loss(
    log_ratio_N: torch.Tensor, advantages_N: torch.Tensor, cliprange: float = 0.2, cliprange_high: float | None = None
) -> Clipped:
    """PPO's clipped surrogate (arXiv 1707.06347, eq. 7), to be minimised: max(-A r, -A clip(r, 1 - c, 1 + h)) with r the ratio; h is c,
    or DAPO's higher bound (arXiv 2503.14476, eq. 10).
    """
    ratio_N = log_ratio_N.exp()
    plain_N = -advantages_N * ratio_N
    held_N = -advantages_N * ratio_N.clamp(1 - cliprange, 1 + (cliprange if cliprange_high is None else cliprange_high))
    return Clipped(torch.maximum(plain_N, held_N), held_N > plain_N)


def value_loss(values_N: torch.Tensor, old_values_N: torch.Tensor, returns_N: torch.Tensor, cliprange: float = 0.2) -> Clipped:
    """Half the squared error, of the worse of the value and the value held within ``cliprange`` of the old one (PPO's baselines code)."""
    held_N = old_values_N + (values_N - old_values_N).clamp(-cliprange, cliprange)
    plain_N, clipped_N = (values_N - returns_N).square(), (held_N - returns_N).square()
    return Clipped(0.5 * torch.maximum(plain_N, clipped_N), clipped_N > plain_N)


@dataclass
class AdaptiveKL:
    """The KL coefficient, fixed or steered to a target (arXiv 1909.08593, section 2.2).

    coefficient *= 1 + clip(KL / target - 1, -0.2, 0.2) * samples / horizon.
    """

    coefficient: float
    target: float | None = None
    horizon: int = 10_000

    def update(self, kl: float, num_samples: int) -> None:
        """After a rollout whose mean KL an answer was ``kl`` nats."""
        if self.target is not None:
            error = min(0.2, max(-0.2, kl / self.target - 1))
            self.coefficient *= 1 + error * num_samples / self.horizon
