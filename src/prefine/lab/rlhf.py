"""DPO against RLHF in the lab: from one base and the same noisy pairs, DPO, reward model and PPO, and online DPO.

Every method learns from the same labels: DPO from the pairs themselves, the others through a reward
model trained on them. Gold is looked at in the evaluation alone.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from prefine.lab.experiment import (
    Outcome,
    Progress,
    Settings,
    evaluate,
    make_pairs,
    progress_callback,
    quiet,
    retention_settings,
    train_base,
    train_dpo,
    trainer_settings,
    user,
    write_retention,
)
from prefine.lab.language import MAX_REPLY_TOKENS, split_tickets
from prefine.lab.model import build_tokenizer
from prefine.preferences.convert import PairSource
from prefine.runs import RunDirectory, write_json


@dataclass(frozen=True)
class RlhfSettings:
    """The knobs of reward model, PPO and online DPO; what is here worked on seed 0 and was not tuned on others."""

    reward_learning_rate: float = 1e-3
    reward_batch_size: int = 32
    reward_epochs: float = 2.0
    reward_center: float = 1e-3
    episodes: int = 2560
    rollout_prompts: int = 64
    mini_batches: int = 2
    passes: int = 2
    learning_rate: float = 2e-4
    value_learning_rate: float = 1e-3
    vf_coef: float = 1.0
    kl_coef: float = 0.1
    no_end_penalty: float = 1.0
    online_learning_rate: float = 1e-4
    online_samples: int = 4
    online_prompts: int = 32
    online_steps: int = 80

    def quick(self) -> RlhfSettings:
        """A smoke test's size; its verdict means nothing."""
        return replace(self, reward_epochs=0.5, episodes=128, online_steps=2)


@dataclass
class Tried:
    """One method on one seed.

    Attributes:
        tokens_sampled, tokens_trained: of answers drawn, and of prompts and answers in gradients.
        settings: knobs that the method was given.
        weights: parameters that are held in memory at once; peak_bytes: most memory of the process while it trained.
    """

    method: str
    outcome: Outcome
    seconds: float
    tokens_sampled: int
    tokens_trained: int
    settings: int
    weights: int
    peak_bytes: int


def train_reward(
    settings: Settings, own: RlhfSettings, run: RunDirectory, base: Path, pairs: Path, progress: Progress
) -> tuple[Path, float, float]:
    """A reward model on the pairs; its folder, its accuracy on them, and its rewards' standard deviation.

    Args:
        base: what it starts from, with a new head.
    """
    from prefine.training.reward import RewardTrainer

    args = _reward_args(settings, own, run)
    trainer = RewardTrainer(str(base), args, train_dataset=list(PairSource(str(pairs))), callbacks=[progress_callback(progress, "reward")])
    quiet(trainer)
    trainer.train()
    folder = run.path / "reward"
    trainer.save_model(str(folder))
    trainer.scorer.unwrapped.eval()
    scored = trainer.budget.each(trainer.train_dataset, trainer.scorer.shares, trainer.scorer.completion_rewards)
    rewards = torch.cat([found for _, found in scored]).view(-1, 2)
    return folder, float((rewards[:, 0] > rewards[:, 1]).float().mean()), float(rewards.std())


def train_reward_ensemble(
    settings: Settings, own: RlhfSettings, run: RunDirectory, starts: list[Path], pairs: Path, resampled: bool, progress: Progress
) -> list[str]:
    """Reward models, each from its own start, on its own resample of the prompts or all on all; their folders."""
    from prefine.packing.encoding import Encoder
    from prefine.scoring.reward_scorer import load_reward_model
    from prefine.training.reward import train_ensemble

    args = _reward_args(settings, own, run)
    args.ensemble, args.ensemble_bootstrap = len(starts), resampled
    groups = list(Encoder(build_tokenizer(), 128).encode_pairs(PairSource(str(pairs))))
    left = iter(starts)
    members = train_ensemble(
        lambda: load_reward_model(str(next(left)), new_head=True),
        args,
        groups,
        None,
        run.path,
        quiet,
        processing_class=build_tokenizer(),
        callbacks=[progress_callback(progress, "reward")],
    )
    return [str(run.path / f"member-{member}") for member, _ in members]


def _reward_args(settings: Settings, own: RlhfSettings, run: RunDirectory) -> Any:
    from prefine.training.config import RewardConfig

    return RewardConfig(
        num_train_epochs=own.reward_epochs,
        per_device_train_batch_size=own.reward_batch_size,
        learning_rate=own.reward_learning_rate,
        warmup_steps=0.1,
        center_rewards_coefficient=own.reward_center,
        **trainer_settings(settings, run.checkpoints),
    )


def training_prompts(settings: Settings, count: int) -> list[str]:
    """Prompts of combinations that may be trained on."""
    tickets, _ = split_tickets()
    rng = random.Random(f"prompts {settings.seed}")
    return [rng.choice(tickets).prompt for _ in range(count)]


def train_ppo(
    settings: Settings,
    own: RlhfSettings,
    run: RunDirectory,
    base: Path,
    reward: Any,
    reward_weights: list[float],
    retain: Path | None,
    progress: Progress,
    on_event: Callable[..., None] | None = None,
    **more: Any,
) -> Any:
    """PPO (or its value-free kin, by ``more``) from the base against rewards; returns the trainer."""
    from prefine.training.config import PPOConfig
    from prefine.training.ppo import PPOTrainer
    from prefine.training.record import RecordRun

    chosen: dict[str, Any] = {"num_samples": 1, "kl_coef": own.kl_coef} | more
    if chosen.get("advantage_estimator", "gae") == "gae":
        chosen |= {"value_learning_rate": own.value_learning_rate, "vf_coef": own.vf_coef}
    args = PPOConfig(
        total_episodes=own.episodes,
        per_device_train_batch_size=own.rollout_prompts // chosen["num_samples"],
        num_mini_batches=own.mini_batches,
        num_ppo_epochs=own.passes,
        response_length=MAX_REPLY_TOKENS,
        temperature=1.0,
        learning_rate=own.learning_rate,
        warmup_steps=0.05,
        lr_scheduler_type="linear",
        missing_eos_penalty=own.no_end_penalty,
        **retention_settings(settings, retain, own.rollout_prompts // own.mini_batches),
        **trainer_settings(settings, run.checkpoints),
        **chosen,
    )
    prompts = [user(p) for p in training_prompts(settings, own.episodes // chosen["num_samples"])]
    callbacks = [progress_callback(progress, "PPO"), RecordRun(run)]
    trainer = PPOTrainer(
        args, None, str(base), reward_model=reward, train_dataset=prompts, reward_weights=reward_weights, callbacks=callbacks
    )
    trainer.on_event = on_event or run.append_event
    quiet(trainer)
    trainer.train()
    trainer.save_model(str(run.model))
    return trainer


def train_online_dpo(
    settings: Settings, own: RlhfSettings, run: RunDirectory, base: Path, reward: Any, retain: Path | None, progress: Progress
) -> Any:
    """Online DPO from the base against a reward; returns the trainer."""
    from prefine.training.config import OnlineDPOConfig
    from prefine.training.online_dpo import OnlineDPOTrainer
    from prefine.training.record import RecordRun

    args = OnlineDPOConfig(
        max_steps=own.online_steps,
        per_device_train_batch_size=own.online_prompts,
        num_samples=own.online_samples,
        response_length=MAX_REPLY_TOKENS,
        temperature=1.0,
        learning_rate=own.online_learning_rate,
        warmup_steps=0.05,
        lr_scheduler_type="linear",
        beta=[settings.dpo_beta],
        missing_eos_penalty=own.no_end_penalty,
        **retention_settings(settings, retain),
        **trainer_settings(settings, run.checkpoints),
    )
    prompts = [user(p) for p in training_prompts(settings, own.online_steps * own.online_prompts)]
    callbacks = [progress_callback(progress, "online DPO"), RecordRun(run)]
    trainer = OnlineDPOTrainer(str(base), reward_funcs=reward, args=args, train_dataset=prompts, callbacks=callbacks)
    trainer.on_event = run.append_event
    quiet(trainer)
    trainer.train()
    trainer.save_model(str(run.model))
    return trainer


def compare(settings: Settings, own: RlhfSettings, folder: Path, progress: Progress) -> list[Tried]:
    """All methods on one seed, each in a run directory of its own under ``folder``."""
    from transformers import AutoModelForCausalLM

    from prefine.training.peak_memory import forget_peak_memory, peak_memory_bytes

    tokenizer = build_tokenizer()
    base_folder, pairs_path, retain_path = folder / "base", folder / "pairs.jsonl", folder / "retain.jsonl"
    model = train_base(settings, base_folder, progress)
    pairs = make_pairs(model, tokenizer, settings, pairs_path, progress)
    write_retention(retain_path)
    retain = retain_path if settings.retain else None
    base_weights = sum(p.numel() for p in model.parameters())
    out = []

    def tried(method: str, train: Callable[[RunDirectory], Any], held: int, settings_count: int) -> None:
        run = RunDirectory.create(folder / method.lower().replace(" ", "-"))
        run.write_config(
            {"command": method, "model": str(base_folder), "data": str(pairs_path), **vars(settings), **vars(own)}, ["demo", "--rlhf"]
        )
        run.write_environment()
        gc.collect()
        forget_peak_memory()
        begun = time.perf_counter()
        tuned = train(run)
        seconds, peak = time.perf_counter() - begun, peak_memory_bytes()
        policy = tuned.scorer.unwrapped if hasattr(tuned, "scorer") else tuned
        base = AutoModelForCausalLM.from_pretrained(base_folder)
        outcome = evaluate(settings, base, policy, tokenizer, run, progress)
        outcome.pairs = pairs
        logs = run.metrics()
        trained = max((int(m.get("num_tokens", 0)) for m in logs), default=0)
        sampled = getattr(tuned, "tokens_sampled", 0)
        out.append(Tried(method, outcome, seconds, sampled, trained, settings_count, held * base_weights, peak))

    tried("DPO", lambda run: train_dpo(settings, run, base_folder, pairs_path, retain_path, progress), 2, 6)
    begun = time.perf_counter()
    reward, accuracy, spread = train_reward(settings, own, RunDirectory(folder / "reward-model"), base_folder, pairs_path, progress)
    reward_seconds = time.perf_counter() - begun
    write_json(folder / "reward.json", {"accuracy_on_its_pairs": accuracy, "standard_deviation": spread, "seconds": reward_seconds})
    tried("PPO", lambda run: train_ppo(settings, own, run, base_folder, str(reward), [1 / spread], retain, progress), 4, 14)
    tried("online DPO", lambda run: train_online_dpo(settings, own, run, base_folder, str(reward), retain, progress), 3, 10)
    for t in out[1:]:
        t.seconds += reward_seconds
    return out
