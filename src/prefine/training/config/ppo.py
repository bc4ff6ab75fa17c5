"""PPO and its value-free kin."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefine.errors import ConfigError, nearest
from prefine.losses.policy_gradient import (
    ESTIMATORS,
    IMPORTANCE_LEVELS,
    KL_ESTIMATORS,
    LOSS_AGGREGATIONS,
    PPO_SETTINGS,
    check_estimator,
)
from prefine.training.config.sampling import SamplingConfig


@dataclass
class PPOConfig(SamplingConfig):
    """PPO and its value-free kin; names, meanings and defaults follow the last PPOConfig that TRL had (1.12)."""

    response_length: int = field(default=53, metadata={"help": "Maximum tokens of a sampled response."})
    temperature: float = field(default=0.7, metadata={"help": "Of sampling; the trained distribution is the tempered one."})
    sft_model_path: str | None = field(default=None, metadata={"help": "TRL's, for scripts that read it; the trainer takes a model."})
    reward_model_path: str | None = field(default=None, metadata={"help": "TRL's, for scripts; the trainer takes a reward_model."})
    stop_token: str | None = field(default=None, metadata={"help": "TRL's; a response always ends at EOS: eos, or unset."})
    stop_token_id: int | None = field(default=None, metadata={"help": "TRL's; refused: a response ends at the model's own EOS tokens."})
    local_rollout_forward_batch_size: int = field(
        default=64, metadata={"help": "TRL's; the token budget sizes every forward pass, so it changes nothing."}
    )
    num_sample_generations: int = field(default=10, metadata={"help": "TRL's; num_sample_texts says how many samples are written."})
    ds3_gather_for_generation: bool = field(default=True, metadata={"help": "TRL's, for DeepSpeed; it changes nothing."})
    learning_rate: float = field(default=3e-6, metadata={"help": "Peak learning rate of AdamW."})
    total_episodes: int | None = field(
        default=None, metadata={"help": "Responses sampled in all. Unset: num_train_epochs times all prompts."}
    )
    num_mini_batches: int = field(
        default=1,
        metadata={"help": "Updates a pass over a rollout of per_device_train_batch_size x gradient_accumulation_steps prompts."},
    )
    num_ppo_epochs: int | None = field(default=None, metadata={"help": "Passes over each rollout. Unset: 4, or 1 of the GRPO family."})
    advantage_estimator: str = field(default="gae", metadata={"help": f"{', '.join(ESTIMATORS)}: see the losses page."})
    kl_coef: float | None = field(
        default=None, metadata={"help": "Weight of the KL to the reference. Unset: 0.05, or what the estimator was published with."}
    )
    kl_estimator: str | None = field(default=None, metadata={"help": "k1, k2 or k3. Unset: k1, or k3 of grpo and gspo."})
    kl_in_loss: bool | None = field(
        default=None,
        metadata={
            "help": "Put the KL in the loss, not the reward; there k2 has the KL's own gradient, and k3 another. Unset: of grpo and gspo."
        },
    )
    loss_aggregation: str | None = field(
        default=None,
        metadata={
            "help": "token (mean over all tokens), sequence (mean of each response's mean) or constant (sum over responses x "
            "response_length). Unset: as published."
        },
    )
    importance_sampling_level: str | None = field(
        default=None, metadata={"help": "The ratio that is clipped: of each token, or one of the sequence. Unset: token, sequence of gspo."}
    )
    mask_truncated_completions: bool | None = field(
        default=None, metadata={"help": "Leave responses that did not end out of the loss. Unset: of dapo."}
    )
    target_kl: float | None = field(default=None, metadata={"help": "Steer kl_coef so that the KL a response comes to this. Unset: fixed."})
    kl_horizon: int = field(default=10_000, metadata={"help": "Responses over which kl_coef is steered."})
    stop_kl: float | None = field(
        default=None, metadata={"help": "End the passes over a rollout once the policy moved by this KL a token from its start."}
    )
    cliprange: float | None = field(default=None, metadata={"help": "How far the policy's ratio may move. Unset: 0.2, 0.0003 of gspo."})
    cliprange_high: float | None = field(
        default=None, metadata={"help": "How far up it may move. Unset: cliprange; 0.28 of dapo, 0.0004 of gspo."}
    )
    vf_coef: float = field(default=0.1, metadata={"help": "Weight of the value loss."})
    cliprange_value: float = field(default=0.2, metadata={"help": "How far a value may move."})
    value_learning_rate: float | None = field(default=None, metadata={"help": "Learning rate of the value model. Unset: the policy's."})
    value_role: str | None = field(
        default=None,
        metadata={
            "help": "gae: the value model starts as a copy of the reward model (reward), or is a head on the policy (policy). "
            "Unset: reward where one is a classifier on the policy's tokens, policy where rewards are functions or read texts."
        },
    )
    gamma: float = field(default=1.0, metadata={"help": "Discount."})
    lam: float = field(default=0.95, metadata={"help": "GAE's lambda."})
    scale_scores: bool = field(default=False, metadata={"help": "Standardise the scores of each rollout."})
    whiten_rewards: bool = field(
        default=False, metadata={"help": "gae, reinforce++: divide each token's reward, KL included, by their spread in the rollout."}
    )
    entropy_coef: float = field(default=0.0, metadata={"help": "Weight of the entropy bonus."})
    min_reward: float | None = field(default=None, metadata={"help": "Leave responses with a lower score out of the update."})
    drop_equal: bool | None = field(
        default=None, metadata={"help": "Leave out prompts whose samples all score alike, where they are compared. Unset: of dapo."}
    )
    best_of: bool = field(default=False, metadata={"help": "Keep only the best of a prompt's samples."})

    def __post_init__(self) -> None:
        """Check before anything is loaded."""
        estimator = check_estimator(self.advantage_estimator, self.num_samples)
        if estimator.num_samples < 2:
            self.refuse_unused(["drop_equal"], f"by {self.advantage_estimator}, which compares no samples")
        if self.cliprange is not None and self.cliprange_high is None:
            self.cliprange_high = self.cliprange
        for name, value in {**PPO_SETTINGS, **estimator.settings}.items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        assert self.kl_coef is not None
        for name, known in (
            ("kl_estimator", tuple(KL_ESTIMATORS)),
            ("loss_aggregation", LOSS_AGGREGATIONS),
            ("importance_sampling_level", IMPORTANCE_LEVELS),
        ):
            given = getattr(self, name)
            if given not in known:
                raise ConfigError(f"{name} is {given!r}; expected one of {', '.join(known)}{nearest(str(given), known)}", code="PF-C03")
        if self.kl_in_loss and self.kl_estimator == "k1":
            raise ConfigError("kl_in_loss with k1 would penalise nothing, its gradient is zero on average; give kl_estimator k2 (or k3)")
        if self.kl_coef < 0 or self.entropy_coef < 0:
            raise ConfigError("kl_coef and entropy_coef must be 0 or above")
        if self.target_kl is not None and (self.kl_coef == 0 or self.target_kl <= 0):
            raise ConfigError("target_kl steers kl_coef by factors: both must be above 0")
        if self.value_role not in (None, "reward", "policy"):
            raise ConfigError(f"value_role is {self.value_role!r}; expected reward or policy", code="PF-C03")
        if self.best_of and estimator.num_samples > 1:
            raise ConfigError(
                f"best_of leaves one sample a prompt, and {self.advantage_estimator} compares several; leave one of the two out"
            )
        if estimator.num_samples > 1:
            self.refuse_unused(["gamma", "whiten_rewards"], f"by {self.advantage_estimator}, which compares whole responses")
        if not estimator.uses_values:
            moot = ["vf_coef", "cliprange_value", "lam", "value_learning_rate", "value_role"]
            self.refuse_unused(moot, f"by {self.advantage_estimator}, which has no value model")
        if self.target_kl is None:
            self.refuse_unused(["kl_horizon"], "without target_kl")
        if self.best_of and self.num_samples < 2:
            raise ConfigError("best_of needs num_samples of at least 2")
        if self.stop_token not in (None, "eos"):
            raise ConfigError(
                f"stop_token is {self.stop_token!r}; expected eos, or nothing: a response ends at its end token", code="PF-C03"
            )
        self.refuse_unused(["stop_token_id"], "by the sampler, which ends a response at the model's own end tokens")
        prompts = self.per_device_train_batch_size * self.gradient_accumulation_steps
        if self.num_mini_batches >= 1 and prompts % self.num_mini_batches:
            raise ConfigError(
                f"num_mini_batches is {self.num_mini_batches}, but a rollout has {prompts} prompts (per_device_train_batch_size x "
                "gradient_accumulation_steps); expected a divisor of it",
                code="PF-C03",
            )
        for name in ("num_mini_batches", "num_ppo_epochs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1", code="PF-C03")
        super().__post_init__()
