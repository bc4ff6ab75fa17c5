"""The options that say how a source is read, and how counts are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from prefine.errors import ConfigError, printable, some
from prefine.preferences.convert import PairSource, Reading
from prefine.preferences.records import PromptText

CLEANED = 4096
"""Characters beyond those that are shown which are cleaned too: a secret that begins among the last is whole there."""


@dataclass
class SourceOptions:
    """How a source is read."""

    source: list[str] | None = field(default=None, metadata={"help": "File, folder, glob, Hub id, database, - for stdin."})
    map: list[str] | dict[str, str] | None = field(default=None, metadata={"help": "Columns by another name: prompt=question chosen=good."})
    format: str | None = field(default=None, metadata={"help": "The data's format. Unset: found from its rows; see the formats page."})
    pairing: str = field(
        default="best-vs-worst", metadata={"help": "Ranked responses to pairs: best-vs-worst, best-vs-random, adjacent or all."}
    )
    min_gap: float = field(default=0.0, metadata={"help": "Minimum difference of scores in a pair made of ranked responses."})
    seed: int = field(default=0, metadata={"help": "Seed of every random choice."})

    def reading(self) -> Reading:
        """How to read."""
        return Reading(column_map(self.map), self.format, self.pairing, self.min_gap, self.seed)

    def pairs(self) -> PairSource:
        """The source's pairs."""
        return PairSource(self.sources, self.reading())

    @property
    def sources(self) -> list[str]:
        """The sources' names."""
        if not self.source:
            raise ConfigError("a SOURCE is missing: a file, a folder, a glob, a Hub id, a database, or - for standard input")
        return self.source


def column_map(words: list[str] | dict[str, str] | None) -> dict[str, str]:
    """``["prompt=question"]`` to ``{"prompt": "question"}``; a mapping is one already."""
    if isinstance(words, dict):
        return words
    out = {}
    for word in words or []:
        ours, equals, theirs = word.partition("=")
        if not equals or not theirs or not ours:
            raise ConfigError(f"--map {word}: expected OURS=THEIRS, as in prompt=question")
        out[ours] = theirs
    return out


def describe(data: dict[str, Any]) -> str:
    """One line of a source's summary: format, counts, drops by reason."""
    usable = f"{data['pairs']} usable pairs" if "pairs" in data else f"{data['responses']} usable labelled responses"
    return f"{data['format']}, {data['rows']} rows, {usable}; dropped: {dropped_text(data['dropped'])}"


def reading_lines(read: dict[str, Any], encoding: dict[str, Any] | None = None) -> list[str]:
    """What was read or written otherwise than it stands, and columns that nothing read, a line each."""
    notes = {note: what["count"] for note, what in read.get("notes", {}).items()} | (encoding or {}).get("notes", {})
    lines = [*read.get("said", ()), *(f"changed: {note}: {count} rows" for note, count in notes.items())]
    unread = read.get("unread_columns") or []
    return [*lines, *([f"columns that are not read: {some(unread)}"] if unread else [])]


def prompt_lines(heard: list[dict[str, Any]], notes: dict[str, int]) -> list[str]:
    """What reading prompts dropped and changed, and what the chat template was given otherwise than it stands, a line each."""
    dropped = {reason: what["count"] for read in heard for reason, what in read["dropped"].items()}
    lines = [line for read in heard for line in reading_lines(read)]
    return [*([f"prompts dropped: {counted(dropped)}"] if dropped else []), *lines, *reading_lines({}, {"notes": notes})]


def counted(counts: dict[str, int]) -> str:
    """Names with their counts, or ``none``."""
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def dropped_text(dropped: dict[str, dict[str, Any]]) -> str:
    """Reasons with their counts, or ``none``."""
    return ", ".join(f"{what['count']} {reason}" for reason, what in sorted(dropped.items())) or "none"


def shown_text(value: PromptText, limit: int = 400) -> str:
    """Text for a terminal: one line for messages, control codes replaced, shortened to ``limit`` characters."""
    text = value if isinstance(value, str) else " | ".join(f"{m['role']}: {m.get('content') or m.get('tool_calls')}" for m in value)
    shown = printable(text[: limit + CLEANED])  # responses are untrusted: no terminal codes
    return shown if max(len(text), len(shown)) <= limit else shown[:limit] + f"... ({len(text)} characters)"
