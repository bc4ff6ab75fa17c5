"""``prefine online-dpo``: prompts, a model and a reward in, an aligned model out."""

from __future__ import annotations

ABOUT = "Aligns a model by DPO on its own samples, scored by reward models or functions as it learns."


def main(argv: list[str]) -> int:
    """Train, and judge by the reward that was trained on."""
    from prefine.cli.sampling_run import run_sampling
    from prefine.training.config import OnlineDPOConfig
    from prefine.training.online_dpo import OnlineDPOTrainer

    return run_sampling("online-dpo", ABOUT, OnlineDPOConfig, OnlineDPOTrainer, argv)
