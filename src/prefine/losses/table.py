"""The table of losses: name -> function, what it needs, which options it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch

from prefine.errors import ConfigError, nearest
from prefine.losses import coupled, dpo, ratio, reference_free
from prefine.losses.pair_logps import F_DIVERGENCES, PairLogps


@dataclass(frozen=True)
class LossOptions:
    """The numbers losses read; names and defaults are TRL's where TRL has them."""

    beta: float = 0.1
    label_smoothing: float = 0.0
    discopop_tau: float = 0.05
    simpo_gamma: float = 0.5
    cpo_alpha: float = 1.0
    f_divergence_type: str = "reverse_kl"
    f_alpha_divergence_coef: float = 0.5


@dataclass(frozen=True)
class Loss:
    """One entry: ``function(logps, options)`` returns losses (P,).

    ``reads`` names the options it uses beside beta; ``coupled`` losses need the whole
    batch at once; ``reference`` tells whether it needs reference log-probs.
    """

    function: Callable[[PairLogps, LossOptions], torch.Tensor]
    reads: frozenset[str] = frozenset()
    coupled: bool = False
    reference: bool = True
    paper: str = ""


_F = ("f_divergence_type", "f_alpha_divergence_coef")


def _scores(x: PairLogps, o: LossOptions) -> tuple[torch.Tensor, torch.Tensor]:
    score = F_DIVERGENCES[o.f_divergence_type]
    return score(x.chosen_ratio, o.f_alpha_divergence_coef), score(x.rejected_ratio, o.f_alpha_divergence_coef)


def _delta(x: PairLogps, o: LossOptions) -> torch.Tensor:
    chosen, rejected = _scores(x, o)
    return chosen - rejected


def _entry(
    function: Callable[[PairLogps, LossOptions], torch.Tensor], paper: str, *reads: str, coupled: bool = False, reference: bool = True
) -> Loss:
    return Loss(function, frozenset(reads), coupled, reference, paper)


LOSSES: dict[str, Loss] = {
    "sigmoid": _entry(lambda x, o: dpo.sigmoid(_delta(x, o), o.beta, o.label_smoothing), "2305.18290", "label_smoothing", *_F),
    "robust": _entry(lambda x, o: dpo.robust(_delta(x, o), o.beta, o.label_smoothing), "2403.00409", "label_smoothing", *_F),
    "hinge": _entry(lambda x, o: dpo.hinge(_delta(x, o), o.beta), "2309.06657", *_F),
    "ipo": _entry(lambda x, o: ratio.ipo(*_scores(x, o), x.chosen_tokens, x.rejected_tokens, o.beta), "2310.12036", *_F),
    "exo_pair": _entry(lambda x, o: dpo.exo_pair(_delta(x, o), o.beta, o.label_smoothing), "2402.00856", "label_smoothing", *_F),
    "nca_pair": _entry(lambda x, o: ratio.nca_pair(x.chosen_ratio, x.rejected_ratio, o.beta), "2402.05369"),
    "bco_pair": _entry(lambda x, o: ratio.bco_pair(x.chosen_ratio, x.rejected_ratio, o.beta), "2404.04656"),
    "sppo_hard": _entry(lambda x, o: ratio.sppo_hard(x.chosen_ratio, x.rejected_ratio, o.beta), "2405.00675"),
    "aot": _entry(lambda x, o: coupled.aot(x, o.beta, o.label_smoothing), "2406.05882", "label_smoothing", coupled=True),
    "aot_unpaired": _entry(lambda x, o: coupled.aot_unpaired(x, o.beta, o.label_smoothing), "2406.05882", "label_smoothing", coupled=True),
    "apo_zero": _entry(lambda x, o: ratio.apo_zero(x.chosen_ratio, x.rejected_ratio, o.beta), "2408.06266"),
    "apo_down": _entry(lambda x, o: ratio.apo_down(x.chosen_ratio, x.rejected_ratio, o.beta), "2408.06266"),
    "discopop": _entry(lambda x, o: dpo.discopop(_delta(x, o), o.beta, o.discopop_tau), "2406.08414", "discopop_tau", *_F),
    "sigmoid_norm": _entry(lambda x, o: ratio.sigmoid_norm(*_scores(x, o), x.chosen_tokens, x.rejected_tokens, o.beta), "2411.15124", *_F),
    "sft": _entry(lambda x, o: coupled.sft(x), "", coupled=True, reference=False),
    "simpo": _entry(lambda x, o: reference_free.simpo(x, o.beta, o.simpo_gamma), "2405.14734", "simpo_gamma", reference=False),
    "orpo": _entry(lambda x, o: reference_free.orpo(x, o.beta), "2403.07691", reference=False),
    "cpo": _entry(lambda x, o: reference_free.cpo(x, o.beta, o.cpo_alpha), "2401.08417", "cpo_alpha", reference=False),
    "kto_pair": _entry(lambda x, o: coupled.kto_pair(x, o.beta), "2402.01306", coupled=True),
}
NOTES: dict[str, str] = {
    "sigmoid": "label_smoothing is cDPO's (Mitchell 2023), which TRL's sigmoid leaves unread; alpha_divergence is TRL's convention, "
    "f'(t) = (t^(a-1) - 1) / (a - 1), where f-DPO's paper (arXiv 2309.16240) has (1 - t^-a) / a: its a is 1 less ours",
    "ipo": "ratios are averaged over tokens, where the paper, silent on length, sums; TRL's choice, which IPO's authors confirmed to it",
    "bco_pair": "without the paper's moving shift of rewards, as in TRL's DPO",
    "sppo_hard": "win probabilities are fixed at 1 and 0, where the paper estimates them with a preference model",
    "sft": "the token mean over the batch's chosen responses, as TRL's",
    "simpo": "the defaults are TRL's, beta 0.1 and gamma 0.5, which mean a margin of 5 nats/token; the paper has beta 2 to 10 "
    "and gamma / beta of 0.3 to 0.6: `--beta 2.5 --simpo-gamma 1.0`, say",
    "orpo": "beta is the paper's lambda",
    "cpo": "the chosen NLL is the mean over each response's tokens, where the paper sums",
    "kto_pair": "not KTO as published: its value function on both sides of a pair, the batch's mean ratios for the KL, as TRL up to 0.9 "
    "had it; where these are at most 0 it is half of `apo_zero`",
}
"""Where a loss is not what its paper has, or whose choice is followed where the paper is silent."""


def check_losses(names: Sequence[str], weights: Sequence[float] | None, options: LossOptions) -> list[float]:
    """Check names, weights and options before anything is loaded; return the weights.

    Raises:
        ConfigError: an unknown loss, a weight too many, or an option that would be ignored.
    """
    if not names:
        raise ConfigError("loss_type is empty; give at least one of " + ", ".join(LOSSES))
    for name in names:
        if name == "kto":
            raise ConfigError(
                "loss_type 'kto': KTO learns from single responses, each wanted or not, as prefine kto does (of pairs both sides); "
                "kto_pair applies its value function to pairs"
            )
        if name not in LOSSES:
            raise ConfigError(f"loss_type {name!r} does not exist{nearest(name, LOSSES)} Known: {', '.join(LOSSES)}", code="PF-C01")
    if weights is not None and len(weights) != len(names):
        raise ConfigError(f"loss_weights has {len(weights)} numbers for {len(names)} losses; give one a loss")
    if options.beta <= 0:
        raise ConfigError(f"beta is {options.beta}; expected a number above 0 (0.1 is usual)", code="PF-C03")
    if options.f_divergence_type not in F_DIVERGENCES:
        known = ", ".join(F_DIVERGENCES)
        raise ConfigError(f"f_divergence_type is {options.f_divergence_type!r}; expected one of {known}", code="PF-C03")
    if not 0 <= options.label_smoothing < 0.5:
        raise ConfigError(
            f"label_smoothing is {options.label_smoothing}; expected 0 to below 0.5 (a rate of flipped labels)", code="PF-C03"
        )
    if "exo_pair" in names and options.label_smoothing == 0:
        raise ConfigError("exo_pair needs label_smoothing above 0 (its paper uses 0.001): it takes the logarithm of it")
    read = {option for name in names for option in LOSSES[name].reads} | {"beta"}
    for field in fields(options):
        value = getattr(options, field.name)
        alpha_unused = field.name == "f_alpha_divergence_coef" and options.f_divergence_type != "alpha_divergence"
        if value != field.default and (field.name not in read or alpha_unused):
            readers = ", ".join(n for n, loss in LOSSES.items() if field.name in loss.reads)
            raise ConfigError(f"{field.name} is {value}, but loss {'+'.join(names)} would ignore it; it is read by {readers}")
    return list(weights) if weights is not None else [1.0] * len(names)


def preference_loss(
    logps: PairLogps, names: Sequence[str], weights: Sequence[float], options: LossOptions, pair_weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Weighted sum of losses per pair, shape (P,).

    Args:
        pair_weights: WPO's weights (P,), multiplied in (arXiv 2406.11827, eq. 2).
    """
    total = torch.zeros_like(logps.chosen)
    for name, weight in zip(names, weights, strict=True):
        losses = LOSSES[name].function(logps, options)
        total = total + weight * (losses if pair_weights is None else losses * pair_weights)
    return total
