"""Numbers as the cells of tables: intervals in words, tables as plain data that a template writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table whose first column is words and whose others are numbers; cells are text, which the template escapes.

    Attributes:
        caption: what it is of; note: what a reader should know of it.
        prose: columns are words too.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    note: str = ""
    prose: bool = False

    def __bool__(self) -> bool:
        return bool(self.rows)


def rate(interval: Mapping[str, Any] | None) -> str:
    """``62.5 % [57.1, 68.0]``."""
    return "" if not interval else f"{100 * interval['estimate']:.1f} % [{100 * interval['low']:.1f}, {100 * interval['high']:.1f}]"


def points(interval: Mapping[str, Any]) -> str:
    """A change of a rate: ``+2.5 [+1.1, +3.9]`` percentage points."""
    return f"{100 * interval['estimate']:+.1f} [{100 * interval['low']:+.1f}, {100 * interval['high']:+.1f}]"


def signed(interval: Mapping[str, Any]) -> str:
    """``+0.123 [+0.1, +0.15]``."""
    return f"{interval['estimate']:+.3g} [{interval['low']:+.3g}, {interval['high']:+.3g}]"


def cell(value: Any) -> str:
    """Any value of a chart's rows."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)


def words_of(outcome: str) -> str:
    """An outcome in the words of today; older runs say otherwise."""
    return "inconclusive" if outcome == "not shown" else outcome


def sign_words(text: str) -> str:
    """A sign of degeneration in the words of today."""
    for old, new in _OLD.items():
        text = text.replace(old, new)
    return text


_OLD = {
    "not ended": "truncated",
    "cut at the limit, without an end token": "truncated at the maximum length, without EOS",
    "an answer": "a response",
    "answer": "response",
}
