"""Online DPO: sample from the policy, score, learn from the best against the worst by any loss of the DPO family.

arXiv 2402.04792, with rewards in the annotator's place.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig

from prefine.errors import ConfigError, MissingFile
from prefine.generation.engine import Sampling
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup
from prefine.packing.pack import Pack
from prefine.scoring.loading import own_tokenizer
from prefine.scoring.token_logps import HeadScaling
from prefine.training.arguments import config_of
from prefine.training.config import OnlineDPOConfig
from prefine.training.dpo import DPOTrainer, Scored
from prefine.training.sampler import RolloutLoader, Sampled, SamplingTrainer, only


class OnlineDPOTrainer(SamplingTrainer, DPOTrainer):
    """DPO on pairs that the policy makes as it learns; the signature is TRL's.

    Args:
        reward_funcs: a folder, a loaded one-label classifier, a function (of prompts and answers, or of TRL's kind, also asynchronous),
            or several.
        train_dataset: prompts: texts, messages, or rows that have them; a function of TRL's kind is given the other columns.
        eval_dataset: prompts, or several sets by name, that are sampled and scored when it is asked for.
        reward_processing_classes: tokenizers of loaded classifiers; unset: that of the folder they were loaded from.
        reward_weights: one a reward, as in the config.
    """

    args: OnlineDPOConfig
    tags = ("prefine", "online-dpo")
    _num_pairs = 0

    def __init__(
        self,
        model: str | nn.Module,
        ref_model: str | nn.Module | None = None,
        reward_funcs: Any = None,
        args: OnlineDPOConfig | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        reward_processing_classes: Any = None,
        peft_config: Any = None,
        compute_metrics: Any = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        preprocess_logits_for_metrics: Any = None,
        quantization_config: Any = None,
        reward_weights: Sequence[float] | None = None,
    ) -> None:
        if compute_metrics is not None or preprocess_logits_for_metrics is not None:
            raise ConfigError(
                "compute_metrics would be ignored: an evaluation samples and scores, and has no predictions; leave it out", code="PF-C04"
            )
        self.args = args = copy.copy(config_of(args, OnlineDPOConfig))
        if args.is_greedy:
            warnings.warn("generation_kwargs: without sampling all responses to a prompt are the same, and none is preferred", stacklevel=2)
        DPOTrainer.__init__(
            self,
            model,
            ref_model,
            args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
            optimizers=optimizers,
            quantization_config=quantization_config,
            peft_config=peft_config,
        )
        self.reward_funcs = list(reward_funcs) if isinstance(reward_funcs, list | tuple) else [reward_funcs]
        if reward_processing_classes is None:
            reward_processing_classes = [self._own_tokenizer(reward) for reward in self.reward_funcs]
        weights = args.reward_weights if reward_weights is None else reward_weights
        self.set_rewards(reward_funcs, weights, reward_processing_classes)
        prompts = self.prompts_per_rollout * args.gradient_accumulation_steps
        if args.max_steps <= 0:
            args.max_steps = max(1, math.ceil(args.num_train_epochs * math.ceil(len(self.train_dataset) / prompts)))

    def _own_tokenizer(self, reward: Any) -> Any:
        """The tokenizer that lies where a loaded classifier came from; None where none does."""
        place = str(getattr(getattr(reward, "config", None), "_name_or_path", "") or "")
        try:
            return own_tokenizer(place, self.args.trusts_code) if place and isinstance(reward, nn.Module) else None
        except MissingFile:
            return None

    def scheduled_beta(self) -> float:
        """Beta of this pass over the prompts."""
        drawn = max(0, self.rollouts_done - 1) * self.prompts_per_rollout
        return self.args.beta_at(drawn // len(self.train_dataset))

    @property
    def prompts_per_rollout(self) -> int:
        """Of all processes."""
        return self.args.per_device_train_batch_size * self.accelerator.num_processes

    @property
    def use_vllm(self) -> bool:
        """Whether vLLM samples."""
        return self.args.use_vllm

    @property
    def generation_config(self) -> GenerationConfig:
        """The sampling options as transformers calls them."""
        args = self.args
        return GenerationConfig(
            max_new_tokens=args.max_new_tokens,
            do_sample=not args.is_greedy,
            temperature=args.temperature,
            top_p=args.top_p,
            top_k=args.top_k,
            min_p=args.min_p,
            repetition_penalty=args.repetition_penalty,
        )

    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        args = self.args
        temperature = 0.0 if args.is_greedy else args.temperature
        return Sampling(args.response_length, temperature, args.top_p, args.top_k, args.min_p or 0.0, args.repetition_penalty)

    def prepare(self, dataset: Any, name: str, encoder: Encoder) -> list[PromptGroup]:
        """Prompts, not pairs."""
        return SamplingTrainer.prepare(self, dataset, name, encoder)

    def get_train_dataloader(self) -> Any:
        """Pairs, made as they are asked for."""
        batches = self.args.max_steps * self.args.gradient_accumulation_steps
        return RolloutLoader(self._pairs, self.own_part, lambda: self.rollouts_done, None, batches)

    def _pairs(self, rollout: int) -> Iterator[list[PromptGroup]]:
        with self.whole_policy():
            sampled = self.score(self.sample(self.drawn_prompts(rollout, self.prompts_per_rollout), rollout))
            self.note_samples(sampled)
            self._check_first(self.together.own(sampled), rollout)
        pairs = [pair for x in sampled if (pair := best_against_worst(x, self.args.min_score_gap)) is not None]
        for x in sampled:
            known = [s for s in x.scores if not math.isnan(s)]
            if known:
                self.note("train", "objective/scores_margin", max(known) - min(known))
        self.note("train", "beta", self.beta)
        self.note("train", "objective/prompts_used", len(pairs) / len(sampled))
        self.rollouts_done = rollout + 1
        self.check_barren(not pairs)
        self._num_pairs += len(pairs)
        yield pairs  # none: a step that changes nothing

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As transformers'; warns where no step had anything to learn from."""
        out = super().train(*args, **kwargs)
        if not self._num_pairs and not self.nothing_left:
            warnings.warn("not one sampled response was preferred to another, and nothing was learned", stacklevel=2)
        return out

    def _note_pairs(self, mode: str, pack: Pack, scored: Scored) -> None:
        """Also TRL's names of what the pairs' responses say of the whole: sums over tokens, means over responses."""
        super()._note_pairs(mode, pack, scored)
        logps = torch.cat((scored.logps.chosen, scored.logps.rejected)).detach()
        kl = float((logps - torch.cat((scored.logps.ref_chosen, scored.logps.ref_rejected))).mean())
        for name, value in (
            ("objective/kl", kl),
            ("objective/entropy", -float(logps.mean())),
            ("objective/non_score_reward", -self.beta * kl),
        ):
            self.note(mode, name, value, len(logps))

    @torch.no_grad()
    def _check_first(self, sampled: list[Sampled], rollout: int) -> None:
        """Hold the sampler against the trainer, on the first prompt alone: nothing else here needs its log-probs.

        The loss takes log-probs of the model as it is; here they are the sampler's, at its temperature.
        """
        if self.args.is_greedy or not sampled:
            return
        scaling = self.scorer.scaling
        if scaling.cap is not None and self.args.temperature != 1:
            return  # soft-capped logits are not tempered by one factor
        was_training = self.scorer.unwrapped.training
        self.scorer.unwrapped.eval()
        self.scorer.scaling = HeadScaling(scaling.factor / self.args.temperature, scaling.cap)

        def one(part: list[PromptGroup]) -> torch.Tensor:
            pack = self.scorer.pack(part)
            with self.scorer.attending(pack), self.compute_loss_context_manager():
                return self.scorer.token_logps(pack)

        [(_, logps)] = self.budget.each([sampled[0].group], self.scorer.shares, one)
        self.scorer.scaling = scaling
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
