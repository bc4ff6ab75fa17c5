"""What every arm of an experiment starts from and is measured by: one seed's base, pairs, reward models and unseen prompts."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from prefine.evaluation.drift import completion_logps
from prefine.evaluation.interval import CHANGE, RATE, mean_interval
from prefine.evaluation.model_pair import ModelPair
from prefine.generation.engine import Answer
from prefine.lab.experiment import Progress, Settings, facts_right, make_pairs, pair_row, replies, train_base, user, write_retention
from prefine.lab.language import gold, split_facts, split_tickets
from prefine.lab.model import build_model, build_tokenizer
from prefine.lab.rlhf import RlhfSettings, train_reward, train_reward_ensemble, training_prompts
from prefine.packing.budget import TokenBudget
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup, as_ids
from prefine.runs import RunDirectory, read_json, write_json, write_jsonl


@dataclass(frozen=True)
class Reward:
    """Folders of reward models, and the standard deviation of the first one's rewards on the pairs it learnt from."""

    folders: tuple[str, ...]
    spread: float


@dataclass(frozen=True)
class Measured:
    """One policy on the unseen prompts.

    Attributes:
        gold: each answer's gold score; base: the base's, on the same prompts by the same numbers; shapes (answers,).
        clusters: each answer's device-problem combination.
        kl: to the base, nats an answer; proxy: mean reward by the reward model, NaN where none was asked.
        arithmetic: share of the facts that are still right; parts: means of the gold score's parts.
        curve: (gold, score by its own reward) of each rollout, where the policy was sampled from.
    """

    gold: list[float]
    base: list[float]
    clusters: list[str]
    kl: float
    proxy: float
    arithmetic: float
    parts: dict[str, float]
    curve: list[tuple[float, float]] = field(default_factory=list)

    def mean(self) -> float:
        """Mean gold score."""
        return float(np.mean(self.gold))

    def win_rate(self) -> Any:
        """Of the policy over the base, by gold, with its interval over combinations."""
        wins = [0.5 if a == b else float(a > b) for a, b in zip(self.gold, self.base, strict=True)]
        return mean_interval(wins, self.clusters, bounds=RATE)

    def over(self, other: Measured) -> Any:
        """Mean difference of gold to another arm on the same prompts, with its interval over combinations."""
        return mean_interval([a - b for a, b in zip(self.gold, other.gold, strict=True)], self.clusters, bounds=CHANGE)


class Ground:
    """One seed, its parts made when they are first asked for and kept under ``folder``; who else wants one being made waits."""

    def __init__(self, settings: Settings, own: RlhfSettings, folder: Path, progress: Progress) -> None:
        self.settings = settings
        self.own = own
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._making = FileLock(folder / ".lock")
        self.progress = progress
        self.tokenizer = build_tokenizer()
        self._base: Any = None
        self._base_answers: list[Answer] | None = None
        self._base_scores: list[float] = []
        self._base_arithmetic: float | None = None
        self._drawn: list[tuple[list[Answer], list[float]]] = []

    # ---- parts

    @property
    def base(self) -> Path:
        """The base model's folder."""
        out = self.folder / "base"
        with self._making:
            if not (out / "tokenizer_config.json").exists():  # written last
                train_base(self.settings, out, self.progress)
        return out

    @property
    def base_model(self) -> Any:
        """The base in memory; never trained."""
        from transformers import AutoModelForCausalLM

        if self._base is None:
            self._base = AutoModelForCausalLM.from_pretrained(self.base)
        return self._base

    def pairs(self, flips: float | None = None, prompts: int | None = None) -> Path:
        """Pairs of the base's answers, with so many labels wrong."""
        settings = replace(
            self.settings,
            label_flips=self.settings.label_flips if flips is None else flips,
            pair_prompts=prompts or self.settings.pair_prompts,
        )
        path = self.folder / f"pairs-{settings.pair_prompts}-{round(100 * settings.label_flips)}.jsonl"
        with self._making:
            if not path.exists():
                make_pairs(self.base_model, self.tokenizer, settings, path, self.progress)
        return path

    @property
    def retain(self) -> Path:
        """The facts."""
        path = self.folder / "retain.jsonl"
        with self._making:
            if not path.exists():
                write_retention(path)
        return path

    def reward(
        self, name: str, pairs: Path, own: RlhfSettings | None = None, small: bool = False, members: int = 1, resampled: bool = True
    ) -> Reward:
        """A reward model, or an ensemble of them, on the pairs.

        Args:
            small: from a model of one layer that knows nothing, not from the base.
            resampled: an ensemble's members learn from a resample of the prompts each, not all from all.
        """
        folder = self.folder / f"reward-{name}"
        done = folder / "reward.json"
        with self._making:
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                run = RunDirectory(folder)
                starts = [self._start(folder / f"start-{i}", i) if small else self.base for i in range(members)]
                if members == 1:
                    found, _, spread = train_reward(self.settings, own or self.own, run, starts[0], pairs, self.progress)
                    folders = [str(found)]
                else:
                    folders = train_reward_ensemble(self.settings, own or self.own, run, starts, pairs, resampled, self.progress)
                    spread = math.nan
                write_json(done, {"folders": [str(Path(f).relative_to(folder)) for f in folders], "spread": spread})
        kept = read_json(done)
        return Reward(tuple(str(folder / name) for name in kept["folders"]), float(kept["spread"]))

    def _start(self, folder: Path, member: int) -> Path:
        build_model(1000 * self.settings.seed + member, hidden=48, layers=1).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        return folder

    # ---- measuring

    @property
    def asked(self) -> list[Any]:
        """Tickets of the unseen combinations, as often as each is asked."""
        return [t for t in split_tickets()[1] for _ in range(self.settings.samples_per_prompt)]

    def base_answers(self) -> list[Answer]:
        """The base's answers to all of them."""
        if self._base_answers is None:
            self._base_answers = self.answers(self.base_model)
            self._base_scores = [gold(t.prompt, a.text, a.ended).score for t, a in zip(self.asked, self._base_answers, strict=True)]
        return self._base_answers

    def answers(self, model: Any, seed: int = 2) -> list[Answer]:
        """A model's answers to all of them, drawn by the same numbers for every model."""
        return replies(model, self.tokenizer, [t.prompt for t in self.asked], self.settings.seed + seed, 1.0)

    def groups(self, answers: Sequence[Answer], prompts: Sequence[str] | None = None) -> list[PromptGroup]:
        """Answers as they were drawn, token by token."""
        encoder = Encoder(self.tokenizer)
        asked = prompts if prompts is not None else [t.prompt for t in self.asked]
        return [PromptGroup(encoder.prompt_ids(user(p)), (as_ids(a.ids),), i) for i, (p, a) in enumerate(zip(asked, answers, strict=True))]

    def measure(self, model: Any, reward: Reward | None = None) -> Measured:
        """A policy on the unseen prompts and on the facts."""
        answers = self.answers(model)
        sides = ModelPair.of(self.tokenizer, self.base_model, model)
        logps, base_logps = completion_logps(sides.policy, sides.reference, self.groups(answers), sides.budget)
        return self.judged(answers, float((logps - base_logps).mean()), self.arithmetic(model), reward)

    def arithmetic(self, model: Any) -> float:
        """Share of the facts that a model still knows."""
        right = facts_right(model, self.tokenizer, split_facts()[0], lambda done: None)
        return sum(right) / len(right)

    def judged(self, answers: Sequence[Answer], kl: float, arithmetic: float, reward: Reward | None = None) -> Measured:
        """Answers to the unseen prompts, measured."""
        self.base_answers()
        found = [gold(t.prompt, a.text, a.ended) for t, a in zip(self.asked, answers, strict=True)]
        proxy = float(np.mean(self.rewards(reward, self.groups(answers)))) if reward is not None else math.nan
        parts = {
            name: float(np.mean([float(getattr(g, name)) for g in found]))
            for name in ("fix", "device", "apology", "rude", "extras", "garbage", "ended")
        }
        clusters = [t.combination for t in self.asked]
        return Measured([g.score for g in found], self._base_scores, clusters, kl, proxy, arithmetic, parts)

    def rewards(self, reward: Reward, groups: Sequence[PromptGroup]) -> list[float]:
        """Rewards of all completions by the (first) reward model, in its own standard deviations."""
        from prefine.scoring.reward_scorer import load_reward_model
        from prefine.scoring.roles import own_role

        role = own_role(load_reward_model(reward.folders[0]).eval())
        spread = 1.0 if math.isnan(reward.spread) else reward.spread
        return [r / spread for r in role.rewards(list(groups), TokenBudget.of("auto", "cpu")).tolist()]

    def best_of(self, n: int, reward: Reward) -> Measured:
        """The best of n of the base's answers by the reward model, without training.

        The KL is log n - (n-1)/n, which bounds it from above (Beirami et al. 2024, arXiv 2401.01879).
        """
        while len(self._drawn) < n:
            answers = self.answers(self.base_model, seed=10_000 + len(self._drawn))
            self._drawn.append((answers, self.rewards(reward, self.groups(answers))))
        drawn = [answers for answers, _ in self._drawn[:n]]
        best = np.array([scores for _, scores in self._drawn[:n]]).argmax(0)
        if self._base_arithmetic is None:
            self._base_arithmetic = self.arithmetic(self.base_model)
        return self.judged([drawn[int(b)][i] for i, b in enumerate(best)], math.log(n) - (n - 1) / n, self._base_arithmetic, reward)

    def scored_pairs(self, path: Path, reward: Reward, prompts: int, samples: int) -> Path:
        """The base's own answers to training prompts, the best against the worst by the reward model."""
        with self._making:
            if not path.exists():
                write_jsonl(path, self._scored_rows(reward, prompts, samples))
        return path

    def _scored_rows(self, reward: Reward, prompts: int, samples: int) -> list[dict[str, Any]]:
        asked = training_prompts(self.settings, prompts)
        repeated = [p for p in asked for _ in range(samples)]
        answers = replies(self.base_model, self.tokenizer, repeated, self.settings.seed + 7, 1.0)
        penalties = [self.own.no_end_penalty * (not a.ended) for a in answers]  # as the trainers take off
        rewards = np.array(self.rewards(reward, self.groups(answers, repeated))) * reward.spread  # as online DPO has them
        scores = (rewards - penalties).reshape(-1, samples)
        rows = []
        for i, prompt in enumerate(asked):
            best, worst = (answers[i * samples + int(k)].text for k in (scores[i].argmax(), scores[i].argmin()))
            if best != worst:
                rows.append(
                    pair_row(prompt, best, worst) | {"score_chosen": float(scores[i].max()), "score_rejected": float(scores[i].min())}
                )
        return rows


def ground_of(settings: Settings, own: RlhfSettings, folder: Path, progress: Progress) -> Ground:
    """The ground of settings, in a folder that no other settings share."""
    key = hashlib.sha256(json.dumps([vars(settings), vars(own)], sort_keys=True).encode()).hexdigest()[:8]
    return Ground(settings, own, folder / f"seed-{settings.seed}-{key}", progress)


def kept(path: Path, make: Callable[[], Measured]) -> Measured:
    """A measurement from disk where it was made, else made and kept; what an unfinished one left is begun anew."""
    if path.exists():
        return Measured(**read_json(path))
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir(parents=True)
    measured = make()
    write_json(path, vars(measured))
    return measured
