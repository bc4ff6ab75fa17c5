"""What trainers share that sample from their policy: prompts, seeded samples, scores from models and functions.

Legend: K samples of one prompt.
"""

from __future__ import annotations

import functools
import hashlib
import math
import statistics
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prefine.errors import ConfigError, DataError, ModelError
from prefine.generation.engine import Answer, Sampling
from prefine.generation.generate import generate
from prefine.generation.vllm_engine import VllmPolicy
from prefine.generation.vllm_server import VllmServer
from prefine.losses.policy_gradient import combine_rewards
from prefine.packing.encoding import Encoder, prompt_only
from prefine.packing.end_tokens import end_tokens
from prefine.packing.group import Ids, PromptGroup, as_ids
from prefine.packing.rendering import LeftOut
from prefine.preferences.convert import BESIDE_PROMPT
from prefine.preferences.examples import examples_of
from prefine.preferences.formats.format import BESIDE
from prefine.preferences.records import Example, PromptText, plain_text
from prefine.scoring.limits import Limits, check_groups
from prefine.scoring.roles import HeadRole, MessageReward, Reward, TextRole, adapter_role, fits_base, own_role, score_answers
from prefine.scoring.scorer import Scorer
from prefine.scoring.token_logps import HeadScaling
from prefine.training.config import PackConfig, SamplingConfig
from prefine.training.pack_trainer import PackTrainer, loading
from prefine.training.prepared import are_groups, is_stream, refuse_images, say_losses

STATE = "sampling.pt"
"""In a checkpoint: how many rollouts were made, and what else a resumed run must know."""
MOST_BARREN = 10
EVALUATION = -1
"""The rollout's number that decides the draws of an evaluation."""
NOISE = {torch.float32: 1e-3, torch.float64: 1e-6, torch.bfloat16: 0.2, torch.float16: 0.05}
"""Largest mean difference of a token's log-prob between sampler and trainer that the dtype explains, nats."""


@dataclass(frozen=True)
class Sampled:
    """A prompt with K sampled answers and their scores.

    Attributes:
        scores: higher is better, with the penalty for answers that do not end; NaN where there is none.
    """

    group: PromptGroup
    answers: tuple[Answer, ...]
    scores: tuple[float, ...]


class SamplingTrainer(PackTrainer):
    """Samples, scores, and turns both into batches; a subclass says what is learned from them.

    A rollout is decided by the weights, the seed and its number, so that a resumed run samples the same. Of several processes each
    samples and scores its part of the prompts; what is learned from is decided over all, and dealt out anew.
    """

    args: SamplingConfig
    tokens_sampled: int = 0
    rollouts_done: int = 0
    _barren: int = 0
    _vllm: VllmPolicy | VllmServer | None = None
    _adapters_given = 0
    wanted_rows = "prompts, or rows that have them"
    tempered = False
    """Whether log-probs are those of the distribution that is sampled from."""
    _evaluated: tuple[Any, list[PromptGroup]] | None = None
    noting: str = "train"
    """Where metrics of samples are noted: those of an evaluation are apart."""

    def set_rewards(self, rewards: Any, weights: Sequence[float] | None, tokenizers: Any = None) -> None:
        """Take what scores answers: models (folders or loaded classifiers), functions, or several with weights.

        Args:
            tokenizers: of loaded classifiers, one each (None for functions); unset: they read the policy's token ids.

        Raises:
            ConfigError, ModelError: none, weights that do not match, or a model that does not fit.
        """
        listed = list(rewards) if isinstance(rewards, list | tuple) else [rewards]
        if not listed or any(r is None for r in listed):
            raise ConfigError("no reward: give a reward model (a folder), a function of prompts and responses, or several", code="PF-C07")
        self.reward_weights = torch.tensor(list(weights) if weights is not None else [1.0] * len(listed))
        if len(self.reward_weights) != len(listed):
            raise ConfigError(f"{len(self.reward_weights)} reward weights for {len(listed)} rewards; expected one each", code="PF-C03")
        self.reward_scales: list[tuple[float, float]] = []
        theirs = list(tokenizers) if isinstance(tokenizers, list | tuple) else [tokenizers] * len(listed)
        if len(theirs) != len(listed):
            raise ConfigError(
                f"{len(theirs)} reward_processing_classes for {len(listed)} rewards; expected one each, None for functions", code="PF-C03"
            )
        self.rewards: list[Reward] = [self._reward(r, i, t) for i, (r, t) in enumerate(zip(listed, theirs, strict=True))]

    def _reward(self, reward: Any, place: int, tokenizer: Any = None) -> Reward:
        from prefine.scoring.loading import own_tokenizer
        from prefine.scoring.reward_scorer import load_reward_model

        if isinstance(reward, str):
            theirs = tokenizer or own_tokenizer(reward, self.args.trusts_code)
            if theirs is not None and _reads_otherwise(self.processing_class, theirs):
                model = load_reward_model(reward, trust_remote_code=self.args.trusts_code)
                return TextRole(own_role(model.requires_grad_(False).eval().to(self.args.device)), Encoder(theirs))
            if self.taken is None and fits_base(self.scorer.unwrapped, reward):  # on the base as it was
                role = adapter_role(self.scorer, reward, f"reward{place}")
                role.head.to(self.args.device)  # where the policy will be
                return role
            reward = load_reward_model(reward, trust_remote_code=self.args.trusts_code)
        if isinstance(reward, nn.Module) and tokenizer is not None and _reads_otherwise(self.processing_class, tokenizer):
            return TextRole(own_role(reward.requires_grad_(False).eval().to(self.args.device)), Encoder(tokenizer))
        if isinstance(reward, nn.Module):
            check_groups(Limits.of(reward), self.train_dataset, "prompts for the reward model", self.args.response_length)
            reward.requires_grad_(False).eval().to(self.args.device)
            return own_role(reward)
        if not callable(reward) and not isinstance(reward, MessageReward):
            raise ConfigError(f"a reward is a folder, a classifier, a judge or a function, not {type(reward).__name__}", code="PF-J06")
        return reward

    @property
    def first_reward_model(self) -> HeadRole | None:
        """The first reward that is a model."""
        return next((r for r in self.rewards if isinstance(r, HeadRole)), None)

    def temper(self) -> None:
        """Score as the sampler draws: at the sampling temperature."""
        if self.scorer.scaling.cap is not None and self.args.temperature != 1:
            raise ConfigError("temperature must be 1 for a model with soft-capped logits")
        self.tempered = True
        for scorer in self._scorers():
            scorer.scaling = HeadScaling(scorer.scaling.factor / self.args.temperature, scorer.scaling.cap)

    def _scorers(self) -> list[Scorer]:
        return [self.scorer, *([self.reference.scorer] if self.reference is not None and self.reference.scorer is not self.scorer else [])]

    def retain_backward(self, groups: list[PromptGroup], scale: float, total_tokens: float) -> torch.Tensor:
        """Data to retain is the model's as it is, not as it is sampled from: temperature 1."""
        if not self.tempered:
            return super().retain_backward(groups, scale, total_tokens)
        tempered = [(s, s.scaling) for s in self._scorers()]
        for scorer, scaling in tempered:
            scorer.scaling = HeadScaling(scaling.factor * self.args.temperature, scaling.cap)
        try:
            return super().retain_backward(groups, scale, total_tokens)
        finally:
            for scorer, scaling in tempered:
                scorer.scaling = scaling

    # ---- prompts

    def tokens_to_come(self, args: PackConfig) -> int:
        """An answer."""
        return args.response_length if isinstance(args, SamplingConfig) else 0

    def prepare(self, dataset: Any, name: str, encoder: Encoder) -> list[PromptGroup]:
        """Prompts as groups: texts, messages, rows with a prompt (answers are not looked at) or its token ids, or groups.

        Those of evaluation are known by numbers below 0.
        """
        if is_stream(dataset):
            raise DataError(f"{name} is a stream, and prompts are drawn in an order that the seed decides; give a dataset with a length")
        out: list[PromptGroup] = []
        self.prompts: dict[int, PromptText] = getattr(self, "prompts", {})
        self.columns: dict[int, Mapping[str, Any]] = getattr(self, "columns", {})
        sign = 1 if name == "train_dataset" else -1
        for number, item in enumerate(dataset, 1):
            i = number * sign
            refuse_images(item)
            if isinstance(item, Mapping):
                self.columns[i] = {name: value for name, value in item.items() if name not in ("prompt", "input_ids", "attention_mask")}
            if isinstance(item, Mapping) and "input_ids" in item:
                limit = self._longest_prompt(encoder)
                if limit is not None and len(item["input_ids"]) > limit:
                    encoder.report.dropped.setdefault(self._no_room(), []).append(number)
                    continue
                encoder.report.pairs += 1
                item = prompt_only(as_ids(item["input_ids"]), i)
            if isinstance(item, PromptGroup):
                out.append(item)
                whole = np.concatenate((item.prompt_ids, *item.completion_ids[:1]))  # of prompt_only's groups the prompt is both
                self.prompts.setdefault(item.index, encoder.tokenizer.decode(whole, skip_special_tokens=True))
                continue
            for example in self._examples(item, number, name, encoder):
                reason = ""
                try:
                    ids = encoder.prompt_ids(example.prompt, example.tools, example.template_kwargs)
                except LeftOut as left:
                    reason, ids = left.reason, as_ids([])
                limit = self._longest_prompt(encoder)
                if limit is not None and len(ids) > limit:
                    reason = self._no_room()
                reason = reason or ("" if len(ids) else "prompt has no tokens")
                if reason:
                    encoder.report.dropped.setdefault(reason, []).append(number)
                else:
                    encoder.report.pairs += 1
                    out.append(prompt_only(ids, i))
                    self.prompts[i] = example.prompt
        if not out:
            raise DataError(f"{name}: no prompt is left: {encoder.report.left_out()}", code="PF-D04")
        say_losses(name, encoder)
        return out

    @staticmethod
    def _examples(item: Any, number: int, name: str, encoder: Encoder) -> Iterable[Example]:
        """A prompt as it comes: text and messages as they stand, rows read as everywhere; a prompt of text alone stays text."""
        if isinstance(item, Example):
            return [item]
        if isinstance(item, str | tuple | list):
            return [Example(item if isinstance(item, str) else tuple(item))]
        beside = any(item.get(name) for name in (*BESIDE_PROMPT, *BESIDE))
        if isinstance(item.get("prompt"), str) and not beside and item["prompt"].lstrip()[:1] not in ("[", "{"):
            return [Example(item["prompt"])]
        return examples_of([item], f"{name}, row {number}", encoder.report.dropped)

    def _no_room(self) -> str:
        return f"prompt leaves no room for a response of {self.args.response_length} tokens"

    def _longest_prompt(self, encoder: Encoder) -> int | None:
        limits = [encoder.max_prompt_length, encoder.max_length and encoder.max_length - self.args.response_length]
        return min((n for n in limits if n is not None), default=None)

    @property
    def data_seed(self) -> int:
        """What decides the order of prompts."""
        return int(self.args.seed if self.args.data_seed is None else self.args.data_seed)

    def drawn_prompts(self, rollout: int, count: int) -> list[PromptGroup]:
        """The prompts of a rollout: all in turn, in an order that the seed and the pass decide."""
        groups: Sequence[PromptGroup] = self.train_dataset
        orders: dict[int, Any] = {}
        out: list[PromptGroup] = []
        for at in range(rollout * count, (rollout + 1) * count):
            turn, place = divmod(at, len(groups))
            if turn not in orders:
                orders[turn] = np.random.default_rng((self.data_seed, turn)).permutation(len(groups))
            out.append(groups[int(orders[turn][place])])
        return out

    def own_part(self, groups: list[PromptGroup]) -> list[PromptGroup]:
        """This process's part of a batch, dealt by tokens."""
        return self.together.own_by_tokens(groups, self.scorer.shares)

    # ---- samples and scores

    def whole_policy(self) -> AbstractContextManager[None]:
        """A block in which every process has the whole policy: samples are of lengths of their own, and nobody waits for another's."""
        return self.together.whole(self.scorer.unwrapped)

    def sample(self, prompts: Sequence[PromptGroup], rollout: int) -> list[tuple[PromptGroup, tuple[Answer, ...]]]:
        """``num_samples`` answers for each of this process's prompts by the policy as it is. Call within :meth:`whole_policy`."""
        k = self.args.num_samples
        seeds = [_seed(self.args.seed, rollout, place, s) for place in self.together.own(range(len(prompts))) for s in range(k)]
        prompts = self.together.own(prompts)
        ids = [np.concatenate((g.prompt_ids, *g.completion_ids)) for g in prompts for _ in range(k)]
        if self.args.rollout_engine == "vllm":
            self._hand_over()
        found = dict(self._generate(ids, self.sampling(), seeds)) if ids else {}
        out = []
        for place, prompt in enumerate(prompts):
            answers = tuple(found[place * k + s] for s in range(k))
            whole = as_ids(np.concatenate((prompt.prompt_ids, *prompt.completion_ids)))
            out.append((PromptGroup(whole, tuple(as_ids(a.ids) for a in answers), prompt.index), answers))
        return out

    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(self.args.response_length, self.args.temperature)

    def _generate(self, ids: Sequence[Ids], sampling: Sampling, seeds: Sequence[int]) -> Iterator[tuple[int, Answer]]:
        if self._vllm is not None:
            return self._vllm.sample(ids, sampling, seeds)
        return generate(self.scorer.unwrapped, self.processing_class, ids, sampling, seeds, self.args.sampling_batch_size)

    def _hand_over(self) -> None:
        """Give vLLM the policy's adapter as it is now; of several processes the first does."""
        model, first = self.scorer.unwrapped, self.accelerator.is_main_process
        self._vllm = self._vllm or self._start_vllm(model)
        folder = Path(self.args.output_dir).resolve() / "rollout-adapter"
        if first:
            model.save_pretrained(folder, selected_adapters=[model.active_adapter])
        adapter = folder if model.active_adapter == "default" else folder / model.active_adapter
        self._adapters_given += 1
        if first:
            self._vllm.take(str(adapter), self._adapters_given)
        elif isinstance(self._vllm, VllmServer):
            self._vllm.follow(self._adapters_given)
        self.accelerator.wait_for_everyone()

    def _start_vllm(self, model: Any) -> VllmPolicy | VllmServer:
        args = self.args
        if not hasattr(model, "peft_config"):
            raise ConfigError("rollout_engine vllm takes the policy's adapter over after each update: train one (--lora-r 16, say)")
        adapter = model.peft_config[model.active_adapter]
        unread = next((name for name in ("use_dora", "modules_to_save") if getattr(adapter, name, None)), "")
        unread = unread or ("init_lora_weights" if self.taken is not None else "")
        if unread:
            raise ConfigError(f"rollout_engine vllm reads plain LoRA adapters alone; leave {unread} out, or sample with transformers")
        ends = end_tokens(model, self.processing_class)
        if args.vllm_mode == "server":
            run = self.together.gathered(f"prefine-{uuid.uuid4().hex[:12]}")[0]
            return VllmServer(args.vllm_address, self.processing_class, ends, run, args.vllm_server_timeout)
        base = str(model.get_base_model().config._name_or_path)
        rank = model.peft_config[model.active_adapter].r
        dtype = str(self.scorer.head.weight.dtype).removeprefix("torch.")
        return VllmPolicy(
            base,
            self.processing_class,
            ends,
            rank,
            args.max_length,
            dtype,
            args.vllm_gpu_memory_utilization,
            args.vllm_enable_sleep_mode,
            args.vllm_tensor_parallel_size,
        )

    def score(self, sampled: Sequence[tuple[PromptGroup, tuple[Answer, ...]]]) -> list[Sampled]:
        """Weighted scores of all processes' answers, less the penalty for those that do not end; failures are NaN and counted."""
        sampled, each = self._scored(sampled)
        self.tokens_sampled += sum(a.num_tokens for _, answers in sampled for a in answers)
        scores_RM = torch.stack(each)
        # A function that raises, or a model that gives no number, fails an answer; a function may have no opinion of it.
        no_number = torch.stack([s.isnan() & isinstance(r, HeadRole | TextRole) for s, r in zip(each, self.rewards, strict=True)])
        failed_M = (scores_RM.isinf() | no_number).any(0)
        scores_RM = scores_RM.masked_fill(scores_RM.isinf(), math.nan)
        if self.args.reward_aggregate != "sum" and not self.reward_scales and self.noting == "train":
            # One scale for all, that of the first rollout: a lower bound over several scales would be the smallest one's.
            self.reward_scales = [_scale(row) for row in scores_RM]
        total = self.combine(scores_RM).masked_fill(failed_M, math.nan)
        spread_M = scores_RM.std(0, unbiased=False)
        if len(each) > 1 and bool(spread_M.isfinite().any()):
            self.note(self.noting, "objective/disagreement", float(spread_M.nanmean()))
        penalty = self.args.missing_eos_penalty or 0.0
        out, at = [], 0
        for group, answers in sampled:
            scores_K = [float(s) - penalty * (not a.ended) for s, a in zip(total[at : at + len(answers)], answers, strict=True)]
            out.append(Sampled(group, answers, tuple(s if math.isfinite(s) else math.nan for s in scores_K)))
            at += len(answers)
        failed = sum(math.isnan(s) for x in out for s in x.scores)
        self.note(self.noting, "objective/failed_rewards", float(failed))
        if failed:
            self.on_event("failed_rewards", step=self.state.global_step, count=failed, of=len(total))
            if failed == len(total):
                raise ModelError("not one sampled response has a score: every reward failed or is not a number", code="PF-M15")
        return out

    def _scored(
        self, own: Sequence[tuple[PromptGroup, tuple[Answer, ...]]]
    ) -> tuple[list[tuple[PromptGroup, tuple[Answer, ...]]], list[torch.Tensor]]:
        """What all processes sampled, and each reward's scores of it, of which each process gives those of its own."""
        groups = [self._as_trained_on(g, answers) for g, answers in own]
        prompts = [self.prompts[g.index] for g, answers in own for _ in answers]
        texts = [a.text for _, answers in own for a in answers]
        columns = self._columns([g.index for g, answers in own for _ in answers])
        columns |= {"completion_ids": [list(a.ids) for _, answers in own for a in answers], "trainer_state": self.state}
        each = [score_answers(r, groups, prompts, texts, self.budget, columns) for r in self.rewards] if own else []
        if not self.together.several:
            return list(own), each
        parts = [row.split([len(answers) for _, answers in own]) for row in each]
        every = self.together.of_all([(*x, [row[i] for row in parts]) for i, x in enumerate(own)])
        return [(group, answers) for group, answers, _ in every], [
            torch.cat([scores[i] for *_, scores in every]) for i in range(len(self.rewards))
        ]

    def _columns(self, rows: Sequence[int]) -> dict[str, list[Any]]:
        """The data's columns beside the prompt, a value for each answer: what TRL's reward functions are given."""
        names = dict.fromkeys(name for row in set(rows) for name in self.columns.get(row, ()))
        return {name: [self.columns.get(row, {}).get(name) for row in rows] for name in names}

    def _as_trained_on(self, group: PromptGroup, answers: Sequence[Answer]) -> PromptGroup:
        """Answers as a reward model knows them: a template may write more after the token that ends an answer, a new line say."""
        tail = self._template_tail
        if not len(tail) or isinstance(self.prompts[group.index], str):
            return group
        return replace(
            group,
            completion_ids=tuple(
                as_ids(np.concatenate((ids, tail))) if a.ended else ids for ids, a in zip(group.completion_ids, answers, strict=True)
            ),
        )

    @functools.cached_property
    def _template_tail(self) -> Ids:
        """What the template writes after the end token of an answer."""
        group = Encoder(self.processing_class).encode(({"role": "user", "content": "x"},), ["x"])
        assert group is not None
        ids = group.completion_ids[0].tolist()
        ends = set(end_tokens(self.scorer.unwrapped, self.processing_class))
        last = max((i for i, t in enumerate(ids) if t in ends), default=len(ids) - 1)
        return as_ids(ids[last + 1 :])

    def combine(self, scores_RM: torch.Tensor) -> torch.Tensor:
        """R rewards of M answers as the one that is trained on, shape (M,)."""
        weights, args = self.reward_weights.tolist(), self.args
        return combine_rewards(scores_RM, weights, args.reward_aggregate, self.reward_scales, args.reward_std_weight)

    def check_barren(self, is_barren: bool, is_last: bool = False) -> None:
        """Stop when rollouts give nothing to learn from.

        Raises:
            ModelError: several in a row, or all there were.
        """
        self._barren = self._barren + 1 if is_barren else 0
        if self._barren == MOST_BARREN or (is_barren and is_last and self.state.global_step == 0):
            raise ModelError(
                f"nothing to learn from {self._barren} rollouts in a row: samples failed, were filtered out, or score alike; "
                "raise num_samples or temperature, or look at the sampled texts in the events",
                code="PF-M15",
            )

    def note_samples(self, sampled: Sequence[Sampled]) -> None:
        """Metrics of a rollout's answers, and a few texts."""
        answers = [(a, s) for x in sampled for a, s in zip(x.answers, x.scores, strict=True)]
        scored = [s for _, s in answers if not math.isnan(s)]
        self.note(self.noting, "objective/scores", sum(scores := scored) / max(1, len(scores)), len(scores))
        if len(scored) > 1:
            self.note(self.noting, "objective/scores_std", statistics.pstdev(scored), len(scored))
        self.note(self.noting, "completions/length", sum(a.num_tokens for a, _ in answers) / len(answers), len(answers))
        self.note(self.noting, "val/contain_eos_token", sum(a.ended for a, _ in answers) / len(answers), len(answers))
        self.note(self.noting, "completions/ended", sum(a.ended for a, _ in answers) / len(answers), len(answers))
        shown = [(plain_text(self.prompts[x.group.index]), x.answers[0], x.scores[0]) for x in sampled[: self.args.num_sample_texts]]
        texts = [{"prompt": p, "answer": a.text, "ended": a.ended, "score": s} for p, a, s in shown]
        self.on_event("samples", step=self.state.global_step, texts=texts)

    def check_sampler(self, sampled: Sequence[Sampled], scored: Sequence[np.ndarray], rollout: int) -> float:
        """Sampler and trainer must give a token the same log-prob, or what is learned from was drawn from another policy.

        Returns the largest difference.

        Args:
            scored: the trainer's log-probs of each prompt's answers, end to end.

        Raises:
            ModelError: they differ by more than the dtype explains.
        """
        drawn = np.concatenate([np.array([lp for a in x.answers for lp in a.logps]) for x in sampled])
        gaps = np.abs(drawn - np.concatenate(scored))
        gap = float(gaps.mean())
        self.note("train", "objective/sampler_gap", gap)
        weights = next(p for p in self.scorer.unwrapped.parameters() if p.is_floating_point())
        noise = NOISE[torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else weights.dtype]
        if not gap <= noise:
            raise ModelError(
                f"rollout {rollout}: sampler and trainer disagree by {gap:.2g} nats/token, {noise:g} is this dtype's noise; "
                "the model samples otherwise than it is trained (dropout, another cache, generation settings, an adapter of before)",
                code="PF-M11",
            )
        return float(gaps.max())

    # ---- evaluation

    def evaluate(self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Sample answers to the evaluation prompts, the same draws each time, and score them: ``eval_objective/scores`` is their mean.

        Raises:
            DataError: there are no such prompts.
        """
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):
            dataset = self.eval_dataset[dataset]
        if dataset is None:
            raise DataError("evaluate() needs prompts; give eval_dataset")
        if isinstance(dataset, dict):
            parts = {key: self.evaluate(part, ignore_keys, f"{metric_key_prefix}_{key}") for key, part in dataset.items()}
            return {name: value for metrics in parts.values() for name, value in metrics.items()}
        prompts = self._evaluation_prompts(dataset)
        begun = time.perf_counter()
        was, self.noting, self._evaluating = (self.noting, self._evaluating), "eval", True
        try:
            self.notes.clear("eval")
            with nullcontext() if self.accelerator._models else self._as_it_is(), self.whole_policy():
                self.note_samples(self.score(self.sample(prompts, EVALUATION)))
            metrics = {f"{metric_key_prefix}_{name}": mean for name, (mean, _) in self._means("eval").items()}
            metrics[f"{metric_key_prefix}_runtime"] = round(time.perf_counter() - begun, 4)
            self.log(metrics)
        finally:
            self.noting, self._evaluating = was
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def predict(self, test_dataset: Any, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test") -> Any:
        """There are no predictions: what is sampled is text.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("predict() has no meaning for a trainer that samples; evaluate(prompts) samples and scores")

    def _evaluation_prompts(self, dataset: Any) -> list[PromptGroup]:
        if are_groups(dataset):
            return list(dataset)
        if self._evaluated is None or self._evaluated[0] is not dataset:
            encoder = self._encoders["evaluation prompts"] = self.encoder.fresh()
            self._evaluated = (dataset, self.prepare(dataset, "evaluation prompts", encoder))
        return self._evaluated[1]

    def _prepare_eval(self, dataset: Any, args: PackConfig, name: str = "eval_dataset") -> Any:
        return dataset  # encoded when it is asked for

    # ---- saving

    def extra_state(self) -> dict[str, Any]:
        """What a resumed run needs to know beside weights and optimizer. Every process asks."""
        return {"rollouts": self.rollouts_done, "reward_scales": self.reward_scales}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take :meth:`extra_state`'s result back."""
        self.rollouts_done = int(state["rollouts"])
        self.reward_scales = [(float(m), float(d)) for m, d in state["reward_scales"]]

    def _save_more(self, folder: Path) -> None:
        super()._save_more(folder)
        state = self.extra_state()
        if self.args.should_save:
            torch.save(state, folder / STATE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        with loading(resume_from_checkpoint, STATE):
            self.load_extra_state(torch.load(Path(resume_from_checkpoint) / STATE, map_location="cpu", weights_only=True))


def _reads_otherwise(tokenizer: Any, other: Any) -> bool:
    """Whether the same conversation would be other ids."""
    from prefine.scoring.loading import differing_tokens

    same = tokenizer.chat_template == other.chat_template and tokenizer.eos_token_id == other.eos_token_id
    return not same or bool(differing_tokens(tokenizer, other))


def _scale(scores_M: torch.Tensor) -> tuple[float, float]:
    known = scores_M[scores_M.isfinite()]
    if not len(known):
        return 0.0, 1.0
    return float(known.mean()), float(known.std(unbiased=False)) or 1.0


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(" ".join(map(str, parts)).encode()).digest()[:8], "little")


def only(group: PromptGroup, places: Sequence[int]) -> PromptGroup:
    """A group with some of its completions."""
    return replace(group, completion_ids=tuple(group.completion_ids[i] for i in places))


class RolloutLoader:
    """What stands in a data loader's place: yields the batches that a trainer makes of each rollout.

    Args:
        own: this process's part of a batch.
        done: how many rollouts were made, asked when the first is due: a checkpoint may be read in between.
        last: the first that is not made; None goes on until training stops.
        length: batches in all, at most.
    """

    def __init__(
        self,
        batches: Callable[[int], Iterator[list[PromptGroup]]],
        own: Callable[[list[PromptGroup]], list[PromptGroup]],
        done: Callable[[], int],
        last: int | None,
        length: int,
    ) -> None:
        self.batches = batches
        self.own = own
        self.done = done
        self.last = last
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rollout = self.done()
        while self.last is None or rollout < self.last:
            for groups in self.batches(rollout):
                yield {"groups": self.own(groups), "of_all": groups, "spare": groups}
            rollout += 1
