"""Unpaired preferences: single responses, each wanted or not."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefine.errors import ConfigError
from prefine.losses.unpaired import UNPAIRED, check_unpaired
from prefine.training.config.with_reference import ReferenceConfig


@dataclass
class KTOConfig(ReferenceConfig):
    """Kahneman-Tversky optimisation and its kin; names and defaults follow TRL 1.16."""

    loss_type: str = field(
        default="kto",
        metadata={"help": "kto (arXiv 2402.01306), bco (2404.04656), or apo_zero_unpaired (2408.06266)."},
    )
    desirable_weight: float = field(default=1.0, metadata={"help": "Weight of wanted responses' losses."})
    undesirable_weight: float = field(default=1.0, metadata={"help": "Weight of unwanted responses' losses."})
    balance_labels: bool = field(
        default=False,
        metadata={"help": "Raise the weight of the rarer label, so that both count the same in all."},
    )
    train_sampling_strategy: str = field(
        default="sequential",
        metadata={"help": "sequential, as in TRL, or random."},
    )

    def __post_init__(self) -> None:
        """Check the loss and its weights before anything is loaded."""
        check_unpaired(self.loss_type, self.beta)
        for name in ("desirable_weight", "undesirable_weight"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 or above", code="PF-C03")
        if not self.desirable_weight and not self.undesirable_weight:
            raise ConfigError("desirable_weight and undesirable_weight are both 0: nothing would be learned", code="PF-C03")
        if self.balance_labels:
            self.refuse_unused(["desirable_weight", "undesirable_weight"], "by balance_labels, which finds them")
        super().__post_init__()

    @property
    def uses_kl(self) -> bool:
        """Whether the loss has a baseline that is drawn from mismatched prompts and responses."""
        return UNPAIRED[self.loss_type].uses_kl
