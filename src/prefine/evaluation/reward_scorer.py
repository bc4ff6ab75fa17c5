"""Scorers with weights: a reward model, several of them, and DPO's own implicit reward."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from prefine.errors import ConfigError, ModelError
from prefine.evaluation.answers import Answered
from prefine.evaluation.judge import Score, Scorer
from prefine.evaluation.model_pair import last_turn, without_end
from prefine.packing.budget import TokenBudget
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup
from prefine.packing.out_of_memory import smaller_on_oom
from prefine.scoring.limits import Limits, fit_tokenizer, whole_ids
from prefine.scoring.loading import load_tokenizer
from prefine.scoring.reference import Reference
from prefine.scoring.reward_scorer import load_reward_model
from prefine.scoring.roles import Reward, score_answers
from prefine.scoring.scorer import Scorer as LogpScorer


class RewardModel:
    """A sequence classifier with one label, with its own tokenizer and template.

    Args:
        model: a folder or Hub id, as ``AutoModelForSequenceClassification`` loads it.

    Raises:
        ModelError: not loadable, or it has other than one label.
    """

    def __init__(self, model: str, batch_size: int = 16, trust_remote_code: bool = False) -> None:
        self.model: Any = load_reward_model(model, trust_remote_code=trust_remote_code)
        self.model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self.name = model
        self.encoder = Encoder(load_tokenizer(model, trust_remote_code))
        self.limits = fit_tokenizer(self.model, self.encoder.tokenizer)
        self.batch_size = batch_size

    def score(self, answered: Sequence[Answered]) -> Iterator[tuple[int, Score]]:
        """The classifier's logit, batched by length."""
        groups, reasons = [], []
        for one in answered:
            groups.append(last_turn(self.encoder, one))
            reasons.append(_unusable(self.encoder, self.limits, groups[-1]))
        yield from ((place, Score(None, failure=reason)) for place, reason in enumerate(reasons) if reason)
        ids = [[] if g is None else whole_ids(g).tolist() for g in groups]
        order = sorted((i for i, reason in enumerate(reasons) if not reason), key=lambda i: len(ids[i]))
        while order:
            work = functools.partial(lambda order: self._logits([ids[i] for i in order[: self.batch_size]]), order)
            longest = order[: self.batch_size][-1]
            values = smaller_on_oom(work, functools.partial(self._shrink, answered[longest].question.key, len(ids[longest])))
            for place, value in zip(order, values, strict=False):
                yield place, Score(value) if value == value else Score(None, failure="the reward is not a number")
            order = order[len(values) :]

    def _shrink(self, key: str, num_tokens: int) -> None:
        if self.batch_size == 1:
            raise ModelError(
                f"{self.name}: out of memory with the response to prompt {key} alone, {num_tokens} tokens with its prompt; "
                "leave it out, or give a smaller reward model",
                code="PF-M07",
            )
        self.batch_size //= 2

    @torch.no_grad()
    def _logits(self, rows: list[list[int]]) -> list[float]:
        # A classifier reads the last token that is not the pad token, so the pad must be one that no row ends in.
        used = {row[-1] for row in rows}
        pad = next(t for t in range(len(used) + 1) if t not in used)
        self.model.config.get_text_config().pad_token_id = pad
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), pad)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        device = self.model.device
        out = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
        return [float(x) for x in out[:, 0].float().cpu()]


def _unusable(encoder: Encoder, limits: Limits, group: PromptGroup | None) -> str:
    """Why a model of these limits cannot score the answer that was encoded last; empty where it can."""
    return encoder.report.last_reason if group is None else limits.misfit(whole_ids(group))


AGGREGATES = ("mean", "min", "mean-std")


class Ensemble:
    """Several scorers as one; each one's scores are standardised first, since rewards have no common scale.

    Args:
        aggregate: ``mean``, ``min`` (the most pessimistic), or ``mean-std`` (the mean less one standard deviation).
    """

    def __init__(self, scorers: Sequence[Scorer], aggregate: str = "mean") -> None:
        if aggregate not in AGGREGATES:
            raise ConfigError(f"aggregate is {aggregate!r}; expected one of {', '.join(AGGREGATES)}", code="PF-C03")
        self.scorers = scorers
        self.aggregate = aggregate
        self.name = f"{aggregate} of {len(scorers)}: " + ", ".join(s.name for s in scorers)

    def score(self, answered: Sequence[Answered]) -> Iterator[tuple[int, Score]]:
        """All at the end; an answer that any scorer fails on is a failure."""
        table = np.full((len(self.scorers), len(answered)), np.nan)
        failures: dict[int, str] = {}
        for row, scorer in enumerate(self.scorers):
            for place, score in scorer.score(answered):
                if score.value is None:
                    failures.setdefault(place, score.failure)
                else:
                    table[row, place] = score.value
        usable = [i for i in range(len(answered)) if i not in failures]
        yield from ((place, Score(None, failure=reason)) for place, reason in failures.items())
        if not usable:
            return
        scores = table[:, usable]
        spread = scores.std(1, keepdims=True)
        standard = (scores - scores.mean(1, keepdims=True)) / np.where(spread > 0, spread, 1)
        values = {"mean": standard.mean(0), "min": standard.min(0), "mean-std": standard.mean(0) - standard.std(0)}[self.aggregate]
        yield from ((place, Score(float(v))) for place, v in zip(usable, values, strict=True))


class TrainedReward:
    """The rewards that a run was trained on, put together as they were.

    Args:
        rewards: models as roles, or functions of prompts and answers.
        combine: R rewards of M answers, shape (R, M), as one, shape (M,).
        penalty: what an answer that did not end has less.
    """

    name = "the reward trained on"
    reads_reasoning = True
    """As in rollouts."""

    def __init__(
        self,
        rewards: Sequence[Reward],
        combine: Callable[[torch.Tensor], torch.Tensor],
        encoder: Encoder,
        budget: TokenBudget,
        penalty: float = 0.0,
    ) -> None:
        self.rewards = rewards
        self.combine = combine
        self.encoder = encoder
        self.budget = budget
        self.penalty = penalty

    def score(self, answered: Sequence[Answered]) -> Iterator[tuple[int, Score]]:
        """All at once."""
        groups = [last_turn(self.encoder, a) for a in answered]
        kept = [i for i, g in enumerate(groups) if g is not None]
        texts = [answered[i] for i in kept]
        prompts, answers = [a.question.asked(a.answers[:-1]) for a in texts], [a.answers[-1] for a in texts]
        whole = [without_end(g, a, self.encoder.tokenizer) for g, a in zip(groups, answered, strict=True) if g is not None]
        each = [score_answers(r, whole, prompts, answers, self.budget) for r in self.rewards]
        cut = torch.tensor([bool(a.ended) and not a.ended[-1] for a in texts], dtype=torch.float64)
        total = self.combine(torch.stack(each)) - self.penalty * cut
        yield from ((i, Score(None, failure="prompt or response has no tokens")) for i, g in enumerate(groups) if g is None)
        for i, value in zip(kept, total.tolist(), strict=True):
            yield i, Score(value) if np.isfinite(value) else Score(None, failure="the reward is not a number")


class ImplicitReward:
    """DPO's own reward, beta log pi(y|x) / pi_ref(y|x) (arXiv 2305.18290, equation 5); in nats, beta left out."""

    name = "implicit"
    reads_reasoning = True
    """A response's log-prob is of all of it."""

    def __init__(self, policy: LogpScorer, reference: Reference, encoder: Encoder, budget: TokenBudget) -> None:
        self.policy = policy
        self.reference = reference
        self.encoder = encoder
        self.budget = budget

    def score(self, answered: Sequence[Answered]) -> Iterator[tuple[int, Score]]:
        """Log-ratios, pack by pack."""
        groups, places = [], []
        limits = Limits.of(self.policy.unwrapped)
        for place, one in enumerate(answered):
            group = last_turn(self.encoder, one)
            reason = _unusable(self.encoder, limits, group)
            if reason:
                yield place, Score(None, failure=reason)
            elif group is not None:
                groups.append(group)
                places.append(place)

        def log_ratios(part: list[PromptGroup]) -> list[float]:
            tuned = self.policy.completion_logps(part)
            with self.reference.active():
                ratios: list[float] = (tuned - self.reference.scorer.completion_logps(part)).tolist()
            return ratios

        ratios = (ratio for _, found in self.budget.each(groups, self.policy.shares, log_ratios) for ratio in found)
        for place, ratio in zip(places, ratios, strict=True):
            yield place, Score(ratio)
