"""Rows kept and rows left out: the two files, and the counts that every command prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from prefine.preferences.records import Dropped
from prefine.preferences.writing import RowWriter


class Sieve:
    """Writes kept rows to ``output`` and left-out ones to ``rejected``, if given; a context manager."""

    def __init__(self, output: str, rejected: str | None) -> None:
        self._stack = ExitStack()
        self._kept, self._rejected = RowWriter(output), RowWriter(rejected) if rejected else None
        self.dropped: Counter[str] = Counter()

    def __enter__(self) -> Sieve:
        self._stack.enter_context(self._kept)
        if self._rejected is not None:
            self._stack.enter_context(self._rejected)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    @property
    def path(self) -> str:
        """Where kept rows go."""
        return str(self._kept.path)

    @property
    def kept(self) -> int:
        """Rows kept."""
        return self._kept.count

    def keep(self, row: Mapping[str, Any]) -> None:
        """Keep a row."""
        self._kept.write(row)

    def drop(self, item: Dropped) -> None:
        """Leave a row out."""
        self.dropped[item.reason] += 1
        if self._rejected is not None:
            self._rejected.write({"row": item.number, "reason": item.reason, "content": dict(item.row)})

    def reasons(self) -> str:
        """Reasons with their counts."""
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items())) or "none"

    def summary(self) -> str:
        """Rows out, and why others are not."""
        return f"{self.kept} rows out in {self._kept.path}; left out: {self.reasons()}"
