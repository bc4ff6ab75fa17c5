"""Answers of a model to prompts: batched by length, sampled with a seed, with progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from prefine.packing.group import Ids


@dataclass(frozen=True)
class Answer:
    """A sampled answer: its text, its token ids with the end token if there was one, and whether it ended."""

    text: str
    ids: list[int]
    ended: bool


@torch.no_grad()
def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Ids],
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 128,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """One answer a prompt, in the prompts' order.

    Args:
        prompts: token ids, as :meth:`prefine.packing.Encoder.prompt_ids` gives.
        temperature: 0 for greedy.
        seed: of the sampler; set anew for each batch.
        progress: called with the number of answers just done.
    """
    was_training = model.training
    model.eval()
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers: list[Answer | None] = [None] * len(prompts)
    device = next(model.parameters()).device
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature > 0 else {"do_sample": False}
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            width = max(len(prompts[i]) for i in batch)
            ids = torch.full((len(batch), width), pad, dtype=torch.long)
            for row, i in enumerate(batch):
                ids[row, width - len(prompts[i]) :] = torch.from_numpy(prompts[i].astype("int64"))
            lengths = torch.tensor([len(prompts[i]) for i in batch])
            mask = (torch.arange(width)[None] >= width - lengths[:, None]).long()
            torch.manual_seed(seed * 1_000_003 + start)
            out = model.generate(
                input_ids=ids.to(device), attention_mask=mask.to(device), max_new_tokens=max_new_tokens, pad_token_id=pad, **sampling
            )
            for i, row_ids in zip(batch, out[:, width:].tolist(), strict=True):
                ended = end in row_ids
                kept = row_ids[: row_ids.index(end) + 1] if ended else row_ids
                answers[i] = Answer(tokenizer.decode(kept, skip_special_tokens=True).strip(), kept, ended)
            progress(len(batch))
    model.train(was_training)
    return [a for a in answers if a is not None]
