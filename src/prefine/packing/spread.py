"""Pairs encoded over all cores, in order: what comes out is what one process would make."""

from __future__ import annotations

import itertools
import os
import pickle
from collections.abc import Iterable, Iterator

from prefine.errors import DataError
from prefine.packing.encoding import Encoder, EncodingReport
from prefine.packing.group import PromptGroup
from prefine.preferences.records import Pair
from prefine.processes import by_workers

INLINE_PAIRS = 2000
"""So many are encoded here before workers are started, which takes as long as some of them."""
CHUNK = 32
"""Pairs that a worker is given at once."""

_encoder: Encoder | None = None


def _start(encoder: bytes) -> None:
    global _encoder
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the cores are taken by the workers
    _encoder = Encoder(*pickle.loads(encoder))


def _encode(pairs: list[Pair]) -> tuple[list[PromptGroup], EncodingReport]:
    assert _encoder is not None
    own = _encoder.fresh()
    return list(_inline(pairs, own)), own.report


def encode_spread(pairs: Iterable[Pair], encoder: Encoder, processes: int | None = None) -> Iterator[PromptGroup]:
    """Groups of (chosen, rejected), as :meth:`Encoder.encode_pairs` gives them, with the same report.

    Args:
        processes: None for one a core.

    Raises:
        DataError: as there; or a worker died.
    """
    some = False
    for group in _groups(iter(pairs), encoder, processes or len(os.sched_getaffinity(0))):
        some = True
        yield group
    if not some:
        raise DataError(f"no pair is left after encoding: {encoder.report.left_out()}", code="PF-D04")


def _groups(pairs: Iterator[Pair], encoder: Encoder, workers: int) -> Iterator[PromptGroup]:
    yield from _inline(itertools.islice(pairs, INLINE_PAIRS), encoder)
    following = list(itertools.islice(pairs, CHUNK))
    made = _pickled(encoder) if following and workers > 1 else None
    if made is None:
        yield from _inline(itertools.chain(following, pairs), encoder)
        return
    chunks = itertools.chain([following], iter(lambda: list(itertools.islice(pairs, CHUNK)), []))
    died = "a worker process that encodes died (out of memory?); try --dataset-num-proc 1"
    for groups, report in by_workers(_encode, chunks, workers, _start, (made,), died):
        encoder.report.add(report)
        yield from groups


def _inline(pairs: Iterable[Pair], encoder: Encoder) -> Iterator[PromptGroup]:
    return (group for pair in pairs if (group := encoder.encode_pair(pair)) is not None)


def _pickled(encoder: Encoder) -> bytes | None:
    """What a worker makes an encoder of; None where the tokenizer does not travel."""
    parts = (encoder.tokenizer, encoder.max_length, encoder.max_prompt_length, encoder.truncation_mode, encoder.renderer.template_kwargs)
    if type(encoder.tokenizer).__module__ == "__main__":  # the caller's script, which workers do not run
        return None
    try:
        return pickle.dumps(parts)
    except Exception:  # of whatever a tokenizer of its own code is made of
        return None
