"""``prefine data show``: what a source of preference data holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from prefine.cli.options import help_text, options_of, parse
from prefine.errors import ConfigError
from prefine.preferences.convert import PairSource
from prefine.preferences.records import Pair, PromptText


@dataclass
class ShowOptions:
    """Options of ``prefine data show``."""

    source: str = field(default="", metadata={"help": "File, folder or Hub id (also as the first word)."})
    map: list[str] | None = field(default=None, metadata={"help": "Columns by another name: --map prompt=question chosen=good."})
    rows: int = field(default=2, metadata={"help": "How many pairs to print."})


def main(argv: list[str]) -> int:
    """Print format, counts, drops by reason and a few pairs."""
    options = options_of(ShowOptions, "options")
    if not argv or argv[0] in ("-h", "--help") or "--help" in argv:
        print(help_text("data show SOURCE", "Detects the format and counts what is usable.", options))
        return 0
    if argv[0] != "show":
        raise ConfigError(f"no command 'data {argv[0]}'; there is: data show")
    given = ShowOptions(**parse(argv[1:], options, ("source",)))
    if not given.source:
        raise ConfigError("data show needs a SOURCE: a file, a folder or a Hub id")
    data = PairSource(given.source, column_map(given.map))
    shown: list[Pair] = []
    for pair in data:
        if len(shown) < given.rows:
            shown.append(pair)
    print(f"{given.source}: {describe(data.summary())}")
    for pair in shown:
        print(f"\n--- row {pair.row}")
        for name, value in (("prompt", pair.prompt), ("chosen", pair.chosen), ("rejected", pair.rejected)):
            print(f"{name:>9}: {shown_text(value)}")
    return 0


def column_map(words: list[str] | None) -> dict[str, str]:
    """``["prompt=question"]`` to ``{"prompt": "question"}``."""
    out = {}
    for word in words or []:
        ours, equals, theirs = word.partition("=")
        if not equals or not theirs or ours not in ("prompt", "chosen", "rejected"):
            raise ConfigError(f"--map {word}: expected prompt=COLUMN, chosen=COLUMN or rejected=COLUMN")
        out[ours] = theirs
    return out


def describe(data: dict[str, Any]) -> str:
    """One line of a source's summary: format, counts, drops by reason."""
    return f"{data['format']}, {data['rows']} rows, {data['pairs']} usable pairs; dropped: {dropped_text(data['dropped'])}"


def dropped_text(dropped: dict[str, dict[str, Any]]) -> str:
    """Reasons with their counts, or ``none``."""
    return ", ".join(f"{what['count']} {reason}" for reason, what in sorted(dropped.items())) or "none"


def shown_text(value: PromptText, limit: int = 400) -> str:
    """Text for a terminal: one line for messages, control codes replaced, cut at ``limit`` characters."""
    text = value if isinstance(value, str) else " | ".join(f"{m['role']}: {m.get('content')}" for m in value)
    text = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)  # answers are untrusted: no terminal codes
    return text if len(text) <= limit else text[:limit] + f"... ({len(text)} characters)"
