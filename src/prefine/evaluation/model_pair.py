"""A finished run's two models, base and tuned, in one set of weights where the tuned one is an adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from prefine.cache import cache_folder
from prefine.errors import ModelError
from prefine.evaluation.answers import Answered
from prefine.generation.generate import TransformersEngine
from prefine.generation.response_cache import CachedEngine, ResponseCache, identity
from prefine.packing.budget import TokenBudget
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup, as_ids
from prefine.packing.learned_tokens import memory_key
from prefine.preferences.reasoning import has_channels, split_reasoning
from prefine.runs import RunDirectory
from prefine.scoring.limits import FittedEncoder, Limits, fit_tokenizer
from prefine.scoring.loading import load_model, load_tokenizer, pick_dtype
from prefine.scoring.proof import prove_layout
from prefine.scoring.reference import Reference
from prefine.scoring.scorer import Scorer


@dataclass
class ModelPair:
    """Base and tuned.

    Attributes:
        policy: the tuned model; reference: the base.
        names: what to call base and tuned.
    """

    tokenizer: Any
    policy: Scorer
    reference: Reference
    names: tuple[str, str]

    @classmethod
    def of(cls, tokenizer: Any, base: Any, tuned: Any, names: tuple[str, str] = ("base", "tuned")) -> ModelPair:
        """Two whole models in memory."""
        policy = Scorer(tuned, prove_layout(tuned).layout)
        return cls(tokenizer, policy, Reference(policy, base), names)

    @classmethod
    def load(cls, run: RunDirectory, dtype: str = "auto", template_kwargs: Any = None) -> ModelPair:
        """Those of a run; ``template_kwargs``: what the chat template is given beside the messages, if not what it was trained with.

        Raises:
            ModelError: the run has no model yet, or its config names no base.
        """
        base = run.config().get("model")
        if not base:
            raise ModelError(f"{run.path}: its config.yaml names no model that training started from", code="PF-F04")
        if not run.model.exists():
            raise ModelError(f"{run.path}: no model there yet; let training finish, or go on with --resume", code="PF-F04")
        precision, _ = pick_dtype(dtype)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        tokenizer = load_tokenizer(str(run.model), template_kwargs=template_kwargs)
        tuned = load_model(str(run.model), precision).to(device)
        fit_tokenizer(tuned, tokenizer)
        policy = Scorer(tuned, prove_layout(tuned).layout)
        names = (str(base), str(run.path))
        if hasattr(tuned, "peft_config") and not (Path(base) / "adapter_config.json").exists():
            return cls(tokenizer, policy, Reference.adapter_off(policy), names)
        return cls(tokenizer, policy, Reference(policy, load_model(str(base), precision).to(device)), names)

    @property
    def budget(self) -> TokenBudget:
        """How many tokens a forward pass holds."""
        model = self.policy.unwrapped
        return TokenBudget.of("auto", next(model.parameters()).device.type, key=memory_key(model, "score"))

    @contextmanager
    def model(self, tuned: bool) -> Iterator[Any]:
        """One side's model, while the block lasts."""
        if tuned:
            yield self.policy.unwrapped
        else:
            with self.reference.active():
                yield self.reference.scorer.unwrapped

    @contextmanager
    def engine(self, tuned: bool, batch_size: int = 128) -> Iterator[CachedEngine]:
        """One side as an engine, while the block lasts; what it was asked before is read from disk."""
        with self.model(tuned) as model:
            shared = not tuned and self.reference.is_policy and self.reference.adapter is None
            known = identity(model, self.tokenizer, with_adapter=not shared)
            if not tuned and self.reference.adapter is not None:
                known += self.reference.adapter
            cache = ResponseCache(cache_folder() / "responses.sqlite")
            engine = TransformersEngine(model, self.tokenizer, batch_size)
            engine.encoder = FittedEncoder(self.tokenizer, Limits.of(model))
            yield CachedEngine(engine, cache, known)

    def groups(self, answered: Sequence[Answered]) -> list[PromptGroup]:
        """Each answer's last turn as it was sampled: without an end token where it was cut.

        The text is tokenised again, so that answers from a file can be scored; where a tokenizer would have
        split a sampled text otherwise, it is that split which is scored.
        """
        encoder = Encoder(self.tokenizer)
        out = []
        for a in answered:
            group = last_turn(encoder, a)
            if group is not None:
                out.append(without_end(group, a, self.tokenizer))
        return out


def last_turn(encoder: Encoder, answered: Answered) -> PromptGroup | None:
    """The last answer after all that was said before it; None where prompt or answer has no tokens."""
    thought, final = split_reasoning(answered.answers[-1])
    if thought is not None and not final and has_channels(encoder.tokenizer):
        return None  # cut before its last channel, which its template would write all the same
    return encoder.encode(
        answered.question.asked(answered.answers[:-1]),
        [answered.answers[-1]],
        0,
        answered.question.tools,
        answered.question.template_kwargs,
    )


def without_end(group: PromptGroup, answered: Answered, tokenizer: Any) -> PromptGroup:
    """An answer that was cut short as it was sampled: without the end token that encoding gave it, and what the template adds."""
    if not answered.ended or answered.ended[-1]:
        return group
    ids = group.completion_ids[0].tolist()
    special = set(tokenizer.all_special_ids)
    while len(ids) > 1 and (ids[-1] in special or not tokenizer.decode([ids[-1]]).strip()):
        ids.pop()
    return replace(group, completion_ids=(as_ids(ids),))
