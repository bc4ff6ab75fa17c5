"""What trainers take that sample from their policy."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefine.errors import ConfigError, nearest
from prefine.losses.policy_gradient import REWARD_AGGREGATES
from prefine.training.config.pack import PackConfig

ROLLOUT_ENGINES = ("transformers", "vllm")
VLLM_OPTIONS = {
    "colocate": ("vllm_gpu_memory_utilization", "vllm_enable_sleep_mode", "vllm_tensor_parallel_size"),
    "server": ("vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_server_timeout"),
}
"""What each ``vllm_mode`` reads."""
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
    vllm_mode: str = field(
        default="colocate", metadata={"help": "vllm: colocate, in this process, or server, which prefine serve-rollouts starts."}
    )
    vllm_gpu_memory_utilization: float = field(default=0.55, metadata={"help": "vllm, colocate: its share of the GPU's memory."})
    vllm_enable_sleep_mode: bool = field(
        default=False, metadata={"help": "vllm, colocate: give the memory back between rollouts; it takes as much of the processor's."}
    )
    vllm_tensor_parallel_size: int = field(default=1, metadata={"help": "vllm, colocate: how many GPUs share the model out."})
    vllm_server_base_url: str | None = field(
        default=None, metadata={"help": "vllm, server: its address. Unset: http://HOST:PORT of the next two."}
    )
    vllm_server_host: str = field(default="0.0.0.0", metadata={"help": "vllm, server: its host."})
    vllm_server_port: int = field(default=8000, metadata={"help": "vllm, server: its port."})
    vllm_server_timeout: float = field(default=240.0, metadata={"help": "vllm, server: seconds that it has for a response."})
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
        if self.vllm_mode not in VLLM_OPTIONS:
            raise ConfigError(
                f"vllm_mode is {self.vllm_mode!r}; expected one of {', '.join(VLLM_OPTIONS)}{nearest(self.vllm_mode, VLLM_OPTIONS)}",
                code="PF-C03",
            )
        if self.rollout_engine == "vllm":
            self.refuse_unused(["sampling_batch_size"], "by rollout_engine vllm")
            for mode, names in VLLM_OPTIONS.items():
                if mode != self.vllm_mode:
                    self.refuse_unused(names, f"by vllm_mode {self.vllm_mode}")
        else:
            self.refuse_unused(["vllm_mode", *(n for names in VLLM_OPTIONS.values() for n in names)], "by rollout_engine transformers")
        self.refuse_unused(LOADER, "by a trainer that samples its batches")
        if self.temperature <= 0:
            raise ConfigError(f"temperature is {self.temperature}; sampling from a policy needs one above 0")
        super().__post_init__()
        self.ignore_data_skip = True  # what is trained on is sampled anew, not skipped through
        if self.zero_stage:
            raise ConfigError(
                "deepspeed: nothing is sampled from a policy that DeepSpeed shares out; give --fsdp true in its place, or leave it out, "
                "and each process holds the whole model (--lora-r makes its training small)",
                code="PF-C02",
            )
        if self.world_size > 1 and self.rollout_engine == "vllm" and self.vllm_mode == "colocate":
            raise ConfigError(
                "vllm_mode colocate samples for one process; give --vllm-mode server, which prefine serve-rollouts starts", code="PF-C02"
            )

    @property
    def vllm_address(self) -> str:
        """Where the vLLM server listens."""
        return self.vllm_server_base_url or f"http://{self.vllm_server_host}:{self.vllm_server_port}"
