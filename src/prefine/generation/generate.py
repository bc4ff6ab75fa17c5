"""Answers of a model in memory: batched by length, each row sampled with a seed of its own.

A row's tokens are drawn by inverting its distribution's cumulative sum at uniform numbers that
depend on the row's seed alone, so an answer does not depend on what it was batched with (to the
dtype's rounding: padding moves logits by their last digits). What is left out: continuous
batching, which on a processor is some forty times slower than ``generate`` for small models.
"""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
)

from prefine.errors import DataError, ModelError
from prefine.generation.engine import Answer, Failure, Request, Sampling
from prefine.packing.budget import TokenBudget
from prefine.packing.encoding import Encoder
from prefine.packing.group import Ids
from prefine.packing.learned_tokens import learned_tokens, memory_key
from prefine.packing.out_of_memory import smaller_on_oom

BATCH_TOKENS = 65_536
"""Most tokens of a batch, prompts and room for answers; halved when memory runs out."""
PREFILL_TOKENS = {"cpu": 4096, "cuda": 16_384}
"""Most tokens of a batch's prompts that pass the model at once: longer prompts go in pieces, which costs no time and less memory."""
LEAST_PIECE = 64
"""Where a single prompt does not fit in pieces of so many tokens, smaller ones would not help: what is kept of each token remains."""


class SeededSampling(LogitsProcessor):
    """Leaves one token a row to choose from: the one its seed draws.

    Args:
        seeds: one a row.
        start: the prompts' padded width, so that a step is known by the row's length.
        lengths: of the prompts; what stands before them is padding, which no penalty is to see.
    """

    def __init__(self, seeds: Sequence[int], sampling: Sampling, start: int, lengths: Sequence[int] = ()) -> None:
        draws = [np.random.Generator(np.random.Philox(s)).random(sampling.max_new_tokens) for s in seeds]
        self.uniform_RS = torch.from_numpy(np.stack(draws))
        self.sampling = sampling
        self.start = start
        self.logps_RS: list[torch.Tensor] = []
        """Of the drawn tokens by the model at this temperature, whatever they were drawn from."""
        self.padding_R = torch.tensor([start - n for n in lengths] or [0] * len(seeds))
        self.penalty = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty) if sampling.repetition_penalty != 1 else None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores of shape (rows, vocabulary) to zero for the drawn token, minus infinity elsewhere."""
        probs = own = torch.softmax(scores.double() / self.sampling.temperature, -1)
        if bool(probs.isnan().any()):
            raise ModelError("the model's next-token probabilities are not numbers: it diverged, or its dtype overflows", code="PF-M13")
        if self.penalty is not None:
            # A row's padding is put as its prompt's last token, which is there anyway.
            padding = torch.arange(input_ids.shape[1], device=input_ids.device)[None] < self.padding_R[:, None].to(input_ids.device)
            seen = torch.where(padding, input_ids[:, self.start - 1, None], input_ids)
            probs = torch.softmax(self.penalty(seen, scores.double()) / self.sampling.temperature, -1)
        if self.sampling.top_k:
            least = probs.topk(min(self.sampling.top_k, probs.shape[-1]), -1).values[:, -1:]
            probs = probs * (probs >= least)
        if self.sampling.min_p:
            probs = probs * (probs >= self.sampling.min_p * probs.max(-1, keepdim=True).values)
        if self.sampling.top_p < 1:
            ordered, places = probs.sort(-1, descending=True)
            # A token stays while those before it hold less than top_p: the first always does.
            kept = ordered.cumsum(-1) - ordered < self.sampling.top_p * ordered.sum(-1, keepdim=True)
            probs = torch.zeros_like(probs).scatter(-1, places, ordered * kept)
        reached = probs.cumsum(-1)
        step = input_ids.shape[1] - self.start
        mark = self.uniform_RS[:, step, None].to(scores.device) * reached[:, -1:]
        drawn = torch.searchsorted(reached, mark, right=True)
        self.logps_RS.append(own.gather(-1, drawn).squeeze(-1).log())
        return torch.full_like(scores, -torch.inf).scatter(-1, drawn, 0.0)


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """All tokens that end an answer: the tokenizer's, and those of the model's generation settings (end of turn).

    Raises:
        ModelError: the settings name something else than ids.
    """
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    if not all(t is None or isinstance(t, int) for t in listed):
        name = getattr(model, "name_or_path", "the model")
        raise ModelError(f"{name}: eos_token_id of its generation_config.json is {configured!r}, no token's id; mend it")
    return list(dict.fromkeys(int(t) for t in [tokenizer.eos_token_id, *listed] if t is not None))


@torch.no_grad()
def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Ids],
    sampling: Sampling,
    seeds: Sequence[int],
    batch_size: int = 128,
) -> Iterator[tuple[int, Answer]]:
    """Each prompt's place with its answer, as batches finish, longest prompts first.

    Only temperature and top-p are applied: what a model's own generation settings add (repetition
    penalties and the like) would hide what is to be measured. When memory runs out the batch is halved, then the pieces in which a
    single prompt passes the model; each row's draws are its own, so that the same tokens come.

    Args:
        prompts: token ids, as :meth:`prefine.packing.Encoder.prompt_ids` gives; none empty.
        seeds: one a prompt.

    Raises:
        ModelError: a single prompt does not fit.
    """
    was_training = model.training
    model.eval()
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    key = memory_key(model, "sample")
    budget = TokenBudget(min(BATCH_TOKENS, learned_tokens(key) or BATCH_TOKENS), key=key)
    tried_again: set[int] = set()

    def batch_of(order: Sequence[int], width: int) -> Sequence[int]:
        return order[: max(1, min(batch_size, budget.tokens // width))]

    def attempt(order: Sequence[int], width: int) -> tuple[Sequence[int], list[Answer]]:
        batch = batch_of(order, width)
        return batch, _batch(model, tokenizer, [prompts[i] for i in batch], sampling, [seeds[i] for i in batch], budget.tokens)

    def shrink(order: Sequence[int], width: int) -> None:
        tried = min(budget.tokens, width * len(batch_of(order, width)))
        if tried <= min(LEAST_PIECE, width // 2):
            if order[0] not in tried_again:  # memory was freed
                tried_again.add(order[0])
                return
            words = tokenizer.decode(prompts[order[0]], skip_special_tokens=True).strip()
            raise ModelError(
                f"out of memory with a single prompt of {len(prompts[order[0]])} tokens and {sampling.max_new_tokens} of its response "
                f"({words[:40]!r}...); lower max_new_tokens, leave the prompt out, or load the model in bfloat16 or 4-bit",
                code="PF-M07",
            )
        budget.halve(tried)
        warnings.warn(f"out of memory at {tried} tokens a batch; going on with {budget.tokens}, same responses", stacklevel=3)

    try:
        while order:
            width = len(prompts[order[0]]) + sampling.max_new_tokens
            batch, answers = smaller_on_oom(functools.partial(attempt, order, width), functools.partial(shrink, order, width))
            budget.keep()
            yield from zip(batch, answers, strict=True)
            order = order[len(batch) :]
    finally:
        model.train(was_training)


def _batch(model: Any, tokenizer: Any, prompts: Sequence[Ids], sampling: Sampling, seeds: Sequence[int], most_tokens: int) -> list[Answer]:
    device = next(model.parameters()).device
    pad, ends = tokenizer.pad_token_id, end_tokens(model, tokenizer)
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.from_numpy(prompt.astype("int64"))
    lengths = torch.tensor([len(p) for p in prompts])
    mask = (torch.arange(width)[None] >= width - lengths[:, None]).long()
    draw = [SeededSampling(seeds, sampling, width, lengths.tolist())] if sampling.temperature > 0 else []
    piece = max(1, min(most_tokens, PREFILL_TOKENS.get(device.type, PREFILL_TOKENS["cuda"])) // len(prompts))
    # Only keys and values are sure to go on where a piece ended: a recurrent state may not.
    whole = width <= piece or getattr(model, "_is_stateful", True)
    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=False,
        pad_token_id=pad,
        eos_token_id=ends,
        prefill_chunk_size=None if whole else piece,
    )
    with _settings(model, config):
        out = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), logits_processor=LogitsProcessorList(draw))
    logps = torch.stack(draw[0].logps_RS, 1).tolist() if draw else [()] * len(prompts)
    answers = []
    for row_ids, row_logps in zip(out[:, width:].tolist(), logps, strict=True):
        end = next((i for i, t in enumerate(row_ids) if t in ends), None)
        kept = row_ids if end is None else row_ids[: end + 1]
        text = tokenizer.decode(kept, skip_special_tokens=True).strip()
        answers.append(Answer(text, kept, end is not None, len(kept), tuple(row_logps[: len(kept)])))
    return answers


@contextmanager
def _settings(model: Any, config: GenerationConfig) -> Iterator[None]:
    """Within the block the model has these generation settings: ``generate`` fills gaps of an argument with the model's own."""
    holders = [model, *([model.get_base_model()] if hasattr(model, "peft_config") else [])]
    own = [h.generation_config for h in holders]
    for holder in holders:
        holder.generation_config = config
    try:
        yield
    finally:
        for holder, was in zip(holders, own, strict=True):
            holder.generation_config = was


@torch.no_grad()
def weights_key(model: Any) -> str:
    """A hash of the weights' names, shapes and some values of each: training moves them all, and hashing whole models takes long."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        flat = tensor.detach().flatten()
        some = flat[:: max(1, len(flat) // 64)].contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        digest.update(some.view(torch.uint8).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


class TransformersEngine:
    """A model in memory. A prompt that leaves no room for an answer in the model's positions is a failure, never cut."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 32) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = f"transformers {weights_key(model)}"
        self.encoder = Encoder(tokenizer)
        self.batch_size = batch_size
        self.max_length = getattr(model.config, "max_position_embeddings", None)

    def answers(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Answer | Failure]]:
        """Prompts that cannot be asked fail at once, the rest follow batch by batch."""
        ids: list[Ids] = []
        places: list[int] = []
        for place, request in enumerate(requests):
            found = self._ids(request, sampling)
            if isinstance(found, Failure):
                yield place, found
            else:
                ids.append(found)
                places.append(place)
        seeds = [requests[i].seed for i in places]
        for at, answer in generate(self.model, self.tokenizer, ids, sampling, seeds, self.batch_size):
            yield places[at], answer

    def _ids(self, request: Request, sampling: Sampling) -> Ids | Failure:
        try:
            ids = self.encoder.prompt_ids(request.prompt, request.tools, request.template_kwargs)
        except DataError as error:
            return Failure(str(error))
        if not len(ids):
            return Failure("the prompt has no tokens")
        if self.max_length is not None and len(ids) + sampling.max_new_tokens > self.max_length:
            return Failure(f"{len(ids)} tokens of prompt and {sampling.max_new_tokens} of response exceed the model's {self.max_length}")
        return ids
