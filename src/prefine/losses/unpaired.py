"""Losses of single responses, each wanted or not; no torch module, no state.

Legend: M responses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from prefine.errors import ConfigError, nearest


def kto(ratio_M: torch.Tensor, wanted_M: torch.Tensor, beta: float, baseline: torch.Tensor | float) -> torch.Tensor:
    """1 - s(beta (ratio - KL)) of what is wanted, 1 - s(beta (KL - ratio)) of what is not (KTO, arXiv 2402.01306); (M,).

    Args:
        baseline: KL of policy and reference, nats/response, at least 0, from mismatched prompts and responses.
    """
    return 1 - torch.sigmoid(beta * _towards(ratio_M - baseline, wanted_M))


def bco(ratio_M: torch.Tensor, wanted_M: torch.Tensor, beta: float, baseline: torch.Tensor | float) -> torch.Tensor:
    """-log s(beta ratio - shift) of what is wanted, -log s(shift - beta ratio) of what is not (BCO, arXiv 2404.04656); (M,).

    Args:
        baseline: the shift over beta: the moving mean of log-ratios.
    """
    return -F.logsigmoid(beta * _towards(ratio_M - baseline, wanted_M))


def apo_zero_unpaired(ratio_M: torch.Tensor, wanted_M: torch.Tensor, beta: float, baseline: torch.Tensor | float) -> torch.Tensor:
    """1 - s(beta ratio) of what is wanted, s(beta ratio) of what is not (APO-zero on single responses, arXiv 2408.06266); (M,)."""
    return 1 - torch.sigmoid(beta * _towards(ratio_M, wanted_M))


def _towards(margin_M: torch.Tensor, wanted_M: torch.Tensor) -> torch.Tensor:
    return torch.where(wanted_M, margin_M, -margin_M)


@dataclass(frozen=True)
class Unpaired:
    """One entry: ``function(log-ratios, wanted, beta, baseline)`` returns losses (M,).

    Attributes:
        uses_kl: the baseline is the KL of mismatched prompts and responses; uses_shift: it is the moving mean of log-ratios.
    """

    function: Callable[[torch.Tensor, torch.Tensor, float, torch.Tensor | float], torch.Tensor]
    paper: str
    uses_kl: bool = False
    uses_shift: bool = False


UNPAIRED: dict[str, Unpaired] = {
    "kto": Unpaired(kto, "2402.01306", uses_kl=True),
    "bco": Unpaired(bco, "2404.04656", uses_shift=True),
    "apo_zero_unpaired": Unpaired(apo_zero_unpaired, "2408.06266"),
}


def check_unpaired(name: str, beta: float) -> None:
    """Check a loss's name and its beta before anything is loaded.

    Raises:
        ConfigError: an unknown loss, or one for pairs; a beta that is no number above 0.
    """
    if name not in UNPAIRED:
        from prefine.losses.table import LOSSES

        of_pairs = ", which learns from pairs (prefine dpo)" if name in LOSSES else f" does not exist{nearest(name, UNPAIRED)}"
        raise ConfigError(f"loss_type {name!r}{of_pairs}; known for single responses: {', '.join(UNPAIRED)}", code="PF-C01")
    if beta <= 0:
        raise ConfigError(f"beta is {beta}; expected a number above 0 (0.1 is usual)", code="PF-C03")
