"""What trainers take that hold a policy against a reference."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefine.errors import ConfigError
from prefine.training.config.pack import PackConfig


@dataclass
class ReferenceConfig(PackConfig):
    """A reference, whether it moves, and its log-probs ahead of training; names and defaults follow TRL 1.16."""

    beta: float = field(default=0.1, metadata={"help": "Strength of the pull to the reference."})
    mask_reasoning: bool = field(
        default=False, metadata={"help": "Leave a response's reasoning out of the loss; the response after it is still given it."}
    )
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
        """Check them before anything is loaded."""
        if not self.precompute_ref_log_probs:
            self.refuse_unused(["reference_cache_dir"], "without precompute_ref_log_probs")
        if not self.sync_ref_model:
            self.refuse_unused(["ref_model_mixup_alpha", "ref_model_sync_steps"], "without sync_ref_model")
        if self.ref_model_sync_steps < 1 or not 0 < self.ref_model_mixup_alpha <= 1:
            raise ConfigError("ref_model_sync_steps must be at least 1, and ref_model_mixup_alpha above 0 and at most 1")
        super().__post_init__()
        if self.sync_ref_model and self.zero_stage == 3:
            raise ConfigError("sync_ref_model: DeepSpeed's stage 3 keeps weights to itself; give zero2", code="PF-C02")
