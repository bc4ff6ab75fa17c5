"""The formats preference data comes in: one table, and finding a source's format in it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

from prefine.errors import ColumnError, ConfigError, DataError, nearest, some
from prefine.preferences.formats.annotations import ARGILLA_RECORDS, LABEL_STUDIO
from prefine.preferences.formats.contests import ARENA, HELPSTEER, HELPSTEER_PREFERENCE, SHP, SUMMARIES
from prefine.preferences.formats.explicit import ALPACA, ARGILLA, ORCA, PAIRS
from prefine.preferences.formats.feedback import OPEN_WEBUI, OPEN_WEBUI_CHATS, OPENAI_EVALS, OPENAI_STORED, PROMPTFOO
from prefine.preferences.formats.format import Format, Row, Skip
from prefine.preferences.formats.implicit import IMPLICIT
from prefine.preferences.formats.implicit_text import IMPLICIT_TEXT
from prefine.preferences.formats.labelled import LABELLED
from prefine.preferences.formats.oasst import OASST_FLAT, OASST_TREES
from prefine.preferences.formats.openai import OPENAI
from prefine.preferences.formats.rated import RATED, STACK_EXCHANGE
from prefine.preferences.formats.sharegpt import MESSAGES, SHAREGPT, SWIFT
from prefine.preferences.formats.traces import LANGFUSE, LANGSMITH
from prefine.preferences.formats.transcripts import HH_RLHF

FEEDBACK = (OPEN_WEBUI, OPEN_WEBUI_CHATS, PROMPTFOO, OPENAI_EVALS, OPENAI_STORED, LANGFUSE, LANGSMITH, ARGILLA_RECORDS, LABEL_STUDIO)
FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        *(
            PAIRS,
            IMPLICIT,
            IMPLICIT_TEXT,
            HH_RLHF,
            SHAREGPT,
            MESSAGES,
            SWIFT,
            OPENAI,
            ALPACA,
            ARGILLA,
            ORCA,
            RATED,
            STACK_EXCHANGE,
            OASST_TREES,
            OASST_FLAT,
        ),
        *(ARENA, SHP, HELPSTEER, HELPSTEER_PREFERENCE, SUMMARIES, LABELLED),
        *FEEDBACK,
    )
}
SYNONYMS = {
    "prompt": ("prompt", "question", "instruction", "input", "query", "context", "user", "prompt_text", "problem"),
    "chosen": ("chosen", "chosen_response", "preferred", "better", "winner", "response_chosen", "accepted", "good", "positive", "win"),
    "rejected": ("rejected", "rejected_response", "dispreferred", "worse", "loser", "response_rejected", "bad", "negative", "reject"),
}

__all__ = ["FORMATS", "Format", "Skip", "detect", "format_named"]


def format_named(name: str) -> Format:
    """A format by name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in FORMATS:
        raise ConfigError(f"format {name!r} is not known{nearest(name, FORMATS)} Formats: {', '.join(FORMATS)}", code="PF-D02")
    return FORMATS[name]


def detect(rows: Sequence[Row], source: str) -> Format:
    """The format of a source from its first rows: the one that most of them are of.

    Raises:
        ColumnError: no format fits; lists the columns found and the flags that would help.
        DataError: two fit equally well; shows a row and the flag that decides.
    """
    counts = {name: sum(bool(f.sniff(row)) for row in rows) for name, f in FORMATS.items()}
    best = max(counts.values())
    if best == 0:
        raise _unknown(rows[0], source)
    winners = [name for name, count in counts.items() if count == best]
    row = next((r for r in rows if sum(FORMATS[name].sniff(r) for name in winners) > 1), None)
    if row is not None:
        choices = " or ".join(f"--format {name} ({FORMATS[name].about})" for name in winners)
        raise DataError(f"{source}: could be read in {len(winners)} ways; give {choices}. A row: {_shown(row)}", code="PF-D02")
    # Rows that are each of one format only are a mixture; the row where it changes will be named.
    return next(f for row in rows for f in FORMATS.values() if f.name in winners and f.sniff(row))


def _shown(row: Row) -> str:
    text = json.dumps(row, ensure_ascii=True, default=str)
    return text if len(text) <= 300 else text[:300] + "..."


def _unknown(row: Row, source: str) -> DataError:
    found = some(list(map(str, row))) or "(none)"
    # Some other format, all but one of its telling columns there: name that column.
    for known in FORMATS.values():
        if known in FEEDBACK:  # whose columns have everyday names
            continue
        missing = [c for c in known.columns if c not in row]
        if len(missing) == 1 and len(set(known.columns) - {"prompt", "chosen", "rejected"} - set(missing)) >= 2:
            return ColumnError(
                f"{source}: like the {known.name} format ({known.about}), but without the column {missing[0]!r}; columns found: {found}. "
                f"Name it with --map {missing[0]}={_guess(missing[0], row)}"
            )
    missing = [w for w in ("prompt", "chosen", "rejected") if w not in row]
    if not missing:
        kinds = ", ".join(f"{w} is {_kind(row[w])}" for w in ("prompt", "chosen", "rejected"))
        return ColumnError(f"{source}: has prompt, chosen and rejected, but they are neither text nor messages ({kinds})")
    flags = "--map " + " ".join(f"{w}={_guess(w, row)}" for w in missing)
    return ColumnError(
        f"{source}: no column {', '.join(map(repr, missing))}; columns found: {found}. Name the columns with {flags} "
        "(of single responses with labels: --map prompt=... completion=... label=...); "
        f"known formats: {', '.join(FORMATS)}"
    )


def _guess(want: str, row: Row) -> str:
    lowered = {str(c).lower(): str(c) for c in itertools.islice(row, 1000) if len(str(c)) <= 100}  # comparing takes its time
    exact = next((lowered[s] for s in SYNONYMS.get(want, (want,)) if s in lowered), None)
    if exact is not None:
        return exact
    import difflib

    taken = {s for w in SYNONYMS if w != want for s in SYNONYMS[w]}
    near = difflib.get_close_matches(want, [c for c in lowered if c not in taken], n=1, cutoff=0.5)
    part = next((c for c in lowered if any(s in c for s in SYNONYMS.get(want, ()))), None)
    return lowered[near[0]] if near else lowered[part] if part else "COLUMN"


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
