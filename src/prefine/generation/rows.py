"""A batch of responses on its way: a prompt passes the model once however many samples it has, and finished rows leave.

Transformers' ``generate`` does the steps, with its caches and what each model needs; it is called anew where rows have left. Models
with a recurrent state are sampled in one call, with every prompt by itself: only keys and values are sure to be known by row and token.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from prefine.generation.drawing import SeededSampling
from prefine.generation.engine import Answer, Sampling
from prefine.packing.end_tokens import end_tokens
from prefine.packing.group import Ids
from prefine.preferences.reasoning import said

PREFILL_TOKENS = {"cpu": 4096, "cuda": 16_384}
"""Most tokens of a batch's prompts that pass the model at once: longer prompts go in pieces, which costs no time and less memory."""
LEAVING = 4
"""Rows that have ended leave when they are one in so many, and as many at least: taking them out copies the others' keys and values."""
ROOM = 128
"""Tokens that keys and values have room for before they are copied to a larger place."""


class RoomyLayer(DynamicLayer):
    """Keys and values of a layer in a place with room to grow, so that a step copies its own token's alone.

    Args:
        most: tokens that will come, prompts and responses.
    """

    keys: torch.Tensor
    values: torch.Tensor
    _keys: torch.Tensor
    _values: torch.Tensor

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Put a step's keys and values, (rows, heads, tokens, size), after the earlier ones; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        had = self.get_seq_length()
        has = had + key_states.shape[-2]
        if not had or has > self._keys.shape[-2]:
            room = max(has, min(has + ROOM, self.most))
            self._keys, self._values = _roomier(self.keys, key_states, room), _roomier(self.values, value_states, room)
        self._keys[..., had:has, :] = key_states
        self._values[..., had:has, :] = value_states
        self._look(has)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Take these rows."""
        if has := self.get_seq_length():
            places = beam_idx.to(self._keys.device)
            self._keys, self._values = self._keys.index_select(0, places), self._values.index_select(0, places)
            self._look(has)

    def _look(self, tokens: int) -> None:
        self.keys, self.values = self._keys[..., :tokens, :], self._values[..., :tokens, :]


def _roomier(old: torch.Tensor, new: torch.Tensor, tokens: int) -> torch.Tensor:
    rows, heads, _, size = new.shape
    place = new.new_empty(rows, heads, tokens, size)
    if old.numel():
        place[..., : old.shape[-2], :] = old
    return place


def cache_of(model: Any, most: int) -> DynamicCache | None:
    """An empty cache of keys and values by row and token, for so many tokens; None for a model that keeps something else."""
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    if getattr(inner, "_is_stateful", True) or "past_key_values" not in inspect.signature(inner.forward).parameters:
        return None
    cache = DynamicCache(config=inner.config.get_text_config(decoder=True))
    if not cache.layers or not all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
        return None
    # A window that nothing outgrows is none; one mask is made for all layers that have one.
    is_whole = all(layer.sliding_window >= most for layer in cache.layers if isinstance(layer, DynamicSlidingWindowLayer))
    cache.layers = [RoomyLayer(most) if is_whole or type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


class _Leaving(StoppingCriteria):
    """Stops all when enough of the rows have ended."""

    def __init__(self, ends: torch.Tensor, rows: int) -> None:
        self.ends = ends
        self.enough = max(LEAVING, -(-rows // LEAVING))
        self.ended: torch.Tensor | None = None

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        ended = torch.isin(input_ids[:, -1], self.ends)
        self.ended = ended if self.ended is None else self.ended | ended
        return self.ended | (self.ended.sum() >= self.enough)


class Rows:
    """Prompts that are sampled together.

    Args:
        prompts: token ids, none empty; seeds: one a prompt.
        most_tokens: of a piece of the prompts that passes the model at once.
    """

    def __init__(
        self, model: Any, tokenizer: Any, prompts: Sequence[Ids], sampling: Sampling, seeds: Sequence[int], most_tokens: int
    ) -> None:
        self.model, self.tokenizer, self.sampling = model, tokenizer, sampling
        self.prompts = prompts
        self.device = next(model.parameters()).device
        self.most_tokens = min(most_tokens, PREFILL_TOKENS.get(self.device.type, PREFILL_TOKENS["cuda"]))
        self.ends = end_tokens(model, tokenizer)
        self.width = max(map(len, prompts))
        self.live = list(range(len(prompts)))
        """The rows that have not ended, as they stand in ``ids``."""
        ids = torch.full((len(prompts), self.width), tokenizer.pad_token_id, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, self.width - len(prompt) :] = torch.from_numpy(prompt.astype("int64"))
        lengths = torch.tensor([len(p) for p in prompts])
        self.ids = ids.to(self.device)
        self.mask = (torch.arange(self.width)[None] >= self.width - lengths[:, None]).long().to(self.device)
        self.draw = SeededSampling(seeds, sampling, self.width, lengths, self.device) if sampling.temperature > 0 else None
        self.cache = cache_of(model, self.width + sampling.max_new_tokens)
        numbers: dict[bytes, int] = {}
        self.prompt_of = [numbers.setdefault(p.tobytes(), len(numbers)) for p in prompts]
        """For each row its prompt's number among those that differ."""

    def go_on(self) -> list[tuple[int, Answer]]:
        """Sample until some rows have ended; returns them with their answers. All have when ``live`` is empty."""
        made = self.ids.shape[1] - self.width
        piece = None
        # Only keys and values are sure to go on where a piece ended: a recurrent state may not.
        if self.cache is not None and not made:
            if self.width > 1 and len(set(self.prompt_of)) < len(self.prompt_of):
                self._pass_prompts(self.cache)
            else:
                piece = self._piece(len(self.live), self.width)
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=self.sampling.max_new_tokens - made,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.ends,
            prefill_chunk_size=piece,
        )
        stops = [_Leaving(torch.tensor(self.ends, device=self.device), len(self.live))] if self.cache is not None else []
        return self._leave(self._generate(self.ids, self.mask, config, [self.draw] if self.draw is not None else [], stops))

    def _pass_prompts(self, cache: DynamicCache) -> None:
        """Fill the cache with all of each prompt but its last token, once for all rows that have it."""
        once = [self.prompt_of.index(number) for number in range(max(self.prompt_of) + 1)]
        # Without a padding token: that a row may end in it is none of generate's concern here.
        config = GenerationConfig(do_sample=False, max_new_tokens=1, prefill_chunk_size=self._piece(len(once), self.width - 1))
        self._generate(self.ids[once, :-1], self.mask[once, :-1], config, [], [])
        cache.reorder_cache(torch.tensor(self.prompt_of, device=self.device))

    def _piece(self, rows: int, width: int) -> int | None:
        """Tokens of each row that pass at once; None where all of them may."""
        piece = max(1, self.most_tokens // rows)
        return piece if width > piece else None

    def _generate(self, ids: torch.Tensor, mask: torch.Tensor, config: GenerationConfig, draw: list[Any], stops: list[Any]) -> torch.Tensor:
        kept = {} if self.cache is None else {"past_key_values": self.cache}
        with _settings(self.model, config):
            return self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                logits_processor=LogitsProcessorList(draw),
                stopping_criteria=StoppingCriteriaList(stops),
                synced_gpus=False,  # unset, it would wait for the other processes of a run with DeepSpeed's stage 3
                **kept,
            )

    def _leave(self, out: torch.Tensor) -> list[tuple[int, Answer]]:
        """Take the rows that have ended out of the batch."""
        made = out[:, self.width :].tolist()
        is_full = len(made[0]) >= self.sampling.max_new_tokens
        lengths = [next((i + 1 for i, token in enumerate(row) if token in self.ends), None) for row in made]
        gone = [i for i, length in enumerate(lengths) if length is not None or is_full]
        answers = []
        for i in gone:
            kept = made[i][: lengths[i]]
            logps = () if self.draw is None else tuple(self.draw.logps[self.live[i], : len(kept)].tolist())
            text = said(self.tokenizer, kept, self.prompts[self.live[i]])
            answers.append((self.live[i], Answer(text, kept, lengths[i] is not None, len(kept), logps)))
        stay = [i for i, length in enumerate(lengths) if length is None and not is_full]
        self.live = [self.live[i] for i in stay]
        if stay:
            places = torch.tensor(stay, device=self.device)
            self.ids = out[places]
            self.mask = torch.cat([self.mask[places], self.mask.new_ones(len(stay), out.shape[1] - self.mask.shape[1])], 1)
            assert self.cache is not None
            self.cache.reorder_cache(places)
            if self.draw is not None:
                self.draw.rows = self.draw.rows[places]
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
