"""Configurations: TrainingArguments with TRL's names and defaults, and the packed core's own."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments

from prefine.errors import ConfigError, nearest
from prefine.losses import LossOptions, check_losses
from prefine.losses.policy_gradient import KL_ESTIMATORS, REWARD_AGGREGATES, check_estimator
from prefine.packing.budget import TokenBudget
from prefine.packing.encoding import Encoder
from prefine.packing.rendering import read_template_kwargs

ROLLOUT_ENGINES = ("transformers", "vllm")
MACHINE_OPTIONS = ("padding_free", "pad_to_multiple_of", "dataset_num_proc", "precompute_ref_batch_size")
"""TRL's options that only say how its machine runs: taken, so that scripts move over, and said to have no effect."""

LEAST = {
    **{"per_device_train_batch_size": 1, "per_device_eval_batch_size": 1, "gradient_accumulation_steps": 1},
    **{"dataloader_num_workers": 0, "seed": 0, "learning_rate": 0, "weight_decay": 0},
}
"""transformers' options that it would fail on late, or take to mean nothing."""


@dataclass
class PackConfig(TrainingArguments):
    """What every packed trainer takes, on top of ``transformers.TrainingArguments``."""

    learning_rate: float = field(default=1e-6, metadata={"help": "Peak learning rate of AdamW."})
    logging_steps: float = field(default=10, metadata={"help": "Log every so many optimizer steps."})
    gradient_checkpointing: bool = field(default=True, metadata={"help": "Recompute activations in backward: less memory, more time."})
    bf16: bool | None = field(default=None, metadata={"help": "Mixed bfloat16. Unset: on where CUDA hardware has it and fp16 is off."})
    report_to: Any = field(default="none", metadata={"help": "Trackers to report to (wandb, tensorboard, ...)."})
    model_init_kwargs: dict[str, Any] | None = field(
        default=None, metadata={"help": "Keyword arguments of from_pretrained when the model is given by name."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with the model."})
    disable_dropout: bool = field(default=True, metadata={"help": "Switch dropout off, so that policy and reference agree."})
    max_length: int | None = field(default=1024, metadata={"help": "Most tokens of prompt + completion."})
    max_prompt_length: int | None = field(default=None, metadata={"help": "Most tokens of the prompt."})
    truncation_mode: str = field(
        default="keep_start", metadata={"help": "A prompt that is too long: keep_start, keep_end, or drop the row."}
    )
    chat_template_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "What the chat template is given beside the messages: enable_thinking=false. Saved with the model."}
    )
    token_budget: str = field(
        default="auto", metadata={"help": "Most tokens of one forward pass: auto or a number. Never changes a result."}
    )
    activation_offloading: bool = field(
        default=False,
        metadata={"help": "Keep activations in main memory until backward (CUDA only): less memory, more time."},
    )
    retain: str | None = field(
        default=None, metadata={"help": "Other data (a file) mixed into each step, so that skills it shows are kept."}
    )
    retain_weight: float = field(default=0.1, metadata={"help": "Weight of the retention loss."})
    retain_batch_size: int | None = field(
        default=None, metadata={"help": "Retention examples a batch. Unset: as many as prompts in the batch."}
    )

    def __post_init__(self) -> None:
        """Fill what depends on the machine and check our own fields."""
        if not torch.cuda.is_available():
            self.use_cpu = True  # else transformers refuses bf16 here, though the CPU computes it
        if self.bf16 is None:
            self.bf16 = bool(not self.fp16 and torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False))
        # transformers renamed gradient_checkpointing within the versions we support; both names work in all of them.
        new: bool | None = getattr(self, "activation_checkpointing", None)
        self.gradient_checkpointing = self.gradient_checkpointing if new is None else new
        if hasattr(self, "activation_checkpointing"):
            setattr(self, "activation_checkpointing", self.gradient_checkpointing)  # noqa: B010  absent in older versions
        if self.neftune_noise_alpha is not None and not hasattr(self, "assistant_only_loss"):
            raise ConfigError("neftune_noise_alpha is for SFT: noise would move policy and reference apart; leave it out")
        for name, least in LEAST.items():
            value = getattr(self, name)
            if isinstance(value, int | float) and value < least:
                raise ConfigError(f"{name} is {value}; expected at least {least}")
        if self.max_steps <= 0 and self.num_train_epochs <= 0:
            raise ConfigError(f"num_train_epochs is {self.num_train_epochs}; expected a number above 0, or max_steps")
        self.remove_unused_columns = False  # batches are prompt groups, not columns
        TokenBudget.of(self.token_budget, "cpu")
        self.encoder(None)
        self.init_kwargs()
        if self.retain_weight <= 0:
            raise ConfigError(f"retain_weight is {self.retain_weight}; expected a number above 0; leave out --retain for none")
        super().__post_init__()

    def encoder(self, tokenizer: Any) -> Encoder:
        """A new encoder under these limits."""
        kwargs = None if self.chat_template_kwargs is None else read_template_kwargs(self.chat_template_kwargs)
        return Encoder(tokenizer, self.max_length, self.max_prompt_length, self.truncation_mode, kwargs)

    def refuse_unused(self, names: Sequence[str], why: str) -> None:
        """Refuse options that were given though nothing would read them; ``why`` follows "would be ignored"."""
        for name in names:
            if getattr(self, name) != getattr(type(self), name):
                raise ConfigError(f"{name} would be ignored {why}; leave it out")

    def init_kwargs(self) -> dict[str, Any]:
        """``model_init_kwargs`` as ``from_pretrained`` takes them: a dtype by its name is looked up, ``torch_dtype`` is ``dtype``."""
        kwargs = dict(self.model_init_kwargs or {})
        dtype = kwargs.pop("torch_dtype", kwargs.pop("dtype", None))
        if isinstance(dtype, str) and dtype != "auto":
            if not isinstance(getattr(torch, dtype, None), torch.dtype):
                raise ConfigError(f"model_init_kwargs: no dtype {dtype!r}; expected float32, bfloat16, float16 or auto")
            dtype = getattr(torch, dtype)
        return kwargs if dtype is None else kwargs | {"dtype": dtype}


@dataclass
class SFTConfig(PackConfig):
    """Supervised fine-tuning on completions."""

    learning_rate: float = field(default=2e-5, metadata={"help": "Peak learning rate of AdamW."})
    assistant_only_loss: bool = field(default=False, metadata={"help": "Messages: train on every assistant turn, not on the last alone."})


@dataclass
class RewardConfig(PackConfig):
    """Reward modelling on pairs; names follow TRL's."""

    learning_rate: float = field(default=1e-5, metadata={"help": "Peak learning rate of AdamW."})
    label_smoothing: float = field(default=0.0, metadata={"help": "Believed share of flipped labels."})
    center_rewards_coefficient: float | None = field(
        default=None, metadata={"help": "Weight of the squared sum of a pair's rewards, which keeps them around 0. 0.01 is usual."}
    )
    ensemble: int = field(default=1, metadata={"help": "Train so many reward models, each with a seed of its own."})
    ensemble_bootstrap: bool = field(
        default=False,
        metadata={"help": "ensemble: each member on a resample of the prompts; without, all on all pairs."},
    )
    use_margins: bool = field(default=True, metadata={"help": "Where the data has scores, ask for a margin of their difference."})

    def __post_init__(self) -> None:
        """Check before anything is loaded."""
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError(f"label_smoothing is {self.label_smoothing}; expected 0 to below 0.5")
        if self.ensemble == 1:
            self.refuse_unused(["ensemble_bootstrap"], "without an ensemble")
        if self.ensemble < 1:
            raise ConfigError(f"ensemble is {self.ensemble}; expected at least 1")
        if self.center_rewards_coefficient is not None and self.center_rewards_coefficient < 0:
            raise ConfigError(f"center_rewards_coefficient is {self.center_rewards_coefficient}; expected 0 or above")
        super().__post_init__()


@dataclass
class SamplingConfig(PackConfig):
    """What every trainer that samples from its policy takes."""

    response_length: int = field(default=128, metadata={"help": "Most tokens of a sampled answer."})
    temperature: float = field(default=1.0, metadata={"help": "Of sampling; the trained distribution is the tempered one."})
    num_samples: int = field(default=1, metadata={"help": "Answers sampled for each prompt."})
    missing_eos_penalty: float | None = field(
        default=None, metadata={"help": "Taken off the score of an answer that does not end by itself. 1.0 is usual."}
    )
    sampling_batch_size: int = field(default=128, metadata={"help": "Most answers sampled at once; halved when memory runs out."})
    rollout_engine: str = field(
        default="transformers", metadata={"help": "transformers, or vllm where it is installed (needs an adapter: --lora-r)."}
    )
    vllm_gpu_memory_utilization: float = field(default=0.3, metadata={"help": "vllm: its share of the GPU's memory."})
    reward_aggregate: str = field(
        default="sum", metadata={"help": "Several rewards as their weighted sum, mean, min (the most pessimistic), or mean-std."}
    )
    reward_std_weight: float = field(default=1.0, metadata={"help": "mean-std: how many standard deviations are taken off the mean."})
    num_sample_texts: int = field(default=4, metadata={"help": "Sampled texts written into the run directory at each log."})

    def __post_init__(self) -> None:
        """Check before anything is loaded."""
        for name, least in (("response_length", 1), ("num_samples", 1), ("sampling_batch_size", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least {least}")
        if self.reward_aggregate not in REWARD_AGGREGATES:
            raise ConfigError(
                f"reward_aggregate is {self.reward_aggregate!r}; expected one of {', '.join(REWARD_AGGREGATES)}"
                f"{nearest(self.reward_aggregate, REWARD_AGGREGATES)}"
            )
        if self.rollout_engine not in ROLLOUT_ENGINES:
            raise ConfigError(
                f"rollout_engine is {self.rollout_engine!r}; expected one of {', '.join(ROLLOUT_ENGINES)}"
                f"{nearest(self.rollout_engine, ROLLOUT_ENGINES)}"
            )
        if self.reward_std_weight < 0:
            raise ConfigError(f"reward_std_weight is {self.reward_std_weight}; expected 0 or above")
        if self.reward_aggregate != "mean-std":
            self.refuse_unused(["reward_std_weight"], f"by reward_aggregate {self.reward_aggregate}")
        engine_options = {"transformers": "vllm_gpu_memory_utilization", "vllm": "sampling_batch_size"}
        self.refuse_unused([engine_options[self.rollout_engine]], f"by rollout_engine {self.rollout_engine}")
        if self.temperature <= 0:
            raise ConfigError(f"temperature is {self.temperature}; sampling from a policy needs one above 0")
        if self.gradient_accumulation_steps != 1:
            raise ConfigError(
                "gradient_accumulation_steps is of no use here: packs are split under the token budget by themselves; leave it out"
            )
        super().__post_init__()
        self.ignore_data_skip = True  # what is trained on is sampled anew, not skipped through


@dataclass
class PPOConfig(SamplingConfig):
    """PPO and its value-free kin; names follow TRL's last PPOConfig where they mean the same."""

    learning_rate: float = field(default=3e-6, metadata={"help": "Peak learning rate of AdamW."})
    total_episodes: int | None = field(
        default=None, metadata={"help": "Answers sampled in all. Unset: num_train_epochs times all prompts."}
    )
    num_mini_batches: int = field(
        default=1, metadata={"help": "Updates a pass over a rollout, each on per_device_train_batch_size prompts with all their samples."}
    )
    num_ppo_epochs: int = field(default=4, metadata={"help": "Passes over each rollout."})
    advantage_estimator: str = field(default="gae", metadata={"help": "gae (PPO), rloo, grpo or reinforce++."})
    kl_coef: float = field(default=0.05, metadata={"help": "Weight of the KL to the reference."})
    kl_estimator: str = field(default="k1", metadata={"help": "k1, k2 or k3."})
    kl_in_loss: bool = field(
        default=False,
        metadata={"help": "Put the KL in the loss, not the reward; there k2 has the KL's own gradient, and k3 (GRPO's) another."},
    )
    target_kl: float | None = field(default=None, metadata={"help": "Steer kl_coef so that the KL an answer comes to this. Unset: fixed."})
    kl_horizon: int = field(default=10_000, metadata={"help": "Answers over which kl_coef is steered."})
    stop_kl: float | None = field(
        default=None, metadata={"help": "End the passes over a rollout once the policy moved by this KL a token from its start."}
    )
    cliprange: float = field(default=0.2, metadata={"help": "How far the policy's ratio may move."})
    vf_coef: float = field(default=0.1, metadata={"help": "Weight of the value loss."})
    cliprange_value: float = field(default=0.2, metadata={"help": "How far a value may move."})
    value_learning_rate: float | None = field(default=None, metadata={"help": "Learning rate of the value model. Unset: the policy's."})
    value_role: str = field(
        default="reward",
        metadata={"help": "gae: the value model starts as a copy of the reward model (reward), or is a head on the policy."},
    )
    gamma: float = field(default=1.0, metadata={"help": "Discount."})
    lam: float = field(default=0.95, metadata={"help": "GAE's lambda."})
    scale_scores: bool = field(default=False, metadata={"help": "Standardise the scores of each rollout."})
    whiten_rewards: bool = field(
        default=False, metadata={"help": "gae, reinforce++: divide each token's reward, KL included, by their spread in the rollout."}
    )
    entropy_coef: float = field(default=0.0, metadata={"help": "Weight of the entropy bonus."})
    min_reward: float | None = field(default=None, metadata={"help": "Leave answers with a lower score out of the update."})
    drop_equal: bool = field(default=False, metadata={"help": "rloo, grpo: leave out prompts whose samples all score alike."})
    best_of: bool = field(default=False, metadata={"help": "Keep only the best of a prompt's samples."})

    def __post_init__(self) -> None:
        """Check before anything is loaded."""
        estimator = check_estimator(self.advantage_estimator, self.num_samples)
        if self.kl_estimator not in KL_ESTIMATORS:
            raise ConfigError(f"kl_estimator is {self.kl_estimator!r}; expected one of {', '.join(KL_ESTIMATORS)}")
        if self.kl_in_loss and self.kl_estimator == "k1":
            raise ConfigError("kl_in_loss with k1 would penalise nothing, its gradient is zero on average; give kl_estimator k2 (or k3)")
        if self.kl_coef < 0 or self.entropy_coef < 0:
            raise ConfigError("kl_coef and entropy_coef must be 0 or above")
        if self.target_kl is not None and (self.kl_coef == 0 or self.target_kl <= 0):
            raise ConfigError("target_kl steers kl_coef by factors: both must be above 0")
        if self.value_role not in ("reward", "policy"):
            raise ConfigError(f"value_role is {self.value_role!r}; expected reward or policy")
        if self.best_of and estimator.num_samples > 1:
            raise ConfigError(
                f"best_of leaves one sample a prompt, and {self.advantage_estimator} compares several; leave one of the two out"
            )
        if estimator.num_samples < 2:
            self.refuse_unused(["drop_equal"], f"by {self.advantage_estimator}, which compares no samples")
        else:
            self.refuse_unused(["gamma", "whiten_rewards"], f"by {self.advantage_estimator}, which compares whole answers")
        if not estimator.uses_values:
            moot = ["vf_coef", "cliprange_value", "lam", "value_learning_rate", "value_role"]
            self.refuse_unused(moot, f"by {self.advantage_estimator}, which has no value model")
        if self.target_kl is None:
            self.refuse_unused(["kl_horizon"], "without target_kl")
        if self.best_of and self.num_samples < 2:
            raise ConfigError("best_of needs num_samples of at least 2")
        for name in ("num_mini_batches", "num_ppo_epochs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        super().__post_init__()


@dataclass
class DPOConfig(PackConfig):
    """Direct preference optimisation; names and defaults follow TRL 1.16."""

    beta: float = field(default=0.1, metadata={"help": "Strength of the pull to the reference."})
    loss_type: Any = field(default="sigmoid", metadata={"help": "A loss, or several; see the losses page."})
    loss_weights: list[float] | None = field(default=None, metadata={"help": "A weight for each loss, when several."})
    label_smoothing: float = field(default=0.0, metadata={"help": "Believed share of flipped labels."})
    f_divergence_type: str = field(default="reverse_kl", metadata={"help": "reverse_kl, forward_kl, js_divergence or alpha_divergence."})
    f_alpha_divergence_coef: float = field(default=0.5, metadata={"help": "Alpha of alpha_divergence."})
    discopop_tau: float = field(default=0.05, metadata={"help": "DiscoPOP's temperature."})
    simpo_gamma: float = field(default=0.5, metadata={"help": "SimPO's target margin."})
    cpo_alpha: float = field(default=1.0, metadata={"help": "CPO's weight of the chosen NLL."})
    ld_alpha: float | None = field(
        default=None, metadata={"help": "Weight of the tokens by which one answer is longer (LD-DPO, arXiv 2409.06411)."}
    )
    use_weighting: bool = field(default=False, metadata={"help": "Weight pairs by the policy's probability (WPO)."})
    sync_ref_model: bool = field(default=False, metadata={"help": "Let the reference follow the policy (TR-DPO, arXiv 2404.09656)."})
    ref_model_mixup_alpha: float = field(default=0.6, metadata={"help": "TR-DPO: the policy's share of the moved reference."})
    ref_model_sync_steps: int = field(default=512, metadata={"help": "TR-DPO: move the reference every so many optimizer steps."})
    router_aux_loss_coef: float | None = field(
        default=None,
        metadata={"help": "Weight of a mixture of experts' load-balancing loss, taken pack by pack. Unset: the model's own."},
    )
    padding_free: bool | None = field(default=None, metadata={"help": "TRL's; packs never hold padding, so it changes nothing."})
    pad_to_multiple_of: int | None = field(default=None, metadata={"help": "TRL's; packs never hold padding, so it changes nothing."})
    dataset_num_proc: int | None = field(default=None, metadata={"help": "TRL's; encoding runs in one process, so it changes nothing."})
    precompute_ref_batch_size: int | None = field(
        default=None, metadata={"help": "TRL's; the token budget sizes every forward pass, so it changes nothing."}
    )
    precompute_ref_log_probs: bool = field(default=False, metadata={"help": "Compute reference log-probs once, before training."})
    reference_cache_dir: str | None = field(
        default=None, metadata={"help": "Folder for precomputed reference log-probs, reused by later runs."}
    )

    def __post_init__(self) -> None:
        """Check losses and their options before anything is loaded."""
        names = self.loss_type if isinstance(self.loss_type, list) else str(self.loss_type).split("+")
        self.loss_type = [str(n) for n in names]
        self.loss_weights = check_losses(self.loss_type, self.loss_weights, self.loss_options())
        moot = [n for n in MACHINE_OPTIONS if getattr(self, n) is not None]
        if moot:
            warnings.warn(f"{', '.join(moot)}: of no effect here and not needed; no result depends on it", stacklevel=3)
        if not self.sync_ref_model:
            self.refuse_unused(["ref_model_mixup_alpha", "ref_model_sync_steps"], "without sync_ref_model")
        if self.ref_model_sync_steps < 1 or not 0 < self.ref_model_mixup_alpha <= 1:
            raise ConfigError("ref_model_sync_steps must be at least 1, and ref_model_mixup_alpha above 0 and at most 1")
        if self.ld_alpha is not None and not 0 <= self.ld_alpha <= 1:
            raise ConfigError(f"ld_alpha is {self.ld_alpha}; expected 0 (ignore the longer part) to 1 (plain DPO)")
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


@dataclass
class OnlineDPOConfig(SamplingConfig, DPOConfig):
    """DPO on the policy's own samples, scored as it learns."""

    learning_rate: float = field(default=5e-7, metadata={"help": "Peak learning rate of AdamW."})
    num_samples: int = field(default=2, metadata={"help": "Answers sampled for each prompt; the best is paired with the worst."})
    min_score_gap: float = field(default=0.0, metadata={"help": "Least difference of scores in a pair."})

    def __post_init__(self) -> None:
        """Check before anything is loaded."""
        if self.num_samples < 2:
            raise ConfigError(f"num_samples is {self.num_samples}; a pair needs at least 2")
        if self.precompute_ref_log_probs:
            raise ConfigError("precompute_ref_log_probs would be ignored: the answers are not known before; leave it out")
        super().__post_init__()
