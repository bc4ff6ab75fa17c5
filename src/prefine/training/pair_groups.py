"""Rows of pairs to prompt groups: what trainers on pairs take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup
from prefine.packing.spread import of_pair, spread
from prefine.preferences.convert import read_pairs
from prefine.preferences.records import Pair
from prefine.training.prepared import is_pretokenized, pretokenized_pair, with_first

See = Callable[[Any, PromptGroup], None]


def pair_groups(
    rows: Iterator[Any], name: str, encoder: Encoder, see: See = lambda pair, group: None, workers: int = 1
) -> Iterator[PromptGroup]:
    """Encode pairs, rows of them in any format, or rows of token ids, one by one.

    Args:
        see: called with each pair (or row of token ids) that is kept, and its group.
        workers: processes that encode, where there are many.

    Raises:
        DataError: nothing in it, or a row that does not fit.
    """
    first, rows = with_first(rows, name)
    if is_pretokenized(first):
        for number, row in enumerate(rows, 1):
            group = pretokenized_pair(row, number, encoder)
            if group is not None:
                see(row, group)
                yield group
        return
    pairs = rows if isinstance(first, Pair) else read_pairs(rows, name, encoder.report.dropped, encoder.report.notes)
    for pair, groups in spread(pairs, encoder, of_pair, workers):
        for group in groups:
            see(pair, group)
            yield group
