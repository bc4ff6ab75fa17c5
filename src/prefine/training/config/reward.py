"""Reward modelling."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefine.errors import ConfigError
from prefine.training.config.pack import PackConfig


@dataclass
class RewardConfig(PackConfig):
    """Reward modelling on pairs; names and defaults follow TRL 1.16."""

    learning_rate: float = field(default=1e-4, metadata={"help": "Peak learning rate of AdamW."})
    truncation_mode: str = field(
        default="drop",
        metadata={"help": "A pair that is too long: drop, or keep_start or keep_end of its prompt (then a response may be truncated)."},
    )
    eos_token: str | None = field(default=None, metadata={"help": "The token that ends a response. Unset: the tokenizer's own."})
    chat_template_path: str | None = field(
        default=None, metadata={"help": "A chat template in a Jinja file, or a tokenizer's folder or Hub id whose template is taken."}
    )
    label_smoothing: float = field(default=0.0, metadata={"help": "Believed share of flipped labels."})
    center_rewards_coefficient: float | None = field(
        default=None, metadata={"help": "Weight of the squared sum of a pair's rewards, which keeps them around 0. 0.01 is usual."}
    )
    ensemble: int = field(default=1, metadata={"help": "Train so many reward models, each with a seed of its own."})
    ensemble_bootstrap: bool = field(
        default=False,
        metadata={"help": "ensemble: each member on a resample of the prompts; without, all on all pairs."},
    )
    use_margins: bool = field(
        default=False, metadata={"help": "Where the data has scores, ask for a margin of their difference. A column margin is always read."}
    )

    def __post_init__(self) -> None:
        """Check before anything is loaded."""
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError(f"label_smoothing is {self.label_smoothing}; expected 0 to below 0.5", code="PF-C03")
        if self.ensemble == 1:
            self.refuse_unused(["ensemble_bootstrap"], "without an ensemble")
        if self.ensemble < 1:
            raise ConfigError(f"ensemble is {self.ensemble}; expected at least 1", code="PF-C03")
        if self.center_rewards_coefficient is not None and self.center_rewards_coefficient < 0:
            raise ConfigError(f"center_rewards_coefficient is {self.center_rewards_coefficient}; expected 0 or above", code="PF-C03")
        super().__post_init__()
        if self.ensemble > 1 and self.zero_stage:
            raise ConfigError(
                "deepspeed: members of an ensemble are not shared out by it; give --fsdp true in its place, or leave one of the two out",
                code="PF-C02",
            )
