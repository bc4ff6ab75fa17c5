"""What every preference loss takes: log-probs of P pairs under policy and reference.

Legend: P pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class PairLogps:
    """Summed completion log-probs (nats) of P pairs, each of shape (P,), float32.

    ``chosen_tokens`` and ``rejected_tokens`` are completion lengths; the references are
    zeros for losses without one.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    ref_chosen: torch.Tensor
    ref_rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor

    @property
    def chosen_ratio(self) -> torch.Tensor:
        """log pi(chosen) - log pi_ref(chosen)."""
        return self.chosen - self.ref_chosen

    @property
    def rejected_ratio(self) -> torch.Tensor:
        """log pi(rejected) - log pi_ref(rejected)."""
        return self.rejected - self.ref_rejected


def implicit_rewards(logps: PairLogps, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """DPO's rewards beta * log(pi / pi_ref) of chosen and rejected, detached, each (P,)."""
    return beta * logps.chosen_ratio.detach(), beta * logps.rejected_ratio.detach()


def reverse_kl(log_ratio: torch.Tensor, alpha: float) -> torch.Tensor:
    """f'(t) = log t + 1, the constant dropped: plain DPO."""
    return log_ratio


def forward_kl(log_ratio: torch.Tensor, alpha: float) -> torch.Tensor:
    """f'(t) = 1 - 1/t."""
    return 1 - torch.exp(-log_ratio)


def js_divergence(log_ratio: torch.Tensor, alpha: float) -> torch.Tensor:
    """f'(t) = log(2t / (t + 1))."""
    return math.log(2) + F.logsigmoid(log_ratio)


def alpha_divergence(log_ratio: torch.Tensor, alpha: float) -> torch.Tensor:
    """f'(t) = (t^(alpha-1) - 1) / (alpha - 1); alpha = 1 is the limit log t. The exponent is capped at 80."""
    if abs(alpha - 1) < 1e-6:
        return log_ratio
    return (torch.exp(((alpha - 1) * log_ratio).clamp(max=80.0)) - 1) / (alpha - 1)


F_DIVERGENCES = {
    "reverse_kl": reverse_kl,
    "forward_kl": forward_kl,
    "js_divergence": js_divergence,
    "alpha_divergence": alpha_divergence,
}
"""f-DPO (Wang et al. 2023, arXiv 2309.16240): the score of an answer is f'(pi / pi_ref)."""
