"""Settings that are known to work, by method and by whether an adapter or the whole model is trained, each with its source.

They are the commands' defaults; Python configs keep TRL's, as ``--preset trl`` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HANDBOOK = "alignment-handbook"
"""github.com/huggingface/alignment-handbook, recipes/."""


@dataclass(frozen=True)
class Recipe:
    """Settings and where each comes from.

    Attributes:
        settings: option -> (value, source).
        usual: the range of learning rates beyond which a run is warned about.
    """

    settings: Mapping[str, tuple[Any, str]]
    usual: tuple[float, float]

    @property
    def values(self) -> dict[str, Any]:
        """The settings without their sources."""
        return {name: value for name, (value, _) in self.settings.items()}


TEN_TIMES = "ten times the whole model's, as LoRA wants it (Schulman et al., LoRA Without Regret, 2025)"
COSINE = ("cosine", f"{HANDBOOK}, zephyr-7b-beta/dpo and smollm2/dpo")
WARMUP = (0.1, f"{HANDBOOK}, zephyr-7b-beta/dpo and smollm2/dpo: a tenth of the steps")
ONE_EPOCH = (1.0, f"{HANDBOOK}, zephyr-7b-beta/dpo/config_full.yaml and config_qlora.yaml")
BETA = (0.1, "Rafailov et al., arXiv 2305.18290, appendix B; LLaMA-Factory, examples/train_lora/llama3_lora_dpo.yaml")

UNPAIRED: Mapping[str, tuple[Any, str]] = {
    "balance_labels": (True, "the weights' ratio of arXiv 2402.01306, section 4: both labels count the same in all"),
    "train_sampling_strategy": ("random", "data that is sorted by its labels would make batches of one label"),
}
SPLIT = (True, "every token of a long text is trained on once")
SAMPLED: Mapping[str, tuple[Any, str]] = {
    "response_length": (128, "TRL's 53 and 64 truncate most chat responses"),
    "temperature": (1.0, "what is sampled from is the model that is asked later, not a sharper one"),
}
ONLINE: Mapping[str, tuple[Any, str]] = {"beta": BETA, "max_length": (1024, "as in DPO"), **SAMPLED}

KEPT: Mapping[str, tuple[Any, str]] = {
    "save_steps": (0.2, "five checkpoints a run, however short; TRL's 500 steps are none in most preference runs"),
    "save_total_limit": (2, "should the newest be damaged, there is another"),
}
"""Of every method that saves by steps and does not load its best model at the end."""


def _recipe(rate: float, source: str, usual: tuple[float, float], **more: tuple[Any, str]) -> Recipe:
    return Recipe({"learning_rate": (rate, source), "lr_scheduler_type": COSINE, "warmup_steps": WARMUP, **more}, usual)


RECIPES: Mapping[tuple[str, bool], Recipe] = {
    ("dpo", False): _recipe(
        1e-6,
        f"{HANDBOOK}, smollm2/dpo/config_smol.yaml (135M, 360M); 5e-7 for 7B in zephyr-7b-beta/dpo/config_full.yaml",
        (1e-7, 1e-5),
        num_train_epochs=ONE_EPOCH,
        beta=BETA,
    ),
    ("dpo", True): _recipe(
        5e-5,
        "measured on SmolLM2-135M-Instruct (benchmarks/RESULTS.md); 5e-6 for 7B and a thousand steps: zephyr-7b-beta/dpo/config_qlora.yaml",
        (2e-6, 1.5e-4),
        num_train_epochs=ONE_EPOCH,
        beta=BETA,
    ),
    ("kto", False): _recipe(1e-6, "TRL 1.16's KTOConfig", (1e-7, 1e-5), num_train_epochs=ONE_EPOCH, beta=BETA, **UNPAIRED),
    ("kto", True): _recipe(5e-5, "as DPO's", (2e-6, 1.5e-4), num_train_epochs=ONE_EPOCH, beta=BETA, **UNPAIRED),
    ("sft", False): _recipe(2e-5, "TRL 1.16, trl/scripts/sft.py and SFTConfig", (1e-6, 1e-3), split_texts=SPLIT),
    ("sft", True): _recipe(2e-4, "TRL 1.16, trl/scripts/sft.py", (1e-5, 1e-3), split_texts=SPLIT),
    ("reward", False): _recipe(1e-5, "9e-6 in InstructGPT, arXiv 2203.02155, appendix C.2", (1e-6, 1e-4), num_train_epochs=ONE_EPOCH),
    ("reward", True): _recipe(
        1e-4,
        "LLaMA-Factory, examples/train_lora/llama3_lora_reward.yaml; TRL 1.16's RewardConfig",
        (1e-5, 5e-4),
        num_train_epochs=ONE_EPOCH,
    ),
    ("ppo", False): Recipe({"learning_rate": (3e-6, "TRL 1.12's PPOConfig"), **SAMPLED}, (1e-7, 2e-5)),
    ("ppo", True): Recipe({"learning_rate": (3e-5, TEN_TIMES), **SAMPLED}, (1e-6, 3e-4)),
    ("online-dpo", False): Recipe({"learning_rate": (5e-7, "TRL 1.16's OnlineDPOConfig"), **ONLINE}, (1e-7, 1e-5)),
    ("online-dpo", True): Recipe({"learning_rate": (5e-6, TEN_TIMES), **ONLINE}, (1e-6, 1.5e-4)),
}


SMALL = 100_000_000
"""Weights below which a model bears more: the upper end grows as this number over its own."""


def usual_learning_rates(method: str, adapter: bool, weights: int) -> tuple[float, float]:
    """The range of learning rates beyond which a run is warned about, for a model of so many weights."""
    low, high = RECIPES[method, adapter].usual
    return low, high * max(1.0, SMALL / max(weights, 1))
