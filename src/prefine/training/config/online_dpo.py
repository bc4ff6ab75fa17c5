"""DPO on the policy's own samples."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from prefine.errors import ConfigError
from prefine.losses import LossOptions
from prefine.training.config.dpo import DPOConfig
from prefine.training.config.sampling import SamplingConfig

GENERATION = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens", "do_sample")
"""What ``generation_kwargs`` may hold."""
ENGINE = ("vllm_model_impl", "vllm_structured_outputs_regex", "vllm_group_port")


@dataclass
class OnlineDPOConfig(SamplingConfig, DPOConfig):
    """DPO on the policy's own samples, scored as it learns; names, meanings and defaults follow TRL 1.16."""

    _VALID_DICT_FIELDS: ClassVar = [*DPOConfig._VALID_DICT_FIELDS, "generation_kwargs"]

    learning_rate: float = field(default=5e-7, metadata={"help": "Peak learning rate of AdamW."})
    beta: list[float] = field(  # type: ignore[assignment]  # several, one an epoch, or one number as elsewhere
        default_factory=lambda: [0.1], metadata={"help": "Strength of the pull to the reference; or one an epoch."}
    )
    max_length: int | None = field(default=512, metadata={"help": "Maximum tokens of prompt + completion."})
    temperature: float = field(default=0.9, metadata={"help": "Of sampling; the loss takes log-probs as the model is, at 1."})
    max_new_tokens: int | None = field(default=None, metadata={"help": "Maximum tokens of a sampled response. Unset: response_length."})
    response_length: int = field(default=64, metadata={"help": "The same by PPO's name for it."})
    top_p: float = field(default=1.0, metadata={"help": "Sample from the most likely tokens that hold this probability together."})
    top_k: int = field(default=0, metadata={"help": "Sample from so many of the most likely tokens. 0: from all."})
    min_p: float | None = field(default=None, metadata={"help": "Sample tokens of at least this share of the likeliest one's probability."})
    repetition_penalty: float = field(default=1.0, metadata={"help": "Above 1: tokens that were there are less likely (arXiv 1909.05858)."})
    generation_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": f"Any of {', '.join(GENERATION)}; they override the options of these names."}
    )
    cache_implementation: str | None = field(default=None, metadata={"help": "TRL's; the sampler has a cache of its own."})
    reward_weights: list[float] | None = field(default=None, metadata={"help": "A weight for each reward. Unset: 1 each."})
    reward_model_path: str | None = field(default=None, metadata={"help": "TRL's, for scripts; the trainer takes reward_funcs."})
    num_samples: int = field(default=2, metadata={"help": "Responses sampled for each prompt; the best is paired with the worst."})
    min_score_gap: float = field(default=0.0, metadata={"help": "Minimum difference of scores in a pair."})
    use_vllm: bool = field(default=False, metadata={"help": "The same as rollout_engine vllm."})
    vllm_model_impl: str = field(default="vllm", metadata={"help": "TRL's; vLLM is started with its own default."})
    vllm_structured_outputs_regex: str | None = field(default=None, metadata={"help": "TRL's; refused."})
    vllm_group_port: int = field(default=51216, metadata={"help": "TRL's; refused: a server is told of the adapter by its folder."})
    ds3_gather_for_generation: bool = field(default=True, metadata={"help": "TRL's, for DeepSpeed; it changes nothing."})

    def __post_init__(self) -> None:
        """Check before anything is loaded."""
        if isinstance(self.generation_kwargs, str):
            self.generation_kwargs = self.read_json("generation_kwargs")
        unknown = set(self.generation_kwargs or {}) - set(GENERATION)
        if unknown:
            raise ConfigError(
                f"generation_kwargs: {', '.join(sorted(unknown))} would be ignored; what is read: {', '.join(GENERATION)}", code="PF-C04"
            )
        for name, value in (self.generation_kwargs or {}).items():
            if name == "max_new_tokens":
                self.response_length = value
            if name != "do_sample":
                setattr(self, name, value)
        self._one_length()
        self.refuse_unused(["mask_reasoning"], "here: responses are sampled, and what the model thinks is trained as what it says")
        if self.num_samples < 2:
            raise ConfigError(f"num_samples is {self.num_samples}; a pair needs at least 2")
        if self.precompute_ref_log_probs:
            raise ConfigError("precompute_ref_log_probs would be ignored: the responses are not known before; leave it out", code="PF-C04")
        if self.use_vllm:
            self.rollout_engine = "vllm"
        self.use_vllm = self.rollout_engine == "vllm"
        self.refuse_unused(ENGINE, "by the engine, which vLLM starts with its own defaults")
        if self.use_vllm:
            self.refuse_unused(["top_p", "top_k", "min_p", "repetition_penalty"], "by the vLLM engine here")
        self.betas = [self.beta] if isinstance(self.beta, int | float) else list(self.beta)
        if not self.betas or any(not b > 0 for b in self.betas):
            raise ConfigError(f"beta is {self.beta}; expected numbers above 0, one for all epochs or one each", code="PF-C03")
        self.beta = self.betas[0] if len(self.betas) == 1 else self.betas  # type: ignore[assignment]
        super().__post_init__()

    def _one_length(self) -> None:
        one, other = self.max_new_tokens, self.response_length
        if one not in (None, other) and other != self.default("response_length"):
            raise ConfigError("max_new_tokens and response_length are one option by two names, and say otherwise; give one of the two")
        self.max_new_tokens = self.response_length = other if one is None else one

    @property
    def is_greedy(self) -> bool:
        """Whether ``generation_kwargs`` ask for the likeliest token each time."""
        return isinstance(self.generation_kwargs, dict) and self.generation_kwargs.get("do_sample") is False

    def beta_at(self, epoch: float) -> float:
        """The strength in an epoch; the last for all that follow."""
        return self.betas[min(int(epoch), len(self.betas) - 1)]

    def loss_options(self) -> LossOptions:
        """The numbers the losses read, with the first epoch's beta."""
        return replace(super().loss_options(), beta=self.betas[0])
