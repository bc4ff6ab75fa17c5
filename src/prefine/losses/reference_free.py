"""Losses that need no reference model."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from prefine.losses.pair_logps import PairLogps


def simpo(logps: PairLogps, beta: float, gamma: float) -> torch.Tensor:
    """-log s(beta (mean logp chosen - mean logp rejected) - gamma) (SimPO, arXiv 2405.14734, eq. 6); (P,).

    ``gamma`` is the paper's target margin itself, not its ratio to beta.
    """
    delta = logps.chosen / logps.chosen_tokens - logps.rejected / logps.rejected_tokens
    return -F.logsigmoid(beta * delta - gamma)


def cpo(logps: PairLogps, beta: float, alpha: float) -> torch.Tensor:
    """DPO with a uniform reference plus alpha x chosen NLL per token (CPO, arXiv 2401.08417, eq. 4); (P,)."""
    return -F.logsigmoid(beta * (logps.chosen - logps.rejected)) - alpha * logps.chosen / logps.chosen_tokens


def orpo(logps: PairLogps, beta: float) -> torch.Tensor:
    """Chosen NLL per token plus beta x odds-ratio loss (ORPO, arXiv 2403.07691, eq. 6 and 7); (P,)."""
    chosen, rejected = logps.chosen / logps.chosen_tokens, logps.rejected / logps.rejected_tokens
    log_odds = (chosen - rejected) - (_log1mexp(chosen) - _log1mexp(rejected))
    return -chosen - beta * F.logsigmoid(log_odds)


def _log1mexp(x: torch.Tensor) -> torch.Tensor:
    """log(1 - e^x) for x < 0; x is kept below -1e-7 so that a certain answer stays finite."""
    return torch.log(-torch.expm1(x.clamp(max=-1e-7)))
