"""A batch of responses on its way: a prompt passes the model once however many samples it has, finished rows leave and others come.

Transformers' ``generate`` does the steps, with its caches and what each model needs; it is called anew where rows have left. All rows
end in the batch's last column, wherever they began: what no row needs on the left is dropped. Models with a recurrent state are sampled
in one call, with every prompt by itself: only keys and values are sure to be known by row and token.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from prefine.generation.drawing import SeededSampling
from prefine.generation.engine import Answer, Sampling
from prefine.packing.end_tokens import end_tokens
from prefine.packing.group import Ids
from prefine.preferences.reasoning import said

PREFILL_TOKENS = {"cpu": 4096, "cuda": 16_384}
"""Most tokens of prompts that pass the model at once: longer prompts go in pieces, which costs no time and less memory."""
LEAVING = 8
"""Rows that have ended leave when they are one in so many, four at least: taking them out copies the others' keys and values."""
LEAST_START = 8
"""Tokens that all prompts begin with, as a system prompt is, pass the model once where they are so many."""
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

    def join(self, places: torch.Tensor, others: RoomyLayer | None, count: int, tokens: int) -> None:
        """Take these rows, and after them ``count`` others: the last ``tokens`` tokens of each, with zeros before fewer."""
        if not self.get_seq_length():  # a layer that reads another's
            return
        keys, values = (None, None) if others is None or not others.get_seq_length() else (others.keys, others.values)
        room = max(tokens, min(tokens + ROOM, self.most))
        places = places.to(self._keys.device)
        self._keys = _joined(self.keys.index_select(0, places), keys, count, tokens, room)
        self._values = _joined(self.values.index_select(0, places), values, count, tokens, room)
        self._look(tokens)

    def begin(self, start: RoomyLayer, rows: int) -> None:
        """As many rows as are asked for, each with what another layer has in its only one."""
        if start.get_seq_length():  # a layer that reads another's has nothing
            self.lazy_initialization(start.keys, start.values)
            self._keys, self._values = (x.expand(rows, -1, -1, -1).contiguous() for x in (start.keys, start.values))
            self._look(start.get_seq_length())

    def order_tokens(self, columns: torch.Tensor) -> None:
        """Take these tokens of each row, (rows, tokens)."""
        if self.get_seq_length():
            places = columns.to(self.keys.device)[:, None, :, None].expand_as(self.keys)
            self._keys, self._values = self.keys.gather(2, places), self.values.gather(2, places)
            self._look(columns.shape[1])

    def _look(self, tokens: int) -> None:
        self.keys, self.values = self._keys[..., :tokens, :], self._values[..., :tokens, :]


def _joined(had: torch.Tensor, came: torch.Tensor | None, count: int, tokens: int, room: int) -> torch.Tensor:
    rows, heads, _, size = had.shape
    place = had.new_empty(rows + count, heads, room, size)
    for own, block in ((had, place[:rows]), (came, place[rows:])):
        kept = 0 if own is None else min(own.shape[-2], tokens)
        block[..., : tokens - kept, :] = 0.0
        if own is not None:
            block[..., tokens - kept : tokens, :] = own[..., own.shape[-2] - kept :, :]
    return place


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
    """Ends rows that have as many tokens as they may, and stops all when enough have ended.

    Args:
        left: tokens that each row may still have.
    """

    def __init__(self, ends: torch.Tensor, left: torch.Tensor) -> None:
        self.ends, self.left = ends, left
        self.enough = max(4, -(-len(left) // LEAVING))
        self.ended = torch.zeros_like(left, dtype=torch.bool)

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        self.left = self.left - 1
        self.ended |= torch.isin(input_ids[:, -1], self.ends) | (self.left <= 0)
        return self.ended | (self.ended.sum() >= self.enough)


class Rows:
    """Prompts that are sampled together.

    Args:
        prompts: all that will come, token ids, none empty: what they begin with alike passes the model once.
        most_tokens: of a piece of prompts that passes the model at once.

    Attributes:
        live: numbers of the rows that have not ended.
    """

    def __init__(self, model: Any, tokenizer: Any, sampling: Sampling, prompts: Sequence[Ids], most_tokens: int) -> None:
        self.model, self.tokenizer, self.sampling = model, tokenizer, sampling
        self.device = next(model.parameters()).device
        self.most_tokens = min(most_tokens, PREFILL_TOKENS.get(self.device.type, PREFILL_TOKENS["cuda"]))
        self.most = max(map(len, prompts)) + sampling.max_new_tokens
        self.start = _common_start(prompts)
        self.started: DynamicCache | None = None
        """Keys and values of ``start``, which passes before the first prompts."""
        self.ends = end_tokens(model, tokenizer)
        self.live: list[int] = []
        self.prompts: list[Ids] = []
        self.stay: list[int] = []
        """Where the live rows stand in ``ids``, ``mask``, ``cache`` and ``draw``: others there have ended."""

    @property
    def takes(self) -> bool:
        """Whether rows may come: any time, or where a model keeps more than keys and values by token, when none is there."""
        return not self.live or (self.cache is not None and all(type(layer) is RoomyLayer for layer in self.cache.layers))

    def go_on(self, numbers: Sequence[int], prompts: Sequence[Ids], seeds: Sequence[int]) -> list[tuple[int, Answer]]:
        """Sample until some rows have ended; returns their numbers and answers. All have when ``live`` is empty.

        Args:
            numbers: of rows that come, none where :attr:`takes` is false; prompts, seeds: one a row.
        """
        if not self.live:
            self._begin(prompts, seeds)
        elif numbers or len(self.stay) < len(self.ids):
            self._join(prompts, seeds)
        self.live += numbers
        self.prompts += prompts
        self.stay = list(range(len(self.live)))
        left = self.sampling.max_new_tokens - self.made
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=int(left.max()),
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.ends,
        )
        stops = [] if self.cache is None else [_Leaving(torch.tensor(self.ends, device=self.device), left.to(self.device))]
        return self._leave(self._generate(self.ids, self.mask, self.cache, config, [self.draw] if self.draw is not None else [], stops))

    def _begin(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> None:
        self.ids, self.mask = self._padded(prompts)
        self.made = torch.zeros(len(prompts), dtype=torch.long)
        self.draw = self._drawing(prompts, seeds)
        self.cache = cache_of(self.model, self.most)
        if self.cache is not None:
            self._pass_prompts(self.cache, prompts)

    def _join(self, prompts: Sequence[Ids], seeds: Sequence[int]) -> None:
        """Rows that have ended go out, others come in; of all, the columns that one of them needs are left."""
        assert self.cache is not None
        places = torch.tensor(self.stay)
        here = places.to(self.device)
        self.made = torch.cat([self.made[places], torch.zeros(len(prompts), dtype=torch.long)])
        if not self.takes:
            self.ids, self.mask = self.ids[here], self.mask[here]
            self.cache.reorder_cache(here)
            if self.draw is not None:
                self.draw.keep(here, 0)
            return
        ids, mask = self.ids[here], self.mask[here]
        was, width = ids.shape[1], max([int(mask.sum(1).max()), *map(len, prompts)])
        others = None
        if prompts:
            others = cache_of(self.model, self.most)
            assert others is not None
            self._pass_prompts(others, prompts)
        for place, layer in enumerate(self.cache.layers):
            layer.join(here, None if others is None else others.layers[place], len(prompts), width - 1)
        new_ids, new_mask = self._padded(prompts, width)
        pads = (width - was, 0)  # negative: columns go
        self.ids = torch.cat([torch.nn.functional.pad(ids, pads, value=self.tokenizer.pad_token_id), new_ids])
        self.mask = torch.cat([torch.nn.functional.pad(mask, pads), new_mask])
        if self.draw is not None:
            self.draw.keep(here, width - was)
            if (came := self._drawing(prompts, seeds, width)) is not None:
                self.draw.join(came)

    def _padded(self, prompts: Sequence[Ids], width: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and mask, (rows, tokens), padded on the left."""
        width = width or max(map(len, prompts))
        ids = torch.full((len(prompts), width), self.tokenizer.pad_token_id, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.from_numpy(prompt.astype("int64"))
        lengths = torch.tensor([len(p) for p in prompts], dtype=torch.long)
        return ids.to(self.device), (torch.arange(width)[None] >= width - lengths[:, None]).long().to(self.device)

    def _drawing(self, prompts: Sequence[Ids], seeds: Sequence[int], width: int = 0) -> SeededSampling | None:
        if self.sampling.temperature <= 0 or not prompts:
            return None
        lengths = torch.tensor([len(p) for p in prompts])
        return SeededSampling(seeds, self.sampling, width or int(lengths.max()), lengths, self.device)

    def _pass_prompts(self, cache: DynamicCache, prompts: Sequence[Ids]) -> None:
        """Fill the cache with all of each prompt but its last token, once for all rows that have it."""
        numbers: dict[bytes, int] = {}
        of = [numbers.setdefault(p.tobytes(), len(numbers)) for p in prompts]
        once = [prompts[of.index(number)][:-1] for number in range(len(numbers))]
        if is_shared := len(self.start) >= LEAST_START and all(type(layer) is RoomyLayer for layer in cache.layers):
            if self.started is None:
                self.started = cache_of(self.model, len(self.start))
                assert self.started is not None
                self._fill(self.started, *self._padded([self.start]))
            for layer, start in zip(cache.layers, self.started.layers, strict=True):
                layer.begin(start, len(once))
        begun = len(self.start) if is_shared else 0
        ids, mask = self._padded([p[begun:] for p in once])
        if ids.shape[1]:
            if begun:
                start_ids = torch.from_numpy(self.start.astype("int64")).to(self.device).expand(len(once), -1)
                ids, mask = torch.cat([start_ids, ids], 1), torch.cat([torch.ones_like(start_ids), mask], 1)
            self._fill(cache, ids, mask)
            if begun and not bool(mask.all()):  # padding stands after the start: it goes before it
                columns = mask.argsort(dim=1, stable=True)
                for layer in cache.layers:
                    layer.order_tokens(columns)
        if len(numbers) < len(of):
            cache.reorder_cache(torch.tensor(of, device=self.device))

    def _fill(self, cache: DynamicCache, ids: torch.Tensor, mask: torch.Tensor) -> None:
        """Pass tokens that the cache has not, in pieces."""
        piece = max(1, self.most_tokens // len(ids))
        # Without a padding token: that a row may end in it is none of generate's concern here.
        config = GenerationConfig(do_sample=False, max_new_tokens=1)
        for end in (*range(cache.get_seq_length() + piece, ids.shape[1], piece), ids.shape[1]):
            self._generate(ids[:, :end], mask[:, :end], cache, config, [], [])

    def _generate(
        self, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache | None, config: GenerationConfig, draw: list[Any], stops: list[Any]
    ) -> torch.Tensor:
        kept = {} if cache is None else {"past_key_values": cache}
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
        """The rows that have ended; the others' tokens are kept."""
        width = self.ids.shape[1]
        steps = out.shape[1] - width
        answers, stay = [], []
        for row, new in enumerate(out[:, width:].tolist()):
            had = int(self.made[row])
            end = next((i + 1 for i, token in enumerate(new) if token in self.ends), None)
            room = self.sampling.max_new_tokens - had
            is_ended = end is not None and end <= room
            if not is_ended and steps < room:
                stay.append(row)
                continue
            kept = out[row, width - had : width + min(end or room, room)].tolist()
            logps = () if self.draw is None else tuple(self.draw.logps[row, : len(kept)].tolist())
            answers.append((self.live[row], Answer(said(self.tokenizer, kept, self.prompts[row]), kept, is_ended, len(kept), logps)))
        self.stay = stay
        self.live, self.prompts = [self.live[i] for i in stay], [self.prompts[i] for i in stay]
        self.made = self.made + steps
        self.ids = out
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(out), steps)], 1)
        return answers


def _common_start(prompts: Sequence[Ids]) -> Ids:
    """What all prompts begin with; of each at least the last two tokens are its own."""
    distinct = list({p.tobytes(): p for p in prompts}.values())
    shortest = min(map(len, distinct)) - 2
    if len(distinct) == 1 or shortest < 1:
        return distinct[0][:0]
    differs = np.flatnonzero((np.stack([p[:shortest] for p in distinct]) != distinct[0][:shortest]).any(0))
    return distinct[0][: differs[0] if len(differs) else shortest]


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
