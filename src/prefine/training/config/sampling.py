"""What trainers take that sample from their policy."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefine.errors import ConfigError, nearest
from prefine.losses.policy_gradient import REWARD_AGGREGATES
from prefine.training.config.pack import PackConfig

ROLLOUT_ENGINES = ("transformers", "vllm")
LOADER = (
    "train_sampling_strategy",
    *("dataloader_drop_last", "dataloader_num_workers", "dataloader_persistent_workers"),
    *("dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataloader_in_order"),
)


@dataclass
class SamplingConfig(PackConfig):
    """What every trainer that samples from its policy takes."""

    response_length: int = field(default=128, metadata={"help": "Maximum tokens of a sampled response."})
    temperature: float = field(default=1.0, metadata={"help": "Of sampling; the trained distribution is the tempered one."})
    num_samples: int = field(default=1, metadata={"help": "Responses sampled for each prompt."})
    missing_eos_penalty: float | None = field(
        default=None, metadata={"help": "Taken off the score of a response that does not end by itself. 1.0 is usual."}
    )
    sampling_batch_size: int = field(default=128, metadata={"help": "Maximum responses sampled at once; halved when memory runs out."})
    rollout_engine: str = field(
        default="transformers", metadata={"help": "transformers, or vllm where it is installed (needs an adapter: --lora-r)."}
    )
    vllm_gpu_memory_utilization: float = field(default=0.55, metadata={"help": "vllm: its share of the GPU's memory."})
    reward_aggregate: str = field(
        default="sum", metadata={"help": "Several rewards as their weighted sum, mean, min (the most pessimistic), or mean-std."}
    )
    reward_std_weight: float = field(default=1.0, metadata={"help": "mean-std: how many standard deviations are taken off the mean."})
    num_sample_texts: int = field(default=4, metadata={"help": "Sampled texts written into the run directory at each log."})

    def __post_init__(self) -> None:
        """Check before anything is loaded."""
        for name, least in (("response_length", 1), ("num_samples", 1), ("sampling_batch_size", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least {least}", code="PF-C03")
        if self.reward_aggregate not in REWARD_AGGREGATES:
            raise ConfigError(
                f"reward_aggregate is {self.reward_aggregate!r}; expected one of {', '.join(REWARD_AGGREGATES)}"
                f"{nearest(self.reward_aggregate, REWARD_AGGREGATES)}",
                code="PF-C03",
            )
        if self.rollout_engine not in ROLLOUT_ENGINES:
            raise ConfigError(
                f"rollout_engine is {self.rollout_engine!r}; expected one of {', '.join(ROLLOUT_ENGINES)}"
                f"{nearest(self.rollout_engine, ROLLOUT_ENGINES)}",
                code="PF-C03",
            )
        if self.reward_std_weight < 0:
            raise ConfigError(f"reward_std_weight is {self.reward_std_weight}; expected 0 or above", code="PF-C03")
        if self.reward_aggregate != "mean-std":
            self.refuse_unused(["reward_std_weight"], f"by reward_aggregate {self.reward_aggregate}")
        engine_options = {"transformers": "vllm_gpu_memory_utilization", "vllm": "sampling_batch_size"}
        self.refuse_unused([engine_options[self.rollout_engine]], f"by rollout_engine {self.rollout_engine}")
        self.refuse_unused(LOADER, "by a trainer that samples its batches")
        if self.temperature <= 0:
            raise ConfigError(f"temperature is {self.temperature}; sampling from a policy needs one above 0")
        super().__post_init__()
        if self.is_sharded:
            raise ConfigError(
                "fsdp: nothing is sampled from a policy whose weights are shared out over processes; leave it out, and each process holds "
                "the whole model (--lora-r makes its training small)",
                code="PF-C02",
            )
        if self.world_size > 1 and self.rollout_engine == "vllm":
            raise ConfigError("rollout_engine vllm samples for one process; leave it out, or train in one process", code="PF-C02")
        self.ignore_data_skip = True  # what is trained on is sampled anew, not skipped through
