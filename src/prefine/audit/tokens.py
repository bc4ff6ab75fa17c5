"""Lengths in tokens, and what the template and the limits do to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefine.errors import DataError
from prefine.packing.encoding import Encoder
from prefine.preferences.convert import answers_of
from prefine.preferences.records import Record

WINDOW = 24
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
        self.begin = encoder.tokenizer.bos_token_id

    def count(self, records: Sequence[Record]) -> TokenCounts:
        """Count a run of records."""
        prompts, answers, owners, special, refused = [], [], [], [], []
        for place, record in enumerate(records):
            try:
                prompt, completions = self.encoder.render(record.prompt, answers_of(record)[:2], record.tools)
            except DataError:
                refused.append(place)
                prompt, completions = "", []
            prompts.append(prompt)
            special.append(isinstance(record.prompt, str) or not self.encoder.has_template)
            for completion in completions:
                answers.append(completion)
                owners.append(place)
        prompt_ids = self._encode(prompts, special)
        answer_ids = self._encode(answers, [False] * len(answers))
        tails = [prompts[o][-WINDOW:] for o in owners]
        heads = [a[:WINDOW] for a in answers]
        joint = self._encode([t + h for t, h in zip(tails, heads, strict=True)], [False] * len(answers))
        apart = self._encode(tails, [False] * len(answers))
        count = len(records)
        chosen, rejected, shared = np.full(count, -1, np.int32), np.full(count, -1, np.int32), np.zeros(count, np.int32)
        merged, endless, empty = set(), set(), set()
        firsts: dict[int, list[int]] = {}
        for i, place in enumerate(owners):
            ids = answer_ids[i]
            ended = answers[i].rstrip().endswith(self.ends)
            length = len(ids) + (not ended)
            if not answers[i].strip() or not ids:
                empty.add(place)
            if not ended and not special[place]:
                endless.add(place)
            if joint[i][: len(apart[i])] != apart[i]:
                merged.add(place)
            if place not in firsts:
                firsts[place] = ids
                chosen[place] = length
            else:
                rejected[place] = length
                if min(len(ids), len(firsts[place])) >= self.common_from:
                    shared[place] = _common(firsts[place], ids)
        begins = [p for p, ids in enumerate(prompt_ids) if self.begin is not None and ids[:2] == [self.begin, self.begin]]
        lengths = np.array([len(ids) for ids in prompt_ids], np.int32)
        return TokenCounts(lengths, chosen, rejected, shared, refused, sorted(merged), begins, sorted(endless), sorted(empty))

    def _encode(self, texts: list[str], special: list[bool]) -> list[list[int]]:
        backend: Any = self.encoder.tokenizer.backend_tokenizer
        if all(special) or not any(special):
            return [e.ids for e in backend.encode_batch_fast(texts, add_special_tokens=bool(special and special[0]))]
        return [e.ids for t, s in zip(texts, special, strict=True) for e in backend.encode_batch_fast([t], add_special_tokens=s)]


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
