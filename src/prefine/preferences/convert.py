"""A source to pairs, with every dropped row counted under its reason."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prefine.errors import ColumnError, DataError
from prefine.preferences.formats import FORMATS, Skip, detect
from prefine.preferences.records import Pair, PromptText
from prefine.preferences.source import read_rows


class PairSource:
    """The usable pairs of a source, streamed; what happened to its rows is known once all were read.

    Args:
        source: what :func:`prefine.preferences.source.read_rows` takes.
        columns: our name -> the source's column (``{"prompt": "question"}``).

    Attributes:
        rows: how many rows were read; num_pairs: how many are usable.
        dropped: reason -> row numbers (from 1).
        format: the detected format's name.
        fingerprint: hash of the usable pairs.
    """

    def __init__(self, source: str, columns: Mapping[str, str] | None = None) -> None:
        self.source = source
        self.columns = columns
        self._clear()

    def _clear(self) -> None:
        self.rows = self.num_pairs = 0
        self.dropped: dict[str, list[int]] = defaultdict(list)
        self.format = self.fingerprint = ""

    def __iter__(self) -> Iterator[Pair]:
        """Read the source from its start.

        Raises:
            DataError: unreadable, empty, or with no usable pair at all.
        """
        self._clear()
        digest = hashlib.sha256()
        for pair in read_pairs(self._counted(), self.source, self.columns, self.dropped, self._found):
            self.num_pairs += 1
            digest.update(json.dumps([pair.prompt, pair.chosen, pair.rejected], sort_keys=True, default=str).encode())
            yield pair
        self.fingerprint = digest.hexdigest()[:16]
        if self.rows == 0:
            raise DataError(f"{self.source}: empty, no rows to read")
        if not self.num_pairs:
            reasons = ", ".join(f"{len(rows)} {reason}" for reason, rows in self.dropped.items())
            raise DataError(f"{self.source}: none of its {self.rows} rows is a usable pair ({reasons})")

    def _counted(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        for number, row in read_rows(self.source):
            self.rows += 1
            yield number, row

    def _found(self, name: str) -> None:
        self.format = name

    def summary(self) -> dict[str, Any]:
        """Counts as plain data, for ``data.json``."""
        return {
            "source": self.source,
            "format": self.format,
            "rows": self.rows,
            "pairs": self.num_pairs,
            "fingerprint": self.fingerprint,
            "dropped": {reason: {"count": len(rows), "rows": rows} for reason, rows in self.dropped.items()},
        }


def _text(value: PromptText) -> str:
    return value if isinstance(value, str) else "\n".join(str(m.get("content") or m.get("tool_calls") or "") for m in value)


def check_pair(pair: Pair) -> None:
    """Raise :class:`Skip` for a pair that nothing can be learnt from."""
    if not _text(pair.prompt).strip():
        raise Skip("prompt is empty")
    for side in (pair.chosen, pair.rejected):
        if not _text(side).strip():
            raise Skip("answer is empty")
    if pair.chosen == pair.rejected:
        raise Skip("chosen equals rejected")


def read_pairs(
    rows: Iterable[tuple[int, Mapping[str, Any]]],
    source: str,
    columns: Mapping[str, str] | None = None,
    dropped: dict[str, list[int]] | None = None,
    on_format: Any = None,
) -> Iterator[Pair]:
    """Convert rows to pairs, streaming.

    Args:
        rows: ``(row_number, row)`` as from :func:`prefine.preferences.source.read_rows`.
        source: what to call the data in messages.
        columns: our name -> the source's column (``{"prompt": "question"}``).
        dropped: filled with reason -> row numbers.
        on_format: called once with the detected format's name.

    Raises:
        ColumnError: a column is missing, or a later row has another format.
    """
    found = None
    for number, raw in rows:
        row = dict(raw)
        for ours, theirs in (columns or {}).items():
            if theirs not in row:
                raise ColumnError(
                    f"{source}, row {number}: --map {ours}={theirs}, but there is no column {theirs!r}; columns found: {', '.join(row)}"
                )
            row[ours] = row[theirs]
        if found is None:
            found = detect(row, source)
            if on_format is not None:
                on_format(found.name)
        if not found.sniff(row):
            other = next((f.name for f in FORMATS if f.sniff(row)), None)
            if other is not None:
                raise DataError(f"{source}, row {number}: format changes from {found.name} to {other}; split the file, one format each")
            reason = "answer is not text"
            if any(k not in row for k in ("chosen", "rejected")):
                raise ColumnError(f"{source}, row {number}: a column of the first row is missing here; columns found: {', '.join(row)}")
            if dropped is not None:
                dropped.setdefault(reason, []).append(number)
            continue
        try:
            pair = found.convert(row, number)
            check_pair(pair)
        except Skip as skip:
            if dropped is not None:
                dropped.setdefault(str(skip), []).append(number)
            continue
        yield pair
