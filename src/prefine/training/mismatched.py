"""Responses to other prompts beside each prompt's own: what KTO draws its baseline from (arXiv 2402.01306).

As in TRL each row of a batch is given the response of the row before it, the first that of the last. Where that is to the same prompt, and
so no mismatch, the nearest one before it to another prompt is taken instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from prefine.packing.group import MISMATCHED, LabelledGroup, weights_of
from prefine.packing.store import prompt_key


def partners(keys: NDArray[np.uint64], block: int) -> NDArray[np.int64]:
    """For each row of a dataset the row whose response it is given, shape (rows,).

    Args:
        keys: what each row's prompt is known by; block: rows of a batch of all processes.
    """
    rows = np.arange(len(keys))
    starts = rows // block * block
    sizes = np.minimum(starts + block, len(keys)) - starts
    out = starts + (rows - starts - 1) % sizes
    # Of each row the nearest before it with another prompt, around the whole dataset: what stands before the run of its own.
    twice = np.concatenate((keys, keys))
    runs = np.maximum.accumulate(np.where(np.roll(twice, 1) != twice, np.arange(len(twice)), 0))
    before = (runs[len(keys) :] - 1) % max(1, len(keys))
    for row in np.flatnonzero(keys[out] == keys):
        of_block = starts[row] + (row - starts[row] - np.arange(1, sizes[row])) % sizes[row]
        others = of_block[keys[of_block] != keys[row]]
        out[row] = others[0] if len(others) else before[row]
    return out


def with_mismatched(group: LabelledGroup, other: LabelledGroup, most: int | None) -> LabelledGroup:
    """A row with another row's response behind its own, which is truncated where it would make a sequence of more tokens than ``most``."""
    ids = other.completion_ids[0][: None if most is None else max(1, most - len(group.prompt_ids))]
    weights = None
    if group.weights is not None or other.weights is not None:
        weights = np.concatenate((weights_of(group), weights_of(other)[: len(ids)]))
    labels = (*group.labels, MISMATCHED)
    return LabelledGroup(group.prompt_ids, (*group.completion_ids, ids), group.index, None, weights, labels)


class Mismatched(Sequence[LabelledGroup]):
    """Rows with their mismatched responses, put together as they are asked for."""

    def __init__(self, groups: Sequence[LabelledGroup], block: int, most: int | None) -> None:
        self.groups = groups
        self.partners = partners(np.array([prompt_key(group) for group in groups], np.uint64), block)
        self.most = most

    def __len__(self) -> int:
        return len(self.groups)

    @overload
    def __getitem__(self, at: int) -> LabelledGroup: ...
    @overload
    def __getitem__(self, at: slice) -> list[LabelledGroup]: ...
    def __getitem__(self, at: int | slice) -> LabelledGroup | list[LabelledGroup]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        return with_mismatched(self.groups[at], self.groups[int(self.partners[at])], self.most)


def mismatched_stream(groups: Iterable[LabelledGroup], block: int, most: int | None) -> Iterator[LabelledGroup]:
    """The same of a stream, a batch at a time: where all of a batch are to one prompt, with a response of an earlier batch."""
    coming = iter(groups)
    earlier: dict[int, LabelledGroup] = {}  # the last response to each of the last two prompts
    while batch := list(itertools.islice(coming, block)):
        keys = np.array([prompt_key(group) for group in batch], np.uint64)
        for group, key, place in zip(batch, keys.tolist(), partners(keys, block), strict=True):
            other = batch[place]
            if keys[place] == key:
                other = next((g for known, g in earlier.items() if known != key), other)
            yield with_mismatched(group, other, most)
        for group, key in zip(batch, keys.tolist(), strict=True):
            earlier.pop(key, None)
            earlier[key] = group
        earlier = dict(list(earlier.items())[-2:])
