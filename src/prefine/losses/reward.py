"""The reward model's loss: Bradley-Terry on pairs. Pure functions.

Legend: P pairs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def bradley_terry_loss(
    chosen_P: torch.Tensor,
    rejected_P: torch.Tensor,
    margins_P: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
    center_coefficient: float = 0.0,
) -> torch.Tensor:
    """Loss of each pair, shape (P,): -log sigmoid(r_chosen - r_rejected - margin) (arXiv 2203.02155, eq. 1; 2307.09288, eq. 2).

    Args:
        margins_P: by how much the chosen is better, where the data has scores.
        label_smoothing: believed share of flipped labels: that much of the turned-round loss.
        center_coefficient: weight of (r_chosen + r_rejected)^2, which keeps rewards around 0 (arXiv 2312.09244).
    """
    difference = chosen_P - rejected_P
    if margins_P is not None:
        difference = difference - margins_P
    loss = -(1 - label_smoothing) * F.logsigmoid(difference)
    if label_smoothing:
        loss = loss - label_smoothing * F.logsigmoid(-difference)
    return loss + center_coefficient * (chosen_P + rejected_P).square() if center_coefficient else loss
