"""Packing as TRL's SFT knows it: sequences put together in blocks of up to a number of tokens, which a batch counts as one item.

The attention of a block's sequences is apart in ``bfd`` and ``bfd_split``; a block of ``wrapped`` is one sequence.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup, weights_of
from prefine.training.prepared import Block, counted_group

ROWS = 1000
"""Sequences that are packed together, as TRL's ``Dataset.map`` does."""


def blocks(groups: Iterable[PromptGroup], strategy: str, size: int, encoder: Encoder, are_texts: bool = True) -> Iterator[Block]:
    """Blocks of at most ``size`` tokens, from every thousand groups on their own.

    Args:
        strategy: ``bfd`` and ``bfd_split`` fill blocks best-fit decreasing (longer sequences were truncated before, or are split
            here); ``wrapped`` cuts one stream of all tokens.
        are_texts: whether the first token of a sequence with a prompt of one token is trained on where another text stands before it.
    """
    rest = iter(groups)
    while part := list(islice(rest, ROWS)):
        if strategy == "wrapped":
            yield from _wrapped(part, size, are_texts)
            continue
        pieces = part if strategy == "bfd" else [piece for group in part for piece in _split(group, size, encoder)]
        yield from (Block([pieces[i] for i in places]) for places in best_fit([_length(p) for p in pieces], size))


def _length(group: PromptGroup) -> int:
    return len(group.prompt_ids) + group.num_completion_tokens


def best_fit(lengths: list[int], size: int) -> list[list[int]]:
    """Places of lengths in bins of ``size``: longest first, each into the fullest bin that has room (best-fit decreasing)."""
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free, bin), sorted
    for place in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        at = bisect.bisect_left(room, (lengths[place], -1))
        if at == len(room):
            bins.append([])
            free, chosen = size, len(bins) - 1
        else:
            free, chosen = room.pop(at)
        bins[chosen].append(place)
        bisect.insort(room, (free - lengths[place], chosen))
    return bins


def _tokens(group: PromptGroup) -> tuple[np.ndarray, np.ndarray]:
    """A single sequence's ids, and whether each is trained on; the prompt is not."""
    counts = np.concatenate((np.zeros(len(group.prompt_ids), np.float32), weights_of(group)))
    return np.concatenate((group.prompt_ids, *group.completion_ids)), counts


def _split(group: PromptGroup, size: int, encoder: Encoder) -> list[PromptGroup]:
    if _length(group) <= size:
        return [group]
    ids, counts = _tokens(group)
    encoder.report.cut["sequences split"] += 1
    parts = [counted_group(ids[i : i + size], counts[i : i + size], group.index) for i in range(0, len(ids), size)]
    return [p for p in parts if p is not None]


def _wrapped(groups: list[PromptGroup], size: int, are_texts: bool) -> Iterator[Block]:
    both = [_tokens(group) for group in groups]
    ids, counts = np.concatenate([i for i, _ in both]), np.concatenate([c for _, c in both])
    starts = np.cumsum([0] + [len(i) for i, _ in both])
    for group, start in zip(groups, starts, strict=False):
        counts[start] = counts[start] or float(are_texts and len(group.prompt_ids) == 1)
    for at in range(0, len(ids), size):
        row = groups[int(np.searchsorted(starts, at, "right")) - 1].index
        piece = counted_group(ids[at : at + size], counts[at : at + size], row)
        if piece is not None:
            yield Block([piece])
