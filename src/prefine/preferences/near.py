"""Texts that are nearly the same: MinHash over words and their neighbours, in bands (Broder 1997; Leskovec et al., Mining of
Massive Datasets, ch. 3).

A word changed in the middle of a text takes one word and two pairs with it. Triples, which were used before, lose three: of a text
of thirty words with three changed they share less than half, and no threshold tells it from another text.

Signatures come from the ``rensa`` library. Those of a million prompts take 256 MB, so they
lie in a file that is mapped into memory.
"""

from __future__ import annotations

import itertools
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]
NUM_HASHES = 64
BANDS = 16
"""Bands of four hashes: texts that share 0.6 of their words and pairs meet in one with probability 0.89, those that share 0.3 with 0.12."""
THRESHOLD = 0.5
SHORT = 10
"""Texts of fewer words are compared by runs of :data:`RUN` words: "What is the capital of France?" is not nearly that of Spain."""
RUN = 5


def shingles(text: str) -> list[str]:
    """The pieces by which texts are compared: words and pairs of neighbours, of short texts longer runs."""
    words = text.casefold().split()
    if len(words) < SHORT:
        return [" ".join(words[i : i + RUN]) for i in range(max(1, len(words) - RUN + 1))]
    return [*words, *map(" ".join, itertools.pairwise(words))]


def signatures(texts: Iterable[str]) -> NDArray[np.uint32]:
    """MinHash signatures, shape (texts, NUM_HASHES)."""
    from rensa import RMinHash

    rows = []
    for text in texts:
        hashed = RMinHash(num_perm=NUM_HASHES, seed=1)
        hashed.update(shingles(text))
        rows.append(hashed.digest())
    return np.array(rows, np.uint32).reshape(-1, NUM_HASHES)


class SignatureFile:
    """Signatures appended to a temporary file, read back memory-mapped."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="prefine-signatures-")  # noqa: SIM115  lives as long as this object
        weakref.finalize(self, self._file.close)
        self.count = 0

    def add(self, rows: NDArray[np.uint32]) -> None:
        """Append."""
        self._file.write(np.ascontiguousarray(rows).tobytes())
        self.count += len(rows)

    def read(self) -> NDArray[np.uint32]:
        """All of them, shape (count, NUM_HASHES)."""
        self._file.flush()
        if not self.count:
            return np.empty((0, NUM_HASHES), np.uint32)
        return np.memmap(self._file, np.uint32, "r", shape=(self.count, NUM_HASHES))


def near_groups(all_signatures: NDArray[np.uint32], threshold: float = THRESHOLD) -> NDArray[np.int64]:
    """For each text the place of the first text it is near to (its own where there is none), shape (texts,).

    Candidates are texts that agree in a whole band; each is compared with the first of its
    band's run by all hashes. Nearness is not carried on: each compares with a first text.
    """
    count = len(all_signatures)
    first = np.arange(count)
    width = NUM_HASHES // BANDS
    for band in range(BANDS):
        rows = np.ascontiguousarray(all_signatures[:, band * width : (band + 1) * width])
        keys = rows.view([("", np.uint32)] * width).ravel()
        order = np.argsort(keys, kind="stable")
        for a, b in _candidates(keys, order):
            near = (all_signatures[a] == all_signatures[b]).mean(axis=1) >= threshold
            np.minimum.at(first, b[near], first[a[near]])
    return first


def _candidates(keys: NDArray[np.void], order: Places, batch: int = 65536) -> Iterator[tuple[Places, Places]]:
    """Pairs of (first of a run of equal keys, another of the run), in batches."""
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(keys) else np.empty(0, np.int64)
    lengths = np.diff(np.append(starts, len(keys)))
    run_first = np.repeat(order[starts], lengths)
    others = np.flatnonzero(run_first != order)
    for at in range(0, len(others), batch):
        part = others[at : at + batch]
        yield run_first[part], order[part]
