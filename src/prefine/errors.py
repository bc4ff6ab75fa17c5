"""The errors Prefine raises for a user's mistake.

PrefineError (ValueError)
├── DataError          a file, row or column of preference data is wrong
│   └── ColumnError    a column that is needed is not there
├── ConfigError        an option is unknown, contradicts another, or would be ignored
├── ModelError         a model folder, tokenizer or reference does not fit
├── CheckpointError    a checkpoint is damaged
├── StorageError       the disk is full, or cannot be written
└── MissingFile        (also FileNotFoundError) a path does not exist

Every message says what was wrong, where, what was expected, and what to do. Every error has a code of
:mod:`prefine.error_codes`, its class's where it has none of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from prefine.redaction import redact


class PrefineError(ValueError):
    """Base of every error that is the user's to mend. Column names and the like are untrusted: no terminal codes get through.

    Args:
        code: of the catalogue; no part of the message, which the command line prints before it.
    """

    code = "PF-E00"

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(printable(message))
        if code is not None:
            self.code = code


class DataError(PrefineError):
    """Preference data that cannot be read or used."""

    code = "PF-D00"


class ColumnError(DataError):
    """A column that is needed is not there."""

    code = "PF-D01"


class ConfigError(PrefineError):
    """An option that is unknown, contradicts another, or would be ignored."""

    code = "PF-C00"


class ModelError(PrefineError):
    """A model, tokenizer or reference that does not fit."""

    code = "PF-M00"


class CheckpointError(PrefineError):
    """A checkpoint that is damaged."""

    code = "PF-F07"


class StorageError(PrefineError):
    """A disk that is full, or cannot be written."""

    code = "PF-F06"


class Stopped(Exception):
    """Training that was stopped from outside once its step was done and its checkpoint saved: no error, and no result yet."""


class MissingFile(PrefineError, FileNotFoundError):
    """A path that does not exist."""

    code = "PF-F00"


def printable(text: str) -> str:
    """Text without control characters, which could drive a terminal, and without secrets."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in redact(text))


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the nearest known word, or an empty string."""
    import difflib

    compared = [name for name in itertools.islice(known, 20_000) if len(name) <= 100]  # names are strangers', and comparing takes its time
    found = difflib.get_close_matches(word[:100], compared, n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def some(names: Sequence[str], most: int = 20) -> str:
    """Names with commas between, the first of them where they are many; each shortened."""
    told = ", ".join(name if len(name) <= 80 else f"{name[:80]}..." for name in names[:most])
    return told + (f" and {len(names) - most} more" if len(names) > most else "")
