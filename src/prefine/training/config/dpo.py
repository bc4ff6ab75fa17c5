"""Direct preference optimisation and its family."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefine.errors import ConfigError
from prefine.losses import LOSSES, LossOptions, check_losses
from prefine.training.config.with_reference import ReferenceConfig


@dataclass
class DPOConfig(ReferenceConfig):
    """Direct preference optimisation; names and defaults follow TRL 1.16."""

    loss_type: list[str] | str = field(default_factory=lambda: ["sigmoid"], metadata={"help": "A loss, or several; see the losses page."})
    loss_weights: list[float] | None = field(default=None, metadata={"help": "A weight for each loss, when several."})
    label_smoothing: float = field(default=0.0, metadata={"help": "Believed share of flipped labels."})
    f_divergence_type: str = field(default="reverse_kl", metadata={"help": "reverse_kl, forward_kl, js_divergence or alpha_divergence."})
    f_alpha_divergence_coef: float = field(default=0.5, metadata={"help": "Alpha of alpha_divergence."})
    discopop_tau: float = field(default=0.05, metadata={"help": "DiscoPOP's temperature."})
    simpo_gamma: float = field(default=0.5, metadata={"help": "SimPO's target margin."})
    cpo_alpha: float = field(default=1.0, metadata={"help": "CPO's weight of the chosen NLL."})
    ld_alpha: float | None = field(
        default=None, metadata={"help": "Weight of the tokens by which one response is longer (LD-DPO, arXiv 2409.06411)."}
    )
    use_weighting: bool = field(default=False, metadata={"help": "Weight pairs by the policy's probability (WPO)."})

    def __post_init__(self) -> None:
        """Check losses and their options before anything is loaded."""
        given = [self.loss_type] if isinstance(self.loss_type, str) else self.loss_type
        self.loss_type = [name for names in given for name in str(names).split("+")]
        self.loss_weights = check_losses(self.loss_type, self.loss_weights, self.loss_options())
        if not any(LOSSES[name].reference for name in self.loss_type):
            why = f"by loss {'+'.join(self.loss_type)}, which uses no reference"
            self.refuse_unused(["precompute_ref_log_probs", "sync_ref_model", "ld_alpha"], why)
        if self.ld_alpha is not None and not 0 <= self.ld_alpha <= 1:
            raise ConfigError(f"ld_alpha is {self.ld_alpha}; expected 0 (ignore the longer part) to 1 (plain DPO)", code="PF-C03")
        if self.ld_alpha is not None and "sft" in self.loss_type:
            raise ConfigError("ld_alpha changes what a log-prob is, and the sft loss would be wrong with it; leave one out")
        super().__post_init__()

    def loss_options(self) -> LossOptions:
        """The numbers the losses read."""
        return LossOptions(
            self.beta,
            self.label_smoothing,
            self.discopop_tau,
            self.simpo_gamma,
            self.cpo_alpha,
            self.f_divergence_type,
            self.f_alpha_divergence_coef,
        )
