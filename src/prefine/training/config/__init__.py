"""Configurations: TrainingArguments with TRL's names, meanings and defaults, and the packed core's own.

docs/trl.md has the table of all of TRL's fields, and the defaults that differ with the reason.
"""

from prefine.training.config.dpo import DPOConfig
from prefine.training.config.kto import KTOConfig
from prefine.training.config.online_dpo import OnlineDPOConfig
from prefine.training.config.pack import PackConfig
from prefine.training.config.ppo import PPOConfig
from prefine.training.config.reward import RewardConfig
from prefine.training.config.sampling import SamplingConfig
from prefine.training.config.sft import SFTConfig
from prefine.training.config.with_reference import ReferenceConfig

__all__ = [
    "DPOConfig",
    "KTOConfig",
    "OnlineDPOConfig",
    "PPOConfig",
    "PackConfig",
    "ReferenceConfig",
    "RewardConfig",
    "SFTConfig",
    "SamplingConfig",
]
