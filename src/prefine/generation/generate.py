"""Answers of a model in memory: batched by length, each row sampled with a seed of its own.

A row's tokens are drawn by inverting its distribution's cumulative sum at uniform numbers that
depend on the row's seed alone, so an answer does not depend on what it was batched with (to the
dtype's rounding: padding moves logits by their last digits). What is left out: transformers' own continuous
batching, which on a processor is some forty times slower than ``generate`` for small models.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from prefine.errors import DataError, ModelError
from prefine.generation.engine import Answer, Failure, Request, Sampling
from prefine.generation.rows import Rows
from prefine.packing.budget import TokenBudget
from prefine.packing.encoding import Encoder
from prefine.packing.group import Ids
from prefine.packing.learned_tokens import learned_tokens, memory_key
from prefine.packing.out_of_memory import smaller_on_oom

BATCH_TOKENS = 65_536
"""Most tokens of a batch, prompts and room for answers; halved when memory runs out."""
LEAST_PIECE = 64
"""Where a single prompt does not fit in pieces of so many tokens, smaller ones would not help: what is kept of each token remains."""


@torch.no_grad()
def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Ids],
    sampling: Sampling,
    seeds: Sequence[int],
    batch_size: int = 128,
) -> Iterator[tuple[int, Answer]]:
    """Each prompt's place with its answer, as rows leave the batch and others come, longest prompts first.

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

    def order(i: int) -> tuple[int, bytes]:
        return len(prompts[i]), prompts[i].tobytes()

    left = sorted(range(len(prompts)), key=order)  # the next ones last
    key = memory_key(model, "sample")
    budget = TokenBudget(min(BATCH_TOKENS, learned_tokens(key) or BATCH_TOKENS), key=key)
    tried_again: set[int] = set()
    batch: list[int] = []
    """Those that are being sampled."""
    rows: Rows | None = None

    def attempt() -> list[tuple[int, Answer]]:
        nonlocal batch, rows
        if rows is None:
            rows = Rows(model, tokenizer, sampling, [prompts[i] for i in left], budget.tokens)
            batch = []
        came: list[int] = []
        if left and rows.takes:
            width = max(len(prompts[i]) for i in (left[-1], *batch)) + sampling.max_new_tokens
            room = max(0 if batch else 1, min(batch_size, budget.tokens // width) - len(batch))
            came = [left.pop() for _ in range(min(room, len(left)))]
        batch = [*batch, *came]
        found = rows.go_on(came, [prompts[i] for i in came], [seeds[i] for i in came])
        batch = list(rows.live)
        return found

    def undo() -> None:
        nonlocal rows
        rows = None
        left.extend(batch)
        left.sort(key=order)

    def shrink() -> None:
        first = max(batch, key=order)
        longest = prompts[first]
        width = len(longest) + sampling.max_new_tokens
        tried = min(budget.tokens, width * len(batch))
        if tried <= min(LEAST_PIECE, width // 2):
            if first not in tried_again:  # memory was freed
                tried_again.add(first)
                return
            words = tokenizer.decode(longest, skip_special_tokens=True).strip()
            raise ModelError(
                f"out of memory with a single prompt of {len(longest)} tokens and {sampling.max_new_tokens} of its response "
                f"({words[:40]!r}...); lower max_new_tokens, leave the prompt out, or load the model in bfloat16 or 4-bit",
                code="PF-M07",
            )
        budget.halve(tried)
        warnings.warn(f"out of memory at {tried} tokens a batch; going on with {budget.tokens}, same responses", stacklevel=3)

    try:
        while left or batch:
            found = smaller_on_oom(attempt, shrink, undo)
            budget.keep()
            yield from found
    finally:
        model.train(was_training)


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

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 128) -> None:
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
