"""Single responses, each wanted or not: the data of KTO and its kin, read as pairs are."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from prefine.errors import DataError
from prefine.preferences.convert import PEEK_ROWS, Converter, PairSource, Reading, as_pairs, canonical, labelled_of
from prefine.preferences.formats import detect
from prefine.preferences.records import Dropped, Example, Labelled, Pair, Ranked, Record


def to_labelled(items: Iterable[Record | Dropped], reading: Reading) -> Iterator[Labelled | Dropped]:
    """Records as labelled responses: of a pair both sides; of several each where scores are thumbs (1 and 0, or 1 and -1), else the best
    and the worst."""
    for item in items:
        if isinstance(item, Labelled | Dropped):
            yield item
        elif isinstance(item, Example):
            yield Dropped(item.row, "no label", canonical(item))
        elif isinstance(item, Ranked) and (set(item.scores) == {0.0, 1.0} or set(item.scores) == {-1.0, 1.0}):
            for answer, score in zip(item.answers, item.scores, strict=True):
                yield Labelled(item.prompt, answer, score > 0, item.row, item.tools, item.template_kwargs)
        else:
            pairs = as_pairs([item], replace(reading, pairing="best-vs-worst")) if isinstance(item, Ranked) else [item]
            for pair in pairs:
                if isinstance(pair, Pair):
                    yield from labelled_of(pair)
                elif isinstance(pair, Dropped):
                    yield pair


class LabelledSource(PairSource):
    """The labelled responses of one or several sources, streamed; ``num_pairs`` is how many there were."""

    def __iter__(self) -> Iterator[Labelled]:  # type: ignore[override]  # of what pairs are read from, other records
        """Read the sources from their start.

        Raises:
            DataError: unreadable, empty, or with no usable response at all.
        """
        self._clear()
        for source, weight in zip(self.sources, self.weights, strict=True):
            for item in to_labelled(self.items(source), self.reading):
                if isinstance(item, Dropped):
                    self.dropped[item.reason].append(item.number)
                    continue
                times = self.copies(item.row, weight)
                if not times:
                    self.dropped["not drawn by its source's weight"].append(item.row)
                for _ in range(times):
                    self.num_pairs += 1
                    yield item
        if not self.num_pairs:
            raise DataError(f"{self.name}: none of its {self.rows} rows gives a usable labelled response ({self.reasons()})", code="PF-D04")

    @functools.cached_property
    def fingerprint(self) -> str:
        """As of pairs, which the same rows may give, and other than theirs."""
        return f"labelled {super().fingerprint}"

    def summary(self) -> dict[str, Any]:
        """Counts as plain data, for ``data.json``."""
        return {"responses" if name == "pairs" else name: value for name, value in super().summary().items()}


def labelled_rows(
    rows: Iterable[Mapping[str, Any]], source: str, dropped: dict[str, list[int]], notes: Counter[str] | None = None
) -> Iterator[Labelled]:
    """Labelled responses of rows in memory, in any format; ``dropped`` is filled with reason -> row numbers, from 1, ``notes`` with what
    was read otherwise than it stands -> how many rows.

    Raises:
        ColumnError: no format fits the first row; DataError: there are none.
    """
    numbered = enumerate(map(dict, rows), 1)
    head = list(itertools.islice(numbered, PEEK_ROWS))
    if not head:
        raise DataError(f"{source}: empty, no rows to read", code="PF-D03")
    converter = Converter(detect([row for _, row in head], source), source)
    try:
        for item in to_labelled(converter.convert(itertools.chain(head, numbered)), Reading()):
            if isinstance(item, Dropped):
                dropped.setdefault(item.reason, []).append(item.number)
            else:
                yield item
    finally:
        if notes is not None:
            notes.update(converter.said())
