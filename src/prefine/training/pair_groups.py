"""A dataset of pairs to prompt groups: what trainers on pairs take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from prefine.errors import DataError
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup
from prefine.preferences.convert import read_pairs
from prefine.preferences.records import Pair


def pair_groups(
    dataset: Any, name: str, encoder: Encoder, see: Callable[[Pair, PromptGroup], None] = lambda pair, group: None
) -> Sequence[PromptGroup]:
    """Encode rows or pairs one by one, or pass groups through.

    Args:
        see: called with each pair that is kept, and its group.

    Raises:
        DataError: nothing in it, or a row that does not fit.
    """
    rows = iter(dataset)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{name} is empty")
    if isinstance(first, PromptGroup):
        return dataset if isinstance(dataset, Sequence) else [first, *rows]
    rows = chain([first], rows)
    pairs = rows if isinstance(first, Pair) else read_pairs(rows, name, encoder.report.dropped)
    out = []
    for pair in pairs:
        group = encoder.encode_pair(pair)
        if group is not None:
            see(pair, group)
            out.append(group)
    return out
