"""Lengths in tokens, and what the template and the limits do to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefine.errors import DataError
from prefine.packing.encoding import Encoder
from prefine.packing.rendering import Rendered
from prefine.preferences.convert import answers_of
from prefine.preferences.records import Record

WINDOW = 12
"""Characters on each side of the boundary that are tokenised together to see whether tokens merge across it."""


@dataclass(frozen=True)
class TokenCounts:
    """Counts of a run of records; A answers in all.

    Attributes:
        prompt_R: prompt tokens of each record. longest_R, shortest_R: of its answers, end token included.
        shared_R: tokens that the first two answers begin with in common (0 where not counted).
        chosen_R, rejected_R: of its first and second answer (-1 where there is none).
        refused, merged, doubled, endless, empty: places of records with the fault.
    """

    prompt_R: NDArray[np.int32]
    chosen_R: NDArray[np.int32]
    rejected_R: NDArray[np.int32]
    shared_R: NDArray[np.int32]
    refused: list[int]
    merged: list[int]
    doubled: list[int]
    endless: list[int]
    empty: list[int]


class TokenCounter:
    """Counts tokens as the trainer would see them, in batches, on the tokenizer's fast path.

    Args:
        encoder: its limits do not matter here.
        ends: the texts of tokens that can end an answer.
        common_from: answers longer than this are compared token by token for what they begin with in common.
    """

    def __init__(self, encoder: Encoder, ends: tuple[str, ...], common_from: int) -> None:
        self.encoder = encoder
        self.common_from = common_from
        self.ends = ends
        # A tokenizer without a begin token cannot double it: no prompt holds this.
        self.begin, self.begin_id = encoder.tokenizer.bos_token or "\0no begin token\0", encoder.tokenizer.bos_token_id

    def count(self, records: Sequence[Record]) -> TokenCounts:
        """Count a run of records."""
        prompts, answers, owners, special, refused = [], [], [], [], []
        for place, record in enumerate(records):
            try:
                rendered = self.encoder.render(record.prompt, answers_of(record)[:2], record.tools, record.template_kwargs)
            except DataError:
                refused.append(place)
                rendered = Rendered("", ())
            prompts.append(rendered.prompt)
            special.append(isinstance(record.prompt, str) or not self.encoder.has_template)
            for pieces in rendered.answers:
                answers.append("".join(piece.text for piece in pieces))
                owners.append(place)
        prompt_tokens, answer_tokens = self._encode(prompts, special), self._encode(answers, [False] * len(answers))
        tails = [prompt[-WINDOW:] for prompt in prompts]
        joint = self._encode([tails[o] + a[:WINDOW] for o, a in zip(owners, answers, strict=True)], [False] * len(answers))
        apart = [e.ids for e in self._encode(tails, [False] * len(tails))]
        count = len(records)
        chosen, rejected, shared = np.full(count, -1, np.int32), np.full(count, -1, np.int32), np.zeros(count, np.int32)
        merged, endless, empty = set(), set(), set()
        firsts: dict[int, Any] = {}
        for i, place in enumerate(owners):
            ended = answers[i].rstrip().endswith(self.ends)
            size = len(answer_tokens[i])
            if not size or (size <= 4 and not self._words(answers[i])):
                empty.add(place)
            if not ended and not special[place]:
                endless.add(place)
            if joint[i].ids[: len(apart[place])] != apart[place]:
                merged.add(place)
            if place not in firsts:
                firsts[place] = answer_tokens[i]
                chosen[place] = size + (not ended)
            else:
                rejected[place] = size + (not ended)
                if min(size, len(firsts[place])) >= self.common_from:
                    shared[place] = _common(firsts[place].ids, answer_tokens[i].ids)
        doubled = [p for p, text in enumerate(prompts) if self.begin in text[:200] and prompt_tokens[p].ids[:2] == [self.begin_id] * 2]
        lengths = np.array([len(tokens) for tokens in prompt_tokens], np.int32)
        return TokenCounts(lengths, chosen, rejected, shared, refused, sorted(merged), doubled, sorted(endless), sorted(empty))

    def _words(self, text: str) -> str:
        """What an answer says but for the tokens that end it."""
        for end in self.ends:
            text = text.replace(end, "")
        return text.strip()

    def _encode(self, texts: list[str], special: list[bool]) -> list[Any]:
        """The tokenizer's encodings: their length is cheap, their ids are copied when asked for."""
        backend: Any = self.encoder.tokenizer.backend_tokenizer
        if all(special) or not any(special):
            return list(backend.encode_batch_fast(texts, add_special_tokens=bool(special and special[0])))
        return [e for t, s in zip(texts, special, strict=True) for e in backend.encode_batch_fast([t], add_special_tokens=s)]


def _common(a: list[int], b: list[int]) -> int:
    size = min(len(a), len(b))
    differing = np.flatnonzero(np.array(a[:size]) != np.array(b[:size]))
    return int(differing[0]) if len(differing) else size


@dataclass(frozen=True)
class Cuts:
    """What the limits would do: counts, and which records they touch at all, and which lose their difference."""

    dropped: int
    prompts_cut: int
    answers_cut: int
    touched: NDArray[np.bool_]
    lost_difference: NDArray[np.bool_]


def cuts(
    prompt_R: NDArray[np.int32],
    chosen_R: NDArray[np.int32],
    rejected_R: NDArray[np.int32],
    shared_R: NDArray[np.int32],
    max_length: int | None,
    max_prompt_length: int | None,
    mode: str,
) -> Cuts:
    """The truncation of :class:`prefine.packing.Encoder`, on lengths alone."""
    none = np.zeros(len(prompt_R), bool)
    if max_length is None and max_prompt_length is None:
        return Cuts(0, 0, 0, none, none)
    longest = np.maximum(chosen_R, rejected_R)
    far = np.iinfo(np.int32).max
    room = np.full(len(prompt_R), min(max_prompt_length or far, far if max_length is None else max_length - 1))
    if mode == "keep_end" and max_length is not None:
        room = np.minimum(room, np.maximum(1, max_length - longest))
    over = prompt_R > room
    dropped = over if mode == "drop" or (mode == "keep_start" and max_prompt_length is None) else none
    left = far if max_length is None else max_length - np.minimum(prompt_R, room)
    long_answers = (chosen_R > left).astype(int) + (rejected_R > left)
    if mode == "drop":
        dropped = dropped | (long_answers > 0)
    kept = ~dropped
    lost = kept & (chosen_R > left) & (rejected_R > left) & (shared_R >= left)
    touched = dropped | over | (long_answers > 0)
    return Cuts(int(dropped.sum()), int((over & kept).sum()), int(long_answers[kept].sum()), touched, lost)
