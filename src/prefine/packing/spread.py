"""Rows encoded over all cores, in order: what comes out is what one process would make."""

from __future__ import annotations

import itertools
import os
import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from prefine.errors import DataError
from prefine.packing.encoding import Encoder, EncodingReport
from prefine.packing.group import PromptGroup
from prefine.preferences.records import Labelled, Pair
from prefine.processes import by_workers

Item = TypeVar("Item")
INLINE_ROWS = 2000
"""So many are encoded here before workers are started, which takes as long as some of them."""
CHUNK = 32
"""Rows that a worker is given at once."""

_encoder: Encoder | None = None
_make: Callable[[Encoder, Any], list[PromptGroup]]


def _start(encoder: bytes, make: Callable[[Encoder, Any], list[PromptGroup]]) -> None:
    global _encoder, _make
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the cores are taken by the workers
    _encoder, _make = Encoder(*pickle.loads(encoder)), make


def _encode(items: list[Any]) -> tuple[list[list[PromptGroup]], EncodingReport]:
    assert _encoder is not None
    own = _encoder.fresh()
    return [_make(own, item) for item in items], own.report


def encode_spread(
    records: Iterable[Any],
    encoder: Encoder,
    processes: int | None = None,
    make: Callable[[Encoder, Any], list[PromptGroup]] | None = None,
) -> Iterator[PromptGroup]:
    """Groups of (chosen, rejected), as :meth:`Encoder.encode_pairs` gives them, with the same report.

    Args:
        processes: None for one a core.
        make: of other records than pairs, their groups; a function of a module.

    Raises:
        DataError: as there; or a worker died.
    """
    some = False
    for _, groups in spread(records, encoder, make or of_pair, workers_for(processes)):
        some = some or bool(groups)
        yield from groups
    if not some:
        raise DataError(f"no row is left after encoding: {encoder.report.left_out()}", code="PF-D04")


def of_pair(encoder: Encoder, pair: Pair) -> list[PromptGroup]:
    """A pair's group, or none where the report says why not."""
    group = encoder.encode_pair(pair)
    return [] if group is None else [group]


def of_labelled(encoder: Encoder, item: Labelled) -> list[PromptGroup]:
    """A labelled response's group, or none where the report says why not."""
    group = encoder.encode_labelled(item)
    return [] if group is None else [group]


def workers_for(processes: int | None) -> int:
    """So many as are asked for, or one a core; of a run in several processes each has its share of them."""
    return processes or max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE") or 1))


def spread(
    items: Iterable[Item], encoder: Encoder, make: Callable[[Encoder, Item], list[PromptGroup]], workers: int
) -> Iterator[tuple[Item, list[PromptGroup]]]:
    """Each item with its groups, in order; what encoding did stands in the encoder's report.

    Args:
        make: a function of a module, which workers find by its name.

    Raises:
        DataError: a worker died; or what ``make`` raises.
    """
    coming = iter(items)
    following: list[Item] = []
    if workers > 1:
        for item in itertools.islice(coming, INLINE_ROWS):
            yield item, make(encoder, item)
        following = list(itertools.islice(coming, CHUNK))
    pickled = _pickled(encoder) if following else None
    if pickled is None:
        for item in itertools.chain(following, coming):
            yield item, make(encoder, item)
        return
    handed: deque[list[Item]] = deque()

    def chunks() -> Iterator[list[Item]]:
        for chunk in itertools.chain([following], iter(lambda: list(itertools.islice(coming, CHUNK)), [])):
            handed.append(chunk)
            yield chunk

    died = "a worker process that encodes died (out of memory?); try --dataset-num-proc 1"
    for made, report in by_workers(_encode, chunks(), workers, _start, (pickled, make), died):
        encoder.report.add(report)
        yield from zip(handed.popleft(), made, strict=True)


def _pickled(encoder: Encoder) -> bytes | None:
    """What a worker makes an encoder of; None where the tokenizer does not travel."""
    if type(encoder.tokenizer).__module__ == "__main__":  # the caller's script, which workers do not run
        return None
    try:
        return pickle.dumps(encoder.settings())
    except Exception:  # of whatever a tokenizer of its own code is made of
        return None
