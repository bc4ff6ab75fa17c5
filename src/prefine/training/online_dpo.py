"""Online DPO: sample from the policy, score, learn from the best against the worst by any loss of the DPO family.

arXiv 2402.04792, with rewards in the annotator's place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from prefine.errors import ConfigError, DataError
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup
from prefine.training.config import OnlineDPOConfig
from prefine.training.dpo import DPOTrainer
from prefine.training.sampler import RolloutLoader, Sampled, SamplingTrainer, only


class OnlineDPOTrainer(SamplingTrainer, DPOTrainer):
    """DPO on pairs that the policy makes as it learns.

    Args:
        reward_model: a folder, a loaded one-label classifier, a function of prompts and answers, or several.
        train_dataset: prompts: texts, messages, or rows that have them.
        reward_weights: one a reward.
    """

    args: OnlineDPOConfig

    def __init__(
        self,
        model: str | nn.Module,
        reward_model: Any = None,
        args: OnlineDPOConfig | None = None,
        train_dataset: Any = None,
        processing_class: Any = None,
        ref_model: str | nn.Module | None = None,
        reward_weights: Sequence[float] | None = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        peft_config: Any = None,
    ) -> None:
        if train_dataset is None:
            raise DataError("train_dataset is missing; give prompts, or rows that have them")
        args = args if args is not None else OnlineDPOConfig(output_dir="trainer_output")
        self.args = args
        DPOTrainer.__init__(
            self,
            model,
            ref_model,
            args,
            train_dataset=train_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
            optimizers=optimizers,
            peft_config=peft_config,
        )
        if self.accelerator.num_processes > 1:
            raise ConfigError("online DPO runs in one process here; start it without torchrun or accelerate launch")
        self.set_rewards(reward_model, reward_weights)
        self.temper()
        prompts = args.per_device_train_batch_size
        if args.max_steps <= 0:
            args.max_steps = max(1, math.ceil(args.num_train_epochs * len(self.train_dataset) / prompts))

    def prepare(self, dataset: Any, name: str, encoder: Encoder) -> list[PromptGroup]:
        """Prompts, not pairs."""
        return SamplingTrainer.prepare(self, dataset, name, encoder)

    def get_train_dataloader(self) -> Any:
        """Pairs, made as they are asked for."""
        return RolloutLoader(self._pairs, self.rollouts_done, None, self.args.max_steps)

    def _pairs(self, rollout: int) -> Iterator[list[PromptGroup]]:
        sampled = self.score(self.sample(self.drawn_prompts(rollout, self.args.per_device_train_batch_size), rollout))
        self.note_samples(sampled)
        self._check_first(sampled, rollout)
        pairs = [pair for x in sampled if (pair := best_against_worst(x, self.args.min_score_gap)) is not None]
        self.note("train", "objective/prompts_used", len(pairs) / len(sampled))
        self.rollouts_done = rollout + 1
        self.check_barren(not pairs)
        if pairs:
            yield pairs

    @torch.no_grad()
    def _check_first(self, sampled: list[Sampled], rollout: int) -> None:
        """Hold the sampler against the trainer, on the first prompt alone: nothing else here needs its log-probs."""
        was_training = self.scorer.unwrapped.training
        self.scorer.unwrapped.eval()
        pack = self.scorer.pack([sampled[0].group])
        with self.scorer.attending(pack), self.compute_loss_context_manager():
            logps = self.scorer.token_logps(pack)
        self.scorer.unwrapped.train(was_training)
        self.check_sampler(sampled[:1], [logps.float().cpu().numpy()], rollout)


def best_against_worst(x: Sampled, min_gap: float = 0.0) -> PromptGroup | None:
    """The sample of the highest score and that of the lowest; None where they are nearer than ``min_gap``, or equal."""
    scored = [(s, i) for i, s in enumerate(x.scores) if not math.isnan(s)]
    if len(scored) < 2:
        return None
    (low, worst), (high, best) = min(scored), max(scored)
    if high == low or high - low < min_gap or list(x.group.completion_ids[best]) == list(x.group.completion_ids[worst]):
        return None
    return only(x.group, (best, worst))
