"""DPO and the losses that are a function of its margin.

Each takes ``delta``, the difference of the two answers' scores (P,), which for plain DPO
is the difference of log-ratios, and returns losses (P,).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def sigmoid(delta: torch.Tensor, beta: float, label_smoothing: float = 0.0) -> torch.Tensor:
    """-(1-e) log s(beta d) - e log s(-beta d).

    DPO, eq. 7 (Rafailov et al. 2023, arXiv 2305.18290); with ``label_smoothing`` e > 0
    conservative DPO (Mitchell 2023, "A note on DPO with noisy preferences", eq. 3).
    """
    return -(1 - label_smoothing) * F.logsigmoid(beta * delta) - label_smoothing * F.logsigmoid(-beta * delta)


def robust(delta: torch.Tensor, beta: float, label_smoothing: float) -> torch.Tensor:
    """Unbiased under flips at rate e: ((1-e) l(d) - e l(-d)) / (1-2e) (arXiv 2403.00409, eq. 12)."""
    kept, flipped = -F.logsigmoid(beta * delta), -F.logsigmoid(-beta * delta)
    return ((1 - label_smoothing) * kept - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def hinge(delta: torch.Tensor, beta: float) -> torch.Tensor:
    """max(0, 1 - beta d): SLiC's loss on DPO's margin (arXiv 2309.06657)."""
    return torch.relu(1 - beta * delta)


def exo_pair(delta: torch.Tensor, beta: float, label_smoothing: float) -> torch.Tensor:
    """KL from the policy's preference to the smoothed label (EXO, arXiv 2402.00856, eq. 16)."""
    win, lose = F.logsigmoid(beta * delta), F.logsigmoid(-beta * delta)
    return win.exp() * (win - math.log1p(-label_smoothing)) + lose.exp() * (lose - math.log(label_smoothing))


def discopop(delta: torch.Tensor, beta: float, tau: float) -> torch.Tensor:
    """Logistic and exponential loss blended by s(beta d / tau) (DiscoPOP, arXiv 2406.08414, eq. 5)."""
    logits = beta * delta
    gate = torch.sigmoid(logits / tau)
    return (1 - gate) * -F.logsigmoid(logits) + gate * torch.exp(-logits)
