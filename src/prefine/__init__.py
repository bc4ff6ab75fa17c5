"""Prefine aligns language models with what people prefer, and measures whether it worked."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "DPOConfig",
    "DPOTrainer",
    "OnlineDPOConfig",
    "OnlineDPOTrainer",
    "PPOConfig",
    "PPOTrainer",
    "RewardConfig",
    "RewardTrainer",
    "SFTConfig",
    "SFTTrainer",
]

if TYPE_CHECKING:
    from prefine.training.config import DPOConfig, OnlineDPOConfig, PPOConfig, RewardConfig, SFTConfig
    from prefine.training.dpo import DPOTrainer
    from prefine.training.online_dpo import OnlineDPOTrainer
    from prefine.training.ppo import PPOTrainer
    from prefine.training.reward import RewardTrainer
    from prefine.training.sft import SFTTrainer

_HOMES = {
    "DPOConfig": "prefine.training.config",
    "OnlineDPOConfig": "prefine.training.config",
    "PPOConfig": "prefine.training.config",
    "RewardConfig": "prefine.training.config",
    "SFTConfig": "prefine.training.config",
    "DPOTrainer": "prefine.training.dpo",
    "OnlineDPOTrainer": "prefine.training.online_dpo",
    "PPOTrainer": "prefine.training.ppo",
    "RewardTrainer": "prefine.training.reward",
    "SFTTrainer": "prefine.training.sft",
}


def __getattr__(name: str) -> Any:
    """Import trainers when they are asked for: torch takes seconds."""
    if name in ("KTOTrainer", "KTOConfig"):
        raise ImportError(f"prefine has no {name} yet: KTO learns from unpaired feedback; DPO's loss_type='kto_pair' takes pairs")
    if name not in _HOMES:
        raise AttributeError(f"module 'prefine' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
