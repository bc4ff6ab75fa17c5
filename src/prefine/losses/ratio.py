"""Losses on the two answers' log-ratios separately, not on their difference alone.

``chosen`` and ``rejected`` are log(pi / pi_ref), shape (P,); returns losses (P,).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def ipo(
    chosen: torch.Tensor, rejected: torch.Tensor, chosen_tokens: torch.Tensor, rejected_tokens: torch.Tensor, beta: float
) -> torch.Tensor:
    """(d - 1/(2 beta))^2 on ratios averaged over tokens (IPO, arXiv 2310.12036, eq. 17).

    The paper is silent on the average; TRL's choice is followed, which IPO's authors confirmed to it.
    """
    return (chosen / chosen_tokens - rejected / rejected_tokens - 1 / (2 * beta)).square()


def sigmoid_norm(
    chosen: torch.Tensor, rejected: torch.Tensor, chosen_tokens: torch.Tensor, rejected_tokens: torch.Tensor, beta: float
) -> torch.Tensor:
    """DPO on ratios averaged over tokens (Tulu 3's length-normalised DPO, arXiv 2411.15124, eq. 6)."""
    return -F.logsigmoid(beta * (chosen / chosen_tokens - rejected / rejected_tokens))


def nca_pair(chosen: torch.Tensor, rejected: torch.Tensor, beta: float) -> torch.Tensor:
    """Noise-contrastive alignment, two answers (arXiv 2402.05369, algorithm 1)."""
    return -F.logsigmoid(beta * chosen) - 0.5 * F.logsigmoid(-beta * chosen) - 0.5 * F.logsigmoid(-beta * rejected)


def bco_pair(chosen: torch.Tensor, rejected: torch.Tensor, beta: float) -> torch.Tensor:
    """Binary classification of answers, without the moving shift (BCO, arXiv 2404.04656, eq. 7)."""
    return -F.logsigmoid(beta * chosen) - F.logsigmoid(-beta * rejected)


def sppo_hard(chosen: torch.Tensor, rejected: torch.Tensor, beta: float) -> torch.Tensor:
    """Self-play with win probabilities 1 and 0 (SPPO, arXiv 2405.00675, eq. 4.7)."""
    return (chosen - 0.5 / beta).square() + (rejected + 0.5 / beta).square()


def apo_zero(chosen: torch.Tensor, rejected: torch.Tensor, beta: float) -> torch.Tensor:
    """Raise chosen, lower rejected (APO, arXiv 2408.06266, eq. 7)."""
    return 1 - torch.sigmoid(beta * chosen) + torch.sigmoid(beta * rejected)


def apo_down(chosen: torch.Tensor, rejected: torch.Tensor, beta: float) -> torch.Tensor:
    """Lower both, rejected more (APO, arXiv 2408.06266, eq. 8)."""
    return torch.sigmoid(beta * chosen) + 1 - torch.sigmoid(beta * (chosen - rejected))
