"""``prefine ppo``: prompts, a model and a reward in, an aligned model out."""

from __future__ import annotations

ABOUT = "Aligns a model by reinforcement learning against reward models or functions: PPO, RLOO, GRPO, REINFORCE++."


def main(argv: list[str]) -> int:
    """Train, and judge by the reward that was trained on."""
    from prefine.cli.sampling_run import run_sampling
    from prefine.training.config import PPOConfig
    from prefine.training.ppo import PPOTrainer

    return run_sampling("ppo", ABOUT, PPOConfig, PPOTrainer, argv)
