"""The lab's experiments: several arms from one base, seed by seed, each policy measured by gold, KL and reward.

Arms are tables; what is measured is kept on disk, so that a stopped experiment goes on where it was.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from prefine.errors import ConfigError
from prefine.lab.experiment import Progress, Settings, progress_callback, quiet, retention_settings, train_dpo, trainer_settings
from prefine.lab.ground import Ground, Measured, Reward, ground_of, kept
from prefine.lab.language import gold
from prefine.lab.rlhf import RlhfSettings, train_online_dpo, train_ppo
from prefine.runs import RunDirectory

Train = Callable[[Ground, RunDirectory], Measured]


@dataclass(frozen=True)
class Arm:
    """One way to a policy.

    Attributes:
        knob: what is turned, and how far; empty where nothing is.
    """

    name: str
    train: Train
    knob: str = ""

    @property
    def label(self) -> str:
        """Name and knob."""
        return f"{self.name}, {self.knob}" if self.knob else self.name


@dataclass(frozen=True)
class Contrast:
    """What an experiment asks: is gold higher by one arm than by the other?"""

    claim: str
    better: str
    worse: str


@dataclass(frozen=True)
class Experiment:
    """Arms, and what is asked of them.

    Attributes:
        about: the question in a sentence.
        seeds: how many are run unless told otherwise.
        hacks: an arm whose reward is expected to rise while gold falls.
    """

    name: str
    about: str
    arms: tuple[Arm, ...]
    contrasts: tuple[Contrast, ...] = ()
    seeds: int = 3
    hacks: str = ""


# ---- ways to train


def _dpo(**changes: Any) -> Train:
    def train(ground: Ground, run: RunDirectory) -> Measured:
        settings = replace(ground.settings, **changes)
        pairs = ground.pairs(settings.label_flips)
        return ground.measure(train_dpo(settings, run, ground.base, pairs, ground.retain, ground.progress), _judge(ground))

    return train


def _judge(ground: Ground) -> Reward:
    return ground.reward("all", ground.pairs())


def _ppo(
    reward: Callable[[Ground], Reward] = _judge,
    retains: bool = True,
    change: Callable[[RlhfSettings], RlhfSettings] = lambda own: own,
    **more: Any,
) -> Train:
    """PPO by ``more``; a single reward is divided by its spread, several are put on one scale by the trainer."""

    def train(ground: Ground, run: RunDirectory) -> Measured:
        found = reward(ground)
        single = len(found.folders) == 1
        rewards: Any = found.folders[0] if single else list(found.folders)
        weights = [1 / found.spread] if single else [1.0] * len(found.folders)
        curve: list[tuple[float, float]] = []
        own = change(ground.own)

        def note(kind: str, **what: Any) -> None:
            if kind == "samples":
                curve.append(_gold_and_score(what["texts"]))
            else:
                run.append_event(kind, **what)

        trainer = train_ppo(
            ground.settings,
            own,
            run,
            ground.base,
            rewards,
            weights,
            ground.retain if retains else None,
            ground.progress,
            on_event=note,
            num_sample_texts=own.rollout_prompts,  # of all prompts: gold is read from them, to be held against the reward
            **more,
        )
        return replace(ground.measure(trainer.scorer.unwrapped, found if single else None), curve=curve)

    return train


def _gold_and_score(texts: list[dict[str, Any]]) -> tuple[float, float]:
    golds = [gold(t["prompt"], t["answer"], t["ended"]).score for t in texts]
    return float(np.mean(golds)), float(np.nanmean([t["score"] for t in texts]))


def _preferred_sft(rate: float) -> Train:
    return lambda ground, run: ground.measure(_sft(ground, run, ground.pairs(), rate), _judge(ground))


def _sft(ground: Ground, run: RunDirectory, data: Path, rate: float, steps: int = -1) -> Any:
    """SFT on the chosen side of pairs; for so many steps, or as many passes as DPO makes."""
    from prefine.preferences.source import read_rows
    from prefine.training.config import SFTConfig
    from prefine.training.prepared import DataWarning
    from prefine.training.sft import SFTTrainer

    s = ground.settings
    args = SFTConfig(
        num_train_epochs=s.dpo_epochs,
        max_steps=steps,
        per_device_train_batch_size=s.dpo_batch_size,
        learning_rate=rate,
        warmup_steps=0.1,
        lr_scheduler_type="linear",
        **retention_settings(s, ground.retain),
        **trainer_settings(s, run.checkpoints),
    )
    rows = [row for _, row in read_rows(str(data))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # replies that are empty
        trainer = SFTTrainer(str(ground.base), args, train_dataset=rows, callbacks=[progress_callback(ground.progress, "SFT")])
    quiet(trainer)
    trainer.train()
    return trainer.scorer.unwrapped


def _best_of(n: int) -> Train:
    return lambda ground, run: ground.best_of(n, _judge(ground))


def _online(rate: float) -> Train:
    def train(ground: Ground, run: RunDirectory) -> Measured:
        own = replace(ground.own, online_learning_rate=rate)
        reward = _judge(ground)
        trainer = train_online_dpo(ground.settings, own, run, ground.base, reward.folders[0], ground.retain, ground.progress)
        return ground.measure(trainer.scorer.unwrapped, reward)

    return train


def _scored(ground: Ground) -> Path:
    own = ground.own
    path = ground.folder / f"scored-{own.online_steps * own.online_prompts}-{own.online_samples}.jsonl"
    return ground.scored_pairs(path, _judge(ground), own.online_steps * own.online_prompts, own.online_samples)


def _offline(rate: float) -> Train:
    """DPO on the base's own answers, scored once by the reward model: what online DPO does, with the sampler standing still."""

    def train(ground: Ground, run: RunDirectory) -> Measured:
        settings = replace(
            ground.settings, dpo_nll_weight=0.0, dpo_learning_rate=rate, dpo_epochs=1.0, dpo_batch_size=ground.own.online_prompts
        )
        tuned = train_dpo(settings, run, ground.base, _scored(ground), ground.retain, ground.progress, warmup=0.05)
        return ground.measure(tuned, _judge(ground))

    return train


def _filtered_sft(rate: float, share: float) -> Train:
    """SFT on those of the base's answers that the reward model scores highest."""

    def train(ground: Ground, run: RunDirectory) -> Measured:
        import json

        rows = [json.loads(line) for line in _scored(ground).read_text().splitlines()]
        least = float(np.quantile([r["score_chosen"] for r in rows], 1 - share))
        data = run.path / "filtered.jsonl"
        data.write_text("".join(json.dumps(r) + "\n" for r in rows if r["score_chosen"] >= least))
        return ground.measure(_sft(ground, run, data, rate, 2 * ground.own.online_steps), _judge(ground))

    return train


# ---- the table


def _arms(name: str, knob: str, make: Callable[[float], Train], values: tuple[float, ...]) -> tuple[Arm, ...]:
    return tuple(Arm(name, make(v), f"{knob} {v:g}") for v in values)


def _noisy(flips: float, members: int, resampled: bool) -> Callable[[Ground], Reward]:
    name = f"flips-{round(100 * flips)}-{members}{'' if resampled else '-all'}"
    return lambda ground: ground.reward(name, ground.pairs(flips), members=members, resampled=resampled)


def _weak(members: int, resampled: bool) -> Callable[[Ground], Reward]:
    """A reward model too small for its task, on few pairs, a quarter of them wrong, trained far too long."""

    def reward(ground: Ground) -> Reward:
        own = replace(ground.own, reward_learning_rate=2e-3, reward_epochs=5 * ground.own.reward_epochs)
        name = f"weak-{members}{'' if resampled else '-all'}"
        return ground.reward(name, ground.pairs(0.25, 400), own, small=True, members=members, resampled=resampled)

    return reward


def _hack(members: int, kl: float, resampled: bool = True, **more: Any) -> Train:
    rloo: dict[str, Any] = {"advantage_estimator": "rloo", "num_samples": 4, "kl_coef": kl}
    return _ppo(_weak(members, resampled), False, lambda own: replace(own, learning_rate=3e-4, episodes=2 * own.episodes), **rloo, **more)


ENSEMBLES: tuple[tuple[str, int, bool, dict[str, Any]], ...] = (
    ("one", 1, True, {}),
    ("mean of 4", 4, True, {"reward_aggregate": "mean"}),
    ("mean - std of 4", 4, True, {"reward_aggregate": "mean-std"}),
    ("mean of 4 on all pairs", 4, False, {"reward_aggregate": "mean"}),
    ("mean - std of 4 on all pairs", 4, False, {"reward_aggregate": "mean-std"}),
)
"""Name, members, whether each learns from a resample of the prompts, and how they are put together."""
EXPERIMENTS: Mapping[str, Experiment] = {
    e.name: e
    for e in (
        Experiment(
            "frontier",
            "Oracle score against KL to the base, each method over its main knob; for best of n the KL's upper bound, log n - (n-1)/n.",
            (
                *_arms("DPO", "beta", lambda v: _dpo(dpo_beta=v), (3, 1, 0.3, 0.1, 0.03, 0.01)),
                *_arms("IPO", "beta", lambda v: _dpo(dpo_loss="ipo", dpo_beta=v), (10, 3, 1, 0.3, 0.1)),
                *_arms("PPO", "KL", lambda v: _ppo(kl_coef=v), (0.5, 0.2, 0.1, 0.05, 0.02, 0.0)),
                *_arms("SFT on chosen", "rate", _preferred_sft, (1e-4, 3e-4, 1e-3, 3e-3)),
                *_arms("best of n", "n", lambda v: _best_of(int(v)), (2, 4, 8, 16, 32)),
            ),
        ),
        Experiment(
            "hacking",
            "A weak reward model, optimised without KL, with KL, and as an ensemble's lower bound without KL.",
            (
                Arm("no KL", _hack(1, 0.0)),
                Arm("KL 0.1", _hack(1, 0.1)),
                Arm("ensemble of 4, mean", _hack(4, 0.0, reward_aggregate="mean")),
                Arm("ensemble of 4, mean - std", _hack(4, 0.0, reward_aggregate="mean-std")),
                Arm("ensemble of 4, mean - 3 std", _hack(4, 0.0, reward_aggregate="mean-std", reward_std_weight=3.0)),
                Arm("ensemble of 4 on all pairs, mean - std", _hack(4, 0.0, resampled=False, reward_aggregate="mean-std")),
            ),
            (
                Contrast("KL to the base stops it", "KL 0.1", "no KL"),
                Contrast("an ensemble's lower bound stops it", "ensemble of 4, mean - std", "no KL"),
                Contrast("a lower bound three times as low stops it", "ensemble of 4, mean - 3 std", "no KL"),
                Contrast("a lower bound of members on all pairs stops it", "ensemble of 4 on all pairs, mean - std", "no KL"),
                Contrast("the lower bound does more than the mean", "ensemble of 4, mean - std", "ensemble of 4, mean"),
            ),
            seeds=5,
            hacks="no KL",
        ),
        Experiment(
            "ensembles",
            "PPO against one reward model and against ensembles of four, and DPO, with 25 and 40 % of the labels wrong.",
            tuple(
                Arm(name, train, f"{round(100 * flips)} % wrong")
                for flips in (0.25, 0.40)
                for name, train in (
                    *((name, _ppo(_noisy(flips, members, resampled), **more)) for name, members, resampled, more in ENSEMBLES),
                    ("DPO", _dpo(label_flips=flips)),
                )
            ),
            tuple(
                Contrast(f"{words} helps with {flips} % wrong labels", f"{name}, {flips} % wrong", f"one, {flips} % wrong")
                for flips in (25, 40)
                for name, words in (
                    ("mean of 4", "an ensemble's mean"),
                    ("mean - std of 4", "its lower bound"),
                    ("mean of 4 on all pairs", "the mean of four on all pairs"),
                    ("mean - std of 4 on all pairs", "their lower bound"),
                    ("DPO", "DPO in place of PPO"),
                )
            ),
        ),
        Experiment(
            "live",
            "The same reward model and number of samples, drawn once from the base or from the policy as it learns; PPO has a quarter.",
            (
                *_arms("base's samples", "rate", _offline, (1e-4, 3e-4, 1e-3)),
                *_arms("live samples", "rate", _online, (1e-4, 3e-4)),
                Arm("PPO", _ppo()),
            ),
            (
                Contrast("live samples help DPO", "live samples, rate 0.0001", "base's samples, rate 0.0001"),
                Contrast("live samples help DPO at a higher rate", "live samples, rate 0.0003", "base's samples, rate 0.0003"),
            ),
        ),
        Experiment(
            "filters",
            "PPO on all its samples, on those above a threshold, on the best of four; and SFT on the base's best responses.",
            (
                Arm("PPO", _ppo()),
                Arm("PPO, reward above 0", _ppo(min_reward=0.0)),
                Arm("PPO, best of 4", _ppo(num_samples=4, best_of=True)),
                Arm("SFT, best of 4", _filtered_sft(1e-3, 1.0)),
                Arm("SFT, highest half", _filtered_sft(1e-3, 0.5)),
                Arm("SFT, highest tenth", _filtered_sft(1e-3, 0.1)),
            ),
            (
                Contrast("a threshold helps PPO", "PPO, reward above 0", "PPO"),
                Contrast("the best of four helps PPO", "PPO, best of 4", "PPO"),
                Contrast("a threshold helps SFT on the best of four", "SFT, highest half", "SFT, best of 4"),
                Contrast("a higher threshold helps SFT", "SFT, highest tenth", "SFT, highest half"),
            ),
        ),
    )
}


# ---- running


def run_seed(
    experiment: Experiment, settings: Settings, own: RlhfSettings, folder: Path, progress: Progress, only: str | None = None
) -> dict[str, Measured]:
    """All arms on one seed; what is on disk under the same settings is not done again.

    Args:
        only: run the arms whose label has these words alone.
    """
    ground = ground_of(settings, own, folder, progress)
    arms = [a for a in experiment.arms if only is None or only in a.label]
    try:
        with FileLock(ground.folder / f".{experiment.name}.lock", timeout=0):
            return {arm.label: _measured(experiment, arm, ground, progress) for arm in arms}
    except Timeout as error:
        raise ConfigError(
            f"{experiment.name}, seed {settings.seed}, is being run in {folder} already; give another --output-dir"
        ) from error


def _measured(experiment: Experiment, arm: Arm, ground: Ground, progress: Progress) -> Measured:
    ground.progress = partial(_labelled, progress, arm.label)
    place = ground.folder / experiment.name / _slug(arm.label)
    return kept(place / "measured.json", partial(_measure, arm, ground, place))


def _labelled(progress: Progress, label: str, stage: str, done: int, total: int) -> None:
    progress(f"{label}: {stage}", done, total)


def _measure(arm: Arm, ground: Ground, place: Path) -> Measured:
    run = RunDirectory.create(place)
    settings = {"command": "lab", "model": str(ground.base), "arm": arm.label}
    run.write_config(settings | vars(ground.settings) | vars(ground.own), ["lab", place.parent.name, "--only", arm.label])
    run.write_environment()
    return arm.train(ground, run)


def _slug(label: str) -> str:
    words = "".join(c if c.isalnum() or c in ".-" else "-" for c in label.lower())
    return f"{words}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"
