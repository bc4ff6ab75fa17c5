"""Direct preference optimisation and its family."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefine.errors import ConfigError
from prefine.losses import LOSSES, LossOptions, check_losses
from prefine.training.config.pack import PackConfig


@dataclass
class DPOConfig(PackConfig):
    """Direct preference optimisation; names and defaults follow TRL 1.16."""

    beta: float = field(default=0.1, metadata={"help": "Strength of the pull to the reference."})
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
    sync_ref_model: bool = field(default=False, metadata={"help": "Let the reference follow the policy (TR-DPO, arXiv 2404.09656)."})
    ref_model_mixup_alpha: float = field(default=0.6, metadata={"help": "TR-DPO: the policy's share of the moved reference."})
    ref_model_sync_steps: int = field(default=512, metadata={"help": "TR-DPO: move the reference every so many optimizer steps."})
    router_aux_loss_coef: float | None = field(
        default=None,
        metadata={"help": "Weight of a mixture of experts' load-balancing loss, taken pack by pack. Unset: the model's own."},
    )
    precompute_ref_batch_size: int | None = field(
        default=None, metadata={"help": "TRL's; the token budget sizes every forward pass, so it changes nothing."}
    )
    precompute_ref_log_probs: bool = field(default=False, metadata={"help": "Compute reference log-probs once, before training."})
    reference_cache_dir: str | None = field(
        default=None, metadata={"help": "Folder for precomputed reference log-probs, reused by later runs."}
    )

    def __post_init__(self) -> None:
        """Check losses and their options before anything is loaded."""
        given = [self.loss_type] if isinstance(self.loss_type, str) else self.loss_type
        self.loss_type = [name for names in given for name in str(names).split("+")]
        self.loss_weights = check_losses(self.loss_type, self.loss_weights, self.loss_options())
        if not any(LOSSES[name].reference for name in self.loss_type):
            why = f"by loss {'+'.join(self.loss_type)}, which uses no reference"
            self.refuse_unused(["precompute_ref_log_probs", "sync_ref_model", "ld_alpha"], why)
        if not self.precompute_ref_log_probs:
            self.refuse_unused(["reference_cache_dir"], "without precompute_ref_log_probs")
        if not self.sync_ref_model:
            self.refuse_unused(["ref_model_mixup_alpha", "ref_model_sync_steps"], "without sync_ref_model")
        if self.ref_model_sync_steps < 1 or not 0 < self.ref_model_mixup_alpha <= 1:
            raise ConfigError("ref_model_sync_steps must be at least 1, and ref_model_mixup_alpha above 0 and at most 1")
        if self.ld_alpha is not None and not 0 <= self.ld_alpha <= 1:
            raise ConfigError(f"ld_alpha is {self.ld_alpha}; expected 0 (ignore the longer part) to 1 (plain DPO)", code="PF-C03")
        if self.ld_alpha is not None and "sft" in self.loss_type:
            raise ConfigError("ld_alpha changes what a log-prob is, and the sft loss would be wrong with it; leave one out")
        super().__post_init__()
        if self.sync_ref_model and self.zero_stage == 3:
            raise ConfigError("sync_ref_model: DeepSpeed's stage 3 keeps weights to itself; give zero2", code="PF-C02")

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
