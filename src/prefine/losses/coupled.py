"""Losses that couple the pairs of a batch: they need every log-prob before any gradient."""

from __future__ import annotations

import torch

from prefine.losses.dpo import sigmoid
from prefine.losses.pair_logps import PairLogps


def aot(logps: PairLogps, beta: float, label_smoothing: float = 0.0) -> torch.Tensor:
    """Sorted margins of policy against sorted margins of reference (AOT, arXiv 2406.05882, eq. 4); (P,)."""
    policy = (logps.chosen - logps.rejected).sort().values
    reference = (logps.ref_chosen - logps.ref_rejected).sort().values
    return sigmoid(policy - reference, beta, label_smoothing)


def aot_unpaired(logps: PairLogps, beta: float, label_smoothing: float = 0.0) -> torch.Tensor:
    """Sorted chosen ratios against sorted rejected ratios (AOT, arXiv 2406.05882, eq. 5); (P,)."""
    return sigmoid(logps.chosen_ratio.sort().values - logps.rejected_ratio.sort().values, beta, label_smoothing)


def sft(logps: PairLogps) -> torch.Tensor:
    """Negative log-likelihood of the chosen answers per token of the batch; (P,), mean is the token mean."""
    share = len(logps.chosen) / logps.chosen_tokens.sum()
    return -logps.chosen * share


def kto_pair(logps: PairLogps, beta: float) -> torch.Tensor:
    """KTO's value function on both sides of each pair (``kto_pair`` of TRL up to 0.9), mean of the two; (P,).

    1 - s(beta (chosen - KL of rejected)) and 1 - s(beta (KL of chosen - rejected)), where a KL is the batch's mean log-ratio of that
    side, at least 0 and detached. It is not KTO as published (arXiv 2402.01306, eq. 8), whose baseline is drawn from mismatched
    answers and which needs no pairs; where both mean ratios are at most 0 it is half of apo_zero.
    """
    chosen_kl = logps.chosen_ratio.mean().clamp(min=0).detach()
    rejected_kl = logps.rejected_ratio.mean().clamp(min=0).detach()
    wanted = 1 - torch.sigmoid(beta * (logps.chosen_ratio - rejected_kl))
    unwanted = 1 - torch.sigmoid(beta * (chosen_kl - logps.rejected_ratio))
    return (wanted + unwanted) / 2
